r"""Images of which only some pixels are seen: masks, and what the seen pixels say of z.

Pixels are independent given z, so the unseen ones integrate to 1 and drop out:
$\log p(x_O \mid z, y) = \sum_{i \in O} \log p(x_i \mid z, y)$.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.abilities import classes_of
from vae_lightning.arguments import choose, require
from vae_lightning.distributions.factors import factors
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.chunks import over_chunks, rows_at_once
from vae_lightning.noise import generator
from vae_lightning.types import MNIST_SHAPE, LatentVariableModel

__all__ = ["MASKS", "Observed", "log_joint", "observed_log_likelihood", "observed_mask", "require_classes", "require_images"]

Mask = Callable[[Sequence[int], float, torch.Generator | None], Tensor]


def _part(rows: tuple[int, int], columns: tuple[int, int]) -> Mask:
    """A rectangle: where its rows and columns begin and end, counted in halves of the image."""

    def mask(shape: Sequence[int], fraction: float, source: torch.Generator | None) -> Tensor:
        top, bottom = (end * shape[-2] // 2 for end in rows)
        left, right = (end * shape[-1] // 2 for end in columns)
        observed = torch.zeros(*shape, dtype=torch.bool)
        observed[..., top:bottom, left:right] = True
        return observed

    return mask


def _random(shape: Sequence[int], fraction: float, source: torch.Generator | None) -> Tensor:
    source = source or generator(0, "mask")
    return torch.rand(*shape, generator=source, device=source.device) < fraction


_FIRST, _SECOND, _BOTH = (0, 1), (1, 2), (0, 2)

MASKS: dict[str, Mask] = {
    "top": _part(_FIRST, _BOTH),
    "bottom": _part(_SECOND, _BOTH),
    "left": _part(_BOTH, _FIRST),
    "right": _part(_BOTH, _SECOND),
    "top_left": _part(_FIRST, _FIRST),
    "top_right": _part(_FIRST, _SECOND),
    "bottom_left": _part(_SECOND, _FIRST),
    "bottom_right": _part(_SECOND, _SECOND),
    "random": _random,
    "all": _part(_BOTH, _BOTH),
}
"""What is observed, by name: a half, a quadrant, each pixel with some probability, everything."""


def observed_mask(
    kind: str = "top",
    shape: Sequence[int] = MNIST_SHAPE,
    fraction: float = 0.5,
    source: torch.Generator | None = None,
) -> Tensor:
    """Which pixels are observed: bool of `shape`, whose last two dimensions are rows and columns.

    Args:
        kind: a name in `MASKS`.
        fraction: the probability with which "random" observes each pixel; ignored by others.
        source: what "random" draws from, on its device; a generator of a fixed seed if None.

    Raises:
        ConfigurationError: there is no such kind, or the fraction is not a probability.

    >>> observed_mask("top_left", (1, 4, 4)).int()[0].tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    require(0 <= fraction <= 1, "fraction", fraction, "from 0 to 1")
    return choose("kind", kind, MASKS)(shape, fraction, source)


class Observed(NamedTuple):
    """Images, and what is seen of them.

    >>> Observed.of(torch.ones(1, 1, 2, 2), None, observed_mask("left", (1, 2, 2))).x[0, 0].tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """

    x: Tensor
    """`(B, *event)`, unseen pixels 0."""
    y: Tensor | None
    """Labels `(B,)` of a conditional model."""
    mask: Tensor | None
    """Bool `(B, *event)`, True where seen; None: everywhere."""

    @classmethod
    def of(cls, x: Tensor, y: Tensor | None, mask: Tensor | None) -> "Observed":
        """Copies; `mask` is `event` or `(B, *event)`."""
        # what was made in inference mode cannot be differentiated through; a copy made outside it can
        mask = None if mask is None else mask.to(x.device).expand(x.shape).clone()
        return cls(x.clone() if mask is None else torch.where(mask, x, 0), None if y is None else y.clone(), mask)

    def take(self, rows: Tensor) -> "Observed":
        """The images of `rows`, with what belongs to them."""
        return Observed(self.x[rows], *(None if field is None else field[rows] for field in (self.y, self.mask)))


@torch.no_grad()
def require_images(model: LatentVariableModel, x: Tensor, y: Tensor | None, mask: Tensor | None = None) -> None:
    """Refuse images and labels of which `model` has no likelihood, or would give one of something else.

    Args:
        mask: of the pixels that are seen, bool, `event` or `(B, *event)`, or so with one channel for all.

    Raises:
        ConfigurationError: there is no image, images are of another shape or of whole numbers, or labels or a mask do not belong to
            them.

    >>> from vae_lightning import VAE
    >>> require_images(VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}), torch.zeros(3, 28, 28), None)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: x: must be images (B, 1, 28, 28) of floating-point numbers, at least one; it is ...
    """
    if y is not None and y.shape != x.shape[:1]:
        raise ConfigurationError(f"y: must be labels (B,), one an image; they are {tuple(y.shape)}, of images {tuple(x.shape)}")
    require_classes(model, y)
    wanted, fits = "(B, *event)", x.dim() > 0 and len(x) > 0 and x.is_floating_point()
    if fits:
        label = None if y is None else y[:1]
        # a prior of one's own that only samples itself, or a decoder that takes no image alone
        with suppress(NotImplementedError, ValueError):
            event = model.likelihood(model.prior(label).mean.reshape(1, -1), label).event_shape
            wanted, fits = f"(B, {', '.join(map(str, event))})", x.shape[1:] == event
    if not fits:
        said = f"x: must be images {wanted} of floating-point numbers, at least one"
        raise ConfigurationError(f"{said}; it is {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}")
    events = (tuple(x.shape[1:]), (1, *x.shape[2:]))
    if mask is not None and not (mask.dtype == torch.bool and tuple(mask.shape) in (*events, *((len(x), *e) for e in events))):
        said = f"mask: must be bool {tuple(x.shape[1:])} or {tuple(x.shape)}, True where a pixel is seen"
        raise ConfigurationError(f"{said}; it is {str(mask.dtype).removeprefix('torch.')} {tuple(mask.shape)}")


def require_classes(model: LatentVariableModel, y: Tensor | None) -> None:
    """Refuse labels that a conditional model does not know; others ignore them.

    Raises:
        ConfigurationError: there are none, or they are no classes.

    >>> from vae_lightning import CVAE
    >>> model = CVAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> require_classes(model, torch.tensor([10]))
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: y: must be labels (B,) from 0 to 9, whole numbers, one an image
    """
    classes = classes_of(model)
    if classes and (y is None or y.is_floating_point() or not bool(((y >= 0) & (y < classes)).all())):
        raise ConfigurationError(f"y: must be labels (B,) from 0 to {classes - 1}, whole numbers, one an image")


def observed_log_likelihood(likelihood: Distribution, x: Tensor, mask: Tensor | None) -> Tensor:
    """log p(observed pixels | z), `(*, B)` nats.

    Args:
        likelihood: p(x | z) of batch shape `(*, B)`, or `(*, 1)` for latents that all images share.
        x: images `(B, *event)`; what stands in unseen pixels has no effect.
        mask: bool, `event` or `(B, *event)`, True where observed; None: everywhere.

    Raises:
        NotImplementedError: the pixels are not independent given z, so that the unseen ones do not drop out.
    """
    if mask is None:
        return likelihood.log_prob(x)
    pixels = factors(likelihood)
    if pixels is None:
        raise NotImplementedError(
            f"mask: needs a likelihood whose pixels are independent given z (torch's Independent), not a {likelihood}"
        )
    # unseen pixels may hold anything, NaN too, which no later product with 0 would take back
    log_prob = pixels.log_prob(torch.where(mask, x, 0))
    return torch.where(mask, log_prob, 0).flatten(-len(likelihood.event_shape)).sum(-1)


def log_joint(model: LatentVariableModel, z: Tensor, x: Tensor, y: Tensor | None, mask: Tensor | None, max_batch: int) -> Tensor:
    """log p(observed pixels, z | y), `(K, B)` nats, holding about `max_batch` images at a time.

    Args:
        z: latents `(K, B, D)`, or `(K, 1, D)` that all images share, which an unconditional model decodes only once.
        x: images `(B, *event)`.
        y: labels `(B,)`; None for an unconditional model.
        mask: bool, `event` or `(B, *event)`, True where observed; None: everywhere.
    """
    if y is not None:
        z = z.expand(-1, len(x), -1)
    mask = None if mask is None else mask.to(x.device)
    prior = model.prior(y)

    def joint(latents: Tensor) -> Tensor:
        return observed_log_likelihood(model.likelihood(latents, y), x, mask) + prior.log_prob(latents)

    return over_chunks(joint, z, size=rows_at_once(max_batch, len(x)))
