"""`--from FILE`: the same trained network as TorchScript, torch.export and ONNX, and files that are none."""

import copy
import dataclasses
import io
import json
import pickle
import shutil
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from benchmark.harness.server import ServerProcess
from examples.digits.folders import write_folders
from models.bundles.bundle import ModelBundle
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.engines.selection import choose
from models.networks.programs import ONNX, external_files
from models.optimize import optimizer, search
from models.optimize.candidates import Candidate, as_it_is, candidates_for, openvino
from models.optimize.choice import WeightsChoice
from models.optimize.command import main
from models.optimize.effort import Effort
from models.optimize.errors import FidelityError, UsageError
from models.optimize.fidelity import ENOUGH_IMAGES
from models.optimize.image_set import ImageSet, deal, labelled, synthetic, unlabelled
from models.optimize.program import Program
from models.optimize.report import Report
from models.optimize.sources import resolve
from tests.conftest import ROOT, lacking
from tests.end_to_end.test_process import DIGIT, post
from tests.models.optimize import programs
from tests.models.optimize.programs import LABELS, SETTINGS, SIDE, SUFFIXES, Small, Two, noise, weights_of, write
from tests.models.small import quiet, save

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
OFTEN = (".pt", *(pytest.param(suffix, marks=pytest.mark.exhaustive) for suffix in SUFFIXES if suffix != ".pt"))
ENGINES = (as_it_is.PROGRAM, openvino.FP32, openvino.INT8)
EFFORT = Effort(rounds=1, batch_sizes=(1, 2, 8), cores=1, is_isolated=False)
PIXELS = noise()

if not openvino.INT8.runs_here():
    pytestmark.append(pytest.mark.usefixtures("openvino_is_lacking"))


@pytest.fixture
def openvino_is_lacking():
    lacking("openvino or nncf is not installed; the extra [openvino] brings them")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Labelled digits: as many as int8 needs to judge by, 48 others to calibrate on."""
    validation, calibration = write_folders(tmp_path_factory.mktemp("digits"), 0.4)
    _, photos = deal(labelled(validation, LABELS), 0, ENOUGH_IMAGES)
    calibrating, _ = deal(unlabelled(calibration), 48, 0, share=1)
    return ImageSet(calibrating, photos, synthetic(SIDE, 4))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The digits demo as a file of each kind, by its suffix."""
    folder = tmp_path_factory.mktemp("files")
    programs.need_onnx()
    return {suffix: write(programs.demo_weights().network(), folder / f"mine{suffix}") for suffix in SUFFIXES}


@pytest.fixture(scope="module")
def bundles(files, digits, tmp_path_factory):
    """A bundle of each of them, with its file, by the suffix; int8, the costliest, in one."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        suffix: optimize(weights_of(file), folder / suffix[1:], digits, *ENGINES[: 3 if suffix == ".pt" else 2])
        for suffix, file in files.items()
    }


def optimize(weights, output, images, *candidates, report=None, effort=EFFORT):
    return optimizer.optimize(weights, candidates, output, report or Report(quiet()), images, effort)


def few(count=4):
    """Images for what needs no sense."""
    return ImageSet((), (), synthetic(SIDE, count))


def scores(bundle, name, pixels=PIXELS):
    engine = load_engine(bundle.with_engine(name), EngineOptions("cpu"))
    try:
        return np.concatenate([engine.infer(pixels[:1]), engine.infer(pixels[1:])])
    finally:
        engine.close()


def softmax(network, pixels=PIXELS):
    return programs.outputs_of(network, pixels).softmax(dim=1).numpy()


def main_here(*words):
    """The command in this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "isolated", lambda make, *given: nullcontext(make(*given)))
        return main([str(word) for word in words])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_engine_of_the_bundle_is_the_network_that_was_trained(bundles, digits, suffix):
    bundle = bundles[suffix]
    expected = softmax(programs.demo_weights().network())
    exact = {"as-it-is", "openvino-fp32", "weights"}
    for name in exact:
        np.testing.assert_allclose(scores(bundle, name), expected, rtol=0, atol=1e-4)
    for name in set(bundle.spec.engines) - exact:
        assert (suffix, name) == (".pt", "openvino-int8")
        assert np.abs(scores(bundle, name) - expected).max() > 1e-6


def test_the_table_says_that_int8_has_passed_the_gate(bundles):
    bundle = bundles[".pt"]
    table = json.loads((bundle.file.parent / "table.json").read_text())
    rows = {row["name"]: row for row in table["candidates"]}
    for name in ("as-it-is", "openvino-fp32", "openvino-int8"):
        row = rows[name]
        assert (row["refusal"], row["reservation"], row["fidelity"]["labelled_images"]) == ("", "", 256)
        assert row["fidelity"]["reference"] == "the file's own fp32"
        assert row["fidelity"]["reference_accuracy"] - row["fidelity"]["accuracy"] <= 0.005
    assert rows["openvino-fp32"]["fidelity"]["max_abs_diff"] < 1e-4
    assert rows["openvino-int8"]["fidelity"]["top1_agreement"] >= 0.98
    assert bundle.spec.fidelity["reference_accuracy"] > 0.95


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_on_another_machine_the_program_is_served_as_it_is(bundles, suffix, tmp_path):
    folder = of_another_machine(bundles[suffix], tmp_path)
    choice = choose(ModelBundle.load(folder))
    assert (choice.engine, choice.notice[-7:]) == ("weights", "--force")
    assert choice.bundle.spec.engine.kind == ("openvino" if suffix == ".onnx" else "program")
    assert choose(ModelBundle.load(folder), engine="as-it-is").engine == "as-it-is"


def of_another_machine(bundle, folder):
    folder = shutil.copytree(bundle.file.parent, folder / "other")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["engine"] = manifest["engines"]["openvino-fp32"]
    manifest["built_with"]["isa"] = "z80"
    (folder / "model.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("suffix", OFTEN)
def test_a_bundle_of_a_program_is_built_anew_from_the_program_in_it(bundles, suffix, tmp_path):
    folder = of_another_machine(bundles[suffix], tmp_path)
    words = ("--budget-s", "10000", "--threads", "1", "--engine", "openvino-fp32")
    assert main_here("--output", folder, "--if-missing", *words) == 0
    bundle = ModelBundle.load(folder)
    assert bundle.spec.built_with["isa"] != "z80"
    assert set(bundle.spec.engines) == {"as-it-is", "openvino-fp32", "weights"}
    assert (bundle.spec.source, bundle.labels) == (bundles[suffix].spec.source, LABELS)
    expected = softmax(programs.demo_weights().network())
    np.testing.assert_allclose(scores(bundle, "openvino-fp32"), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", OFTEN)
def test_the_program_is_in_the_bundle_though_time_was_too_short_to_try_it(suffix, tmp_path):
    file = write(Small(), tmp_path / f"mine{suffix}")
    bundle = optimize(weights_of(file), tmp_path / "bundle", few(), openvino.FP32)
    program = "as-it-is" if suffix == ".onnx" else "weights"  # of ONNX the graph is what runs elsewhere
    assert bundle.spec.engines[program].kind == "program"
    again = resolve(WeightsChoice("", bundle=tmp_path / "bundle"), quiet())
    torch.testing.assert_close(programs.outputs_of(again.network(), PIXELS), programs.outputs_of(Small(), PIXELS))


class Swapped(Program):
    """Classes in another order, in the converted graph alone."""

    def leave(self, outputs):
        return super().leave(outputs).flip(1)


def with_swapped_classes(job):
    program = job.network
    return dataclasses.replace(job, network=Swapped(program.file, program.kind, program.calling, program.module))


def without_normalisation(job):
    plain = dataclasses.replace(job.preprocess, mean=(0.0,) * 3, std=(1.0,) * 3)
    return dataclasses.replace(job, preprocess=plain)


@pytest.mark.parametrize(
    ("suffix", "change"),
    [(".pt", with_swapped_classes), (".pt2", without_normalisation), (".onnx", with_swapped_classes)],
)
def test_a_converted_graph_that_answers_differently_is_refused(files, digits, suffix, change, tmp_path):
    spoilt = Candidate("spoilt", "cpu", "fp32", lambda job, folder: openvino.FP32.build(change(job), folder))
    some = dataclasses.replace(digits, photos=digits.photos[:40])
    with pytest.raises(FidelityError, match=r"spoilt: agrees with the file's own fp32 on [0-9.]+%"):
        optimize(weights_of(files[suffix]), tmp_path / "bundle", some, spoilt)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_program_is_pickled_and_copied_as_its_path(files, suffix):
    program = weights_of(files[suffix]).network()
    pickled = pickle.dumps(program)
    assert len(pickled) < 2000 and files[suffix].name.encode() in pickled
    expected = programs.outputs_of(program, PIXELS)
    for other in (pickle.loads(pickled), copy.deepcopy(program)):
        assert other.module is not program.module
        torch.testing.assert_close(programs.outputs_of(other, PIXELS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_is_chosen_by_position_or_name(suffix, tmp_path):
    file = write(Two(), tmp_path / f"two{suffix}", output_names=["first", "second"])
    with pytest.raises(UsageError, match=r"several of which fit the 10 labels; name one: --output-name (0|first)"):
        weights_of(file)
    weights = weights_of(file, output_name="second" if suffix == ".onnx" else "1")
    bundle = optimize(weights, tmp_path / "bundle", few(), as_it_is.PROGRAM, openvino.FP32)
    for name in ("as-it-is", "openvino-fp32"):
        np.testing.assert_allclose(scores(bundle, name), softmax(Small()), rtol=0, atol=1e-4)


GREY = {**SETTINGS, "preprocess": {**programs.PREPROCESS, "mean": 0.2, "std": 0.3}}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_grey_network_gets_the_same_levels_from_every_engine(suffix, tmp_path):
    file = write(Small(channels=1), tmp_path / f"grey{suffix}", (2, 1, SIDE, SIDE), settings=GREY)
    bundle = optimize(weights_of(file), tmp_path / "bundle", few(), as_it_is.PROGRAM, openvino.FP32)
    red, green, blue = PIXELS.astype(np.int64).transpose(3, 0, 1, 2)
    levels = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
    with torch.inference_mode():
        expected = Small(channels=1)((torch.from_numpy(levels)[:, None] / 255 - 0.2) / 0.3).softmax(dim=1)
    for name in ("as-it-is", "openvino-fp32"):
        np.testing.assert_allclose(scores(bundle, name), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_output_is_the_second_of_two_labels(suffix, tmp_path):
    file = write(Small(1), tmp_path / f"pair{suffix}", settings={**SETTINGS, "labels": ["no", "yes"]})
    bundle = optimize(weights_of(file), tmp_path / "bundle", few(), as_it_is.PROGRAM, openvino.FP32)
    assert bundle.spec.activation == "sigmoid"
    yes = programs.outputs_of(Small(1), PIXELS).sigmoid().numpy()
    for name in ("as-it-is", "openvino-fp32"):
        np.testing.assert_allclose(scores(bundle, name), np.hstack([1 - yes, yes]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_in_half_precision_is_compared_with_itself(suffix, tmp_path):
    loud = Small()  # whose scores fp16 rounds by more than fp32 may differ
    loud.head.weight.data *= 40
    file = write(copy.deepcopy(loud).half(), tmp_path / f"half{suffix}")
    weights = weights_of(file)
    assert weights.reference == "the file's own fp16"
    words = ("--from", file, "--budget-s", "10000", "--threads", "1", "--engine", "openvino-fp32")
    assert main_here(*words, "--output", tmp_path / "bundle") == 0
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert {engine.precision for engine in bundle.spec.engines.values()} == {"fp16", "fp32"}
    np.testing.assert_allclose(scores(bundle, "openvino-fp32"), softmax(loud), rtol=0, atol=0.03)


def test_weights_outside_an_onnx_file_go_with_it(tmp_path):
    import onnx

    inside = write(Small(), tmp_path / "inside.onnx")
    file = tmp_path / "outside.onnx"
    (tmp_path / "outside.json").write_text(json.dumps(SETTINGS))
    outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(onnx.load(inside), file, **outside)
    assert external_files(file, ONNX) == ["weights.bin"]
    bundle = optimize(weights_of(file), tmp_path / "bundle", few(), as_it_is.PROGRAM, openvino.FP32)
    assert "weights.bin" in bundle.spec.engines["as-it-is"].companions
    (tmp_path / "weights.bin").unlink()
    for name in ("as-it-is", "openvino-fp32"):
        np.testing.assert_allclose(scores(bundle, name), softmax(Small()), rtol=0, atol=1e-4)
    with pytest.raises(UsageError, match=r"outside\.onnx: its weights are in 'weights\.bin', which has to"):
        weights_of(file)


def no_labels(folder):
    return [write(Small(), folder / "mine.onnx", settings=None)], "an ONNX file needs labels: --labels FILE"


def no_labels_exported(folder):
    return [write(Small(), folder / "mine.pt2", settings=None)], "a program of torch.export needs labels"


def no_file(folder):
    return [folder / "nowhere.pt"], "no such file"


def shortened(suffix):
    def case(folder):
        file = write(Small(), folder / f"mine{suffix}")
        file.write_bytes(file.read_bytes()[:-800])
        return [file], "ONNX Runtime cannot load it" if suffix == ".onnx" else "damaged"

    return pytest.param(case, id=f"damaged{suffix}")


def one_byte_changed(folder):
    file = write(Small(), folder / "mine.pt2")
    content = bytearray(file.read_bytes())
    content[content.index(next(Small().parameters()).detach().numpy().tobytes()[:64])] ^= 1
    file.write_bytes(content)
    return [file], "the checksum of"


def three_labels(suffix):
    def case(folder):
        settings = {**SETTINGS, "labels": ["a", "b", "c"]}
        return [
            write(Small(), folder / f"mine{suffix}", settings=settings)
        ], "has 10 classes, but there are 3 labels"

    return pytest.param(case, id=f"labels{suffix}")


def one_at_a_time(suffix):
    class Squeezed(nn.Module):
        """A trace of one image fixes the batch."""

        def __init__(self):
            super().__init__()
            self.network = Small()

        def forward(self, images):
            return self.network(images).view(images.shape[0], -1).view(int(images.shape[0]), 10)

    def case(folder):
        file = write(Squeezed(), folder / f"mine{suffix}", (1, 3, SIDE, SIDE), dynamic=False)
        return [file], "takes one image at a time; export it" if suffix == ".pt" else "takes batches of exactly 1"

    return pytest.param(case, id=f"batch{suffix}")


def other_size(suffix):
    def case(folder):
        settings = {**SETTINGS, "preprocess": {"preset": "half", "resize_size": 64, "crop_size": 64}}
        return [write(Small(), folder / f"mine{suffix}", settings=settings)], (
            f"takes [N, 3, {SIDE}, {SIDE}], but the preprocessing makes [N, 3, 64, 64]; --preprocess FILE"
        )

    return pytest.param(case, id=f"size{suffix}")


def weights_alone(folder):
    torch.save(Small().state_dict(), folder / "mine.pt")
    return [folder / "mine.pt", "--labels", labels(folder)], "weights alone, no TorchScript; make a bundle of them"


def other_rank(folder):
    return [write(nn.Linear(5, 10), folder / "mine.onnx", (2, 5))], "takes [N, 5], expected images [N, 3, 96, 96]"


def channels_last(folder):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Small()

        def forward(self, images):
            return self.network(images.permute(0, 3, 1, 2))

    file = write(Last(), folder / "mine.onnx", (2, SIDE, SIDE, 3))
    return [file], "takes [N, 96, 96, 3], expected images [N, 3, 96, 96]; export it with its channels first"


def two_inputs(folder):
    import onnx

    model = onnx.load(write(Small(), folder / "mine.onnx"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [2]))
    onnx.save_model(model, folder / "mine.onnx")
    return [folder / "mine.onnx"], "takes 2 inputs ([N, 3, 96, 96] and [2]), expected one"


def unknown_operators(folder):
    import onnx

    model = onnx.load(write(Small(), folder / "mine.onnx"))
    model.graph.node[0].op_type = "Convolve"
    onnx.save_model(model, folder / "mine.onnx")
    return [folder / "mine.onnx"], "ONNX Runtime cannot load it"


def text(folder):
    (folder / "mine.onnx").write_text("no model")
    return [folder / "mine.onnx", "--labels", labels(folder)], "ONNX Runtime cannot load it"


def in_training_mode(folder):
    class Dropping(Small):
        def forward(self, images):
            return nn.functional.dropout(super().forward(images), 0.5, training=True)

    return [write(Dropping(), folder / "mine.pt2")], "was exported in training mode: dropout is active"


def normalised_inside(suffix):
    class Normalising(Small):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

        def forward(self, images):
            return super().forward((images - self.mean) / self.std)

    def case(folder):
        file = write(Normalising(), folder / f"mine{suffix}", (2, 3, 224, 224), settings={"labels": LABELS})
        return [
            file
        ], "normalises its input itself (mean 0.485 0.456 0.406), and --preprocess would do it once more"

    return pytest.param(case, id=f"normalised{suffix}")


def at_most_eight(folder):
    file, example = folder / "mine.pt2", torch.rand(2, 3, SIDE, SIDE)
    batch = torch.export.Dim("batch", max=8)
    torch.export.save(torch.export.export(Small().eval(), (example,), dynamic_shapes=({0: batch},)), file)
    file.with_suffix(".json").write_text(json.dumps(SETTINGS))
    return [file], "takes batches of at most 8; export it without max"


def no_single_image(folder):
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Small()

        def forward(self, images):
            if images.shape[0] < 2:
                raise ValueError("two or more")
            return self.network(images)

    file = save(torch.jit.script(Pairs().eval()), folder / "mine.pt")
    file.with_suffix(".json").write_text(json.dumps(SETTINGS))
    return [file], "does not run on batches of every size: "


def labels(folder):
    file = folder / "labels.txt"
    file.write_text("\n".join(LABELS))
    return file


WRONG = [
    *(no_labels, no_labels_exported, no_file, *map(shortened, SUFFIXES), one_byte_changed, weights_alone, text),
    *(*map(three_labels, SUFFIXES), *map(one_at_a_time, SUFFIXES), other_size(".pt2"), other_size(".onnx")),
    *map(normalised_inside, SUFFIXES),
    *(other_rank, channels_last, two_inputs, unknown_operators, in_training_mode, at_most_eight, no_single_image),
]


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_ends_with_code_2_and_one_line_that_names_it(case, tmp_path, capfd):
    (file, *more), reason = case(tmp_path)
    capfd.readouterr()
    assert main(["--from", str(file), *map(str, more), "--output", str(tmp_path / "bundle")]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"optimize_model_for_inference.py: {file}: ")
    assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--arch", "resnet50"),
        ("--weights", "none"),
        ("--checkpoint", "weights.pth"),
        ("--bundle", "models/demo"),
        ("--device", "cuda"),
    ],
)
def test_what_the_file_brings_itself_cannot_be_named(more, capsys):
    assert main(["--from", "mine.pt", *more]) == 2
    assert capsys.readouterr().err.startswith("optimize_model_for_inference.py: --from ")


def test_an_output_is_named_of_files_only(capsys):
    assert main(["--output-name", "logits"]) == 2
    assert "--output-name is for --from FILE only" in capsys.readouterr().err


def test_a_missing_runtime_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "models.engines.onnx_session", raising=False)
    with pytest.raises(UsageError, match=r"mine\.onnx: ONNX needs the package onnxruntime: pip install"):
        weights_of(files[".onnx"])


def test_candidates_of_a_program_are_those_that_take_one():
    for kind in ("torchscript", "torch.export", "onnx"):
        names = {each.name for each in candidates_for("cpu", source=kind)}
        assert names - {"openvino-bf16"} == {"as-it-is", "openvino-fp32", "openvino-int8"}
    assert "as-it-is" not in {each.name for each in candidates_for("cpu")}


def test_the_root_script_makes_a_bundle_that_the_server_serves(files, tmp_path):
    """In processes as they are started by people; settings lie beside the file."""
    suffix = ".pt2"
    command = [
        *(
            sys.executable,
            ROOT / "optimize_model_for_inference.py",
            "--from",
            files[suffix],
            "--budget-s",
            "10000",
        ),
        *("--threads", "1", "--engine", "openvino-int8", "--accept-weak-gate", "--min-agreement", "0"),
        *("--output", tmp_path / "bundle"),
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "asking the file's own fp32 about" in done.stdout
    spec = ModelBundle.load(tmp_path / "bundle").spec
    assert {"as-it-is", "openvino-int8"} <= set(spec.engines)
    assert (spec.name, spec.source["weights"]) == ("mine", f"mine{suffix}")
    for engine in ("openvino-int8", "as-it-is"):
        with ServerProcess("--model", str(tmp_path / "bundle"), "--engine", engine, "--workers", "1") as server:
            assert post(server.url, DIGIT)["predictions"][0]["label"] == "7"


def test_the_report_names_the_reference(tmp_path):
    report = Report(Console(record=True, width=200, file=io.StringIO()))
    spoilt = Candidate(
        "spoilt", "cpu", "fp32", lambda job, folder: openvino.FP32.build(without_normalisation(job), folder)
    )
    weights = weights_of(write(Small(), tmp_path / "mine.pt"))
    optimize(weights, tmp_path / "bundle", few(), as_it_is.PROGRAM, spoilt, report=report)
    text = report.console.export_text()
    assert "spoilt: comparing with the file's own fp32" in text
    assert "from the file's own fp32 by" in text or "agrees with the file's own fp32 on" in text


def test_a_scripted_file_is_optimised_like_a_traced_one(tmp_path):
    with torch.inference_mode():
        file = save(torch.jit.script(Small().eval()), tmp_path / "scripted.pt")
    (tmp_path / "scripted.json").write_text(json.dumps(SETTINGS))
    bundle = optimize(weights_of(file), tmp_path / "bundle", few(), as_it_is.PROGRAM, openvino.FP32)
    np.testing.assert_allclose(scores(bundle, "openvino-fp32"), softmax(Small()), rtol=0, atol=1e-4)
