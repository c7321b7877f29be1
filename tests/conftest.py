"""What several folders of tests share."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

ROOT = Path(__file__).parents[1]


def encode(pixels, format="PNG", **options):
    """The bytes of a picture file. pixels: uint8 [H, W] or [H, W, 3 or 4]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def flat(value, size=8):
    """A square PNG of one grey level."""
    return encode(np.full((size, size, 3), value, np.uint8))


def lacking(what):
    """Skips the test, which cannot run here because of `what`; on CI, where all is installed, fails it."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)


@pytest.fixture(scope="session")
def require():
    """A function from a program's name to its path; skips where it is missing, and fails there on CI."""

    def find(program):
        path = shutil.which(program, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")  # where Debian puts nginx
        if path is None:
            lacking(f"{program} is not installed; scripts/system-packages.sh installs it")
        return path

    return find


@pytest.fixture
def noise():
    """A function from a seed to the PNG bytes of 8 x 8 random pixels."""

    def make(seed):
        return encode(np.random.default_rng(seed).integers(0, 77, (8, 8, 3), np.uint8))

    return make


@pytest.fixture(scope="session")
def digits_resnet18():
    """A folder with a ResNet18 that was trained on the digits: an oracle, where random weights are none.

    Trained once, in a minute or two, and kept in .cache/ until the training code or torch changes. Nobody measures
    it at the end: the tests that have it do.
    """
    from models.demo import train

    sources = [*sorted((ROOT / "models/demo").glob("*.py")), Path(__file__)]
    code = b"".join(file.read_bytes() for file in sources)
    key = hashlib.sha256(code + torch.__version__.encode()).hexdigest()[:16]
    folder = ROOT / ".cache" / f"digits-resnet18-{key}"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # `make test` runs in two processes
        if not folder.exists():
            draft = folder.with_suffix(".draft")
            shutil.rmtree(draft, ignore_errors=True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(train, "fidelity", lambda bundle: {})
                # 150 steps, the recipe, read more, but take longer.
                train.train_bundle(draft, "resnet18", steps=90)
            draft.rename(folder)
    return folder
