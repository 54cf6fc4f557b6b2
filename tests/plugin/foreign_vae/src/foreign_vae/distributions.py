"""A likelihood of two numbers a pixel, and a prior that is no Gaussian."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from vae_lightning.distributions.likelihoods import Likelihood
from vae_lightning.distributions.priors import Prior


class LaplacePixels(Likelihood):
    """Grey levels around the decoded one, by a Laplace distribution whose scale is decoded too."""

    outputs = 2

    def __init__(self, least: float = 0.05) -> None:
        super().__init__()
        self.least = least

    def pixels(self, logits: Tensor, widths: Tensor) -> Distribution:
        return Laplace(logits.sigmoid(), self.least + nn.functional.softplus(widths), validate_args=False)


class LaplacePrior(Prior):
    """p(z): a Laplace distribution a dimension, whose scales are learned."""

    def __init__(self, latent_dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((latent_dim,), scale).log())

    def forward(self, y: Tensor | None, encode: object) -> Distribution:
        scale = self.log_scale.exp()
        return Independent(Laplace(torch.zeros_like(scale), scale, validate_args=False), 1, validate_args=False)
