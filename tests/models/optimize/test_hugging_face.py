"""Folders of Hugging Face: the network that is made of them gives the logits that theirs gives.

The references are torchvision's networks, renamed here independently, and small networks written out below in
terms of transformers' tensors. Where transformers is installed, its own networks are asked too.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F

from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.errors import ModelError
from models.images.presets import preprocess_of
from models.networks.architectures import build_network, load_weights
from models.networks.timm_networks import build_timm_network
from models.optimize.errors import UsageError
from models.optimize.hugging_face import read_folder
from tests.conftest import lacking
from tests.models.optimize.runs import main_here

SIDE = 32
LABELS = ("cat", "dog", "bird")
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
ID2LABEL = {str(index): label for index, label in enumerate(LABELS)}


@pytest.fixture
def timm():
    if find_spec("timm") is None:
        lacking("timm is not installed")
    return pytest.importorskip("timm")


def write(folder, config, tensors, processor=PROCESSOR):
    (folder / "config.json").write_text(json.dumps({"id2label": ID2LABEL} | config))
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def network_of(model):
    """What the optimiser would build."""
    name = model.architecture.removeprefix("timm/")
    if name == model.architecture:
        return load_weights(build_network(name, len(model.labels)), model.state)
    options = json.loads(json.dumps(dict(model.options)))  # as a bundle would hold them
    return load_weights(build_timm_network(name, len(model.labels), options), model.state)


@torch.inference_mode()
def logits(network):
    return network(images())


def images():
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def assert_same(got, wanted):
    assert wanted.std() > 0.01, "they say something"
    assert (got - wanted).abs().max() < 1e-4


def shaken(network):
    """With random weights of a size at which every tensor shows in the logits."""
    generator = torch.Generator().manual_seed(2)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(random(tensor.shape, generator))
            if name.endswith(("running_var", "normalization.weight", "norm.weight", "bn1.weight")):
                tensor.abs_().add_(0.5)
    return network.eval()


def random(shape, generator):
    scale = (1.5 / torch.Size(shape[1:]).numel() ** 0.5) if len(shape) > 1 else 0.3
    return torch.randn(shape, generator=generator) * scale


# ResNet


def as_transformers_resnet(state):
    """torchvision's names -> transformers', one piece after the other."""
    renamed = {}
    for name, tensor in state.items():
        piece = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", name)
        piece = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", piece)
        piece = re.sub(r"^layer(\d)\.", lambda match: f"resnet.encoder.stages.{int(match[1]) - 1}.layers.", piece)
        piece = re.sub(r"\.conv(\d)\.", lambda match: f".layer.{int(match[1]) - 1}.convolution.", piece)
        piece = re.sub(r"\.bn(\d)\.", lambda match: f".layer.{int(match[1]) - 1}.normalization.", piece)
        piece = piece.replace(".downsample.0.", ".shortcut.convolution.")
        piece = piece.replace(".downsample.1.", ".shortcut.normalization.")
        renamed[re.sub(r"^fc\.", "classifier.1.", piece)] = tensor
    return renamed


RESNET = {
    "model_type": "resnet",
    "layer_type": "basic",
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [64, 128, 256, 512],
    "embedding_size": 64,
    "hidden_act": "relu",
}


def resnet(block, depths):
    return shaken(torchvision.models.ResNet(block, depths, num_classes=len(LABELS)))


def test_a_resnet_of_usual_size_is_torchvisions(tmp_path):
    reference = resnet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
    write(tmp_path, RESNET, as_transformers_resnet(reference.state_dict()))
    model = read_folder(tmp_path)
    assert (model.architecture, model.options, model.labels) == ("resnet18", {}, LABELS)
    assert (model.preprocess, model.activation) == (preprocess_of(PROCESSOR, "x"), "softmax")
    assert_same(logits(network_of(model)), logits(reference))


def test_a_resnet_of_bottlenecks(tmp_path):
    reference = resnet(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3])
    changes = {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]}
    write(tmp_path, RESNET | changes, as_transformers_resnet(reference.state_dict()))
    model = read_folder(tmp_path)
    assert model.architecture == "resnet50"
    assert_same(logits(network_of(model)), logits(reference))


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_a_resnet_of_another_size_is_timms(tmp_path, timm, block):
    kind = getattr(torchvision.models.resnet, block)
    reference = resnet(kind, [1, 2, 1, 1])
    sizes = [size * kind.expansion for size in (64, 128, 256, 512)]
    changes = {"layer_type": "basic" if block == "BasicBlock" else "bottleneck", "depths": [1, 2, 1, 1]}
    write(tmp_path, RESNET | changes | {"hidden_sizes": sizes}, as_transformers_resnet(reference.state_dict()))
    model = read_folder(tmp_path)
    assert model.options == {"layers": [1, 2, 1, 1], "channels": [64, 128, 256, 512]}
    assert_same(logits(network_of(model)), logits(reference))


# ViT and DeiT

VIT = {
    "model_type": "vit",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 50,
    "hidden_act": "gelu",
    "layer_norm_eps": 0.05,  # large, so that it shows
    "image_size": SIDE,
    "patch_size": 8,
    "qkv_bias": True,
}


def vit_shapes(config, tokens=1, heads=("classifier",)):
    """The tensors of transformers 4 and their shapes."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    patches = (config["image_size"] // config["patch_size"]) ** 2
    yield "embeddings.cls_token", (1, 1, width)
    if tokens == 2:
        yield "embeddings.distillation_token", (1, 1, width)
    yield "embeddings.position_embeddings", (1, patches + tokens, width)
    yield "embeddings.patch_embeddings.projection.weight", (width, 3, config["patch_size"], config["patch_size"])
    yield "embeddings.patch_embeddings.projection.bias", (width,)
    for number in range(config["num_hidden_layers"]):
        layers = [(f"attention.attention.{each}", width, width) for each in ("query", "key", "value")]
        layers += [("attention.output.dense", width, width)]
        layers += [("intermediate.dense", inner, width), ("output.dense", width, inner)]
        for layer, rows, columns in layers:
            yield f"encoder.layer.{number}.{layer}.weight", (rows, columns)
            if config["qkv_bias"] or "attention.attention" not in layer:
                yield f"encoder.layer.{number}.{layer}.bias", (rows,)
        for layer in ("layernorm_before", "layernorm_after"):
            yield f"encoder.layer.{number}.{layer}.weight", (width,)
            yield f"encoder.layer.{number}.{layer}.bias", (width,)
    yield "layernorm.weight", (width,)
    yield "layernorm.bias", (width,)
    for head in heads:
        yield f"{head}.weight", (len(LABELS), width)
        yield f"{head}.bias", (len(LABELS),)


def vit_tensors(config, **kind):
    generator = torch.Generator().manual_seed(3)
    return {
        name if "classifier" in name else f"{config['model_type']}.{name}": random(shape, generator)
        for name, shape in vit_shapes(config, **kind)
    }


def vit_logits(config, tensors, activation=F.gelu):
    """A vision transformer in terms of transformers' tensors (https://arxiv.org/abs/2010.11929)."""
    own = {name.removeprefix(config["model_type"] + "."): tensor for name, tensor in tensors.items()}

    def linear(values, name):
        return F.linear(values, own[f"{name}.weight"], own.get(f"{name}.bias"))

    def norm(values, name):
        values = values - values.mean(-1, keepdim=True)
        values = values / (values.square().mean(-1, keepdim=True) + config["layer_norm_eps"]).sqrt()
        return values * own[f"{name}.weight"] + own[f"{name}.bias"]

    def split(values):
        return values.unflatten(-1, (config["num_attention_heads"], -1)).transpose(1, 2)

    patch = "embeddings.patch_embeddings.projection"
    patches = F.conv2d(images(), own[f"{patch}.weight"], own[f"{patch}.bias"], config["patch_size"])
    tokens = [
        own[f"embeddings.{name}_token"] for name in ("cls", "distillation") if f"embeddings.{name}_token" in own
    ]
    values = torch.cat([*(each.expand(2, -1, -1) for each in tokens), patches.flatten(2).transpose(1, 2)], 1)
    values = values + own["embeddings.position_embeddings"]
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        before = norm(values, f"{layer}.layernorm_before")
        query, key, value = (
            split(linear(before, f"{layer}.attention.attention.{name}")) for name in ("query", "key", "value")
        )
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        values = values + linear(mixed, f"{layer}.attention.output.dense")
        after = norm(values, f"{layer}.layernorm_after")
        values = values + linear(activation(linear(after, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
    values = norm(values, "layernorm")
    if "distillation_classifier.weight" in own:
        return (linear(values[:, 0], "cls_classifier") + linear(values[:, 1], "distillation_classifier")) / 2
    return linear(values[:, 0], "classifier")


def as_transformers_5(tensors):
    """The names that transformers 5 has inside."""
    names = {
        "encoder.layer.": "layers.",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("names", [dict, as_transformers_5])
@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, F.gelu),
        ({"qkv_bias": False}, F.gelu),
        ({"hidden_act": "gelu_new"}, lambda values: F.gelu(values, approximate="tanh")),
        ({"hidden_act": "relu", "layer_norm_eps": 1e-12}, F.relu),
        ({"hidden_act": "quick_gelu"}, lambda values: values * (1.702 * values).sigmoid()),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_vit_gives_the_logits_of_the_reference(tmp_path, timm, changes, activation, names):
    config = VIT | changes
    tensors = vit_tensors(config)
    unused = {"vit.pooler.dense.weight": torch.ones(24, 24), "vit.embeddings.mask_token": torch.ones(1)}
    write(tmp_path, config, names(tensors) | unused)
    assert_same(logits(network_of(read_folder(tmp_path))), vit_logits(config, tensors, activation))


@pytest.mark.parametrize(
    "heads", [("classifier",), ("cls_classifier", "distillation_classifier")], ids=["plain", "teacher"]
)
def test_a_deit_has_one_more_token(tmp_path, timm, heads):
    config = VIT | {"model_type": "deit"}
    tensors = vit_tensors(config, tokens=2, heads=heads)
    write(tmp_path, config, tensors)
    assert_same(logits(network_of(read_folder(tmp_path))), vit_logits(config, tensors))


def test_odd_inner_widths_are_met(tmp_path, timm):
    for inner in (51, 59, 97):  # of which int(21 * (inner / 21)) is one less
        config = VIT | {"hidden_size": 21, "intermediate_size": inner}
        write(tmp_path, config, vit_tensors(config))
        assert read_folder(tmp_path).state["blocks.0.mlp.fc1.weight"].shape == (inner, 21)


# ConvNeXt

CONVNEXT = {
    "model_type": "convnext",
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [8, 12, 16, 20],
    "layer_norm_eps": 0.05,
    "hidden_act": "gelu",
    "patch_size": 4,
    "layer_scale_init_value": 1e-6,
}


def convnext_shapes(config):
    widths = config["hidden_sizes"]
    yield "embeddings.patch_embeddings.weight", (widths[0], 3, 4, 4)
    yield "embeddings.patch_embeddings.bias", (widths[0],)
    yield from both("embeddings.layernorm", (widths[0],))
    for stage, (width, depth) in enumerate(zip(widths, config["depths"], strict=True)):
        if stage:
            down = f"encoder.stages.{stage}.downsampling_layer"
            yield from both(f"{down}.0", (widths[stage - 1],))
            yield f"{down}.1.weight", (width, widths[stage - 1], 2, 2)
            yield f"{down}.1.bias", (width,)
        for number in range(depth):
            layer = f"encoder.stages.{stage}.layers.{number}"
            yield f"{layer}.dwconv.weight", (width, 1, 7, 7)
            yield f"{layer}.dwconv.bias", (width,)
            yield from both(f"{layer}.layernorm", (width,))
            yield f"{layer}.pwconv1.weight", (4 * width, width)
            yield f"{layer}.pwconv1.bias", (4 * width,)
            yield f"{layer}.pwconv2.weight", (width, 4 * width)
            yield f"{layer}.pwconv2.bias", (width,)
            if config["model_type"] == "convnextv2":
                yield from both(f"{layer}.grn", (1, 1, 1, 4 * width))
            else:
                yield f"{layer}.layer_scale_parameter", (width,)
    yield from both("layernorm", (widths[-1],))
    yield "classifier.weight", (len(LABELS), widths[-1])
    yield "classifier.bias", (len(LABELS),)


def both(name, shape):
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape


def convnext_tensors(config):
    generator = torch.Generator().manual_seed(4)
    return {
        name if "classifier" in name else f"{config['model_type']}.{name}": random(shape, generator)
        for name, shape in convnext_shapes(config)
    }


def convnext_logits(config, tensors):
    """ConvNeXt (https://arxiv.org/abs/2201.03545) and its second version in terms of transformers' tensors."""
    own = {name.removeprefix(config["model_type"] + "."): tensor for name, tensor in tensors.items()}

    def norm(values, name, eps=1e-6, axis=1):
        moved = values.movedim(axis, -1)
        normed = F.layer_norm(moved, moved.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"], eps)
        return normed.movedim(-1, axis)

    def convolve(values, name, stride):
        return F.conv2d(values, own[f"{name}.weight"], own[f"{name}.bias"], stride)

    values = norm(convolve(images(), "embeddings.patch_embeddings", 4), "embeddings.layernorm")
    for stage, depth in enumerate(config["depths"]):
        if stage:
            down = f"encoder.stages.{stage}.downsampling_layer"
            values = convolve(norm(values, f"{down}.0"), f"{down}.1", 2)
        for number in range(depth):
            layer = f"encoder.stages.{stage}.layers.{number}"
            width = values.shape[1]
            inner = F.conv2d(values, own[f"{layer}.dwconv.weight"], own[f"{layer}.dwconv.bias"], 1, 3, 1, width)
            inner = norm(inner, f"{layer}.layernorm").movedim(1, -1)
            inner = F.gelu(F.linear(inner, own[f"{layer}.pwconv1.weight"], own[f"{layer}.pwconv1.bias"]))
            if f"{layer}.grn.weight" in own:
                length = inner.square().sum((1, 2), keepdim=True).sqrt()
                response = length / (length.mean(-1, keepdim=True) + 1e-6)
                inner = own[f"{layer}.grn.weight"] * inner * response + own[f"{layer}.grn.bias"] + inner
            inner = F.linear(inner, own[f"{layer}.pwconv2.weight"], own[f"{layer}.pwconv2.bias"])
            values = values + (inner * own.get(f"{layer}.layer_scale_parameter", torch.ones(1))).movedim(-1, 1)
    pooled = norm(values.mean((2, 3)), "layernorm", config["layer_norm_eps"])
    return F.linear(pooled, own["classifier.weight"], own["classifier.bias"])


@pytest.mark.parametrize("kind", ["convnext", "convnextv2"])
def test_a_convnext_gives_the_logits_of_the_reference(tmp_path, timm, kind):
    config = CONVNEXT | {"model_type": kind}
    tensors = convnext_tensors(config)
    write(tmp_path, config, tensors)
    assert_same(logits(network_of(read_folder(tmp_path))), convnext_logits(config, tensors))


# the command


def test_the_optimiser_makes_a_bundle_of_a_folder(tmp_path, timm):
    reference = resnet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    folder = tmp_path / "mine"
    folder.mkdir()
    config = RESNET | {"depths": [1, 1, 1, 1], "problem_type": "multi_label_classification"}
    write(folder, config, as_transformers_resnet(reference.state_dict()))
    words = ["--from", str(folder), "--output", str(tmp_path / "bundle"), "--engine", "torchscript-fp32"]
    assert main_here([*words, "--budget-s", "10000", "--threads", "1"]) == 0
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert (bundle.spec.name, bundle.labels, bundle.spec.activation) == ("mine", LABELS, "sigmoid")
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    with torch.inference_mode():
        expected = reference((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).sigmoid().numpy()
    for name in ("torchscript-fp32", "weights"):
        scores = load_engine(bundle.with_engine(name), EngineOptions()).infer(pixels)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


# timm

TIMM = {
    "architecture": "resnet18",
    "num_classes": 3,
    "model_args": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
    "label_names": ["n01", "n02", "n03"],
    "label_descriptions": {"n01": "cat", "n02": "dog", "n03": "bird"},
    "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0, "fixed_input_size": False},
}


@pytest.mark.parametrize("prefix", ["", "timm_model."])
def test_timms_own_folder_and_transformers_wrapper_of_it(tmp_path, timm, prefix):
    reference = shaken(timm.create_model("resnet18", num_classes=3, **TIMM["model_args"]))
    state = {prefix + name: tensor for name, tensor in reference.state_dict().items()}
    write(tmp_path, TIMM | ({"model_type": "timm_wrapper"} if prefix else {}), state, None)
    model = read_folder(tmp_path)
    assert (model.architecture, model.options) == ("timm/resnet18", TIMM["model_args"])
    assert (model.labels, model.preprocess) == (LABELS, preprocess_of(TIMM, "x"))
    assert_same(logits(network_of(model)), logits(reference))


def test_a_folder_that_timm_itself_has_written(tmp_path, timm):
    options = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
    reference = shaken(timm.create_model("vit_base_patch16_224", num_classes=3, **options))
    timm.models.save_for_hf(reference, tmp_path, {"label_names": list(LABELS)}, safe_serialization=True)
    model = read_folder(tmp_path)
    assert (model.labels, model.preprocess.crop_size) == (LABELS, SIDE)
    assert_same(logits(network_of(model)), logits(reference))


def test_timm_takes_the_size_of_a_network_from_its_configuration(tmp_path, timm):
    options = {"embed_dim": 24, "depth": 1, "num_heads": 3, "global_pool": "avg"}
    reference = shaken(timm.create_model("vit_base_patch16_224", num_classes=3, img_size=SIDE, **options))
    pretrained = TIMM["pretrained_cfg"] | {"fixed_input_size": True}
    changes = {"architecture": "vit_base_patch16_224", "model_args": options, "pretrained_cfg": pretrained}
    write(tmp_path, TIMM | changes, reference.state_dict(), None)
    model = read_folder(tmp_path)
    assert model.options["img_size"] == SIDE
    assert_same(logits(network_of(model)), logits(reference))
    larger = timm.create_model("vit_base_patch16_224", num_classes=3, img_size=48, **options)
    write(tmp_path, TIMM | changes | {"model_args": options | {"img_size": 48}}, larger.state_dict(), None)
    with pytest.raises(UsageError, match=r"config.json: the network is for images of 48 pixels, which become 32"):
        read_folder(tmp_path)


def test_a_model_of_imagenet_has_its_labels_by_its_tag(tmp_path, timm):
    reference = timm.create_model("resnet18", num_classes=1000, **TIMM["model_args"])
    config = {name: value for name, value in TIMM.items() if not name.startswith("label")} | {"num_classes": 1000}
    pretrained = TIMM["pretrained_cfg"]
    write(tmp_path, config | {"pretrained_cfg": pretrained | {"tag": "a1_in1k"}}, reference.state_dict(), None)
    labels = read_folder(tmp_path).labels
    assert (len(labels), labels[0], labels[281]) == (1000, "tench, Tinca tinca", "tabby, tabby cat")
    write(tmp_path, config, reference.state_dict(), None)
    with pytest.raises(UsageError, match=r"config.json: no label_names in it; name --labels FILE"):
        read_folder(tmp_path)


# What is around the weights


def small_resnet(tmp_path, config=(), **changes):
    reference = resnet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
    return write(tmp_path, RESNET | dict(config), as_transformers_resnet(reference.state_dict()), **changes)


def test_what_is_given_wins_over_the_folder(tmp_path):
    folder = small_resnet(tmp_path, {"problem_type": "multi_label_classification"}, processor=None)
    model = read_folder(folder, labels=("a", "b", "c"), preprocess=IMAGENET)
    assert (model.labels, model.preprocess, model.activation) == (("a", "b", "c"), IMAGENET, "sigmoid")


def test_labels_that_say_nothing_stay_as_they_are(tmp_path):
    names = {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert read_folder(small_resnet(tmp_path, {"id2label": names})).labels == tuple(names.values())


def test_sixteen_bits_become_thirty_two(tmp_path):
    folder = small_resnet(tmp_path)
    wanted = logits(network_of(read_folder(folder)))
    reference = resnet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
    state = {
        name: each.bfloat16() if each.is_floating_point() else each
        for name, each in reference.state_dict().items()
    }
    model = read_folder(write(tmp_path, RESNET, as_transformers_resnet(state)))
    assert model.state["conv1.weight"].dtype == torch.float32
    assert (logits(network_of(model)) - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_weights_in_several_files(tmp_path):
    tensors = as_transformers_resnet(resnet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2]).state_dict())
    folder = write(tmp_path, RESNET, tensors)
    wanted = read_folder(folder).state
    (folder / "model.safetensors").unlink()
    names = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(tensors)}
    for file in set(names.values()):
        save_file({name: tensors[name] for name in names if names[name] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    got = read_folder(folder).state
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    for weight_map, said in [
        (names | {"one.more": "model-0.safetensors"}, "index.json: one.more is not in model-0.safetensors"),
        (
            names | {"one.more": "../model-0.safetensors"},
            "'../model-0.safetensors' is no .safetensors file beside it",
        ),
        (names | {"one.more": "model-7.safetensors"}, "model-7.safetensors: no such file"),
        ([], "'weight_map' must be an object"),
    ]:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(UsageError, match=said):
            read_folder(folder)


def test_pickled_weights_are_read_and_pickled_code_is_not(tmp_path):
    tensors = as_transformers_resnet(resnet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2]).state_dict())
    folder = write(tmp_path, RESNET, tensors)
    wanted = read_folder(folder).state
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    got = read_folder(folder).state
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    for document in (torch.nn.Linear(2, 2), {"state_dict": tensors}):
        torch.save(document, folder / "pytorch_model.bin")
        with pytest.raises(UsageError, match=r"pytorch_model.bin: .* save it as model.safetensors"):
            read_folder(folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "swin"}, "model_type 'swin' is not known, only timm's own folders, resnet, vit, deit"),
        ({"model_type": None}, "model_type 'None' is not known"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, only relu; export the model to ONNX"),
        ({"embedding_size": 32}, "embedding_size 32 is not supported"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage True is not supported"),
        ({"layer_type": "bottleneck", "downsample_in_bottleneck": True}, "downsample_in_bottleneck True is not"),
        ({"layer_type": "bottleneck", "hidden_sizes": [6, 8, 8, 8]}, r"hidden_sizes \(6, 8, 8, 8\) must be"),
        ({"depths": [2, 2, 2]}, r"depths \[2, 2, 2\] is not supported, only 4 stages"),
        ({"depths": [2, 2, 2, "2"]}, "depths '2' must be a whole number above 0"),
        ({"num_channels": 1}, "num_channels 1 is not supported"),
        ({"problem_type": "regression"}, "problem_type 'regression' is not classification"),
        ({"id2label": {"0": "a", "2": "b", "3": "c"}}, "id2label: the class numbers must be 0 to 2, 1 is missing"),
        ({"id2label": {"0": "a"}}, "as resnet18 with 1 classes: 2 tensors do not fit the arch.*: fc.bias 3 for 1"),
        ({"id2label": None}, "as resnet18 with 2 classes: 2 tensors do not fit"),
        ({"depths": [3, 4, 6, 3]}, r"as resnet34 with 3 classes: \d+ tensors do not fit"),
        (VIT | {"image_size": [32, 64]}, r"image_size \[32, 64\] is not supported, only squares are"),
        (VIT | {"num_attention_heads": 5}, "hidden_size 24 must be num_attention_heads 5 times head_dim"),
        (VIT | {"hidden_act": "mish"}, "hidden_act 'mish' is not supported"),
        (VIT | {"layer_norm_eps": "1e-12"}, "layer_norm_eps '1e-12' must be a number"),
        (VIT | {"qkv_bias": 1}, "qkv_bias 1 is not supported"),
        (VIT, r"model.safetensors: resnet\.\S+: no tensor of timm/vit_base_patch16_224; export the model to ONNX"),
        (CONVNEXT | {"patch_size": 2}, "patch_size 2 is not supported"),
        (CONVNEXT | {"layer_scale_init_value": 0}, "layer_scale_init_value must be above 0"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_configuration_that_is_not_supported(tmp_path, config, said):
    with pytest.raises(UsageError, match=said) as refusal:
        read_folder(small_resnet(tmp_path, config))
    assert str(refusal.value).startswith(str(tmp_path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architecture": "resnet17"}, "timm has no architecture 'resnet17', did you mean"),
        ({"architecture": "hf-hub:someone/something"}, "timm has no architecture 'hf-hub:someone/something'"),
        ({"architecture": 3}, "architecture must be a name of timm's"),
        ({"model_args": {"checkpoint_path": "x.pth"}}, "the option 'checkpoint_path' is not supported"),
        ({"model_args": {"pretrained": True}}, "the option 'pretrained' is not supported"),
        ({"model_args": {"colour": "red"}}, "timm cannot build it with the options {'colour': 'red'}"),
        ({"model_args": {"layer_norm_eps": 1}}, "layer_norm_eps 1 must be an object"),
        ({"model_args": []}, "tensors do not fit"),
        ({"model_args": {"in_chans": 1}}, "in_chans 1 is not supported, only 3"),
        ({"label_names": ["a", "b"]}, "with 2 classes: 2 tensors do not fit"),
        ({"label_descriptions": ["a"]}, "label_descriptions must be an object"),
        ({"pretrained_cfg": {"input_size": [3, 32, 32], "crop_mode": "border"}}, "crop_mode 'border' is not"),
    ],
    ids=str,
)
def test_a_folder_of_timms_that_is_not_supported(tmp_path, timm, config, said):
    reference = timm.create_model("resnet18", num_classes=3, **TIMM["model_args"])
    write(tmp_path, TIMM | config, reference.state_dict(), None)
    with pytest.raises(UsageError, match=said) as refusal:
        read_folder(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors | {"resnet.more": torch.ones(3)}, "resnet.more: no tensor of resnet18"),
        (lambda tensors: tensors | {"resnet.one": torch.ones(1)}, "resnet.one: no tensor of resnet18"),
        (
            lambda tensors: tensors | {"resnet.embedder.embedder.convolution.bias": torch.ones(1)},
            "conv1.bias is no tensor of the architecture",
        ),
        (
            lambda tensors: {
                name: each for name, each in tensors.items() if "stages.3.layers.1.layer.1" not in name
            },
            "tensors do not fit the architecture: layer4.1.bn2.bias none for 512",
        ),
        (
            lambda tensors: tensors | {"classifier.1.bias": torch.tensor([1, float("nan"), 2])},
            "fc.bias holds values that are not finite",
        ),
        (lambda tensors: tensors | {"classifier.1.bias": torch.ones(3, dtype=torch.int8)}, "fc.bias is int8"),
    ],
)
def test_every_tensor_of_the_file_is_used_once(tmp_path, change, said):
    tensors = as_transformers_resnet(resnet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2]).state_dict())
    with pytest.raises(UsageError, match=said):
        read_folder(write(tmp_path, RESNET, change(tensors)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors | as_transformers_5(tensors), "is there twice"),
        (
            lambda tensors: {name: each for name, each in tensors.items() if "query.weight" not in name},
            "blocks.0.attn.qkv.weight: a part of it is missing",
        ),
        (
            lambda tensors: {name: each for name, each in tensors.items() if "value.weight" not in name},
            "blocks.0.attn.qkv.weight 48x24 for 72x24",
        ),
    ],
)
def test_every_part_of_a_vits_attention_is_there_once(tmp_path, timm, change, said):
    with pytest.raises(UsageError, match=said):
        read_folder(write(tmp_path, VIT, change(vit_tensors(VIT))))


def test_a_vit_and_its_images_have_one_size(tmp_path, timm):
    folder = write(tmp_path, VIT, vit_tensors(VIT), PROCESSOR | {"size": 48})
    with pytest.raises(UsageError, match="the network is for images of 32 pixels, which become 48"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config.json", "config.json: no readable configuration of the model"),
        ("preprocessor_config.json", "preprocessor_config.json: no readable configuration of the image processor"),
        ("model.safetensors", "no model.safetensors, model.safetensors.index.json or pytorch_model.bin in it"),
    ],
)
def test_a_file_is_missing_or_damaged(tmp_path, file, said):
    folder = small_resnet(tmp_path)
    (folder / file).write_text("[")
    with pytest.raises(UsageError, match=r"damaged|not valid JSON"):
        read_folder(folder)
    (folder / file).unlink()
    with pytest.raises(UsageError, match=said):
        read_folder(folder)


def test_without_timm_its_networks_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"timm is not installed, which has this network; pip install timm"):
        read_folder(write(tmp_path, VIT, vit_tensors(VIT)))
    with pytest.raises(ModelError, match="timm is not installed"):
        build_timm_network("resnet18", 3)


# transformers itself


def transformers_models():
    """A configuration's class, the network's class and the fields of each kind."""
    vit = {name: value for name, value in VIT.items() if name != "model_type"}
    convnext = {name: value for name, value in CONVNEXT.items() if name != "model_type"}
    convnextv2 = {name: value for name, value in convnext.items() if name != "layer_scale_init_value"}
    resnet = {"layer_type": "basic", "depths": [1, 1, 2, 1], "hidden_sizes": [16, 16, 24, 32]}
    bottleneck = {"layer_type": "bottleneck", "depths": [1, 1, 2, 1], "hidden_sizes": [16, 16, 24, 32]}
    return [
        ("ResNet", "ForImageClassification", resnet),
        ("ResNet", "ForImageClassification", bottleneck),
        ("ResNet", "ForImageClassification", {}),
        ("ViT", "ForImageClassification", vit),
        ("ViT", "ForImageClassification", vit | {"layer_norm_eps": 1e-12, "qkv_bias": False}),
        ("DeiT", "ForImageClassification", vit),
        ("DeiT", "ForImageClassificationWithTeacher", vit),
        ("ConvNext", "ForImageClassification", convnext),
        ("ConvNextV2", "ForImageClassification", convnextv2),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("own_names", [False, True], ids=["as saved", "as inside"])
@pytest.mark.parametrize(("kind", "task", "fields"), transformers_models(), ids=str)
def test_transformers_gives_the_same_logits(tmp_path, timm, kind, task, fields, own_names):
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed, and no dependency of the tests")
    import transformers

    config = getattr(transformers, f"{kind}Config")(id2label=dict(enumerate(LABELS)), **fields)
    reference = shaken(getattr(transformers, kind + task)(config))
    reference.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    if own_names:
        save_file(
            {name: each.clone() for name, each in reference.state_dict().items()}, tmp_path / "model.safetensors"
        )
    model = read_folder(tmp_path)
    assert (model.labels, model.preprocess) == (LABELS, preprocess_of(PROCESSOR, "x"))
    assert_same(logits(network_of(model)), logits(lambda images: reference(pixel_values=images).logits))
