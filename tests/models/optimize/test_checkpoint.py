"""Files of weights in every form that people have them; nothing in them is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import pickle
import struct
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.optimize.checkpoint import read_checkpoint
from models.optimize.errors import UsageError


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            collections.OrderedDict(
                stem=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
                stage=nn.Linear(4, 5),
                fc=nn.Linear(5, 3),
            )
        )


STATE = network().state_dict()
EXPECTED = network().state_dict()


def prefixed(prefix, state=STATE):
    return {prefix + name: tensor for name, tensor in state.items()}


def write(folder, document, name="file.pth", **options):
    file = folder / name
    if name.endswith(".safetensors"):
        save_file(document, file)
    else:
        torch.save(document, file, **options)
    return file


def read(file, key=""):
    """The note, when the weights are right."""
    found = read_checkpoint(file, EXPECTED, key)
    assert found.state.keys() == EXPECTED.keys()
    for name, tensor in found.state.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor.float(), STATE[name].float(), rtol=0, atol=2e-3)
    return found.note.partition("took the weights ")[2]


WRAPPED = {
    "nothing": (STATE, ""),
    "DataParallel": (prefixed("module."), "whose names begin with 'module.'"),
    "compiled DataParallel": (prefixed("_orig_mod.module."), "whose names begin with '_orig_mod.module.'"),
    "DataParallel of compiled": (prefixed("module._orig_mod."), "whose names begin with 'module._orig_mod.'"),
    "four deep": (prefixed("module.model.net.backbone."), "whose names begin with 'module.model.net.backbone.'"),
    "a name of theirs": (prefixed("my_classifier."), "whose names begin with 'my_classifier.'"),
    "Lightning": (
        {"state_dict": prefixed("model."), "epoch": 1, "hyper_parameters": {"lr": 0.1}},
        "under 'state_dict', whose names begin with 'model.'",
    ),
    "torchvision's script": ({"model": STATE, "optimizer": {"state": {}}, "epoch": 3}, "under 'model'"),
    "net": ({"net": STATE, "acc": 93.1}, "under 'net'"),
    "another key": ({"whatever": STATE}, "under 'whatever'"),
    "four dicts": ({"a": {"b": {"c": {"d": STATE}}}}, "under 'a.b.c.d'"),
    "averaged beside": (
        {"model": STATE, "model_ema": STATE},
        "under 'model', others that fit: model_ema (--checkpoint-key)",
    ),
    "averaged alone": ({"state_dict_ema": STATE}, "under 'state_dict_ema'"),
    "SWA": (
        {"n_averaged": torch.tensor(7), **prefixed("module.")},
        "whose names begin with 'module.', left out: n_averaged",
    ),
    "a loss with weights": (
        {"state_dict": {**prefixed("net."), "loss.weight": torch.ones(3)}},
        "under 'state_dict', whose names begin with 'net.', left out: loss.weight",
    ),
    "counted operations": ({**STATE, "total_ops": torch.zeros(1)}, "left out: total_ops"),
    "auxiliary heads": ({**STATE, "AuxLogits.fc.weight": torch.ones(3, 4)}, "left out: AuxLogits.fc.weight"),
    "without counters": ({name: t for name, t in STATE.items() if not name.endswith("tracked")}, ""),
    "a compiled part": ({name.replace("stem.", "stem._orig_mod."): t for name, t in STATE.items()}, ""),
    "parts in different modules": (
        {("head.model." if "fc" in name else "model.backbone.") + name: t for name, t in STATE.items()},
        None,
    ),
    "parameters": ({name: nn.Parameter(t) if t.is_floating_point() else t for name, t in STATE.items()}, ""),
    "averaged beside, with a prefix": (
        {**STATE, **prefixed("ema.", {name: tensor + 1 for name, tensor in STATE.items()})},
        None,
    ),
    "half precision": ({name: t.half() if t.is_floating_point() else t for name, t in STATE.items()}, ""),
}


@pytest.mark.parametrize("what", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_by_names_and_shapes(tmp_path, what, zipped):
    document, note = WRAPPED[what]
    file = write(tmp_path, document, _use_new_zipfile_serialization=zipped)
    if "different modules" in what:
        with pytest.raises(UsageError, match=r"the file's names are like model\.backbone\.stem\.0\.weight"):
            read(file)
    elif note is None:
        assert read(file).endswith("others that fit: ema (--checkpoint-key)")
    else:
        assert read(file) == note


def test_safetensors(tmp_path):
    assert read(write(tmp_path, prefixed("model."), "file.safetensors")) == "whose names begin with 'model.'"


class Anything:
    """A class of theirs, with everything that a pickle can do to it."""

    def __init__(self):
        self.values = [1, 2]

    def __reduce__(self):
        return Anything, (), {"values": [1]}, iter([1, 2]), iter([("a", 1)])

    def append(self, item):
        raise AssertionError("ran")

    def __setitem__(self, name, item):
        raise AssertionError("ran")


BESIDE = {
    "argparse": argparse.Namespace(lr=0.1, out=Path("runs")),
    "numpy scalar": np.float64(3.5),
    "numpy array": np.arange(3),
    "path": Path("runs") / "1",
    "pure path": PurePosixPath("runs"),
    "date": datetime.datetime(2026, 1, 2),
    "time zone": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abc"),
    "set": {1, 2},
    "deque": collections.deque([1, 2]),
    "slice": slice(1, 2),
    "class": Anything,
    "function": np.mean,
    "object": Anything(),
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "key": {Path("a"): 1},
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_lies_beside_the_weights_does_no_harm(tmp_path, what):
    document = {"model": STATE, "beside": BESIDE[what], "list": [BESIDE[what]]}
    assert read(write(tmp_path, document)) == "under 'model'"


def test_the_old_format_has_to_hold_weights_alone(tmp_path):
    """There a pickle can make torch look for source files, so classes are refused."""
    document = {"model": STATE, "args": argparse.Namespace(lr=0.1)}
    with pytest.raises(UsageError, match=r"more than weights, in torch\.save's old format; .*alone: torch\.save"):
        read(write(tmp_path, document, _use_new_zipfile_serialization=False))


class Runs:
    """A pickle that would run code."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_run(tmp_path, zipped):
    mark = tmp_path / "ran"
    document = {
        "model": STATE,
        "evil": [
            Runs(Path.touch, mark),
            Runs(eval, f"open({str(mark)!r}, 'w')"),
            Runs(getattr, Path, "touch"),
            Runs(pickle.loads, pickle.dumps(Runs(Path.touch, mark))),
            Runs(torch.storage._load_from_bytes, pickle.dumps(Runs(Path.touch, mark))),
        ],
    }
    file = write(tmp_path, document, _use_new_zipfile_serialization=zipped)
    if zipped:
        assert read(file) == "under 'model'"
    else:
        with pytest.raises(UsageError):
            read(file)
    assert not mark.exists()


def replaced(file, pickled):
    """The archive with another pickle in it."""
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else data)
    return file


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize("function", ["_rebuild_tensor_v2", "_rebuild_parameter"])
@pytest.mark.parametrize("state", ["attributes", "dictionary"])
def test_a_pickle_cannot_change_what_torch_rebuilds_tensors_with(tmp_path, function, state):
    """BUILD sets attributes of whatever is on the stack."""
    rebuild = getattr(torch._utils, function)
    before = rebuild.__name__, rebuild.__defaults__, dict(vars(rebuild))
    slots = (
        b"N}" + text("__defaults__") + b")s\x86"
        if state == "attributes"
        else b"}" + text("__name__") + text("x") + b"s"
    )
    stranger = b"cargparse\nNamespace\n0"  # so that torch's own reader refuses the file
    pickled = b"\x80\x02" + stranger + b"ctorch._utils\n" + function.encode() + b"\n" + slots + b"b0}."
    with pytest.raises(UsageError):
        read(replaced(write(tmp_path, STATE), pickled))
    assert (rebuild.__name__, rebuild.__defaults__, dict(vars(rebuild))) == before


class Writes(nn.Module):
    """TorchScript that writes a file as soon as it is loaded."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def forward(self, images):
        return images

    @torch.jit.export
    def __getstate__(self):
        return self.file, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.file, self.training = state
        torch.from_file(self.file, True, 8, dtype=torch.uint8).fill_(65)


def hidden_from_python(program):
    """A second directory before the end record, where zipfile looks, says nothing of the program."""
    data = program.read_bytes()
    end = data.rfind(b"PK\x05\x06")
    (entries,) = struct.unpack_from("<H", data, end + 10)
    size, offset = struct.unpack_from("<II", data, end + 12)
    name = b"archive/data.pkl"
    head = struct.pack("<IHHHHHHIIIHH", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0)
    comment = size - len(head) - 14 - len(name)
    directory = head + struct.pack("<HHHII", comment, 0, 0, 0, 0) + name + b"c" * comment
    record = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, entries, entries, size, offset, 0)
    return data[: offset + size] + directory + record


def test_a_program_that_hides_from_pythons_reader_is_not_run(tmp_path):
    mark = tmp_path / "ran"
    program = tmp_path / "program.pt"
    torch.jit.script(Writes(str(mark))).save(str(program))
    mark.unlink(missing_ok=True)
    file = tmp_path / "hidden.pth"
    file.write_bytes(hidden_from_python(program))
    with zipfile.ZipFile(file) as archive:
        assert not any("constants" in name for name in archive.namelist())
    assert torch._C.PyTorchFileReader(str(file)).has_record("constants.pkl")
    with pytest.raises(UsageError, match="a TorchScript program"):
        read(file)
    assert not mark.exists()


def test_several_sets_of_weights_are_asked_about(tmp_path):
    file = write(tmp_path, {**prefixed("student."), **prefixed("teacher.")})
    with pytest.raises(UsageError, match="'student', 'teacher'; name one with --checkpoint-key"):
        read(file)
    assert read(file, "teacher").startswith("whose names begin with 'teacher.'")
    file = write(tmp_path, {"model": STATE, "model_ema": prefixed("module.")})
    assert read(file, "model_ema.module").startswith("under 'model_ema', whose names begin with 'module.'")
    with pytest.raises(UsageError, match=r"optimizer: must be one of 'model', 'model_ema\.module'"):
        read(file, "optimizer")


@pytest.mark.parametrize("part", ["", "['model']"])
def test_a_pickled_module_is_refused_with_the_line_that_helps(tmp_path, part):
    file = write(tmp_path, {"model": network(), "epoch": 3} if part else network())
    with pytest.raises(UsageError, match=r"a whole pickled module \(torch\.nn\..*Sequential\)") as caught:
        read(file)
    line = str(caught.value).partition("there: ")[2]
    assert line == f"torch.save(torch.load({str(file)!r}, weights_only=False){part}.state_dict(), 'weights.pth')"
    weights = tmp_path / "weights.pth"
    exec(line.replace("'weights.pth'", repr(str(weights))), {"torch": torch})
    assert read(weights) == ""


def test_a_torchscript_program_is_not_run(tmp_path):
    file = tmp_path / "program.pt"
    torch.jit.trace(network().stage.eval(), torch.rand(1, 4)).save(str(file))
    with pytest.raises(UsageError, match=r"a TorchScript program.*-m server --model .*program\.pt --labels"):
        read(file)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {**STATE, "fc.weight": torch.zeros(7, 5), "fc.bias": torch.zeros(7)},
            "2 tensors do not fit the architecture: fc",
        ),
        ({"other.weight": torch.zeros(2, 2)}, "the file's names are like other.weight"),
        ({**STATE, "fc.extra": torch.zeros(2)}, "1 tensors do not fit .*fc.extra 2 for none"),
        ({**STATE, "fc.weight": STATE["fc.weight"].to(torch.int8)}, "fc.weight is int8, not float32"),
        ({**STATE, "fc.weight": STATE["fc.weight"] * torch.nan}, "fc.weight holds values that are not finite"),
        ({"epoch": 3}, "holds no weights"),
        ([1, 2], "holds no weights"),
        ("text", "holds no weights"),
    ],
)
def test_what_does_not_fit_is_told_with_what_is_there(tmp_path, document, said):
    with pytest.raises(UsageError, match=said) as caught:
        read(write(tmp_path, document))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x02garbage", b"\x80\x04K\x01", b"text"])
@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}: (damaged|holds no weights)") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.pth: no such file"):
        read(tmp_path / "nowhere.pth")
