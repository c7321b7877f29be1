"""Digits as folders of images, to optimise a model by: `python -m examples.digits.folders --output FOLDER`."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from examples.digits.measure import sample_images

CALIBRATION_IMAGES = 300


def write_folders(output: Path, smallest: float = 0) -> tuple[Path, Path]:
    """Writes held-out samples and some that were trained on, with a sub-folder per digit.

    Args:
        output: gets the folders `validation` and `calibration`.
        smallest: height of the smallest digits, as a share of the image's (`smallest_digit` of the bundle).

    Returns:
        The two folders.
    """
    folders = output / "validation", output / "calibration"
    samples = sample_images(True, smallest), islice(sample_images(False, smallest), CALIBRATION_IMAGES)
    for folder, images in zip(folders, samples, strict=True):
        for number, (data, digit) in enumerate(images):
            file = folder / str(digit) / f"{number:04}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return folders


def main() -> None:
    """Writes digits as files, in a folder per label."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.folders", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--smallest", type=float, default=0.4, help="of the digits [0.4]; the ResNet18 reads 0.57")
    arguments = parser.parse_args()
    for folder in write_folders(arguments.output, arguments.smallest):
        print(f"{folder}: {len(list(folder.rglob('*.png')))} images")


if __name__ == "__main__":
    main()
