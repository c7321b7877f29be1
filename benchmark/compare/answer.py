"""What a server answers to one picture that is alone, and what it should answer."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundles.bundle import ModelBundle

_BOUNDARY = "----SnapServeLone"


@dataclass(frozen=True)
class Prediction:
    """One class of an answer. score: 0 … 1."""

    index: int
    score: float


Answer = list[Prediction]  # the best first


def ask(url: str, picture: Path, timeout_s: float = 60.0) -> Answer:
    """Uploads a picture as the form field `image`.

    Raises:
        OSError: nobody answers, or not with 2xx (urllib.error.HTTPError).
        ValueError: the answer is not SnapServe's JSON.
    """
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{picture.name}"\r\n'
    kind = "Content-Type: application/octet-stream\r\n\r\n"
    body = (head + kind).encode() + picture.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    request = urllib.request.Request(url + "/classify", body, headers)
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        return read_answer(response.read())


def read_answer(body: bytes) -> Answer:
    """Takes the predictions out of a body. A list of one answer (BentoML's) is that answer."""
    document: Any = json.loads(body)
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    try:
        return [Prediction(int(each["index"]), float(each["score"])) for each in document["predictions"]]
    except (KeyError, TypeError):
        raise ValueError(f"not an answer of predictions: {body[:200]!r}") from None


def reference_answers(folder: Path, pictures: Sequence[Path]) -> list[list[float]]:
    """The bundle's weights as torchvision runs them: its preset on a PIL image, eager fp32.

    Returns:
        One row of probabilities per picture.
    """
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    from models.engines.torchscript import load_network

    bundle = ModelBundle.load(folder).with_engine("eager-fp32")
    spec = bundle.spec.preprocess
    preset = ImageClassification(
        crop_size=spec.crop_size,
        resize_size=spec.resize_size,
        mean=spec.mean,
        std=spec.std,
        interpolation=InterpolationMode(spec.interpolation),
    )
    network, rows = load_network(bundle).eval(), []
    with torch.inference_mode():
        for picture in pictures:
            pixels = preset(Image.open(picture).convert("RGB")).unsqueeze(0)
            rows.append(network(pixels).softmax(dim=1)[0].tolist())
    return rows


def difference(answers: Sequence[Answer], reference: Sequence[Sequence[float]]) -> dict[str, float]:
    """How far answers are from the reference.

    Returns:
        `top1_agreement`, the share of pictures with the same first class; `max_abs_diff`, the largest
        difference of a score from the reference's for the same class, over all predictions.
    """
    pairs = list(zip(answers, reference, strict=True))
    agree = [answer[0].index == max(range(len(row)), key=row.__getitem__) for answer, row in pairs]
    diffs = [abs(each.score - row[each.index]) for answer, row in pairs for each in answer]
    return {"top1_agreement": sum(agree) / len(agree), "max_abs_diff": round(max(diffs), 4)}
