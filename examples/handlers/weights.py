"""`python -m examples.handlers.weights digits|resnet18 FOLDER`: writes what the archives of README.md need."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torchvision.models import resnet18

from examples.handlers.digits_network import Digits
from models.torch_private import compile_aoti_package

_DEMO = Path(__file__).parents[2] / "models" / "demo" / "model.safetensors"
_LARGEST_BATCH = 16


def write_digits(folder: Path) -> Path:
    """The weights of the digits demo as a state dict, digits.pt."""
    network = Digits()
    network.load_state_dict(load_file(_DEMO))
    file = folder / "digits.pt"
    torch.save(network.state_dict(), file)
    return file


def write_compiled(network: torch.nn.Module, file: Path, side: int = 224) -> Path:
    """Compiles a network with AOTInductor for this machine's processor, for batches of 1 to 16 images."""
    images = torch.randn(2, 3, side, side)
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    with torch.no_grad():
        program = torch.export.export(network.eval(), (images,), dynamic_shapes=({0: batch},))
        compile_aoti_package(program, file)
    return file


def main() -> None:
    """Writes one file."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if name == "digits":
        print(write_digits(folder))
    elif name == "resnet18":
        torch.manual_seed(0)
        print(write_compiled(resnet18(), folder / "resnet18.pt2"))
    else:
        sys.exit("digits or resnet18")


if __name__ == "__main__":
    main()
