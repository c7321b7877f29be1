import pytest
import torch
import torchvision

from models.errors import ModelError
from models.networks.architectures import build_network, check_architecture, load_weights
from models.optimize.sources import random_state
from models.optimize.weights import spec_of


def test_an_unknown_architecture_is_refused_with_a_suggestion():
    with pytest.raises(ModelError, match="did you mean 'resnet18'"):
        build_network("resnet-18", 10)


def test_a_detector_is_no_classification_architecture():
    with pytest.raises(ModelError):
        check_architecture("fasterrcnn_resnet50_fpn")


def test_weights_of_another_class_count_are_refused_by_name():
    weights = build_network("squeezenet1_1", 10).state_dict()
    with pytest.raises(ModelError, match=r"2 tensors do not fit .*classifier\.1\.bias 10 for 7"):
        load_weights(build_network("squeezenet1_1", 7), weights)


def test_auxiliary_heads_of_a_training_checkpoint_are_ignored():
    weights = build_network("squeezenet1_1", 10).state_dict()
    load_weights(build_network("squeezenet1_1", 10), {**weights, "aux1.fc.weight": torch.zeros(3)})


def test_the_same_seed_gives_torchvisions_own_initial_weights():
    torch.manual_seed(5)
    expected = torchvision.models.squeezenet1_1(weights=None, num_classes=10).state_dict()
    state = random_state("squeezenet1_1", 10, seed=5)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_random_weights_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    random_state("squeezenet1_1", 10, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_architecture_has_preprocessing_and_a_hash_in_its_file_name():
    from models.optimize.download import _HASH_IN_NAME

    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name).DEFAULT
        spec_of(weights.transforms())
        assert _HASH_IN_NAME.search(weights.url), name


def test_renormalising_in_the_network_is_normalising_with_a_half():
    torch.manual_seed(0)
    renormalising = build_network("googlenet", 10, transform_input=True)
    plain = load_weights(build_network("googlenet", 10), renormalising.state_dict())
    pixels = torch.rand(1, 3, 48, 48)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = renormalising((pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        torch.testing.assert_close(plain((pixels - 0.5) / 0.5), expected, rtol=1e-4, atol=1e-5)
