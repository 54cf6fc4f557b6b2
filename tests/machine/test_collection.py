"""Garbage is looked for seldom while modules are imported and graphs are traced, and as usual after that."""

import gc
from collections.abc import Iterator

import pytest

from vae_lightning.machine.collection import SELDOM, USUAL, collect_seldom, end_of_imports, seldom_collected


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_block_is_seldom_collected_and_ends_as_it_began() -> None:
    gc.set_threshold(500, 5, 5)
    with seldom_collected():
        assert gc.get_threshold() == SELDOM
    assert gc.get_threshold() == (500, 5, 5)
    with pytest.raises(ZeroDivisionError), seldom_collected():
        _ = 1 / 0
    assert gc.get_threshold() == (500, 5, 5)


def test_what_was_imported_is_looked_through_no_more() -> None:
    gc.unfreeze()
    collect_seldom()
    assert gc.isenabled(), "what a command leaves before its imports end is collected too"
    end_of_imports()
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() > 1000


def test_models_and_data_of_a_later_job_are_collected() -> None:
    gc.unfreeze()
    gc.set_threshold(*USUAL)
    end_of_imports()
    assert gc.get_freeze_count() == 0
