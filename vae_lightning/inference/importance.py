r"""Importance-weighted estimates of log p(x) of a model, as one compiled function once many latents are to be decoded.

The function takes the sums of some images' weights so far and the number of the next sample, draws noise, decodes and weighs a few
samples of each image, and adds their weights. It takes a few images and a few samples at a time, since what is decoded is then
still in the processor's cache when it is weighed. See `inference.weights` for the estimate.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vae_lightning.arguments import choose
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.observed import require_images
from vae_lightning.inference.weights import ImportanceEstimate, Sums, log_weights, require_counts
from vae_lightning.machine.loops import compiled_loop
from vae_lightning.noise import Source
from vae_lightning.types import LatentVariableModel

__all__ = ["COMPILE_FROM", "PRECISIONS", "ImportanceSampler", "Precision", "importance_curve", "importance_sampling"]

log = logging.getLogger(__name__)

COMPILE_FROM = 2_000_000
"""Latents that an `ImportanceSampler` is to decode, so far and in the call that begins, from which on it compiles."""
SAMPLES = 50
"""Samples of an image that are decoded at once."""
IN_CACHE = 1000
"""Images decoded at once on a CPU, at most."""
PRECISIONS = {"float32": 1e-4, "bfloat16": 3e-3}
"""In what the decoder computes, and how far, relatively, rounding may move a compiled sum from the model's own."""

Precision = Literal["float32", "bfloat16"]
Step = Callable[[Tensor, Tensor, Tensor], Sums]
"""From the first sample's number, int32 `()`, and the two tensors of `Sums` to the sums with the next samples."""
Bind = Callable[..., Step]
"""From the tensors that a step does not change to the step."""


class ImportanceSampler:
    """Estimates log p(x) of the images of a model whose weights do not change.

    Args:
        precision: of the decoder's products. bfloat16 needs a processor that computes in it, and a likelihood that turns what is
            decoded to float32, as those of `LIKELIHOODS` do.

    >>> from vae_lightning import VAE
    >>> model, x = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval(), torch.zeros(3, 1, 28, 28)
    >>> first, last = ImportanceSampler(model)(x, None, [1, 10], Source.of(x, "example"))
    >>> last.log_marginal.shape
    torch.Size([3])
    """

    def __init__(self, model: LatentVariableModel, precision: Precision = "float32") -> None:
        self.tolerance = choose("precision", precision, PRECISIONS)
        self.model, self.precision = model, precision
        self._decoded = 0
        self._loops: dict[object, Bind | None] = {}
        self._is_exact = True

    @torch.no_grad()
    def __call__(
        self, x: Tensor, y: Tensor | None, counts: Sequence[int], source: Source, max_batch: int = 4000
    ) -> list[ImportanceEstimate]:
        """The estimates after each of `counts` samples, ascending, of images `(B, *event)` and labels `(B,)`.

        About `max_batch` decoded images are held at a time, and on a CPU no more than fit into its cache.

        Raises:
            ConfigurationError: the images or the labels are not the model's.
        """
        require_counts(counts)
        require_images(self.model, x, y)
        ends = torch.tensor(list(counts), dtype=torch.int32, device=x.device)
        constants = [x, *([] if y is None else [y]), source.places]
        self._decoded += len(x) * counts[-1]
        sums = None
        if self._is_exact and self._decoded >= COMPILE_FROM:
            sums = self._compiled_sums(
                _Groups.of(constants, [source.key, ends], max_batch if x.is_cuda else min(max_batch, IN_CACHE))
            )
        if sums is None:
            groups = _Groups.of(constants, [source.key, ends], max_batch)
            sums = groups.sums(self._bind(groups.firsts.step), whole=False)
        return sums.estimates(ends)

    def _bind(self, samples: int) -> Bind:
        def bind(*constants: Tensor) -> Step:
            x, places, key, ends = constants[0], *constants[-3:]
            y = constants[1] if len(constants) == 5 else None
            posterior, prior = self.model.posterior(x, y), self.model.prior(y)

            def step(first: Tensor, log_sum: Tensor, log_sum_of_squares: Tensor) -> Sums:
                weights = log_weights(
                    posterior,
                    lambda z: self._log_likelihood(z, x, y) + prior.log_prob(z),
                    Source(key, places),
                    samples,
                    first,
                    prior.mean,
                )
                return Sums(log_sum, log_sum_of_squares).plus(weights, first, ends)

            return step

        return bind

    def _log_likelihood(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            likelihood = self.model.likelihood(z, y)
        values = likelihood.log_prob(x)
        if values.dtype in (torch.bfloat16, torch.float16):
            raise ConfigurationError(
                f"precision={self.precision}: the likelihood {type(likelihood).__name__} sums in half precision, which has three "
                "digits; use float32"
            )
        return values

    # ---- compiling

    def _compiled_sums(self, groups: "_Groups") -> Sums | None:
        """The sums by a compiled graph; None where there is no graph that is exact."""
        loop = self._compiled(groups)
        if loop is None:
            return None
        if not self._agree(groups, loop):
            self._is_exact = False
            log.warning("the model's log p(x | z) is not what a compiled graph computes: goes on without compiling")
            return None
        return groups.sums(loop, whole=True)

    def _compiled(self, groups: "_Groups") -> Bind | None:
        constants, changing = groups.constants(0, whole=True), groups.start()
        bind = self._bind(groups.firsts.step)
        shape = tuple((value.shape, value.dtype, value.device) for value in constants), groups.firsts.step
        if shape not in self._loops:
            number = len(constants)
            self._loops[shape] = compiled_loop(lambda *tensors: bind(*tensors[:number])(*tensors[number:]), constants, [*changing])
        return self._loops[shape]

    def _agree(self, groups: "_Groups", loop: Bind) -> bool:
        """Whether the graph gives the model's own numbers, for the first samples and the last: a model may read what changes."""
        bind = self._bind(groups.firsts.step)
        for group, first in ((0, groups.firsts[0]), (-1, groups.firsts[-1])):
            constants = groups.constants(group, whole=True)
            changing = groups.start(first)
            graph, plain = loop(*constants)(*changing).log_sum, bind(*constants)(*changing).log_sum
            if not torch.allclose(graph, plain, rtol=self.tolerance, atol=self.tolerance, equal_nan=True):
                return False
        return True


class _Groups:
    """Images in groups of one size, the last of which may be filled up with its last image."""

    def __init__(self, of_images: list[Tensor], shared: list[Tensor], size: int, firsts: range) -> None:
        self.of_images, self.shared, self.size, self.firsts = of_images, shared, size, firsts
        self.length, self.device = len(of_images[0]), of_images[0].device
        self.number = -(-self.length // size)

    @classmethod
    def of(cls, of_images: list[Tensor], shared: list[Tensor], rows: int) -> "_Groups":
        """Groups and chunks of samples, each as even as can be, of at most `rows` latents, and `SAMPLES` samples of many images."""
        length, samples = len(of_images[0]), int(shared[-1][-1])
        images = _even(length, rows // min(samples, SAMPLES))
        return cls(of_images, shared, images, range(0, samples, _even(samples, rows // images)))

    def constants(self, group: int, whole: bool) -> list[Tensor]:
        start = group % self.number * self.size
        rows = torch.arange(start, start + self.size, device=self.device)
        rows = rows.clamp(max=self.length - 1) if whole else rows[: self.length - start]
        return [*(values[rows] for values in self.of_images), *self.shared]

    def start(self, first: int = 0, images: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return torch.tensor(first, dtype=torch.int32, device=self.device), *Sums.zero(self.shared[-1], images or self.size)

    def sums(self, bind: Bind, whole: bool) -> Sums:
        """The sums of all images after all samples."""
        firsts = torch.arange(self.firsts.stop, dtype=torch.int32, device=self.device)[:: self.firsts.step]
        parts = []
        for group in range(self.number):
            constants = self.constants(group, whole)
            step, sums = bind(*constants), Sums.zero(self.shared[-1], len(constants[0]))
            for first in firsts:
                sums = step(first, *sums)
            parts.append(sums)
        together = (torch.cat(tensors, -1)[:, : self.length] for tensors in zip(*parts, strict=True))
        return Sums(*together)


def _even(total: int, most: int) -> int:
    """The size of parts of `total`, all but the last of one size, that are as few as parts of `most` would be."""
    return -(-total // -(-total // max(1, most)))


def importance_sampling(
    model: LatentVariableModel, x: Tensor, y: Tensor | None, num_samples: int, source: Source, max_batch: int = 4000
) -> ImportanceEstimate:
    """Estimate log p(x) of each image with `num_samples` samples, holding about `max_batch` decoded images at a time.

    Args:
        x: images `(B, *event)`.
        y: labels `(B,)` of a conditional model, of which log p(x | y) is estimated; ignored by other models.
        source: of the noise, on the device of `x`.
    """
    return importance_curve(model, x, y, [num_samples], source, max_batch)[-1]


def importance_curve(
    model: LatentVariableModel, x: Tensor, y: Tensor | None, counts: Sequence[int], source: Source, max_batch: int = 4000
) -> list[ImportanceEstimate]:
    """The estimates after each of `counts` samples, in ascending order, from one pass over as many samples as the last of them.

    A caller with many batches keeps an `ImportanceSampler`, so that it compiles only once.
    """
    return ImportanceSampler(model)(x, y, counts, source, max_batch)
