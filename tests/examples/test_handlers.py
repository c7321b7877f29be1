"""The archives of examples/handlers, made by the commands of its README with the real archiver, and run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples.handlers.weights import write_compiled, write_digits
from models.archives.open import open_archive
from tests.conftest import ROOT
from tests.runtime.kinds.archived import serving

FOLDER = ROOT / "examples" / "handlers"
DIGIT = ROOT / "images" / "digit-3-white-on-black.png"


def commands(name):
    """The words of the archiver's command for a model."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(rf"^torch-model-archiver --model-name {name} .*$", text, re.M)
    return shlex.split(line)


def archived(name, tmp_path):
    """The archive that the README's command makes, with its folders below `tmp_path`, unpacked."""
    store = tmp_path / "store"
    store.mkdir()
    words = [word.replace("build/", f"{tmp_path}/") for word in commands(name)]
    words[words.index("--export-path") + 1] = str(store)
    words[0] = str(Path(sys.executable).with_name("torch-model-archiver"))
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return open_archive(store / f"{name}.mar")


async def test_digits_are_read_and_explained_with_a_network_of_ones_own(tmp_path):
    write_digits(tmp_path)
    async with serving(archived("mnist", tmp_path), batch_size=2) as served:
        reply = await served.ask({"data": DIGIT.read_bytes()})
        assert json.loads(reply.body)["digit"] == 3 and json.loads(reply.body)["score"] > 0.9
        explained = json.loads((await served.ask({"data": DIGIT.read_bytes()}, action="explain")).body)
        assert (len(explained), len(explained[0]), len(explained[0][0])) == (3, 96, 96)


async def test_words_are_counted_without_torch(tmp_path):
    async with serving(archived("words", tmp_path)) as served:
        assert "models.handlers.base_handler" not in served.deployment.model.recipe(_options()).preload
        reply = await served.say("to be or not to be")
        assert json.loads(reply.body) == {"words": 6, "most_frequent": {"to": 2, "be": 2, "or": 1}}
        assert reply.content_type == "application/json"
        assert (await served.say(" ")).status == 422
        assert [each["value"] for each in served.observer.reports if each["name"] == "words_counted"] == [6.0]


async def test_a_story_comes_word_by_word(tmp_path):
    async with serving(archived("story", tmp_path)) as served:
        parts = []
        reply = await served.say("any seed", on_part=lambda part: parts.append(part.body))
        whole = await served.say("any seed")
        assert len(parts) == 39 and b"".join([*parts, reply.body]) == whole.body
        assert len(whole.body.split()) == 40


@pytest.mark.timeout(240)
async def test_what_aotinductor_compiled_runs_in_a_handlers_process(tmp_path):
    torch.manual_seed(0)
    pooled = (torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 10))
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 7, stride=4), torch.nn.ReLU(), *pooled)
    write_compiled(network, tmp_path / "resnet18.pt2")
    async with serving(archived("compiled", tmp_path)) as served:
        found = json.loads((await served.ask({"data": DIGIT.read_bytes()})).body)
        assert len(found) == 5 and 0 < sum(found.values()) < 1


def _options():
    from models.engines.base import EngineOptions

    return EngineOptions()
