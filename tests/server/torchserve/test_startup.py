"""What a start with TorchServe's API serves where there is no model store."""

import pytest

from runtime.model_set import ModelSet
from server.config import Config, ConfigError, ModelConfig, TorchServeConfig
from server.torchserve.startup import models_at_start

FIXED = ModelSet(("resnet18",))


def config_of(tmp_path, model=(), **options):
    given = TorchServeConfig(torchserve=True, log_location=tmp_path, **options)
    return Config(models=ModelConfig(model=model), torchserve=given)


def test_a_model_that_is_named_needs_no_model_store(tmp_path):
    found = models_at_start(config_of(tmp_path, ("store/resnet18",)), FIXED)
    assert list(found) == [("resnet18", "1")]


@pytest.mark.parametrize(("model", "models"), [((), ""), (("store/resnet18",), "all")])
def test_archives_need_one(tmp_path, model, models):
    with pytest.raises(ConfigError, match=r"needs --model-store FOLDER.*, or --model"):
        models_at_start(config_of(tmp_path, model, models=models), FIXED)
