r"""The contract of likelihoods, which must be normalised: probabilities sum to one, densities integrate to one.

Where pixels are independent given the latent, sums over one pixel at a time are enough, see `distributions.totals`, which finds a
mean over pixels in place of the sum.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.batches import are_binary
from vae_lightning.distributions.totals import log_total_of_independent_pixels
from vae_lightning.noise import generator, global_noise
from vae_lightning.testing.claims import (
    Contract,
    claim,
    finite,
    images_of,
    reports,
    require_independence,
    require_repeatability,
    shaped,
)

__all__ = ["LikelihoodContract", "check_likelihood"]

MOST_PATTERNS = 4096
"""Binary images that are looked at one by one; of larger ones, pixel by pixel."""
CLOSE = 2e-3
"""Nats a pixel that the logarithm of a total may be away from 0, as quadrature is not exact."""


class LikelihoodContract(Contract):
    """A likelihood: decoder output `(*, outputs * C, H, W)` to a normalised distribution over images of event shape `(C, H, W)`.

    >>> from vae_lightning.distributions.likelihoods import BernoulliLikelihood
    >>> class TestMyLikelihood(LikelihoodContract):
    ...     def make(self) -> BernoulliLikelihood:
    ...         return BernoulliLikelihood()
    >>> TestMyLikelihood().check()
    """

    image_shape: tuple[int, int, int] = (1, 3, 4)
    """`(C, H, W)`, for which the likelihood is made: few pixels are quick."""
    independent_pixels: bool = True
    """Whether pixels are independent given the latent; the total of others is computed only for small binary images."""

    def parameters_for(self, likelihood: Any, *batch: int, scale: float = 1.0) -> Tensor:
        """What a decoder might put out, `(*batch, outputs * C, H, W)`."""
        channels, height, width = self.image_shape
        shape = (*batch, likelihood.outputs * channels, height, width)
        return scale * torch.randn(shape, generator=generator("contract", "parameters"))

    def images(self, likelihood: Any, count: int, seed: int = 0) -> Tensor:
        return images_of(self.image_shape, count, seed, likelihood.binary)

    def distribution(self, likelihood: Any, parameters: Tensor) -> Distribution:
        with reports(f"{type(likelihood).__name__}: a call with parameters {tuple(parameters.shape)}"):
            result: Distribution = likelihood(parameters)
        return result

    def test_says_how_many_numbers_it_wants(self) -> None:
        likelihood = self.part()
        name, outputs = type(likelihood).__name__, getattr(likelihood, "outputs", None)
        claim(isinstance(likelihood, nn.Module), f"{name} is no torch.nn.Module, whose parameters a model could learn and save")
        claim(isinstance(outputs, int) and outputs >= 1, f"{name}: outputs is {outputs}, not a number of at least 1")
        binary = getattr(likelihood, "binary", None)
        claim(isinstance(binary, bool), f"{name}: binary is {binary}, not True or False")

    def test_has_the_shapes_of_images(self) -> None:
        likelihood = self.part()
        name = type(likelihood).__name__
        for batch in ((), (4,), (2, 4)):
            images = self.distribution(likelihood, self.parameters_for(likelihood, *batch))
            shapes = (tuple(images.batch_shape), tuple(images.event_shape))
            claim(
                shapes == (batch, self.image_shape), f"{name}: batch and event shape are {shapes}, not {(batch, self.image_shape)}"
            )
            with reports(f"{name}: log_prob"):
                log_prob = images.log_prob(self.images(likelihood, 4)[0] if batch == () else self.images(likelihood, 4))
            finite(shaped(log_prob, batch, f"{name}: log_prob"), f"{name}: log_prob")

    def test_mean_is_an_image(self) -> None:
        likelihood = self.part()
        name = type(likelihood).__name__
        images = self.distribution(likelihood, self.parameters_for(likelihood, 4, scale=3.0))
        with reports(f"{name}: mean"):
            mean = finite(shaped(images.mean, (4, *self.image_shape), f"{name}: the mean"), f"{name}: the mean")
        low, high = (float(value) for value in mean.detach().aminmax())
        claim(low >= -1e-6 and high <= 1 + 1e-6, f"{name}: the mean is from {low:.4g} to {high:.4g}, not within [0, 1]")

    def test_samples_are_images(self) -> None:
        likelihood = self.part()
        name = type(likelihood).__name__
        with global_noise(0, torch.device("cpu")), reports(f"{name}: sample"):
            sample = self.distribution(likelihood, self.parameters_for(likelihood, 4)).sample(torch.Size([8]))
        finite(shaped(sample, (8, 4, *self.image_shape), f"{name}: a sample"), f"{name}: a sample")
        if likelihood.binary:
            claim(are_binary(sample), f"{name}: is binary, and its samples are not all 0 or 1")

    def test_gradients_are_finite(self) -> None:
        likelihood = self.part()
        name = type(likelihood).__name__
        grey = self.images(likelihood, 4)
        for scale in (0.0, 1.0, 30.0):
            for shown, x in (("", grey), (" of pixels 0", torch.zeros_like(grey)), (" of pixels 1", torch.ones_like(grey))):
                parameters = self.parameters_for(likelihood, 4, scale=scale).requires_grad_()
                log_prob = self.distribution(likelihood, parameters).log_prob(x)
                finite(log_prob, f"{name}: log_prob{shown} at parameters of size {scale:g}")
                claim(log_prob.requires_grad, f"{name}: log_prob does not depend on the decoder's parameters")
                (gradient,) = torch.autograd.grad(log_prob.sum(), parameters)
                finite(gradient, f"{name}: the gradient of log_prob{shown} at parameters of size {scale:g}")

    def test_treats_each_image_by_itself(self) -> None:
        likelihood = self.part()
        x, parameters = self.images(likelihood, 4), self.parameters_for(likelihood, 8)

        def log_prob(rows: Tensor) -> Tensor:
            return self.distribution(likelihood, rows).log_prob(x)

        name = f"{type(likelihood).__name__}: log_prob"
        require_independence(log_prob, parameters[:4], parameters[4:], name)
        require_repeatability(lambda: log_prob(parameters[:4]), name)

    def test_is_normalised(self) -> None:
        likelihood = self.part().double()
        images = self.distribution(likelihood, self.parameters_for(likelihood).double())
        x = self.images(likelihood, 1)[0].double()
        pixels = x.numel()
        with torch.no_grad(), reports(f"{type(likelihood).__name__}: log_prob"):
            if likelihood.binary and 2**pixels <= MOST_PATTERNS:
                patterns = torch.tensor(list(itertools.product((0.0, 1.0), repeat=pixels)), dtype=torch.float64)
                log_total = images.log_prob(patterns.view(-1, *self.image_shape)).logsumexp(0)
            elif self.independent_pixels:
                log_total = log_total_of_independent_pixels(images, x, likelihood.binary)
            else:
                raise AssertionError(
                    f"{type(likelihood).__name__}: cannot be summed; give a binary likelihood of at most 12 pixels"
                )
        kind = "probabilities of binary images sum" if likelihood.binary else "what log_prob says of images adds up"
        total = float(log_total)
        claim(
            abs(total) < CLOSE * pixels,
            f"{type(likelihood).__name__}: {kind} to exp({total:.4g}), not to 1: log_prob must be the sum over all {pixels} "
            "pixels and channels of normalised log-probabilities",
        )


def check_likelihood(likelihood: Any, **settings: Any) -> None:
    """Hold `likelihood` to `LikelihoodContract`; `settings` are that class's attributes.

    >>> from vae_lightning.distributions.likelihoods import GaussianLikelihood
    >>> check_likelihood(GaussianLikelihood(), image_shape=(3, 2, 2))

    Raises:
        AssertionError: one sentence that names what fails.
    """
    LikelihoodContract.of(likelihood, **settings).check()
