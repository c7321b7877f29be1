"""Programs of any signature: on a thread and in a child, joined and one by one."""

from __future__ import annotations

import base64
import json
import time

import numpy as np
import pytest
import torch

from batching import ItemFailed
from models.bundles.spec import PreprocessSpec
from models.engines.base import EngineOptions
from models.errors import BundleError, EngineError
from models.images.preprocess import Preprocessor
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.errors import InvalidInput, ModelRaised, UnsupportedOutput
from runtime.inputs import Arguments, Image
from runtime.kinds.tensor_batch import join
from runtime.kinds.tensor_model import normalised, open_tensor_model
from runtime.phases import PhaseClock
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.spares import Spares
from runtime.runner import ThreadRunner
from tests.conftest import flat
from tests.runtime import programs
from tests.runtime.programs import export, save

ONES = np.ones((1, 2), np.float32)


def opened(file, **settings):
    if settings:
        file.with_suffix(".json").write_text(json.dumps(settings))
    return open_tensor_model("m", file, Preprocessor)


def engine_of(tmp_path, module, **settings):
    return opened(save(module, tmp_path / "m.pt"), **settings).load(EngineOptions(device="cpu"))


@pytest.fixture
async def deploy(tmp_path):
    """Deploys a program on a runner of that name."""
    pool, spares, deployed = CpuPool(1), Spares(), []

    async def start(module, runner="thread", target_latency_ms=None, **settings):
        model, options = opened(save(module, tmp_path / "m.pt"), **settings), EngineOptions(device="cpu")
        in_child = ProcessRunner("m", model.recipe(options), ProcessLimits(loaded_spares=0), spares)
        runs = in_child if runner == "process" else ThreadRunner(model, options)
        size = model.facts.max_batch_size
        batching = Batching(size, target_latency_ms=target_latency_ms, limit=BatchLimit(None, 30.0))
        deployment = Deployment(model, runs, pool, batching)
        deployed.append(deployment)
        await deployment.start()
        return deployment

    yield start
    for each in deployed:
        await each.close()
    await spares.close()
    pool.close()


def infer(deployment, *values):
    return deployment.infer(Arguments(values), PhaseClock(time.monotonic))


async def test_the_arguments_of_the_readmes_example(deploy):
    deployment = await deploy(programs.Example())
    (narrow, wide) = (np.array([[10, 1]], np.float32), np.array([[10, 1, 1]], np.float32))
    value = await infer(deployment, [narrow, wide], wide, {"x": narrow, "y": wide}, 30, "Hello!")
    ((tensors, text, number),) = value.tree.values()
    assert (text, number) == ("Hello!", 30) and isinstance(value.tree["out"], tuple)
    assert tensors[1].dtype == np.float32 and tensors[1].tolist() == [[60.0, 33.0, 33.0]]
    assert deployment.model.document(deployment.runner.facts, True)["engine"]["device"] == "cpu"
    assert "torchscript on cpu" in deployment.model.describe(deployment.runner.facts)


@pytest.mark.parametrize("runner", ["thread", "process"])
async def test_values_and_errors_of_a_model_are_the_same_on_every_runner(deploy, runner):
    deployment = await deploy(programs.Probe(), runner)
    x = np.array([[1.5, -2.0]], np.float16)
    tree = (await infer(deployment, "echo", x)).tree
    assert [(each.dtype, each.tolist()) for each in tree["a"]] == [("f2", [[1.5, -2]]), ("f2", [[1.5], [-2]])]
    assert tree["b"] == ("echo", 1, 0.1, True, None)
    interpreter = "The following operation failed in the TorchScript interpreter. builtins.ValueError: it was told"
    wrong_type = "forward() Expected a value of type 'str' for argument 'word' but instead found type 'Tensor'."
    unsupported = "The model returned a tensor of torch.complex64."
    for values, kind, text in [
        (("raise", x), ModelRaised, interpreter),
        ((x, x), ModelRaised, wrong_type),
        (("complex", x), UnsupportedOutput, unsupported),
    ]:
        with pytest.raises(ItemFailed) as failed:
            await infer(deployment, *values)
        cause = failed.value.__cause__
        assert (type(cause), str(cause), getattr(cause, "what", "")) == (
            kind,
            text,
            "dtype" * (kind is not ModelRaised),
        )
    assert (await infer(deployment, "echo", x)).tree["b"][0] == "echo", "it goes on"


async def test_without_an_example_the_target_is_learned_from_what_runs(deploy):
    deployment = await deploy(programs.Id(), target_latency_ms=0)
    assert deployment.admission.target_s is None
    assert deployment.runner.limit_s == 30.0, "not 20 times nothing"
    await infer(deployment, ONES)
    assert deployment.admission.target_s >= 1.0
    assert (await deploy(programs.Id(), target_latency_ms=70)).admission.target_s == 0.07
    assert (await deploy(programs.Id())).admission.target_s is None


def test_numbers_are_not_converted_between_types(tmp_path):
    text = "forward() Expected a value of type '{}' for argument '{}' but instead found type '{}'."
    for module, value, words in [
        (programs.Float(), 1, ("float", "n", "int")),
        (programs.Int(), 1.0, ("int", "n", "float")),
        (programs.Int(), True, ("int", "n", "bool")),
        (programs.Bool(), 1, ("bool", "b", "int")),
        (programs.Id(), [ONES], ("Tensor", "x", "List[Tensor]")),
        (programs.Id(), {"a": ONES}, ("Tensor", "x", "Dict[str, Tensor]")),
    ]:
        with pytest.raises(ModelRaised) as raised:
            engine_of(tmp_path, module).infer([(value,)])
        assert str(raised.value) == text.format(*words)


def test_too_many_and_too_few_arguments_are_told_in_libtorchs_words(tmp_path):
    engine = engine_of(tmp_path, programs.Two())
    with pytest.raises(ModelRaised, match=r"forward\(\) is missing value for argument 'y'\. Declaration: forward"):
        engine.infer([(ONES,)])
    with pytest.raises(ModelRaised, match=r"Expected at most 3 argument\(s\) .* but received 4 argument\(s\)\. D"):
        engine.infer([(ONES, ONES, ONES)])


def test_results_are_contiguous_and_ours(tmp_path):
    ((turned,),) = engine_of(tmp_path, programs.Transposed()).infer([(np.array([[1, 2, 3], [4, 5, 6]]),)])
    assert turned.tolist() == [[1, 4], [2, 5], [3, 6]] and turned.flags.c_contiguous
    engine = engine_of(tmp_path, programs.InPlace())
    ((first,),) = engine.infer([(np.ones(1, np.float32),)])
    engine.infer([(np.ones(1, np.float32),)])
    assert first.tolist() == [2.0], "what the model keeps is not what was returned"


@pytest.mark.parametrize(
    ("module", "what"),
    [(programs.Complex(), "dtype"), (programs.DictInt(), "keys")],
)
def test_outputs_that_no_nested_value_has(tmp_path, module, what):
    with pytest.raises(UnsupportedOutput) as raised:
        engine_of(tmp_path, module).infer([(ONES,)])
    assert raised.value.what == what


def calls(rows):
    return [row[0]["calls"].tolist() for row in rows]


def test_calls_are_joined_only_where_that_is_declared_and_they_fit(tmp_path):
    a, b, wide = np.ones((1, 2)), np.full((2, 2), 3.0), np.ones((1, 3))
    engine = engine_of(tmp_path, programs.Doubled(), max_batch_size=4)
    joined = engine.infer([(a, 1), (b, 1)])
    assert calls(joined) == [[1], [1, 1]], "one call"
    assert [row[0]["y"].tolist() for row in joined] == [(2 * a).tolist(), (2 * b).tolist()]
    for other in [(wide, 1), (a.astype(np.float32), 1), (a, 2)]:
        before = engine.infer([(a, 1)])[0][0]["calls"][0]
        assert calls(engine.infer([(a, 1), other])) == [[before + 1], [before + 2]], "one by one"
    whole = engine.infer([(a, 0), (b, 0)])
    assert [len(each) for each in calls(whole)] == [1, 1], "what cannot be split is run one by one"
    assert whole[1][0]["y"].tolist() == (2 * b).tolist()
    alone = engine_of(tmp_path, programs.Doubled(), max_batch_size=1)
    assert calls(alone.infer([(a, 1), (b, 1)])) == [[1], [2, 2]]


@pytest.mark.parametrize("arguments", [(torch.tensor(1.0),), ("text",), (torch.ones(2), torch.ones(3))])
def test_calls_without_one_number_of_entries_are_not_joined(arguments):
    assert join([arguments, arguments]) is None


def test_calls_are_joined_at_any_depth():
    joined = join([({"a": [torch.full((n, 2), n)]}, (torch.full((n,), n), "x")) for n in (1, 2)])
    assert joined.arguments[0]["a"][0].tolist() == [[1, 1], [2, 2], [2, 2]]
    first, second = joined.split({"b": (joined.arguments[1][0], "all")})
    assert first["b"][0].tolist() == [1] and second["b"][0].tolist() == [2, 2] and second["b"][1] == "all"
    assert joined.split(torch.ones(())) is None


def test_a_program_that_writes_to_its_input_does_not_change_an_item_that_may_run_again(tmp_path):
    item = np.zeros(1, np.float32)
    engine_of(tmp_path, programs.InPlace(), max_batch_size=2).infer([(item,)])
    assert item.tolist() == [0.0]


async def test_calls_that_come_together_share_a_batch(deploy):
    deployment = await deploy(programs.Doubled(), max_batch_size=8)
    futures = [infer(deployment, np.full((1, 2), float(n)), 1) for n in range(4)]
    values = [await each for each in futures]
    assert [value.tree["y"].tolist() for value in values] == [[[2.0 * n] * 2] for n in range(4)]


def test_a_program_of_torch_export(tmp_path):
    batch = {0: torch.export.Dim("batch")}
    file = export(
        programs.Two(), (torch.ones(2, 3), torch.ones(2, 3)), tmp_path / "m.pt2", dynamic_shapes=(batch, batch)
    )
    model = opened(file, max_batch_size=4)
    assert model.facts.architecture == "torch.export"
    engine = model.load(EngineOptions(device="cpu"))
    rows = engine.infer([(np.full((n, 3), n, np.float32),) * 2 for n in (1, 2)])
    assert [row[0].tolist() for row in rows] == [[[2.0] * 3], [[4.0] * 3] * 2]
    with pytest.raises(ModelRaised, match="Guard failed"):
        engine.infer([(np.ones((1, 4), np.float32),) * 2])


def test_an_image_becomes_the_tensor_that_its_settings_say(tmp_path):
    preprocess = {"preset": "half", "resize_size": 8, "crop_size": 8}
    model = opened(save(programs.Id(), tmp_path / "m.pt"), preprocess=preprocess)
    image = Image(flat(255))
    number, tensor = model.prepare(Arguments((5, image)))
    assert number == 5 and tensor.dtype == np.float32 and tensor.flags.c_contiguous
    assert tensor.shape == (1, 3, 8, 8) and (tensor == 1.0).all()
    assert not model.may_take_long(Arguments((5, image)))
    with pytest.raises(InvalidInput):
        model.prepare(image)


def test_normalisation_is_torchvisions():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    spec = PreprocessSpec(8, 8, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    expected = (scaled - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    assert np.allclose(normalised(pixels, spec)[0], expected, atol=1e-6)


def test_the_settings_beside_a_file(tmp_path):
    file = save(programs.Id(), tmp_path / "m.pt")
    assert opened(file).settings.max_batch_size == 1
    settings = opened(file, device="cpu", max_batch_size=3, labels=["of a classifier"]).settings
    assert (settings.device, settings.max_batch_size) == ("cpu", 3)
    wrong = [{"x": 1}, {"device": "tpu"}, {"max_batch_size": 0}, {"max_batch_size": True}, {"preprocess": "x"}]
    for each in wrong:
        with pytest.raises(BundleError, match=r"m\.json"):
            opened(file, **each)
    file.with_suffix(".json").write_text("[]")
    with pytest.raises(BundleError, match=r"m\.json"):
        open_tensor_model("m", file, Preprocessor)


def test_a_device_of_its_own(tmp_path):
    model = opened(save(programs.Id(), tmp_path / "m.pt"), device="cpu")
    assert model.load(EngineOptions(device="cuda")).facts.spec.device == "cpu"
    if not torch.cuda.is_available():
        model = opened(save(programs.Id(), tmp_path / "n.pt"), device="cuda")
        with pytest.raises(EngineError, match="not available"):
            model.load(EngineOptions())


class NoForward(torch.nn.Module):
    @torch.jit.export
    def other(self, x: torch.Tensor):
        return x


def test_what_is_no_program_is_refused_by_its_file(tmp_path):
    whole = save(programs.Id(), tmp_path / "m.pt").read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"__torch__.")] ^= 0xFF
    contents = [b"", b"no model", whole[:-100], bytes(changed), base64.b64encode(whole)]
    for number, content in enumerate(contents):
        file = tmp_path / f"{number}.pt"
        file.write_bytes(content)
        with pytest.raises(EngineError, match=file.name):
            open_tensor_model("m", file, Preprocessor)
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pt")
    with pytest.raises(EngineError, match="weights alone"):
        open_tensor_model("m", tmp_path / "weights.pt", Preprocessor)
    with pytest.raises(BundleError):
        open_tensor_model("m", tmp_path / "missing.pt", Preprocessor)
    with pytest.raises(EngineError, match="forward"):
        opened(save(NoForward(), tmp_path / "n.pt")).load(EngineOptions(device="cpu"))
