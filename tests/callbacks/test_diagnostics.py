"""The KL of each dimension adds up, units that carry nothing are not active, and a collapse is said once."""

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from short_fits import Fit, small
from torch.distributions import Distribution

from vae_lightning import VAE
from vae_lightning.callbacks import LatentDiagnostics


class Collapsed(VAE):
    """The posterior is the prior, whatever the image."""

    def posterior(self, x: torch.Tensor, y: torch.Tensor | None = None, dropout: Any = None) -> Distribution:
        return super().prior().expand((len(x),))


def test_kl_of_the_dimensions_adds_up_to_that_of_the_split(fit: Fit, written: Any) -> None:
    # fewer validation images than are looked at: all of them are
    model = small()
    fit(model, LatentDiagnostics(), epochs=2)
    dimensions = [written().scalar(f"val/kl_per_dimension/{d:02d}") for d in range(3)]
    for epoch, whole in enumerate(written().scalar("val/kl")):
        assert sum(values[epoch] for values in dimensions) == pytest.approx(whole, rel=1e-5)
    assert len(written().scalar("val/active_units")) == 2, "not once an epoch, or also in the sanity check"


@pytest.mark.parametrize(("kind", "warnings"), [(Collapsed, 1), (VAE, 0)])
def test_posterior_that_is_the_prior_is_warned_of_once(
    fit: Fit, written: Any, caplog: pytest.LogCaptureFixture, kind: type[VAE], warnings: int
) -> None:
    fit(small(kind=kind), LatentDiagnostics(), epochs=4)
    said = [record.getMessage() for record in caplog.records if "collapses" in record.getMessage()]
    assert len(said) == warnings
    if warnings:
        assert "kl_warmup_steps" in said[0]
        assert written().text("warning/posterior_collapse") == said
        assert written().scalar("val/active_units") == [0.0] * 4
    else:
        assert not [tag for tag in written().tensors if tag.startswith("warning")]


@pytest.mark.parametrize(
    ("seen", "warned"),
    [([10, 10, 5], False), ([10, 4], True), ([2, 0], True), ([2, 1], False), ([1, 0], False), ([0, 3, 10, 10], False)],
)
def test_fall_of_active_units_is_warned_of(seen: list[int], warned: bool) -> None:
    callback = LatentDiagnostics()
    trainer: Any = SimpleNamespace(current_epoch=1, global_step=10, loggers=[], is_global_zero=True)
    for active in seen:
        callback._judge(trainer, 2.0 * active, active)
    assert callback.warned == warned


def test_fewer_units_that_carry_as_much_are_no_collapse() -> None:
    """At a high learning rate all means move at first; later the same KL is in fewer units, as with Burda et al.'s 19 of 50."""
    callback = LatentDiagnostics()
    trainer: Any = SimpleNamespace(current_epoch=1, global_step=10, loggers=[], is_global_zero=True)
    for divergence, active in ((12.0, 50), (25.0, 24)):
        callback._judge(trainer, divergence, active)
    assert not callback.warned
    callback._judge(trainer, 12.0, 24)
    assert callback.warned


def test_users_own_module_and_data_are_left_alone(tmp_path: Any) -> None:
    batches = torch.utils.data.DataLoader([(torch.zeros(1, 28, 28), 0)] * 4, batch_size=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    callback = LatentDiagnostics()
    L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[callback], default_root_dir=tmp_path, **quiet).fit(
        small(), batches, batches
    )
    assert not callback.warned
