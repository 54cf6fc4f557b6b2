"""The contract of objectives: what is maximised of each image, by itself, with gradients for encoder and decoder."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.models.base import numbers_of, replaced_numbers
from vae_lightning.models.vae import VAE
from vae_lightning.noise import Source, global_noise
from vae_lightning.objectives.bounds import elbo
from vae_lightning.testing.claims import (
    Contract,
    agree,
    claim,
    finite,
    images_of,
    reports,
    require_gradients,
    require_independence,
    shaped,
)
from vae_lightning.types import Terms

__all__ = ["ObjectiveContract", "check_objective"]

COUNT = 4
STEP = 1000.0
"""An optimizer step in the middle of a training."""


class ObjectiveContract(Contract):
    """An objective: the terms of `B` images to what is maximised, `(B,)` nats, higher being better.

    It is checked on the terms of a small VAE of binary images of 3 x 4 pixels with two latent dimensions.

    >>> from vae_lightning.objectives.goals import ELBO
    >>> class TestMyObjective(ObjectiveContract):
    ...     def make(self) -> ELBO:
    ...         return ELBO()
    >>> TestMyObjective().check()
    """

    unused: tuple[str, ...] = ()
    """Parameters of the objective that no gradient is meant to reach."""
    latent_dim: int = 2
    image_shape: tuple[int, int, int] = (1, 3, 4)

    def model(self) -> VAE:
        """A small VAE with the objective in the place of its own."""
        with global_noise(0, torch.device("cpu")):
            model = VAE(latent_dim=self.latent_dim, net={"name": "mlp", "hidden": [8]}, image_shape=self.image_shape)
        model.objective_of = self.part()
        model.num_samples = max(3, model.objective_of.num_samples)
        return model

    def images(self, seed: int = 0) -> Tensor:
        return images_of(self.image_shape, COUNT, seed)

    def terms(self, model: VAE, x: Tensor, step: float = STEP) -> Terms:
        draw = model(x, None, model.draw_noise(x, Source.of(x, "contract")))
        return model.objective_terms(draw, x, torch.tensor(step))

    def value(self, model: VAE, terms: Terms) -> Tensor:
        name = type(model.objective_of).__name__
        with reports(f"{name}: a call"):
            value = model.objective_of(terms)
        return finite(shaped(value, (COUNT,), f"{name}: the value of {COUNT} images"), f"{name}: the value")

    def test_gives_a_number_an_image(self) -> None:
        model = self.model()
        for step in (0.0, STEP):
            self.value(model, self.terms(model, self.images(), step))

    def test_higher_is_better(self) -> None:
        model = self.model()
        terms = self.terms(model, self.images())
        likelihood: Any = _Likelier(terms.draw.likelihood)
        likelier = terms._replace(draw=terms.draw._replace(likelihood=likelihood), log_likelihood=terms.log_likelihood + 1)
        own, more = self.value(model, terms), self.value(model, likelier)
        claim(
            bool((more > own).all()),
            f"{type(model.objective_of).__name__}: is no higher where every image is a nat likelier, but by "
            f"{float((more - own).detach().min()):.4g}: a loss is minimised, an objective maximised",
        )

    def test_treats_each_image_by_itself(self) -> None:
        model = self.model()
        name = type(model.objective_of).__name__
        require_independence(lambda x: self.value(model, self.terms(model, x)), self.images(), self.images(1), f"{name}: the value")

    def test_gradients_reach_encoder_and_decoder(self) -> None:
        model = self.model()
        name = f"{type(model.objective_of).__name__}: the value"
        unused = [f"objective_of.{parameter}" for parameter in self.unused]
        require_gradients(model, self.value(model, self.terms(model, self.images())).sum(), unused, name)

    def test_numbers_may_be_tensors(self) -> None:
        model = self.model()
        name, terms = type(model.objective_of).__name__, self.terms(model, self.images())
        found = numbers_of(model)
        for path in type(model.objective_of).numbers:
            claim(f"objective_of.{path}" in found, f"{name}: `numbers` names {path}, and there is no number of that name")
        own = self.value(model, terms)
        with replaced_numbers(model, {path: torch.as_tensor(value, dtype=torch.float32) for path, value in found.items()}):
            claim(agree(own, self.value(model, terms)), f"{name}: is another where its numbers are tensors")

    def test_metrics_are_of_each_image_and_name_the_metric(self) -> None:
        model = self.model()
        objective, terms = model.objective_of, self.terms(model, self.images())
        name = type(objective).__name__
        with reports(f"{name}: metrics"):
            metrics = {"elbo": elbo(terms.log_likelihood, terms.kl).detach(), **objective.metrics(terms)}
        for metric, value in metrics.items():
            finite(shaped(value, (COUNT,), f"{name}: the metric {metric}"), f"{name}: the metric {metric}")
            claim(not value.requires_grad, f"{name}: the metric {metric} holds the graph of its gradients; detach it")
        claim(objective.metric in metrics, f"{name}: metric is {objective.metric}, and its metrics are {', '.join(metrics)}")


class _Likelier:
    """A likelihood under which every image is a nat likelier than under `likelihood`."""

    def __init__(self, likelihood: Distribution) -> None:
        self._likelihood = likelihood

    def __getattr__(self, name: str) -> Any:
        return getattr(self._likelihood, name)

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Tensor = self._likelihood.log_prob(value)
        return log_prob + 1


def check_objective(objective: Any, **settings: Any) -> None:
    """Hold `objective` to `ObjectiveContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    ObjectiveContract.of(objective, **settings).check()
