"""The processor: its name, its vector instructions, and what they mean for int8."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

# What the compiled graphs and the int8 kernels depend on; the words are those of Linux.
_ISA = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
)
_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}

# Instructions that remain under a limit; a value that is not listed is no limit. oneDNN reads either of two
# names (https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html); torch's own kernels are
# limited by ATEN_CPU_CAPABILITY.
_UP_TO_AVX512 = ("avx2", "avx512f")
_ONEDNN_LIMITS = {
    "SSE41": (),
    "AVX": (),
    "AVX2": ("avx2",),
    "AVX2_VNNI": ("avx2", "avx_vnni"),
    "AVX2_VNNI_2": ("avx2", "avx_vnni"),
    "AVX512_CORE": _UP_TO_AVX512,
    "AVX512_CORE_VNNI": (*_UP_TO_AVX512, "avx512_vnni"),
    "AVX512_CORE_BF16": (*_UP_TO_AVX512, "avx512_vnni", "avx_vnni", "avx512_bf16"),
    "AVX512_CORE_FP16": (*_UP_TO_AVX512, "avx512_vnni", "avx_vnni", "avx512_bf16"),
}
_LIMITS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ONEDNN_MAX_CPU_ISA": _ONEDNN_LIMITS,
    "DNNL_MAX_CPU_ISA": _ONEDNN_LIMITS,
    "ATEN_CPU_CAPABILITY": {"DEFAULT": (), "AVX2": ("avx2", "avx_vnni")},
}


def cpu_name() -> str:
    """The processor's marketing name where Linux has it, else Python's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_kind() -> str:
    """Architecture and usable vector instructions, e.g. "x86_64 avx2 avx512f avx512_vnni".

    The same on processors on which a compiled graph runs in the same way, whatever their names. Instructions that
    oneDNN's or torch's environment variables forbid do not count.
    """
    usable = instructions()
    return " ".join([platform.machine(), *(name for name in _ISA if name in usable)])


def instructions() -> set[str]:
    """Those of `_ISA` that this processor has and that no environment variable forbids."""
    usable = set(_ISA) & set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    for variable, limits in _LIMITS.items():
        usable &= set(limits.get(os.environ.get(variable, "").upper(), _ISA))
    return usable


def saturates_int8() -> bool:
    """Whether int8 needs an operand of 7 bits here.

    x86-64 without VNNI adds two 8-bit products in 16 bits (VPMADDUBSW), which saturate: 2 x 255 x 127 is too much,
    2 x 127 x 128 is not (https://uxlfoundation.github.io/oneDNN/dev_guide_int8_computations.html).
    """
    return platform.machine() in ("x86_64", "AMD64") and not instructions() & _VNNI


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), "")
