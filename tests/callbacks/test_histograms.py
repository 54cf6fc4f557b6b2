"""Histograms only where they are asked for, of every weight and of the latents."""

from typing import Any

from short_fits import Fit, small

from vae_lightning.callbacks import Histograms


def test_weights_and_latents_every_n_epochs(fit: Fit, written: Any) -> None:
    model = small()
    fit(model, Histograms(every_n_epochs=2), epochs=4)
    weights = {f"weights/{name}" for name, _ in model.named_parameters()}
    assert set(written().histograms) == weights | {"latents/mean", "latents/stddev", "latents/sample"}
    events = written().events.Histograms("latents/mean")
    assert [event.step for event in events] == [4, 8]
    assert events[-1].histogram_value.num == 300 * 3


def test_off_by_default(fit: Fit, written: Any) -> None:
    fit(small(), Histograms())
    assert written().histograms == []
