"""The handlers that others are derived from, with networks of a few numbers."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import EngineError
from models.handlers.base_handler import BaseHandler
from models.handlers.context import Context
from models.handlers.image_classifier import ImageClassifier
from models.handlers.image_segmenter import ImageSegmenter
from models.handlers.integrated_gradients import IntegratedGradients
from models.handlers.object_detector import ObjectDetector
from models.handlers.text_classifier import TextClassifier
from models.networks.graph import jit_warnings_ignored

EAGER = """
import torch

class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.line(x)
"""


class Line(torch.nn.Module):
    """y = 2a + 3b + 1."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)
        self.line.weight.data, self.line.bias.data = torch.tensor([[2.0, 3.0]]), torch.tensor([1.0])

    def forward(self, x):
        return self.line(x)


class Mean(torch.nn.Module):
    """Scores [N, 3]: the mean of each channel, times ten."""

    def forward(self, x):
        return 10 * x.mean((2, 3))


class Pixels(torch.nn.Module):
    """Scores of each pixel: its channels."""

    def forward(self, x: torch.Tensor):
        return {"out": x}


class Found(torch.nn.Module):
    """One object per image, as large as it, and one with a low score."""

    def forward(self, images: list[torch.Tensor]):
        losses: dict[str, torch.Tensor] = {}
        found: list[dict[str, torch.Tensor]] = []
        for image in images:
            box = torch.tensor([0.0, 0.0, float(image.shape[2]), float(image.shape[1])])
            boxes, scores = torch.stack([box, box]), torch.tensor([0.75, 0.25])
            found.append({"boxes": boxes, "labels": torch.tensor([1, 0]), "scores": scores})
        return losses, found


class Words(torch.nn.Module):
    """Scores [N, 2]: the number of known words, and its opposite."""

    def forward(self, numbers: torch.Tensor, offsets: torch.Tensor):
        counts = torch.diff(offsets, append=torch.tensor([len(numbers)])).float()
        return torch.stack((counts, -counts), 1)


def scripted(network, file):
    with jit_warnings_ignored():
        torch.jit.script(network).save(file)


def loaded(handler, folder, headers=None, batch=1, **described):
    """A handler that has its network, and the context of a batch."""
    context = Context("m", str(folder), {"model": described}, batch, None)
    handler.initialize(context)
    context.begin(["id"] * batch, [headers or {}] * batch)
    return handler, context


def image(mode="RGB", size=(40, 30), value=(255, 0, 0)):
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, "PNG")
    return bytearray(file.getvalue())


def test_a_torchscript_file_answers_numbers_and_reports_its_time(tmp_path):
    scripted(Line(), tmp_path / "line.pt")
    handler, context = loaded(BaseHandler(), tmp_path, batch=2, serializedFile="line.pt")
    rows = [{"data": [1.0, 1.0]}, {"body": bytearray(b"[0.0, 2.0]")}]
    assert handler.handle(rows, context) == [[6.0], [7.0]]
    (metric,) = context.metrics.take()
    assert (metric["name"], metric["unit"], metric["labels"][0]) == (
        "HandlerTime",
        "Milliseconds",
        ["ModelName", "m"],
    )


def test_an_eager_model_has_one_class_and_its_weights(tmp_path):
    (tmp_path / "line_network.py").write_text(EAGER)
    torch.save(Line().state_dict(), tmp_path / "line.pt")
    handler, context = loaded(BaseHandler(), tmp_path, serializedFile="line.pt", modelFile="line_network.py")
    assert handler.handle([{"data": [1.0, 1.0]}], context) == [[6.0]]
    (tmp_path / "two.py").write_text(EAGER + "class Other: ...\n")
    with pytest.raises(EngineError, match=r"two\.py: must have exactly one class"):
        loaded(BaseHandler(), tmp_path, serializedFile="line.pt", modelFile="two.py")


@pytest.mark.parametrize(("described", "message"), [({}, "neither"), ({"serializedFile": "x.bin"}, "not in the")])
def test_an_archive_without_a_network_is_told(tmp_path, described, message):
    with pytest.raises(EngineError, match=message):
        loaded(BaseHandler(), tmp_path, **described)


def test_describe_and_explain_are_asked_for_by_headers(tmp_path):
    scripted(Line(), tmp_path / "line.pt")
    handler, context = loaded(BaseHandler(), tmp_path, {"describe": "True"}, serializedFile="line.pt")
    assert handler.handle([{}], context) == [None]
    context.begin(["id"], [{"explain": "True"}])
    with pytest.raises(NotImplementedError):
        handler.handle([{"data": [1.0, 1.0]}], context)


def test_a_classifier_answers_names_and_probabilities_for_every_kind_of_image(tmp_path):
    scripted(Mean(), tmp_path / "mean.pt")
    (tmp_path / "index_to_name.json").write_text(json.dumps({"0": "red", "1": ["n1", "green"], "2": "blue"}))
    pictures = [
        {"data": image()},
        {"body": base64.b64encode(image()).decode()},
        {"data": image("P", value=0)},
        {"data": image("RGBA", value=(255, 0, 0, 128))},
        {"data": image("L", value=128)},
        {"data": np.zeros((3, 4, 4)).tolist()},
    ]
    handler, context = loaded(ImageClassifier(), tmp_path, batch=1, serializedFile="mean.pt")
    answers = [handler.handle([each], context)[0] for each in pictures]
    assert list(answers[0]) == ["red", "blue", "green"] and answers[0] == answers[1] == answers[3]
    assert sum(answers[0].values()) == pytest.approx(1)
    assert list(answers[5].values()) == pytest.approx([1 / 3] * 3)
    handler.set_max_result_classes(1)
    assert list(handler.handle([pictures[0]], context)[0]) == ["red"]


def test_a_derived_classifier_gets_images_as_they_are(tmp_path):
    class Grey(ImageClassifier):
        image_processing = staticmethod(lambda image: torch.full((3, 2, 2), float(len(image.getbands()))))

        def postprocess(self, data):
            return data[:, 0].tolist()

    scripted(Mean(), tmp_path / "mean.pt")
    handler, context = loaded(Grey(), tmp_path, batch=2, serializedFile="mean.pt")
    assert handler.handle([{"data": image("L", value=1)}, {"data": image()}], context) == [10.0, 30.0]


def test_explanations_add_up_to_the_score_of_each_requests_target(tmp_path):
    scripted(Mean(), tmp_path / "mean.pt")
    handler, context = loaded(ImageClassifier(), tmp_path, {"explain": "True"}, 2, serializedFile="mean.pt")
    values = np.random.default_rng(0).random((3, 4, 4))
    rows = [{"data": values.tolist(), "target": bytearray(b"1")}, {"data": values.tolist()}]
    second, first = handler.handle(rows, context)
    assert np.shape(first) == (3, 4, 4)
    for explained, target in ((first, 0), (second, 1)):
        assert np.sum(explained, (1, 2))[target] == pytest.approx(10 * values[target].mean())
        assert np.abs(explained).sum() == pytest.approx(np.abs(explained[target]).sum())


def test_integrated_gradients_of_a_polynomial_are_exact():
    x = torch.tensor([[1.0, 2.0]])
    found = IntegratedGradients(lambda x: torch.stack((x[:, 0] ** 3, x[:, 0] * x[:, 1]), 1)).attribute(x, 1, 15)
    assert found.tolist() == [pytest.approx([1.0, 1.0])]


def test_a_segmenter_gives_each_pixel_a_class(tmp_path):
    scripted(Pixels(), tmp_path / "pixels.pt")
    handler, context = loaded(ImageSegmenter(), tmp_path, serializedFile="pixels.pt")
    (rows,) = handler.handle([{"data": image()}], context)
    assert np.shape(rows) == (224, 224, 2) and rows[0][0][0] == 0.0 and rows[0][0][1] > 0.9


def test_a_detector_takes_images_of_any_size_and_leaves_out_low_scores(tmp_path):
    scripted(Found(), tmp_path / "found.pt")
    (tmp_path / "index_to_name.json").write_text(json.dumps({"object_type_names": {"0": "cat", "1": "dog"}}))
    handler, context = loaded(ObjectDetector(), tmp_path, batch=2, serializedFile="found.pt")
    answers = handler.handle([{"data": image()}, {"data": image("L", (8, 6), 1)}], context)
    assert answers[0] == [{"dog": [0.0, 0.0, 40.0, 30.0], "score": 0.75}]
    assert answers[1] == [{"dog": [0.0, 0.0, 8.0, 6.0], "score": 0.75}]


def test_texts_are_classified_with_a_vocabulary_and_a_missing_torchtext_is_told(tmp_path):
    scripted(Words(), tmp_path / "words.pt")
    with pytest.raises(EngineError, match="no source_vocab"):
        loaded(TextClassifier(), tmp_path, serializedFile="words.pt")
    torch.save({"good": 0, "film": 1, "good film": 2}, tmp_path / "source_vocab.pt")
    handler, context = loaded(TextClassifier(), tmp_path, batch=2, serializedFile="words.pt")
    first, second = handler.handle([{"data": b"A <b>Good</b> film!"}, {"body": "nothing"}], context)
    assert first["0"] == pytest.approx(1 / (1 + np.exp(-6.0))) and second == {"0": 0.5, "1": 0.5}
    (tmp_path / "source_vocab.pt").write_bytes(b"\x80\x04ctorchtext.vocab\nVocab\n.")
    with pytest.raises(EngineError, match="needs the package torchtext, which is not installed"):
        loaded(TextClassifier(), tmp_path, serializedFile="words.pt")
