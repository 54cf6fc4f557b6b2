"""Images in TensorBoard are the model's own, of the epochs that were asked for, and training does not notice."""

from typing import Any

import pytest
import pytorch_lightning as L
import torch
from short_fits import Fit, small
from torch.distributions import Independent, StudentT

from vae_lightning import CVAE
from vae_lightning.callbacks import Images

HALF_A_GREY_LEVEL = 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("model", "tags"),
    [
        (lambda: small(2), {"val/reconstructions", "prior/samples", "prior/latent_grid"}),
        (lambda: small(3), {"val/reconstructions", "prior/samples", "val/traversals"}),
        (lambda: small(2, CVAE, prior="class"), {"val/reconstructions", "prior/classes", "val/traversals"}),
    ],
)
def test_images_of_each_kind_of_model(fit: Fit, written: Any, model: Any, tags: set[str]) -> None:
    fit(model(), Images())
    assert set(written().images) == tags


class Heavy(Independent):
    def from_noise(self, epsilon: torch.Tensor) -> torch.Tensor:
        return 2 * epsilon


def test_prior_whose_quantiles_nobody_knows_has_traversals_for_a_grid(
    fit: Fit, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(2)
    monkeypatch.setattr(model.prior_of, "forward", lambda y, encode: Heavy(StudentT(torch.full((2,), 3.0)), 1))
    fit(model, Images())
    assert set(written().images) == {"val/reconstructions", "prior/samples", "val/traversals"}


@pytest.mark.parametrize("permute_pixels", [False, True])
def test_reconstructions_are_what_the_model_makes_of_validation_images(fit: Fit, written: Any, permute_pixels: bool) -> None:
    model = small()
    _, data = fit(model, Images(), permute_pixels=permute_pixels)
    x, y = data.evaluation_images("val", 16)
    shown = written().tiles("val/reconstructions", 16)
    assert torch.equal(shown[:16], data.unpermute(x).squeeze(1))
    made = data.unpermute(model.eval().reconstruct(x, y)).squeeze(1)
    torch.testing.assert_close(shown[16:32], made, atol=HALF_A_GREY_LEVEL * 2, rtol=0)
    assert not torch.equal(shown[32:], shown[16:32]), "a sample of the posterior is not its mean"


def test_traversals_begin_with_the_dimension_of_highest_kl(fit: Fit, written: Any) -> None:
    model = small()
    _, data = fit(model, Images())
    x, _ = data.evaluation_images("val", 16)
    model.eval()
    with torch.no_grad():
        posterior = model.posterior(x[:1])
        variance = posterior.variance[0]
        kl = 0.5 * (posterior.mean[0].square() + variance - 1 - variance.log())
        z = posterior.mean.repeat(11, 1)
        z[:, kl.argmax()] = torch.linspace(-3, 3, 11)
        made = model.decode(z).squeeze(1)
    torch.testing.assert_close(written().tiles("val/traversals", 11)[:11], made, atol=HALF_A_GREY_LEVEL * 2, rtol=0)


def test_images_of_the_first_of_every_second_and_of_the_last_epoch(fit: Fit, written: Any) -> None:
    fit(small(), Images(every_n_epochs=2), epochs=5)
    assert written().steps("val/reconstructions") == [2, 4, 8, 10]


def test_training_does_not_notice(fit: Fit) -> None:
    class States(L.Callback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seen.append((torch.get_rng_state(), [module.training for module in pl_module.modules()]))

    before, after = States(), States()
    model = small()
    model.decoder.eval()  # a part of the model that was in another mode stays in it
    fit(model, before, Images(every_n_epochs=1), after, epochs=2)
    for (state, modes), (later, others) in zip(before.seen, after.seen, strict=True):
        assert torch.equal(state, later)
        assert modes == others


def test_off_writes_nothing(fit: Fit, written: Any) -> None:
    fit(small(), Images(every_n_epochs=0))
    assert written().images == []
