"""Options that belong to one model."""

from __future__ import annotations

import pytest

from models.bundles.settings import Settings
from models.errors import BundleError
from models.images.presets import PRESETS
from server.config import ModelConfig
from server.model_options import model_settings

TWO = {"cats": False, "dogs": False}


@pytest.fixture
def label_file(tmp_path):
    def write(name, *labels):
        (tmp_path / name).write_text("\n".join(labels))
        return str(tmp_path / name)

    return write


def test_each_model_has_its_own(label_file):
    cats, dogs = label_file("cats.txt", "tabby"), label_file("dogs.txt", "pug", "corgi")
    config = ModelConfig(
        labels=(f"cats={cats}", f"dogs={dogs}"),
        preprocess=("dogs=half",),
        activation=("cats=sigmoid",),
        output=("dogs=logits",),
    )
    settings = model_settings(config, {**TWO, "digits": True})
    assert settings == {
        "cats": Settings(("tabby",), None, "sigmoid", ""),
        "dogs": Settings(("pug", "corgi"), PRESETS["half"], "", "logits"),
    }


def test_one_model_needs_no_name(label_file):
    labels = label_file("l.txt", "a")
    config = ModelConfig(labels=(labels,), activation=("none",))
    assert model_settings(config, {"only": False, "digits": True}) == {"only": Settings(("a",), activation="none")}


def test_a_path_with_an_equals_sign_is_a_path(label_file, tmp_path):
    (tmp_path / "lr=0.1").mkdir()
    labels = label_file("lr=0.1/l.txt", "a")
    assert model_settings(ModelConfig(labels=(labels,)), {"only": False})["only"].labels == ("a",)


@pytest.mark.parametrize(
    ("models", "options", "said"),
    [
        ({"digits": True}, {"labels": ("l.txt",)}, "--labels l.txt: digits: a bundle brings its own; leave"),
        ({"digits": True}, {"labels": ("digits=l.txt",)}, "--labels digits=l.txt: digits is a bundle"),
        ({"digits": True}, {"preprocess": ("half",)}, "--preprocess half: digits: a bundle brings its own"),
        (TWO, {"preprocess": ("half",)}, "for which of cats, dogs\\? Write --preprocess cats=half"),
        (TWO, {"activation": ("birds=none",)}, "no model is called 'birds', there are cats, dogs"),
        (TWO, {"activation": ("cats=none", "cats=softmax")}, "cats has 'none' already"),
        (TWO, {"activation": ("cats=relu",)}, "--activation 'relu' must be one of softmax, sigmoid, none"),
        (TWO, {"labels": ("x" * 300 + "=l.txt",)}, "no model is called 'xxx"),
        (TWO, {"labels": ("cats=nowhere.txt",)}, "nowhere.txt: no readable label file"),
        (TWO, {"preprocess": ("cats=cifar",)}, "--preprocess cifar: no such file, nor one of imagenet"),
    ],
)
def test_an_option_that_fits_no_model_ends_the_start(models, options, said):
    with pytest.raises(BundleError, match=said):
        model_settings(ModelConfig(**options), models)
