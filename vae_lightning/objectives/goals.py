r"""Objectives: what training maximises, `(B,)` nats an image; the loss is minus its mean over the batch.

A model is net x likelihood x prior x posterior x objective, and an objective goes with each of the others. With
$L = \frac1K \sum_k \log p(x \mid z_k)$, $KL = KL(q(z \mid x) \,\|\, p(z))$, and $w$ the weight that warm-up gives the KL:

- elbo: $L - w KL$ ("Auto-encoding variational Bayes", Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114), with its own
  gradient, or sticking the landing ("Sticking the landing: simple, lower-variance gradient estimators for variational
  inference", Roeder, Wu and Duvenaud, 2017, https://arxiv.org/abs/1703.09194).
- beta: $L - \beta w KL$ ("beta-VAE: learning basic visual concepts with a constrained variational framework", Higgins et al., 2017,
  https://openreview.net/forum?id=Sy2fzU9gl).
- capacity: $L - \gamma w |KL - C|$, C growing from 0 ("Understanding disentangling in beta-VAE", Burgess et al., 2018,
  https://arxiv.org/abs/1804.03599).
- iwae: $\log \frac1K \sum_k p(x \mid z_k) (p(z_k) / q(z_k \mid x))^w$ ("Importance weighted autoencoders", Burda, Grosse and
  Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519).
- dreg: the same with the doubly reparameterised gradient ("Doubly reparameterized gradient estimators for Monte Carlo objectives",
  Tucker et al., 2019, https://arxiv.org/abs/1810.04152). Of both, the gradient may be computed through a few of the K samples,
  resampled by their weights: as these sum to one, it is the same in expectation, with a higher variance.
- miwae: the mean of M bounds of iwae on K / M samples each; piwae: the gradient of iwae for $p(x, z)$, and that of miwae for
  $q(z \mid x)$; ciwae: $\beta$ elbo + $(1 - \beta)$ iwae ("Tighter variational bounds are not necessarily better", Rainforth et
  al., 2018, https://arxiv.org/abs/1802.04537).
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from vae_lightning.arguments import require
from vae_lightning.objectives.bounds import (
    LinearWarmup,
    beta_objective,
    capacity_objective,
    doubly_reparameterised,
    iwae_bound,
    log_weights,
    mean_of_bounds,
    partially_weighted,
)
from vae_lightning.types import Terms

__all__ = [
    "CIWAE",
    "ELBO",
    "MIWAE",
    "OBJECTIVES",
    "PIWAE",
    "BetaELBO",
    "CapacityELBO",
    "DRegIWAE",
    "ImportanceWeighted",
    "Objective",
]


class Objective(nn.Module):
    """The terms of `B` images to what is maximised, `(B,)` nats; a module, so that an objective may learn parameters.

    An objective of one's own gives the value in `forward`. Of `latent_dim`, `num_classes` and `image_shape`, its constructor gets
    those that it names.

    >>> class FreeBits(Objective):
    ...     def forward(self, terms: Terms) -> Tensor:
    ...         return terms.log_likelihood - terms.kl.clamp(min=2.0)
    >>> FreeBits().metric, FreeBits().num_samples
    ('elbo', 1)
    """

    numbers: ClassVar[tuple[str, ...]] = ()
    """Attributes that weigh the terms, and may change as training goes on: a compiled step takes in their present values."""
    metric: ClassVar[str] = "elbo"
    """The model's metric, higher is better, that says which checkpoint is best."""
    num_samples: ClassVar[int] = 1
    """K, posterior samples an image, unless a model is told another number."""
    bounds_by_samples: ClassVar[bool] = False
    """Whether K is a part of what is estimated, so that validation and test take as many samples as training, and not one."""
    bounds: int = 1
    """How many bounds share the K samples evenly."""
    gradient_samples: int = 0
    """Number of samples, resampled by importance weight, that the objective takes from `terms.draw.resampled`; 0: none."""
    needs_gaussian_posterior: bool = False
    """Whether q(z | x) has to be a diagonal Gaussian."""

    def __init__(self) -> None:
        # nn.Module's own signature takes any argument, so a wrong one would not be refused by name
        super().__init__()

    def forward(self, terms: Terms) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} defines no forward(self, terms)")

    def metrics(self, terms: Terms) -> dict[str, Tensor]:
        """Further numbers of the images that are logged, `(B,)` each, by the name of the metric: without gradients."""
        return {}


class ELBO(Objective):
    """The evidence lower bound, its KL weighted by warm-up alone.

    Args:
        sticking_the_landing: take the gradient through the samples alone, with the posterior's density held fixed: the same in
            expectation, and without variance where the posterior is exact; for Gaussian posteriors. The value stays the ELBO's.

    >>> import torch
    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, objective="elbo")
    >>> x, y = torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)
    >>> terms = model.terms(model(x), x, y, torch.tensor(0.0))
    >>> torch.equal(terms["loss"], -terms["elbo"])
    True
    """

    def __init__(self, sticking_the_landing: bool = False) -> None:
        super().__init__()
        self.sticking_the_landing = self.needs_gaussian_posterior = sticking_the_landing

    def forward(self, terms: Terms) -> Tensor:
        bound = beta_objective(terms.log_likelihood, terms.kl, terms.kl_weight)
        if not self.sticking_the_landing:
            return bound
        surrogate = log_weights(terms.draw, terms.x, terms.kl_weight, fixed_density=True).mean(0)
        # the value of the exact KL, which has less noise than the samples', with the surrogate's gradient
        return surrogate + (bound - surrogate).detach()


class BetaELBO(Objective):
    r"""The ELBO with its KL weighted by `beta`.

    Args:
        beta: weight of the KL in nats per image; 1 is the ELBO.
        normalized: read `beta` as the paper's $\beta_{norm} = \beta D / N$ with N pixels, so that it compares across latent sizes.

    >>> BetaELBO(latent_dim=10, image_shape=(1, 28, 28), beta=0.5, normalized=True).beta
    39.2
    """

    numbers: ClassVar[tuple[str, ...]] = ("beta",)

    def __init__(self, latent_dim: int, image_shape: Sequence[int], beta: float = 4.0, normalized: bool = False) -> None:
        super().__init__()
        require(0 <= beta < math.inf, "beta", beta, "at least 0")
        self.beta = beta * math.prod(image_shape) / latent_dim if normalized else beta

    def forward(self, terms: Terms) -> Tensor:
        return beta_objective(terms.log_likelihood, terms.kl, self.beta * terms.kl_weight)


class CapacityELBO(Objective):
    """The KL drawn to a capacity that grows during training.

    Where the KL has no closed form, an image's KL is estimated from K samples, and the estimate's error counts as distance from the
    capacity: take several samples.

    Args:
        gamma: force that draws each image's KL to the capacity.
        capacity_max: the final capacity, nats.
        capacity_steps: optimizer steps over which the capacity grows linearly from 0.

    >>> import torch
    >>> CapacityELBO(capacity_max=25.0, capacity_steps=100).capacity(torch.tensor(20.0))
    tensor(5.)
    """

    numbers: ClassVar[tuple[str, ...]] = ("gamma", "capacity.start", "capacity.end", "capacity.steps")

    def __init__(self, gamma: float = 1000.0, capacity_max: float = 25.0, capacity_steps: int = 100_000) -> None:
        super().__init__()
        require(0 <= gamma < math.inf, "gamma", gamma, "at least 0")
        require(0 <= capacity_max < math.inf, "capacity_max", capacity_max, "at least 0")
        require(capacity_steps >= 1, "capacity_steps", capacity_steps, "at least 1")
        self.gamma, self.capacity = gamma, LinearWarmup(end=capacity_max, steps=capacity_steps)

    def forward(self, terms: Terms) -> Tensor:
        return capacity_objective(terms.log_likelihood, terms.kl, self.gamma * terms.kl_weight, self.capacity(terms.step))


class ImportanceWeighted(Objective):
    """The importance-weighted bound on K samples.

    Checkpoints are judged by the importance-weighted bound on all K samples, not by the ELBO, which may fall as the bound rises.

    Args:
        gradient_samples: number of samples that the gradient is computed through, resampled by importance weight: the same in
            expectation, with a higher variance, and cheaper; 0: all K. For Gaussian posteriors, and decoders without dropout and
            batch normalisation.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, objective="iwae")
    >>> model.num_samples, model.monitor
    (5, 'val/iwae_bound')
    """

    metric: ClassVar[str] = "iwae_bound"
    num_samples: ClassVar[int] = 5
    bounds_by_samples: ClassVar[bool] = True

    def __init__(self, gradient_samples: int = 0) -> None:
        super().__init__()
        require(gradient_samples >= 0, "gradient_samples", gradient_samples, "at least 0")
        self.gradient_samples = gradient_samples

    def forward(self, terms: Terms) -> Tensor:
        weights = log_weights(terms.draw, terms.x, terms.kl_weight)
        few = terms.draw.resampled
        if few is None:
            return iwae_bound(weights)
        shares = weights.detach().softmax(0).gather(0, few.places)
        # the samples were drawn without warm-up
        surrogate = (shares / few.probability * log_weights(few.draw, terms.x, terms.kl_weight)).mean(0)
        return surrogate + (iwae_bound(weights) - surrogate).detach()

    def metrics(self, terms: Terms) -> dict[str, Tensor]:
        """`iwae_bound`, without warm-up."""
        return {"iwae_bound": iwae_bound(log_weights(terms.draw, terms.x)).detach()}


class DRegIWAE(ImportanceWeighted):
    """The importance-weighted bound with the doubly reparameterised gradient, of lower variance; for Gaussian posteriors.

    >>> from vae_lightning import VAE
    >>> VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, objective="dreg", posterior="iaf")
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: objective.name=dreg: must be another unless posterior.name=diagonal
    """

    needs_gaussian_posterior: bool = True

    def forward(self, terms: Terms) -> Tensor:
        weights = log_weights(terms.draw, terms.x, terms.kl_weight, fixed_density=True)
        few = terms.draw.resampled
        if few is None:
            surrogate = doubly_reparameterised(weights, terms.draw.z, terms.kl_weight)
        else:
            shares = weights.detach().softmax(0).gather(0, few.places)
            of_few = log_weights(few.draw, terms.x, terms.kl_weight, fixed_density=True)
            surrogate = doubly_reparameterised(of_few, few.draw.z, terms.kl_weight, shares, few.probability)
        # the surrogate's value means nothing: show the bound, keep the surrogate's gradient
        return surrogate + (iwae_bound(weights) - surrogate).detach()


class MIWAE(ImportanceWeighted):
    """The mean of `bounds` importance-weighted bounds, each on its own share of the K samples (Rainforth et al., 2018).

    Args:
        bounds: M, of which K must be a multiple; 1 is `ImportanceWeighted`, K the ELBO.

    >>> from vae_lightning import VAE
    >>> VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, objective="miwae").num_samples
    64
    """

    num_samples: ClassVar[int] = 64

    def __init__(self, bounds: int = 8) -> None:
        super().__init__()
        require(bounds >= 1, "bounds", bounds, "at least 1")
        self.bounds = bounds

    def forward(self, terms: Terms) -> Tensor:
        return mean_of_bounds(log_weights(terms.draw, terms.x, terms.kl_weight), self.bounds)


class PIWAE(MIWAE):
    """The importance-weighted bound for decoder and prior, the mean of `bounds` of them for the encoder (Rainforth et al., 2018).

    A bound on many samples teaches the decoder best and tells the encoder least. For Gaussian posteriors. The value is the bound's.
    """

    needs_gaussian_posterior: bool = True

    def forward(self, terms: Terms) -> Tensor:
        bound = super(MIWAE, self).forward(terms).detach()
        surrogate = partially_weighted(terms.draw, terms.x, self.bounds, terms.kl_weight)
        return surrogate + (bound - surrogate).detach()


class CIWAE(ImportanceWeighted):
    """The ELBO of K samples and the importance-weighted bound on them, mixed (Rainforth et al., 2018).

    Args:
        mix: of the ELBO; 0 is `ImportanceWeighted`, 1 the ELBO. The paper's beta.
    """

    num_samples: ClassVar[int] = 64
    numbers: ClassVar[tuple[str, ...]] = ("mix",)

    def __init__(self, mix: float = 0.05) -> None:
        super().__init__()
        require(0 <= mix <= 1, "mix", mix, "in [0, 1]")
        self.mix = mix

    def forward(self, terms: Terms) -> Tensor:
        weights = log_weights(terms.draw, terms.x, terms.kl_weight)
        return self.mix * weights.mean(0) + (1 - self.mix) * iwae_bound(weights)


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "elbo": ELBO,
    "beta": BetaELBO,
    "capacity": CapacityELBO,
    "iwae": ImportanceWeighted,
    "dreg": DRegIWAE,
    "miwae": MIWAE,
    "piwae": PIWAE,
    "ciwae": CIWAE,
}
