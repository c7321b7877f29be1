"""Archives with TorchServe's built-in `image_classifier`, whose network needs none of TorchServe's Python."""

from __future__ import annotations

from pathlib import Path

from models.archives.archive import FOLDER, Archive
from models.bundles.settings import Settings
from models.bundles.spec import IMAGENET

HANDLER = "image_classifier"
ENDINGS = (".mar", ".tar.gz")  # of the files that torch-model-archiver makes
# TorchServe's: whatever the network answers with, a softmax follows. How many classes there are is measured.
SETTINGS = Settings(labels=(), preprocess=IMAGENET, activation="softmax")


def has_form(path: Path) -> bool:
    """True for the path of an archive, by its name, and of an unpacked one, by its manifest's folder."""
    return path.name.endswith(ENDINGS) or (path / FOLDER).is_dir()


def is_classifier(archive: Archive, handler: str) -> bool:
    """Whether an archive is served on our own path: by the built-in handler, and with a network that it can load.

    Args:
        archive: that is to be served.
        handler: that serves it.
    """
    manifest = archive.manifest
    own = archive.folder / f"{HANDLER}.py"
    loads = manifest.model_file.endswith(".py") or (
        not manifest.model_file and manifest.serialized_file.endswith((".pt", ".pth", ".ts"))
    )
    return handler == HANDLER and not own.exists() and bool(manifest.serialized_file) and loads
