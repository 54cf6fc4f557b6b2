"""Compiling takes half a minute a graph, which most tests can do without."""

import pytest
import torch


@pytest.fixture
def graphs_as_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were traced, instead of what a C++ compiler makes of them."""
    monkeypatch.setattr(torch._inductor, "standalone_compile", lambda module, *_, **__: lambda *tensors: module(*tensors))
