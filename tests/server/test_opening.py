"""Models that are opened below the model store, and nowhere else."""

from __future__ import annotations

import shutil

import pytest

from models.errors import BundleError, ModelError
from runtime.errors import UnknownModel
from runtime.model_set import AddedModel, ModelSet
from server.config import Config, ModelConfig
from server.opening import Opener


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
