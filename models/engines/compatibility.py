"""Whether a compiled engine fits this machine. Bundles that do not say what they were built with are trusted."""

from __future__ import annotations

from typing import Any

from models.bundles.spec import ModelSpec
from models.machine.processor import processor_kind
from models.machine.resources import package_version


def misfit(spec: ModelSpec, device: str = "auto") -> str:
    """Why the model's engine would not be the one that was proved, in one line.

    Args:
        spec: of the bundle, with the engine that is to run.
        device: that was asked for: "auto", "cpu" or "cuda".

    Returns:
        "", when it fits; weights and programs do always, because they are compiled where they are loaded.
    """
    engine, built = spec.engine, spec.built_with
    if engine.is_portable:
        return ""
    if "auto" != device != engine.device != "any":
        return f"built for {engine.device}, {device} was asked for"
    package = "openvino" if engine.kind == "openvino" else "torch"
    hardware = _gpu_misfit(built.get("gpu")) if engine.device == "cuda" else _processor_misfit(built.get("isa"))
    return hardware or _version_misfit(package, built.get(package))


def _processor_misfit(built: Any) -> str:
    here = processor_kind()
    return f"built for {built}, this processor is {here}" if built and built != here else ""


def _gpu_misfit(built: Any) -> str:
    if not built:
        return ""
    here = gpu_name()
    if here is None:
        return f"built for {built}, torch sees no GPU here"
    return f"built for {built}, this GPU is {here}" if built != here else ""


def _version_misfit(package: str, built: Any) -> str:
    if not built:
        return ""
    there, installed = _minor(str(built)), package_version(package)
    if installed is None:
        return f"built with {package} {there}, which is not installed here"
    here = _minor(installed)
    return f"built with {package} {there}, {here} is installed here" if there != here else ""


def _minor(version: str) -> str:
    """2.15.0+cu132 -> 2.15"""
    return ".".join(version.split("+")[0].split(".")[:2])


def gpu_name() -> str | None:
    """The graphics card that torch runs on; None where there is none."""
    import torch  # it has the visible cards; imported for bundles of such a card only

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
