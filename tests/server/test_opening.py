"""Models that are opened below the model store, and nowhere else."""

from __future__ import annotations

import json
import shutil
from importlib import import_module

import pytest

from models.engines.base import EngineOptions
from models.errors import BundleError, CodeRefused, EngineError, ModelError
from runtime.added_model import AddedModel
from runtime.errors import UnknownModel
from runtime.model_set import ModelSet
from server.config import Config, ModelConfig
from server.opening import Opener
from tests.runtime import programs
from tests.runtime.packaged import OnLoad, write


@pytest.fixture
def store(hash_bundle, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(hash_bundle.file.parent, folder / "hash")
    return folder


def opener_of(store, bundle, **options):
    return Opener(Config(models=ModelConfig(model_store=str(store or ""), **options)), {"hash": bundle})


def open_added(opener, path="hash", version="2", **settings):
    return opener.open("hash", version, AddedModel("hash", version, path, **settings))


def test_a_model_of_the_command_line_and_one_that_was_added(store, hash_bundle):
    opener = opener_of(store, hash_bundle)
    first = opener.open("hash", "1", None)
    second = open_added(opener, batchable=False)
    assert (first.facts.version, first.choice.bundle.file) == ("1", hash_bundle.file)
    assert (second.facts.version, second.facts.max_batch_size) == ("2", 1)
    assert second.choice.bundle.file == store / "hash" / "engine.bin"


def test_a_process_is_created_with_the_default_versions(store, hash_bundle):
    models = ModelSet(("hash",)).with_model(AddedModel("hash", "2", "hash")).with_default("hash", "2")
    first = opener_of(store, hash_bundle).first(models)
    assert {name: model.facts.version for name, model in first.items()} == {"hash": "2"}
    shutil.rmtree(store / "hash")
    with pytest.raises(ModelError, match="hash 2: No model of that name"):
        opener_of(store, hash_bundle).first(models)


def test_runner_and_processes_of_a_model_that_was_added(store, hash_bundle):
    opener = opener_of(store, hash_bundle, runner="thread", engine_processes=3)
    model = open_added(opener, runner="process", processes=2)
    given = opener.settings_of(model).models
    assert (given.runner, given.engine_processes) == ("process", 2)
    given = opener.settings_of(open_added(opener, version="3")).models
    assert (given.runner, given.engine_processes) == ("thread", 3)
    assert opener.settings_of(opener.open("hash", "1", None)).models.runner == "thread"


def test_a_link_in_a_bundle_that_leads_out_of_the_store_is_refused(store, hash_bundle, tmp_path):
    inside, outside = store / "hash" / "engine.bin", tmp_path / "outside.bin"
    shutil.move(inside, outside)
    inside.symlink_to(outside)
    with pytest.raises(UnknownModel):
        open_added(opener_of(store, hash_bundle))
    shutil.move(outside, store / "engine.bin")
    inside.unlink()
    inside.symlink_to(store / "engine.bin")
    assert open_added(opener_of(store, hash_bundle)).facts.version == "2"


def test_the_settings_beside_a_file_may_be_no_link_that_leads_out_of_the_store(store, hash_bundle, tmp_path):
    (store / "mine.pt").write_bytes(b"x")
    (tmp_path / "secret.json").write_text("{}")
    (store / "mine.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UnknownModel):
        open_added(opener_of(store, hash_bundle), "mine.pt")


@pytest.mark.parametrize(
    "settings", [{"labels": "hash/labels.json"}, {"activation": "none"}, {"preprocess": "half"}]
)
def test_a_bundle_takes_no_settings_of_a_file(store, hash_bundle, settings):
    with pytest.raises(BundleError, match="a bundle brings its labels"):
        open_added(opener_of(store, hash_bundle), **settings)


@pytest.mark.parametrize("settings", [{"labels": "../x"}, {"preprocess": "/etc/passwd"}])
def test_files_of_settings_are_below_the_store_too(store, hash_bundle, settings):
    with pytest.raises(UnknownModel):
        open_added(opener_of(store, hash_bundle), **settings)


def test_without_a_store_nothing_can_be_opened(hash_bundle):
    with pytest.raises(ModelError, match="no --model-store"):
        open_added(opener_of(None, hash_bundle))


def test_a_store_that_is_not_there_is_named(tmp_path, hash_bundle):
    with pytest.raises(ModelError, match=r"--model-store .*/nowhere: No such file"):
        open_added(opener_of(tmp_path / "nowhere", hash_bundle))


@pytest.fixture
def package(store):
    """A package that leaves a file behind when its code runs."""
    write(store / "package.pt", OnLoad("touch", str(store / "ran")))
    return store / "package.pt"


def ways(opener, path):
    """Opens a program for a request, and by management."""
    return (lambda: opener.open_file(path), lambda: open_added(opener, path, kind="tensor"))


def test_programs_of_any_signature_are_opened_for_requests_and_by_management(store, hash_bundle, package):
    programs.save(programs.Two(), store / "two.pt")
    opener = opener_of(store, hash_bundle, allow_code=True, runner="thread")
    for path, kind, runner in [("two.pt", "torchscript", "thread"), ("package.pt", "torch.package", "process")]:
        asked, added = (way() for way in ways(opener, path))
        assert (asked.facts.name, asked.facts.version, asked.facts.architecture) == (path, "1", kind)
        assert (added.facts.name, added.facts.version, added.facts.architecture) == ("hash", "2", kind)
        assert [opener.settings_of(each).models.runner for each in (asked, added)] == [runner] * 2
    assert opener.settings_of(open_added(opener, "package.pt", kind="tensor", runner="thread")).models.runner == (
        "process"
    ), "a package is never run on a thread"
    (store / "two.json").write_text(json.dumps({"max_batch_size": 4}))
    assert open_added(opener, "two.pt", kind="tensor").facts.max_batch_size == 4
    assert open_added(opener, "two.pt", kind="tensor", batchable=False).facts.max_batch_size == 1


def test_without_allow_code_nothing_of_a_package_runs(store, hash_bundle, package):
    for way in ways(opener_of(store, hash_bundle), "package.pt"):
        with pytest.raises(CodeRefused, match="is a program; --allow-code lets it run"):
            way()
    assert not (store / "ran").exists()
    model = opener_of(store, hash_bundle, allow_code=True).open_file("package.pt")
    assert not (store / "ran").exists(), "opening it runs nothing either"
    load(model)
    assert (store / "ran").exists()


def load(model):
    """As a child does."""
    recipe = model.recipe(EngineOptions(device="cpu"))
    module, _, name = recipe.target.partition(":")
    return getattr(import_module(module), name)(**recipe.settings)


@pytest.mark.parametrize("path", ["../x.pt", "/etc/passwd", "link.pt", "none.pt", "", ".", "http://x/y", "a\0b"])
def test_a_program_is_below_the_store(store, hash_bundle, tmp_path, path):
    programs.save(programs.Id(), tmp_path / "x.pt")
    (store / "link.pt").symlink_to(tmp_path / "x.pt")
    with pytest.raises(UnknownModel):
        opener_of(store, hash_bundle, allow_code=True).open_file(path)


def test_what_is_no_program(store, hash_bundle):
    opener = opener_of(store, hash_bundle)
    (store / "x.pt").write_text("no model")
    for path in ("x.pt", "hash"):
        with pytest.raises((BundleError, EngineError), match=path):
            opener.open_file(path)
    with pytest.raises(ModelError, match="no --model-store"):
        opener_of(None, hash_bundle).open_file("x.pt")


def test_the_settings_of_a_program_may_be_no_link_that_leads_out_of_the_store(
    store, hash_bundle, package, tmp_path
):
    (tmp_path / "secret.json").write_text("{}")
    programs.save(programs.Id(), store / "id.pt")
    opener = opener_of(store, hash_bundle, allow_code=True)
    for path in ("id.pt", "package.pt"):
        (store / path).with_suffix(".json").symlink_to(tmp_path / "secret.json")
        for way in ways(opener, path):
            with pytest.raises(UnknownModel, match=r"\.json', which the model names, is not in the store"):
                way()


def test_labels_that_settings_name_are_below_the_store(store, hash_bundle, tmp_path):
    """A file that was put into the store says where its labels are: they are read, and shown to clients."""
    folder = store / "mine"
    folder.mkdir()
    programs.save(programs.Id(), folder / "mine.pt")
    for secret in (tmp_path / "secret.txt", store / "other.txt", folder / "labels.txt"):
        secret.write_text("a\nb\n")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    opener = opener_of(store, hash_bundle)
    for labels in ("../../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "../other.txt", "none.txt"):
        (folder / "mine.json").write_text(json.dumps({"labels": labels}))
        with pytest.raises(UnknownModel, match=r"\.txt', which the model names, is not in the store"):
            open_added(opener, "mine/mine.pt")
    (folder / "mine.json").write_text(json.dumps({"labels": "labels.txt"}))
    assert open_added(opener, "mine/mine.pt").choice.bundle.labels == ("a", "b")
