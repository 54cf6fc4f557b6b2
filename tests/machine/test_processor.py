import platform
from pathlib import Path

import pytest
import torch

from vae_lightning.machine.processor import computes_in_bfloat16

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.exists(), reason="reads what Linux says of an x86 processor")
def test_bfloat16_is_there_where_the_system_says_so() -> None:
    flags = set(CPUINFO.read_text().partition("flags")[2].partition("\n")[0].split())
    assert computes_in_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16"})


@pytest.mark.parametrize(("capabilities", "can"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({}, None)])
def test_processor_can_what_torch_says(capabilities: dict[str, bool], can: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_in_bfloat16() is can
