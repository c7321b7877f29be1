"""An image classifier of an archive: its images run on its engine, explanations in the built-in handler."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import torch

from batching import ItemFailed
from models.images.preprocess import Preprocessor
from models.networks.graph import jit_warnings_ignored
from runtime.errors import HandlerFailed
from runtime.inputs import Image
from runtime.kinds.archived_classifier import open_archived_classifier
from runtime.phases import PhaseClock
from tests.conftest import ROOT
from tests.runtime.kinds.archived import archive_of, deployed

DIGIT = (ROOT / "images" / "digit-3-white-on-black.png").read_bytes()


class Channels(torch.nn.Module):
    """Scores [N, 3]: the mean of each channel."""

    def forward(self, x):
        return x.mean((2, 3))


async def test_images_and_explanations_share_a_batch_and_a_process_that_runs_no_code_of_the_archive(tmp_path):
    folder = tmp_path / "channels"
    folder.mkdir()
    with jit_warnings_ignored():
        torch.jit.script(Channels()).save(folder / "channels.pt")
    for name in ("torchvision", "PIL", "ts", "base64", "models", "captum"):
        (folder / f"{name}.py").write_text("open('ran', 'w')")
    archive = archive_of(folder, "image_classifier", serializedFile="channels.pt")
    model = open_archived_classifier("channels", archive, Preprocessor)
    async with deployed(model, delay_ms=300) as served:
        infer = served.deployment.infer(Image(DIGIT), PhaseClock(time.monotonic))
        ask = served.ask({"data": DIGIT, "target": b"2"}, action="explain")
        wrong = served.ask({"data": b"no image"}, action="explain")
        scores, explained, failed = await asyncio.gather(infer, ask, wrong, return_exceptions=True)
        assert sum(scores.values) == pytest.approx(1) and len(served.deployment.runner.pids) == 1
        first, second, third = json.loads(explained.body)
        assert (len(third), len(third[0])) == (224, 224)
        assert any(map(any, third)) and not any(map(any, first)) and not any(map(any, second))
        tensor = await served.ask({"data": [[[0.0]], [[0.0]], [[9.0]]]})
        assert list(json.loads(tensor.body)) == ["2", "0", "1"]
        assert not (folder / "ran").exists() and not (ROOT / "ran").exists(), "code of an archive without any"
        assert isinstance(failed, ItemFailed) and isinstance(failed.__cause__, HandlerFailed)
