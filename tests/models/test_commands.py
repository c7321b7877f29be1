import io
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

from models.__main__ import main
from models.networks.architectures import build_network
from models.optimize.image_set import SAMPLES
from tests.models.optimize.runs import optimize
from tests.models.small import ARCHITECTURE, random_weights, save, traced


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    optimize(random_weights(folder), folder / "a")
    return folder / "a"


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 7)).eval()


def export(file, *more):
    return main(["export", "--arch", ARCHITECTURE, "--weights", "none", "--output", str(file), *more])


def first_values(text):
    return [float(value) for value in text.splitlines()[1].split()]


def test_run_prints_ok_and_the_first_values(network, tmp_path, capsys):
    file = save(traced(network, 2, 3, 4, 4), tmp_path / "model.pt")
    assert main(["run", str(file), "--ones", "1,3,4,4", "--head", "5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ok\n")
    expected = network(torch.ones(1, 3, 4, 4))[0, :5].tolist()
    assert first_values(out) == pytest.approx(expected, abs=1e-5)


def test_run_prints_a_line_per_image(network, tmp_path, capsys):
    file = save(traced(network, 2, 3, 4, 4), tmp_path / "model.pt")
    assert main(["run", str(file), "--ones", "3,3,4,4", "--head", "2"]) == 0
    assert [len(line.split()) for line in capsys.readouterr().out.splitlines()] == [1, 2, 2, 2]


def test_run_says_when_the_model_does_not_load(network, tmp_path, capsys):
    good = save(traced(network, 2, 3, 4, 4), tmp_path / "good.pt").read_bytes()
    cases = {"missing": None, "empty": b"", "cut": good[:-100], "flipped": flip_weight(good)}
    for name, content in cases.items():
        file = tmp_path / f"{name}.pt"
        if content is not None:
            file.write_bytes(content)
        assert main(["run", str(file)]) == 1, name
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("error loading the model")
        assert len(output.err.splitlines()) == 1


def flip_weight(content):
    """One bit of the largest stored part, the weights, is turned."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        part = max(archive.infolist(), key=lambda info: info.file_size)
    position = part.header_offset + 30 + len(part.filename) + part.file_size // 2
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def test_run_says_when_the_shape_does_not_fit(network, tmp_path, capsys):
    file = save(traced(network, 2, 3, 4, 4), tmp_path / "model.pt")
    assert main(["run", str(file), "--ones", "1,3,5,5"]) == 1
    output = capsys.readouterr()
    assert (output.out, len(output.err.splitlines())) == ("", 1)
    assert "does not run on float32 [1, 3, 5, 5]" in output.err


@pytest.mark.parametrize("shape", ["", "1,x", "1,0,3", "1,-3"])
def test_run_refuses_a_shape_that_is_none(shape, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "model.pt", f"--ones={shape}"])
    assert "like 1,3,224,224" in capsys.readouterr().err


def test_export_gives_what_torchvision_gives(tmp_path, capsys):
    assert export(tmp_path / "model.pt", "--num-classes", "7", "--seed", "3") == 0
    capsys.readouterr()
    assert main(["run", str(tmp_path / "model.pt"), "--head", "7"]) == 0
    weights = random_network(7, 3)
    with torch.inference_mode():
        expected = weights(torch.ones(1, 3, 224, 224))[0].tolist()
    assert first_values(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)


def random_network(num_classes, seed):
    torch.manual_seed(seed)
    return build_network(ARCHITECTURE, num_classes)


@pytest.mark.parametrize("options", [["--script"], ["--export"]])
def test_every_kind_of_export_runs_at_another_batch_size(tmp_path, capsys, options):
    file = tmp_path / ("model.pt2" if "--export" in options else "model.pt")
    assert export(file, *options) == 0
    capsys.readouterr()
    assert main(["run", str(file), "--ones", "3,3,224,224", "--head", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_a_serving_export_takes_bytes_and_gives_probabilities(tmp_path, capsys):
    assert export(tmp_path / "model.pt", "--serving", "--num-classes", "4") == 0
    capsys.readouterr()
    shape = ["--ones", "1,224,224,3", "--dtype", "uint8", "--head", "4"]
    assert main(["run", str(tmp_path / "model.pt"), *shape]) == 0
    assert sum(first_values(capsys.readouterr().out)) == pytest.approx(1, abs=1e-4)


def test_export_takes_a_file_of_weights(tmp_path, capsys):
    torch.save(random_network(7, 3).state_dict(), tmp_path / "weights.pth")
    options = ["--arch", ARCHITECTURE, "--weights", str(tmp_path / "weights.pth")]
    assert main(["export", *options, "--num-classes", "7", "--output", str(tmp_path / "a.pt")]) == 0
    assert main(["export", *options, "--num-classes", "8", "--output", str(tmp_path / "b.pt")]) == 2
    assert "as squeezenet1_1 with 8 classes" in capsys.readouterr().err
    assert not (tmp_path / "b.pt").exists()


def test_inspect_shows_the_facts_of_a_sound_bundle(bundle, capsys):
    assert main(["inspect", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "match their hashes" in out and "preprocess.crop_size" in out and "RANDOM WEIGHTS" in out


def test_inspect_refuses_a_damaged_bundle_with_one_line(bundle, tmp_path, capsys):
    for name in ("torchscript-fp32.ts", "labels.json", "model.json"):
        folder = tmp_path / name
        folder.mkdir()
        for file in bundle.iterdir():
            (folder / file.name).write_bytes(file.read_bytes()[: -9 if file.name == name else None])
        assert main(["inspect", str(folder)]) == 2
        error = capsys.readouterr().err
        assert name in error and len(error.splitlines()) == 1


def test_a_bundle_compared_with_itself_agrees(bundle, capsys):
    assert main(["compare", str(bundle), str(bundle), "--pictures", str(SAMPLES)]) == 0
    out = capsys.readouterr().out
    assert "100.00%" in out and "top-1 agreement" in out


def test_compare_without_images_is_wrong_use(bundle, tmp_path, capsys):
    assert main(["compare", str(bundle), str(bundle), "--pictures", str(tmp_path)]) == 2
    assert "no JPEG, PNG or WebP file there" in capsys.readouterr().err


def test_no_command_is_wrong_use(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_the_commands_start_without_torch():
    code = "import sys, models.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
