"""Which vector instructions count, and where int8 saturates."""

from __future__ import annotations

import pytest

from models.machine import processor
from models.machine.processor import processor_kind, saturates_int8

ZEN_3 = "sse4_1 avx avx2"
CASCADE_LAKE = "avx2 avx512f avx512_vnni"
SAPPHIRE_RAPIDS = "avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_int8 amx_bf16"
ALDER_LAKE = "avx2 avx_vnni"
SKYLAKE_SERVER = "avx2 avx512f"


@pytest.fixture
def having(monkeypatch):
    """A function that gives this machine other instructions; no variable limits them."""
    for variable in processor._LIMITS:
        monkeypatch.delenv(variable, raising=False)

    def give(flags, machine="x86_64"):
        monkeypatch.setattr(processor, "_cpuinfo", lambda key: flags if key == "flags" else "")
        monkeypatch.setattr(processor.platform, "machine", lambda: machine)

    return give


@pytest.mark.parametrize(
    ("flags", "kind", "saturates"),
    [
        (ZEN_3, "x86_64 avx2", True),
        (SKYLAKE_SERVER, "x86_64 avx2 avx512f", True),
        (CASCADE_LAKE, "x86_64 avx2 avx512f avx512_vnni", False),
        (ALDER_LAKE, "x86_64 avx2 avx_vnni", False),
        ("", "x86_64", True),
    ],
)
def test_processors_without_vnni_saturate(having, flags, kind, saturates):
    having(flags)
    assert (processor_kind(), saturates_int8()) == (kind, saturates)


def test_arm_adds_up_in_32_bits(having):
    having("", machine="aarch64")
    assert not saturates_int8()


@pytest.mark.parametrize(
    ("variable", "value", "kind"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "x86_64 avx2"),
        ("ONEDNN_MAX_CPU_ISA", "avx2", "x86_64 avx2"),
        ("DNNL_MAX_CPU_ISA", "AVX2_VNNI", "x86_64 avx2 avx_vnni"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", "x86_64 avx2 avx512f"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", "x86_64 avx2 avx512f avx512_vnni"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", "x86_64 avx2 avx512f avx512_vnni avx_vnni avx512_bf16"),
        ("ONEDNN_MAX_CPU_ISA", "ALL", "x86_64 " + SAPPHIRE_RAPIDS),
        ("ONEDNN_MAX_CPU_ISA", "SSE41", "x86_64"),
        ("ATEN_CPU_CAPABILITY", "avx2", "x86_64 avx2 avx_vnni"),
        ("ATEN_CPU_CAPABILITY", "default", "x86_64"),
        ("ATEN_CPU_CAPABILITY", "avx512", "x86_64 " + SAPPHIRE_RAPIDS),
    ],
)
def test_what_a_variable_forbids_does_not_count(having, monkeypatch, variable, value, kind):
    having(SAPPHIRE_RAPIDS)
    monkeypatch.setenv(variable, value)
    assert processor_kind() == kind
    assert saturates_int8() == ("vnni" not in kind)


def test_limits_add_up(having, monkeypatch):
    having(SAPPHIRE_RAPIDS)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor_kind() == "x86_64 avx2"
