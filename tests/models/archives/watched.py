"""Opens every archive of a folder, and tells what was touched outside of it and of the temporary folder."""

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

OF_TWO = ("os.rename", "os.link", "os.symlink")
EVENTS = (
    *OF_TWO,
    "open",
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.listdir",
    "os.scandir",
    "os.chmod",
)
MORE = ("os.chown", "shutil.rmtree", "subprocess.Popen", "os.mkfifo")


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
        # What shutil.rmtree removes is named relative to descriptors; the folder that it was given is noted.
        if event in EVENTS + MORE and sys._getframe(1).f_code.co_name != "_rmtree_safe_fd":
            paths = [each for each in arguments[: 1 + (event in OF_TWO)] if isinstance(each, str | bytes | Path)]
            touched.extend([event, os.fsdecode(path)] for path in paths if is_outside(os.fsdecode(path)))

    def is_outside(path):
        path = os.path.realpath(path)
        return not any(path == place or path.startswith(place + "/") for place in places)

    sys.addaudithook(note)
    said = {name: attempt(store, name) for name in sorted(path.name for path in Path(folder).iterdir())}
    print(json.dumps({"said": said, "touched": touched}))


if __name__ == "__main__":
    main(*sys.argv[1:])
