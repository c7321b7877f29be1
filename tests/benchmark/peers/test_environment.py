"""The peers' environments, and that each peer answers as the bundle does."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.__main__ import main
from benchmark.compare.bundle import Shared, reference_scores
from benchmark.compare.candidates import all_candidates
from benchmark.compare.report import difference
from benchmark.harness.clients import ask
from benchmark.harness.server import ROOT
from benchmark.peers.environment import Environment, PeerMissing, peers, usual_peers
from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.torchscript import load_network
from models.networks.graph import ServingGraph, compile_graph, jit_warnings_ignored
from tests.conftest import lacking

IMAGES = [ROOT / "images" / "digit-5-white-on-black.jpg", ROOT / "images" / "digit-3-white-on-black.png"]


def test_every_requirement_is_pinned():
    assert peers() == (*usual_peers(), "torchserve") == ("fastapi", "litserve", "mosec", "bentoml", "torchserve")
    for name in peers():
        versions = Environment(name).versions()
        assert name in versions
        assert all(re.fullmatch(r"[\w.]+", version) for version in versions.values()), name


def test_an_environment_has_the_projects_packages_behind_its_own(tmp_path):
    requirements = tmp_path / "requirements.toml"
    requirements.write_text("[nothing]\n")
    made = Environment("nothing", requirements, tmp_path)
    assert not made.installed
    made.install()
    assert made.installed
    code = "import numpy, sys; print(numpy.__file__, *sys.path, sep='\\n')"
    words = [made.python, "-c", code]
    numpy_file, *path = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert numpy_file == np.__file__
    own = next(place for place, folder in enumerate(path) if folder.startswith(str(made.folder)))
    assert own < path.index(str(Path(np.__file__).parents[1]))
    requirements.write_text('[nothing]\nno-such-package = "1.0"\n')
    assert not made.installed


def test_what_cannot_be_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirements = tmp_path / "requirements.toml"
    requirements.write_text('[offline]\nno-such-package = "1.0"\n')
    made = Environment("offline", requirements, tmp_path)
    with pytest.raises(
        PeerMissing, match=r"offline cannot be installed \(is there a network\?\): .*no-such-package"
    ):
        made.install()
    assert not made.installed


def test_the_command_lists_what_is_missing(monkeypatch, capsys):
    def refuse(self):
        raise PeerMissing("no network")

    monkeypatch.setattr(Environment, "install", refuse)
    assert main(["peers", "mosec"]) == 1
    assert "missing: no network" in capsys.readouterr().out
    assert main(["peers", "triton"]) == 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The digits demo as every peer needs it: with a TorchScript file and weights for the eager network."""
    folder = tmp_path_factory.mktemp("bundle")
    for name in ("model.json", "labels.json", "model.safetensors"):
        shutil.copy(ROOT / "models" / "demo" / name, folder)
    demo = ModelBundle.load(folder)
    side = demo.spec.preprocess.crop_size
    graph = ServingGraph(load_network(demo), demo.spec.preprocess).eval()
    with jit_warnings_ignored():
        compiled = compile_graph(graph, torch.zeros(2, side, side, 3, dtype=torch.uint8))
        torch.jit.save(compiled, folder / "fp32.ts")
    engines = {
        "eager-fp32": EngineSpec("eager", "model.safetensors", "", device="cpu"),
        "torchscript-fp32": EngineSpec("torchscript", "fp32.ts", "", device="cpu"),
    }
    ModelBundle.write(folder, dataclasses.replace(demo.spec, engines=engines), demo.labels)
    return folder


NAMES = ("fastapi-plain", "ancestor", "fastapi-tuned", "litserve", "mosec", "bentoml")


@pytest.mark.skipif(sys.platform != "linux", reason="the peers' servers are for Linux")
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("ancestor", "mosec") else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in NAMES
    ],
)
def test_a_peer_answers_as_the_reference_does(name, bundle):
    candidates = {each.name: each for each in all_candidates(bundle, Shared("torchscript-fp32", "fp32"))}
    others = {name for name, each in candidates.items() if not each.is_extra and not name.startswith("snapserve")}
    assert others == {*NAMES, "ancestor-workers", "litserve-16", "mosec-one-stage"}  # the same programs
    candidate = candidates[name]
    assert candidate.environment is not None
    if not Environment(candidate.environment).installed:
        lacking(f"{name} is not installed; make peers installs it")
    with candidate.start(IMAGES[0]) as server:
        answers = [ask(server.url, image) for image in IMAGES]
        processes = server.tree.processes()
    assert [len(answer) for answer in answers] == [5, 5]
    found = difference(answers, reference_scores(bundle, IMAGES))
    if name != "ancestor":  # which leaves out mean and std, and squeezes what is not square
        assert found == {"top1_agreement": 1.0, "max_abs_diff": pytest.approx(0, abs=0.03)}
    assert not any(process.is_running() for process in processes)
