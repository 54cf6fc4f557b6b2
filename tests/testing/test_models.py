"""Models with one fault each, and the sentence that finds it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from toys import Painter

from vae_lightning.models import VAE, Classifier
from vae_lightning.noise import Source
from vae_lightning.testing.models import check_model, check_module
from vae_lightning.types import Draw, Noise

SHAPE = (1, 4, 4)
MLP = {"name": "mlp", "hidden": [8]}


class Faulty(VAE):
    fault = ""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**{"latent_dim": 2, "net": MLP, "image_shape": SHAPE, **vae})
        self.idle = nn.Parameter(torch.ones(2), requires_grad=self.fault in ("idle", "hidden parameter"))
        self.reference = [self.idle]
        self.norm, self.dropout = nn.BatchNorm2d(1, affine=False), nn.Dropout(0.5)
        self.drawn = float(torch.rand(()))

    def posterior(self, x: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        x = self.norm(x) if self.fault == "batch norm" else x
        x = self.dropout(x) if self.fault == "dropout" else x
        if self.fault == "labels leak" and y is not None:
            x = x + y[:, None, None, None] / 10
        return super().posterior(x, y, dropout)

    def likelihood(self, z: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        images = super().likelihood(z, y, dropout)
        if self.fault == "no event":
            assert isinstance(images, Independent)
            return images.base_dist
        if self.fault == "mean outside":
            return Independent(Normal(10 * images.mean, 1.0), 3)
        return images

    def prior(self, y: Tensor | None = None) -> Distribution:
        if self.fault == "no from_noise":
            return Independent(Bernoulli(torch.full((2,), 0.5), validate_args=False), 1)
        return super().prior(y)

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        if self.fault == "noise without key":
            return Noise(torch.randn(1, len(x), 2))
        if self.fault == "the same noise":
            return super().draw_noise(x, Source.of(x, 0), training=training)
        return super().draw_noise(x, source, training=training)

    def terms(self, output: Draw, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        terms = super().terms(output, x, y, step)
        faults: dict[str, Any] = {
            "batch's mean": lambda: terms["loss"].mean(),
            "spread mean": lambda: terms["loss"].mean().expand(len(x)),
            "labels": lambda: terms["loss"] + y,
            "infinite": lambda: terms["loss"] / 0,
            "own number": lambda: terms["loss"] * (1 + self.drawn),
            "hidden parameter": lambda: terms["loss"] + self.reference[0].square().sum(),
        }
        loss = faults.get(self.fault, lambda: terms["loss"])()
        del terms["loss"]
        return terms if self.fault == "no loss" else {"loss": loss, **terms}


FAULTS = {
    "batch norm": r"the posterior mean of one image changes by \S+ with the other images of its batch",
    "dropout": r"the posterior mean differs by \S+ when it is computed a second time",
    "labels leak": r"num_classes is 0, and prior, posterior or likelihood depends on the label",
    "no event": r"the likelihood has batch shape \(3, 6, 1, 4, 4\), not \(3, 6\)",
    "mean outside": r"the mean image is from \S+ to \d+\.\d+, not within \[0, 1\]",
    "no from_noise": r"a sample of the prior from noise fails: NotImplementedError",
    "noise without key": "draw_noise gives other noise for the same key",
    "the same noise": "draw_noise gives the same noise for another key",
    "batch's mean": r"the term loss has shape \(\), not \(6,\)",
    "spread mean": r"the term loss of one image changes by \S+",
    "labels": "num_classes is 0, and the loss depends on the labels",
    "infinite": "the term loss: 6 of 6 numbers are not finite",
    "idle": r"no gradient of Faulty: the loss reaches idle; name them in `unused`",
    "no loss": "its terms are elbo, log_likelihood, kl, and loss is not among them",
    "own number": "loss is another after state_dict and hparams have been loaded",
    "hidden parameter": "the gradient of functional_loss with respect to idle is not that of a training step",
}


def faulty(fault: str, **vae: Any) -> VAE:
    kind = type("Faulty", (Faulty,), {"fault": fault})
    model: VAE = kind(**vae)
    return model


def test_the_model_without_a_fault_passes() -> None:
    check_model(faulty(""))
    check_model(faulty("", num_classes=3))
    check_model(faulty("idle"), unused=("idle",))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_model(faulty(fault))


def test_labels_that_are_not_used_are_named() -> None:
    class Deaf(VAE):
        def one_hot(self, y: Tensor | None) -> Tensor | None:
            label = super().one_hot(y)
            return None if label is None else torch.zeros_like(label)

    with pytest.raises(AssertionError, match="num_classes is 3, and prior, posterior and likelihood are the same for all labels"):
        check_model(Deaf(latent_dim=2, net=MLP, image_shape=SHAPE, num_classes=3))


def test_what_is_no_latent_variable_model_is_named() -> None:
    with pytest.raises(AssertionError, match=r"Linear: is no types\.LatentVariableModel, which has latent_dim, prior"):
        check_model(nn.Linear(2, 2))


def test_a_model_that_only_speaks_the_protocol_is_held_to_it() -> None:
    class Late(Painter):
        """Has one image's batch shape where there should be all."""

        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            return super().posterior(x[:1], y)

    check_model(Painter())
    with pytest.raises(AssertionError, match=r"Late: the posterior has batch shape \(1,\), not \(6,\)"):
        check_model(Late())


def test_a_module_given_as_such_cannot_be_rebuilt_and_that_is_named() -> None:
    encoder = VAE(latent_dim=2, net=MLP, image_shape=SHAPE).encoder
    with pytest.raises(
        AssertionError, match="building it anew from its hparams fails: ConfigurationError: encoder: was given as a module"
    ):
        check_model(VAE(latent_dim=2, net=MLP, image_shape=SHAPE, encoder=encoder))


def test_a_classifier_that_ignores_labels_or_its_optimizer_is_named() -> None:
    class Deaf(Classifier):
        def terms(self, output: Tensor, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
            return super().terms(output, x, torch.zeros_like(y), step)

    small: dict[str, Any] = {"net": {"name": "classifier_mlp", "hidden": [8]}, "num_classes": 3, "image_shape": SHAPE}
    with pytest.raises(AssertionError, match="the loss is the same for all labels of 3 classes"):
        check_module(Deaf(**small))
    with pytest.raises(AssertionError, match=r"a step of its optimizer fails: ConfigurationError: optimizer\.name=muon"):
        check_module(Classifier(**small, optimizer={"name": "muon"}))
