"""Model archives for tests, made by the real torch-model-archiver."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

EAGER = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(6272, 7))

    def forward(self, images):
        return self.network(images)
"""


def small_network():
    """What `EAGER` has, with weights that differ from it."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(6272, 7)).eval()


def small_torchscript(file):
    """A TorchScript file of it. Returns the file."""
    torch.jit.trace(small_network(), torch.rand(2, 3, 224, 224)).save(str(file))
    return file


def make_archive(folder, name, *extra, form="default", handler="image_classifier", version="1.0", **options):
    """Runs the archiver.

    Args:
        folder: where the archive is made.
        name: of the model.
        extra: further files.
        form: "default" (.mar), "tgz" or "no-archive".
        handler: of the model.
        version: of the model.
        options: further options of the archiver, "serialized_file" for --serialized-file.

    Returns:
        The archive's file or folder.
    """
    words = {"model-name": name, "version": version, "handler": handler, "export-path": folder}
    words |= {key.replace("_", "-"): value for key, value in options.items()}
    if extra:
        words["extra-files"] = ",".join(map(str, extra))
    flags = [word for key, value in words.items() for word in (f"--{key}", str(value))]
    command = [str(Path(sys.executable).with_name("torch-model-archiver")), *flags, "--archive-format", form, "-f"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return Path(folder) / {"default": f"{name}.mar", "tgz": f"{name}.tar.gz", "no-archive": name}[form]


def index_to_name(file, names):
    """Writes `index_to_name.json` as ImageNet's is. Returns the file."""
    file.write_text(json.dumps({str(number): [f"n{number:08}", name] for number, name in enumerate(names)}))
    return file
