import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

from models.bundles.bundle import ModelBundle
from models.bundles.table import Table
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.errors import ModelError
from models.machine.processor import processor_kind
from models.optimize.candidates import CANDIDATES, Candidate, candidates_for, eager, fx, torchscript
from models.optimize.command import main
from models.optimize.contestant import Contestant
from models.optimize.destination import check_replaceable, move_into_place, workshop
from models.optimize.errors import FidelityError, OptimizeError, UsageError
from models.optimize.options import OptimizeOptions, parse
from models.optimize.report import RANDOM_WARNING, Report
from tests.models.optimize.runs import EFFORT, FP32, ROOT, main_here, optimize, table_of
from tests.models.small import ARCHITECTURE, CLASSES, SPEC, random_weights, write_labels, write_preprocess


def arguments(folder, *more):
    preprocess = write_preprocess(folder)
    return [
        *(
            "--arch",
            ARCHITECTURE,
            "--weights",
            "none",
            "--num-classes",
            str(CLASSES),
            "--budget-s",
            "10000",
            "--threads",
            "1",
        ),
        *(
            "--engine",
            "torchscript-fp32",
            "--preprocess",
            str(preprocess),
            "--output",
            str(folder / "bundle"),
            *more,
        ),
    ]


def broken(name, change):
    """A candidate whose build starts from a job that `change` has spoilt."""
    return Candidate(name, "cpu", "fp32", lambda job, folder: FP32.build(change(job), folder))


def without_normalisation(job):
    plain = dataclasses.replace(job.preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return dataclasses.replace(job, preprocess=plain)


def with_swapped_classes(job):
    class Swapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = job.network

        def forward(self, x):
            return self.network(x).flip(1)

    return dataclasses.replace(job, network=Swapped())


def with_nan(job):
    class NotANumber(torch.nn.Module):
        def forward(self, x):
            return x.mean(dim=[2, 3]).repeat(1, 4)[:, :CLASSES] * float("nan")

    return dataclasses.replace(job, network=NotANumber())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A bundle that the command wrote, with what it said."""
    folder = tmp_path_factory.mktemp("optimized")
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr(Console, "print", lambda self, *parts, **_: printed.extend(parts))
        assert main_here(arguments(folder)) == 0
    return folder / "bundle", printed


def test_the_bundle_is_whole_and_tells_how_it_came_about(finished):
    bundle = ModelBundle.load(finished[0])
    spec = bundle.spec
    assert (spec.name, spec.num_classes, spec.preprocess) == (ARCHITECTURE, CLASSES, SPEC)
    assert (spec.engine.kind, spec.engine.precision, spec.engine.device) == ("torchscript", "fp32", "cpu")
    assert list(spec.latency_ms) == ["1", "4", "16"]
    assert Table.read(finished[0]).fastest_ms("torchscript-fp32", spec.engine).keys() == spec.latency_ms.keys()
    assert (spec.engine.threads, spec.engine.streams) == (1, 1)
    assert spec.fidelity["reference"] == "eager fp32"
    assert spec.fidelity["top1_agreement"] == 1
    assert spec.fidelity["max_abs_diff"] < 1e-4
    assert {"torch", "torchvision", "cpu", "isa", "gpu", "date", "cores"} <= spec.built_with.keys()
    assert set(spec.engines) == {"eager-fp32", "torchscript-fp32", "weights"}
    files = ["labels.json", "model.json", "table.json", "table.svg", "torchscript-fp32.ts", "weights.safetensors"]
    assert sorted(file.name for file in finished[0].iterdir()) == files


def test_the_table_holds_every_candidate_with_every_round(finished):
    rows = table_of(finished[0])
    assert set(rows) == {"eager-fp32", "torchscript-fp32"}
    for row in rows.values():
        assert (row["refusal"], row["reservation"]) == ("", "")
        assert row["megabytes"] > 1 and row["build_s"] >= 0
        (speed,) = row["speeds"]
        rounds = [len(each) for each in speed["rounds_ms"].values()]
        assert rounds in ([7, 7, 7], [1, 1, 1]), "the reference may be hopeless"
    assert ModelBundle.load(finished[0]).spec.latency_ms == rows["torchscript-fp32"]["speeds"][0]["latency_ms"]


def test_the_plot_names_every_candidate(finished):
    svg = (finished[0] / "table.svg").read_text()
    assert "torchscript-fp32 (1 thread)" in svg and "eager-fp32 (1 thread)" in svg


@pytest.mark.parametrize("name", ["eager-fp32", "torchscript-fp32", "weights"])
def test_every_engine_of_the_bundle_runs(finished, name):
    bundle = ModelBundle.load(finished[0])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    expected = load_engine(bundle, EngineOptions()).infer(pixels)
    np.testing.assert_allclose(
        load_engine(bundle.with_engine(name), EngineOptions()).infer(pixels), expected, atol=1e-5
    )


def test_random_weights_are_announced_at_start_at_end_and_in_the_bundle(finished):
    folder, printed = finished
    panels = [part.renderable for part in printed if hasattr(part, "renderable")]
    assert panels == [RANDOM_WARNING] * 2
    assert ModelBundle.load(folder).spec.is_random


def test_nothing_but_the_bundle_stays_beside_it(finished):
    assert sorted(file.name for file in finished[0].parent.iterdir()) == ["bundle", "preprocess.json"]


def test_the_bundle_answers_like_torchvision_at_every_batch_size(finished, tmp_path):
    engine = load_engine(ModelBundle.load(finished[0]), EngineOptions())
    weights = random_weights(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        inputs = weights.reference_input(torch.from_numpy(pixels))
        expected = weights.reference_network()(inputs).softmax(dim=1).numpy()
    for size in range(1, 6):
        np.testing.assert_allclose(engine.infer(pixels[:size]), expected[:size], atol=1e-5)


def test_a_bundle_that_is_there_is_kept_unless_forced(finished, capsys):
    folder = finished[0].parent
    before = (finished[0] / "model.json").stat().st_mtime_ns
    assert main(arguments(folder)) == 2
    assert "--force" in capsys.readouterr().err
    assert main(arguments(folder, "--if-missing")) == 0
    assert "is there already" in capsys.readouterr().out
    assert (finished[0] / "model.json").stat().st_mtime_ns == before


def test_if_missing_builds_a_damaged_bundle_anew(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.json").write_text("{}")
    assert main_here(arguments(tmp_path, "--if-missing")) == 0
    ModelBundle.load(tmp_path / "bundle")


def test_a_bundle_of_another_machine_is_built_anew_from_its_own_weights(finished, tmp_path, capsys):
    folder = shutil.copytree(finished[0], tmp_path / "bundle")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["built_with"]["isa"] = "z80"
    manifest["source"]["seed"] = 99
    (folder / "model.json").write_text(json.dumps(manifest))
    words = [
        "--output",
        str(folder),
        "--if-missing",
        "--budget-s",
        "10000",
        "--threads",
        "1",
        "--engine",
        "fx-int8-x86",
    ]
    assert main_here(words) == 0
    assert f"{folder}: built for z80, this processor is " in capsys.readouterr().out
    bundle = ModelBundle.load(folder)
    assert bundle.spec.built_with["isa"] == processor_kind()
    assert bundle.spec.source["seed"] == 99
    # int8 was timed, and is not chosen on the word of a few photos
    assert bundle.spec.engine.kind == "eager"
    assert table_of(folder)["fx-int8-x86"]["reservation"] == "weak gate: 12 of 256 images"


def test_a_bundle_of_another_machine_is_built_anew_whatever_made_it(finished, tmp_path):
    """The same command as the first time, with all that the bundle has by now."""
    folder = shutil.copytree(finished[0], tmp_path / "bundle")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["built_with"]["isa"] = "z80"
    (folder / "model.json").write_text(json.dumps(manifest))
    assert main_here(arguments(tmp_path, "--if-missing")) == 0
    assert ModelBundle.load(folder).spec.built_with["isa"] == processor_kind()


def test_a_folder_of_something_else_is_left_alone_by_auto_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/store/demo").mkdir(parents=True)
    (tmp_path / "models/store/demo/thesis.txt").write_text("all of it")
    assert main(["--arch", "auto", "--bundle", str(ROOT / "models/demo")]) == 2
    assert "left alone" in capsys.readouterr().err


def test_speed_that_was_not_taken_is_named_last(tmp_path):
    report = Report(Console(record=True, width=200, file=io.StringIO()))
    weights = random_weights(tmp_path)
    optimize(weights, tmp_path / "a", eager.FP32, fx.X86, report=report)
    last = report.console.export_text().splitlines()[-1]
    assert re.match(r"Left on the table: fx-int8-x86 does \d+ images/s, [\d.]+ times as many\.", last)
    assert "--accept-weak-gate" in last and "--validation FOLDER" in last
    accepting = dataclasses.replace(EFFORT, accept_weak_gate=True)
    bundle = optimize(weights, tmp_path / "b", eager.FP32, fx.X86, report=report, effort=accepting)
    assert bundle.spec.engine.precision == "int8"
    assert "Left on the table" not in report.console.export_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_normalisation, r"agrees with eager fp32 on [0-9.]+%|differ from eager fp32 by"),
        (with_swapped_classes, r"agrees with eager fp32 on [0-9.]+%"),
        (with_nan, "agrees|by nan"),
    ],
)
def test_a_candidate_that_answers_differently_is_refused_with_the_figure(tmp_path, change, reason):
    with pytest.raises(FidelityError, match=reason) as caught:
        optimize(random_weights(tmp_path), tmp_path / "bundle", broken("broken", change))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert [file.name for file in tmp_path.iterdir()] == ["preprocess.json"]


def test_a_failed_run_leaves_the_bundle_that_was_there(tmp_path):
    good = optimize(random_weights(tmp_path), tmp_path / "bundle")
    with pytest.raises(FidelityError):
        optimize(random_weights(tmp_path, seed=1), tmp_path / "bundle", broken("broken", without_normalisation))
    assert ModelBundle.load(tmp_path / "bundle") == good
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundle", "preprocess.json"]


def test_the_candidate_that_passes_wins_over_one_that_does_not(tmp_path):
    report = Report(Console(record=True, width=200, file=io.StringIO()))
    spoilt = broken("spoilt", without_normalisation)
    bundle = optimize(random_weights(tmp_path), tmp_path / "bundle", spoilt, FP32, report=report)
    assert bundle.spec.fidelity["max_abs_diff"] < 1e-4
    text = report.console.export_text()
    assert "eager fp32" in text and "refused" in text and "chosen" in text


HALF = Candidate("half", "cpu", "fp16", partial(torchscript.build, device="cpu", precision="fp16"))


def test_half_precision_passes_its_own_gate(tmp_path):
    bundle = optimize(random_weights(tmp_path), tmp_path / "bundle", HALF)
    assert bundle.spec.engine.precision == "fp16"
    assert 0 < bundle.spec.fidelity["max_abs_diff"] < 0.01


def test_a_candidate_that_cannot_be_built_is_told(tmp_path):
    def build(job, folder):
        raise ModelError("no compiler")

    with pytest.raises(OptimizeError, match=r"odd: no compiler$"):
        optimize(random_weights(tmp_path), tmp_path / "bundle", Candidate("odd", "cpu", "fp32", build))


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="left alone"):
        check_replaceable(tmp_path, force=True)
    with pytest.raises(UsageError, match="is a file"):
        check_replaceable(tmp_path / "thesis.txt", force=True)
    check_replaceable(tmp_path / "new", force=False)


def test_the_workshop_is_beside_the_output_and_vanishes_even_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), workshop(tmp_path / "store" / "a") as folder:
        assert folder.parent == tmp_path / "store"
        (folder / "half").write_text("written")
        raise KeyboardInterrupt
    assert list((tmp_path / "store").iterdir()) == []


def test_moving_into_place_follows_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("x")
    move_into_place(tmp_path / "new", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "real"]


def test_candidates_are_those_of_the_machine(monkeypatch):
    assert len({each.name for each in CANDIDATES}) == len(CANDIDATES)
    on_cpu = [each.name for each in candidates_for("cpu")]
    assert {"eager-fp32", "torchscript-fp32", "fx-int8-onednn", "openvino-int8"} <= set(on_cpu)
    assert [each.name for each in CANDIDATES if each.is_optional] == ["aotinductor-fp32", "compile-fp16"]
    for cuda in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert bool(candidates_for("cuda")) == cuda
    assert "torchscript-fp16" in [each.name for each in candidates_for("cuda")]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--arch", "resnet-18"],
        ["--weights", "best"],
        ["--pictures", "nowhere"],
        ["--threads", "-1"],
        ["--device", "cuda"],
        ["--num-classes", "3", "--weights", "default"],
        ["--engine", "tensorrt"],
        ["--min-agreement", "101"],
        ["--threads", "few"],
        ["--activation", "relu"],
        ["--buget-s", "1"],
        ["--budget-s"],
        ["--validation", "nowhere"],
        ["--bundle", "nowhere"],
    ],
)
def test_wrong_use_ends_with_code_2_and_one_line(tmp_path, capsys, wrong, monkeypatch):
    monkeypatch.setattr("models.optimize.candidates.torchscript.has_cuda", lambda: False)
    assert main([*arguments(tmp_path), *wrong]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_a_network_the_code_is_3_and_the_line_is_plain(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SNAPSERVE_WEIGHTS_URL_BASE", "http://127.0.0.1:1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    assert main(["--arch", ARCHITECTURE, "--output", str(tmp_path / "bundle")]) == 3
    assert "could not be downloaded" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_the_mirror_comes_from_the_flag_before_the_environment():
    environment = {"SNAPSERVE_WEIGHTS_URL_BASE": "http://a"}
    assert parse([], environment).weights_url_base == "http://a"
    assert parse(["--weights-url-base", "http://b"], environment).weights_url_base == "http://b"
    assert parse([], {}) == OptimizeOptions()


def test_variables_of_the_server_are_not_read():
    assert parse([], {"SNAPSERVE_DEVICE": "tpu", "SNAPSERVE_LABELS": "a=b"}) == OptimizeOptions()


def test_the_root_script_optimises_a_checkpoint(tmp_path):
    checkpoint = tmp_path / "weights.pth"
    torch.save(random_weights(tmp_path).state, checkpoint)
    command = [
        *(
            sys.executable,
            str(ROOT / "optimize_model_for_inference.py"),
            "--arch",
            ARCHITECTURE,
            "--budget-s",
            "10000",
        ),
        *("--checkpoint", str(checkpoint), "--labels", str(write_labels(tmp_path))),
        *("--preprocess", str(write_preprocess(tmp_path)), "--output", str(tmp_path / "bundle"), "--threads", "1"),
        *("--engine", "torchscript-fp32"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "images/s" in done.stdout
    manifest = json.loads((tmp_path / "bundle" / "model.json").read_text())
    assert manifest["source"]["weights"] == "weights.pth"
    assert manifest["engine"]["threads"] == 1


def test_if_missing_does_not_import_torch(finished):
    code = (
        "import sys; from models.optimize.command import main;"
        f"code = main(['--output', {str(finished[0])!r}, '--if-missing']);"
        "sys.exit(9 if 'torch' in sys.modules else code)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_a_setting_that_answers_differently_is_left_out(tmp_path, monkeypatch):
    honest = Contestant.scores

    def scores(self, pixels, setting):
        return honest(self, pixels, setting) + (0.05 if setting.threads == 1 else 0.0)

    monkeypatch.setattr(Contestant, "scores", scores)
    printed = io.StringIO()
    report = Report(Console(file=printed, width=200))
    effort = dataclasses.replace(EFFORT, cores=2)
    optimize(random_weights(tmp_path), tmp_path / "bundle", report=report, effort=effort)
    row = table_of(tmp_path / "bundle")["torchscript-fp32"]
    assert [speed["threads"] for speed in row["speeds"]] == [2]
    assert row["inconsistent"] == ["1 thread"]
    assert "torchscript-fp32: left out with 1 thread: other answers than when it was judged" in printed.getvalue()
