"""What several tests of the fast path need."""

import pytest
from quick_traces import quick_make_fx

from vae_lightning.engine import purity
from vae_lightning.engine.update import traced
from vae_lightning.machine import compilation


@pytest.fixture
def graphs_quickly_traced(graphs_as_traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were traced, by a tracer that is quicker than torch's."""
    for module in (compilation, purity, traced):
        monkeypatch.setattr(module, "make_fx", quick_make_fx)
