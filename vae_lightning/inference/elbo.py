r"""The evidence lower bound of each image, of any model that speaks the protocol and any posterior.

$\log p(x \mid y) \ge E_q\left[\log p(x \mid z, y)\right] - KL\left(q(z) \,\|\, p(z \mid y)\right)$, where q may be the encoder's
posterior or one that was fitted to the image ("Auto-encoding variational Bayes", Kingma and Welling, 2014,
https://arxiv.org/abs/1312.6114). With a mask, x is the observed pixels alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.chunks import chunks, rows_at_once
from vae_lightning.inference.observed import observed_log_likelihood, require_images
from vae_lightning.objectives.bounds import elbo, kl_between
from vae_lightning.types import LatentVariableModel

__all__ = ["Bound", "bound_at", "mean_elbo"]


class Bound(NamedTuple):
    """The two terms of the ELBO of B images.

    >>> Bound(torch.tensor([-80.0]), torch.tensor([20.0])).elbo
    tensor([-100.])
    """

    log_likelihood: Tensor
    """Mean over the samples of log p(x | z, y), `(B,)` nats."""
    kl: Tensor
    """KL(q(z) || p(z | y)), `(B,)` nats: in closed form where torch has one, else the mean over the samples."""

    @property
    def elbo(self) -> Tensor:
        """The bound, `(B,)` nats."""
        return elbo(self.log_likelihood, self.kl)


def bound_at(
    model: LatentVariableModel, posterior: Distribution, z: Tensor, x: Tensor, y: Tensor | None, mask: Tensor | None = None
) -> Bound:
    """The terms of the ELBO by the samples `z` of `posterior`, all decoded at once; gradients reach both.

    Args:
        posterior: batch shape `(B,)`, event shape `(D,)`.
        z: samples of it, `(K, B, D)`.
        x: images `(B, *event)`.
        y: labels `(B,)` of a conditional model; ignored by others.
        mask: bool, `event` or `(B, *event)`, True where observed; None: everywhere.
    """
    log_likelihood = observed_log_likelihood(model.likelihood(z, y), x, mask).mean(0)
    return Bound(log_likelihood, kl_between(posterior, model.prior(y), z))


@torch.no_grad()
def mean_elbo(
    model: LatentVariableModel,
    posterior: Distribution,
    noise: Tensor,
    x: Tensor,
    y: Tensor | None,
    mask: Tensor | None = None,
    max_batch: int = 4000,
) -> Tensor:
    """The ELBO of each image, `(B,)` nats in float64, by samples of `posterior` made from `noise`.

    About `max_batch` decoded images are held at a time.

    Args:
        noise: standard normal, `(K, B, D)`, or `(K, 1, D)` that all images share.

    Raises:
        ConfigurationError: the images, labels or mask are not the model's, or the noise is not that of samples of `posterior`.
    """
    require_images(model, x, y, mask)
    size = posterior.event_shape[0]
    fits = noise.dim() == 3 and len(noise) >= 1 and noise.shape[1] in (1, len(x)) and noise.shape[2] == size
    require(fits, "noise", tuple(noise.shape), f"(K, {len(x)}, {size}) or (K, 1, {size}), K at least 1")
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for (part,) in chunks(rows_at_once(max_batch, len(x)), noise):
        total += bound_at(model, posterior, from_noise(posterior, part), x, y, mask).elbo.double() * len(part)
    return total / len(noise)
