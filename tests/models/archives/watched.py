"""Opens every archive of a folder, and tells which files outside of it and of the temporary folder were touched."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from models.archives.open import describe, open_archive
from models.errors import ModelError
from runtime.errors import UnknownModel
from runtime.folder import StoreFolder

EVENTS = ("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate",
          "os.listdir", "os.scandir", "os.chmod", "os.chown", "shutil.rmtree", "subprocess.Popen", "os.mkfifo")  # fmt: skip


def attempt(store, name):
    """What both ways of opening an archive say."""
    said = []
    for way in (describe, open_archive):
        try:
            way(store.resolve(name), store.inside)
            said.append("")
        except (ModelError, UnknownModel) as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def main(folder, warm):
    """Prints a JSON object: by archive what was said, and what was touched."""
    store, touched = StoreFolder(Path(folder)), []
    for each in warm.split(","):
        attempt(store, each)  # imports what they need
    places = [str(store.path), os.path.realpath(tempfile.gettempdir())]

    def note(event, arguments):
        # What shutil.rmtree removes is named relative to descriptors; the folder that it was given is noted itself.
        if event in EVENTS and sys._getframe(1).f_code.co_name != "_rmtree_safe_fd":
            for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                if isinstance(path, str | bytes | os.PathLike) and is_outside(os.fsdecode(path)):
                    touched.append([event, os.fsdecode(path)])

    def is_outside(path):
        path = os.path.realpath(path)
        return not any(path == place or path.startswith(place + "/") for place in places)

    sys.addaudithook(note)
    said = {name: attempt(store, name) for name in sorted(os.listdir(folder))}
    print(json.dumps({"said": said, "touched": touched}))


if __name__ == "__main__":
    main(*sys.argv[1:])
