import os
import platform
from pathlib import Path

import pytest
import torch

from vae_lightning.machine.processor import computes_in_bfloat16, load_of_others

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.exists(), reason="reads what Linux says of an x86 processor")
def test_bfloat16_is_there_where_the_system_says_so() -> None:
    flags = set(CPUINFO.read_text().partition("flags")[2].partition("\n")[0].split())
    assert computes_in_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16"})


@pytest.mark.parametrize(("capabilities", "can"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({}, None)])
def test_processor_can_what_torch_says(capabilities: dict[str, bool], can: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_in_bfloat16() is can


@pytest.mark.parametrize(("load", "said"), [(1.9, None), (2.0, 2.0), (10.8, 10.8)])
def test_load_is_told_where_there_is_no_core_for_everyone(load: float, said: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert load_of_others() == said


def test_system_that_tells_no_load_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert load_of_others() is None
