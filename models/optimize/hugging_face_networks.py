"""Networks of Hugging Face's transformers as timm's or torchvision's: architecture, options, tensors' names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from models.networks.architectures import StateDict
from models.networks.timm_networks import LAYER_NORM_EPS, PREFIX
from models.optimize.errors import UsageError

Config = Mapping[str, Any]

ONNX_HINT = "export the model to ONNX and use --from FILE"
# Of `hidden_act`: timm's name; "" is what the network has by default.
_GELU = {
    "gelu": "",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class Network:
    """Which network it is, and how its tensors are called there.

    Attributes:
        architecture: torchvision's name, or timm's behind `PREFIX`.
        options: for `models.networks.timm_networks.build_timm_network`.
        rules: (pattern of a whole name, name there); the first that matches counts. A name that ends in [0], [1] …
            is a part of a tensor that is made of several, one below the other.
        ignored: pattern of names of tensors that the logits do not depend on.
        image_size: side in pixels that the network is made for; 0 takes any.
    """

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[tuple[str, str], ...] = ((r"(.+)", r"\1"),)
    ignored: str = r"(?!)"
    image_size: int = 0

    def renamed(self, tensors: StateDict) -> dict[str, torch.Tensor]:
        """The tensors by the network's own names.

        Raises:
            UsageError: a tensor has no place there, or two have the same; begins with the tensor's name.
        """
        parts: dict[str, dict[int, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if re.fullmatch(self.ignored, name):
                continue
            target, part = _part(self._target(name))
            if parts.setdefault(target, {}).setdefault(part, tensor) is not tensor:
                raise UsageError(f"{name}: {target} is there twice")
        return {name: _joined(name, found) for name, found in parts.items()}

    def _target(self, name: str) -> str:
        for pattern, target in self.rules:
            if match := re.fullmatch(pattern, name):
                return match.expand(target)
        raise UsageError(f"{name}: no tensor of {self.architecture}; {ONNX_HINT}")


def _part(target: str) -> tuple[str, int]:
    name, bracket, number = target.removesuffix("]").partition("[")
    return (name, int(number)) if bracket else (name, 0)


def _joined(name: str, parts: Mapping[int, torch.Tensor]) -> torch.Tensor:
    if sorted(parts) != list(range(len(parts))):
        raise UsageError(f"{name}: a part of it is missing")
    whole = torch.cat([parts[number] for number in sorted(parts)]) if len(parts) > 1 else parts[0]
    return whole.flatten() if ".grn." in name else whole  # [1, 1, 1, channels] in transformers


def network_of(config: Config, names: Iterable[str]) -> Network:
    """The network of a `config.json`.

    Args:
        config: parsed.
        names: of the tensors beside it.

    Raises:
        UsageError: it is of an unknown kind, or is not as in timm and torchvision; names field and value.
    """
    kind = str(config.get("model_type"))
    if is_timm(config):
        return _timm(config)
    if kind not in _KINDS:
        known = ", ".join(["timm's own folders", *_KINDS])
        raise UsageError(f"model_type {kind!r} is not known, only {known}; {ONNX_HINT}")
    _expect(config, "num_channels", 3, 3)
    return _KINDS[kind](config, set(names))


def is_timm(config: Config) -> bool:
    """Whether it is a folder of timm's, or of transformers' wrapper of timm."""
    return config.get("model_type") == "timm_wrapper" or ("architecture" in config and "model_type" not in config)


def _timm(config: Config) -> Network:
    name, options = config.get("architecture"), config.get("model_args") or {}
    if not isinstance(name, str) or not isinstance(options, dict):
        raise UsageError("architecture must be a name of timm's, and model_args an object")
    _expect(options, "in_chans", 3, 3)
    # timm's newer versions write these too; the number of classes is that of the labels.
    options = {each: value for each, value in options.items() if each not in ("in_chans", "num_classes")}
    cfg = config.get("pretrained_cfg")
    cfg = cfg if isinstance(cfg, dict) else config
    defaults: dict[str, Any] = {}
    # timm takes these from its configuration where nothing else says so.
    if cfg.get("fixed_input_size") and isinstance(cfg.get("input_size"), list):
        defaults["img_size"] = cfg["input_size"][-1]
    if isinstance(cfg.get("global_pool"), str):
        defaults["global_pool"] = cfg["global_pool"]
    rules = ((r"timm_model\.(.+)", r"\1"), (r"(.+)", r"\1"))
    options = defaults | options
    side = _square(options, "img_size", 224) if cfg.get("fixed_input_size") and "img_size" in options else 0
    return Network(PREFIX + name, options, rules, image_size=side)


# By depths: torchvision's names.
_BASIC = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
_BOTTLENECK = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
_CHANNELS = (64, 128, 256, 512)  # torchvision's, before a bottleneck's expansion
_EXPANSION = 4


def _resnet(config: Config, names: set[str]) -> Network:
    bottleneck = _one_of(config, "layer_type", "bottleneck", ("bottleneck", "basic")) == "bottleneck"
    _expect(config, "embedding_size", 64, 64)
    _expect(config, "hidden_act", "relu", "relu")
    _expect(config, "downsample_in_first_stage", False, False)
    if bottleneck:
        _expect(config, "downsample_in_bottleneck", False, False)
    depths = _four(config, "depths", (3, 4, 6, 3))
    sizes = _four(config, "hidden_sizes", (256, 512, 1024, 2048))
    expansion = _EXPANSION if bottleneck else 1
    if any(size % expansion for size in sizes):
        raise UsageError(f"hidden_sizes {sizes!r} must be multiples of {expansion}; {ONNX_HINT}")
    channels = tuple(size // expansion for size in sizes)
    usual = _BOTTLENECK if bottleneck else _BASIC
    rules = _resnet_rules(3 if bottleneck else 2)
    if channels == _CHANNELS and depths in usual:
        return Network(usual[depths], rules=rules)
    options = {"layers": list(depths), "channels": list(channels)}
    return Network(f"{PREFIX}{'resnet50' if bottleneck else 'resnet18'}", options, rules)


def _resnet_rules(convolutions: int) -> tuple[tuple[str, str], ...]:
    rules = [*_convolution(r"resnet\.embedder\.embedder", "conv1", "bn1"), (r"classifier\.1\.(\w+)", r"fc.\1")]
    for stage in range(4):
        layer, own = rf"resnet\.encoder\.stages\.{stage}\.layers\.(\d+)", rf"layer{stage + 1}.\1"
        rules += _convolution(rf"{layer}\.shortcut", f"{own}.downsample.0", f"{own}.downsample.1")
        for number in range(convolutions):
            theirs, ours = rf"{layer}\.layer\.{number}", number + 1
            rules += _convolution(theirs, f"{own}.conv{ours}", f"{own}.bn{ours}")
    return tuple(rules)


def _convolution(theirs: str, convolution: str, norm: str) -> list[tuple[str, str]]:
    """Rules for a convolution with its BatchNorm."""
    group = theirs.count("(") + 1
    return [
        (rf"{theirs}\.convolution\.(\w+)", rf"{convolution}.\{group}"),
        (rf"{theirs}\.normalization\.(\w+)", rf"{norm}.\{group}"),
    ]


def _vit(config: Config, names: set[str]) -> Network:
    width, heads = _whole(config, "hidden_size", 768), _whole(config, "num_attention_heads", 12)
    if width % heads or _or(config, "head_dim", width // heads) != width // heads:
        raise UsageError(f"hidden_size {width} must be num_attention_heads {heads} times head_dim; {ONNX_HINT}")
    side = _square(config, "image_size", 224)
    options = {
        "img_size": side,
        "patch_size": _square(config, "patch_size", 16),
        "embed_dim": width,
        "depth": _whole(config, "num_hidden_layers", 12),
        "num_heads": heads,
        "mlp_ratio": _ratio(width, _whole(config, "intermediate_size", 3072)),
        "qkv_bias": _one_of(config, "qkv_bias", True, (True, False)),
        LAYER_NORM_EPS: {"": _epsilon(config)},
        **_activation(config),
    }
    return Network(f"{PREFIX}vit_base_patch16_224", options, _vit_rules("reg_token"), _VIT_IGNORED, side)


def _deit(config: Config, names: set[str]) -> Network:
    """With one head the distillation token is one more token; with a teacher both heads' logits are averaged."""
    plain = _vit(config, names)
    if any(name.startswith("distillation_classifier.") for name in names):
        architecture, rules = f"{PREFIX}deit_base_distilled_patch16_224", _vit_rules("dist_token")
        return Network(architecture, plain.options, rules, plain.ignored, plain.image_size)
    options = {**plain.options, "reg_tokens": 1}
    return Network(plain.architecture, options, plain.rules, plain.ignored, plain.image_size)


_TRUNK = r"(?:vit|deit)\."
_VIT_IGNORED = _TRUNK + r"(?:pooler\..+|embeddings\.(?:position_ids|mask_token))"


def _vit_rules(distillation_token: str) -> tuple[tuple[str, str], ...]:
    """Names of transformers 4, which 5 writes too, and those that 5 has inside."""
    block = _TRUNK + r"(?:encoder\.layer|layers)\.(\d+)\."
    inside = {
        r"attention\.(?:attention\.query|q_proj)\.(\w+)": r"attn.qkv.\2[0]",
        r"attention\.(?:attention\.key|k_proj)\.(\w+)": r"attn.qkv.\2[1]",
        r"attention\.(?:attention\.value|v_proj)\.(\w+)": r"attn.qkv.\2[2]",
        r"attention\.(?:output\.dense|o_proj)\.(\w+)": r"attn.proj.\2",
        r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)": r"mlp.fc1.\2",
        r"(?:output\.dense|mlp\.fc2)\.(\w+)": r"mlp.fc2.\2",
        r"layernorm_before\.(\w+)": r"norm1.\2",
        r"layernorm_after\.(\w+)": r"norm2.\2",
    }
    return (
        (_TRUNK + r"embeddings\.cls_token", "cls_token"),
        (_TRUNK + r"embeddings\.distillation_token", distillation_token),
        (_TRUNK + r"embeddings\.position_embeddings", "pos_embed"),
        (_TRUNK + r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
        *((block + theirs, rf"blocks.\1.{ours}") for theirs, ours in inside.items()),
        (_TRUNK + r"layernorm\.(\w+)", r"norm.\1"),
        (r"(?:cls_)?classifier\.(\w+)", r"head.\1"),
        (r"distillation_classifier\.(\w+)", r"head_dist.\1"),
    )


def _ratio(width: int, inner: int) -> float:
    """timm's `mlp_ratio`, of which it takes int(width * ratio)."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else math.nextafter(ratio, math.inf)


def _convnext(config: Config, names: set[str]) -> Network:
    _expect(config, "patch_size", 4, 4)
    if _number(config, "layer_scale_init_value", 1e-6) <= 0:
        raise UsageError(f"layer_scale_init_value must be above 0; {ONNX_HINT}")
    return _any_convnext(config, "convnext_tiny")


def _convnextv2(config: Config, names: set[str]) -> Network:
    _expect(config, "patch_size", 4, 4)
    return _any_convnext(config, "convnextv2_tiny")


def _any_convnext(config: Config, name: str) -> Network:
    options = {
        "depths": list(_four(config, "depths", (3, 3, 9, 3))),
        "dims": list(_four(config, "hidden_sizes", (96, 192, 384, 768))),
        LAYER_NORM_EPS: {"head.norm": _epsilon(config)},  # the others have 1e-6 in both
        **_activation(config),
    }
    return Network(PREFIX + name, options, _convnext_rules())


def _convnext_rules() -> tuple[tuple[str, str], ...]:
    trunk = r"convnext(?:v2)?\."
    stage = trunk + r"encoder\.stages\.(\d+)\."
    block = stage + r"layers\.(\d+)\."
    own = r"stages.\1.blocks.\2."
    return (
        (trunk + r"embeddings\.patch_embeddings\.(\w+)", r"stem.0.\1"),
        (trunk + r"embeddings\.layernorm\.(\w+)", r"stem.1.\1"),
        (stage + r"downsampling_layer\.([01])\.(\w+)", r"stages.\1.downsample.\2.\3"),
        (block + r"dwconv\.(\w+)", own + r"conv_dw.\3"),
        (block + r"layernorm\.(\w+)", own + r"norm.\3"),
        (block + r"pwconv([12])\.(\w+)", own + r"mlp.fc\3.\4"),
        (block + r"grn\.(\w+)", own + r"mlp.grn.\3"),
        (block + r"layer_scale_parameter", own + "gamma"),
        (trunk + r"layernorm\.(\w+)", r"head.norm.\1"),
        (r"classifier\.(\w+)", r"head.fc.\1"),
    )


_KINDS: Mapping[str, Callable[[Config, set[str]], Network]] = {
    "resnet": _resnet,
    "vit": _vit,
    "deit": _deit,
    "convnext": _convnext,
    "convnextv2": _convnextv2,
}


def _activation(config: Config) -> dict[str, str]:
    name = _GELU[_one_of(config, "hidden_act", "gelu", tuple(_GELU))]
    return {"act_layer": name} if name else {}


def _epsilon(config: Config) -> float:
    return _number(config, "layer_norm_eps", 1e-12)


def _expect(config: Config, name: str, default: Any, only: Any) -> None:
    _one_of(config, name, default, (only,))


def _one_of(config: Config, name: str, default: Any, allowed: tuple[Any, ...]) -> Any:
    value = _or(config, name, default)
    if not any(value == each and type(value) is type(each) for each in allowed):
        raise UsageError(f"{name} {value!r} is not supported, only {', '.join(map(str, allowed))}; {ONNX_HINT}")
    return value


def _square(config: Config, name: str, default: int) -> int:
    value = _or(config, name, default)
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) == 2 and sides[0] == sides[1]:
        return _is_whole(name, sides[0])
    raise UsageError(f"{name} {value!r} is not supported, only squares are; {ONNX_HINT}")


def _four(config: Config, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    values = _or(config, name, list(default))
    if isinstance(values, list) and len(values) == len(default):
        return tuple(_is_whole(name, value) for value in values)
    raise UsageError(f"{name} {values!r} is not supported, only {len(default)} stages are; {ONNX_HINT}")


def _whole(config: Config, name: str, default: int) -> int:
    return _is_whole(name, _or(config, name, default))


def _is_whole(name: str, value: Any) -> int:
    if type(value) is int and 0 < value < 1_000_000:
        return value
    raise UsageError(f"{name} {value!r} must be a whole number above 0")


def _number(config: Config, name: str, default: float) -> float:
    value = _or(config, name, default)
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise UsageError(f"{name} {value!r} must be a number")


def _or(config: Config, name: str, default: Any) -> Any:
    value = config.get(name)
    return default if value is None else value
