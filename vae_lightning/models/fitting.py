"""What each part of a model must be and must give, whoever wrote it, in one line where it is or gives something else."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.arguments import build, require
from vae_lightning.errors import ConfigurationError

__all__ = ["built", "require_distribution", "require_per_image"]

PartT = TypeVar("PartT", bound=nn.Module)


def built(
    where: str, spec: Mapping[str, Any], options: Mapping[str, Callable[..., PartT]], kind: type[PartT], **offered: object
) -> PartT:
    """Build the part that `spec` describes, which must be of the class `kind`; see `arguments.build`.

    Raises:
        ConfigurationError: `spec` is wrong, or what it names builds something else.

    >>> from vae_lightning.distributions.priors import PRIORS, Prior
    >>> built("prior", {"name": "torch.nn.Identity"}, PRIORS, Prior, latent_dim=2)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: prior.name=torch.nn.Identity: builds an Identity, which is no ...
    """
    part = build(where, spec, options, **offered)
    if not isinstance(part, kind):
        raise ConfigurationError(
            f"{where}.name={spec.get('name')}: builds {_with_article(part)}, which is no {kind.__module__}.{kind.__qualname__}; "
            "subclass that for one of your own"
        )
    outputs = getattr(part, "outputs", 1)
    require(isinstance(outputs, int) and outputs >= 1, f"{where}.outputs", outputs, "a whole number of at least 1")
    return part


def require_distribution(
    value: object, of: nn.Module, role: str, batch_shapes: Sequence[Sequence[int]], event_shape: Sequence[int]
) -> Distribution:
    """`value`, which the part `of` gave as `role`, if it is a distribution of one of these batch shapes and this event shape.

    Raises:
        ConfigurationError: it is something else; the message says what, and what is wanted.
    """
    wanted = [(tuple(batch), tuple(event_shape)) for batch in batch_shapes]
    if isinstance(value, Distribution) and (tuple(value.batch_shape), tuple(value.event_shape)) in wanted:
        return value
    given = _with_article(value)
    if isinstance(value, Distribution):
        given += f" of batch shape {tuple(value.batch_shape)} and event shape {tuple(value.event_shape)}"
    batches = " or ".join(str(batch) for batch, _ in wanted)
    raise ConfigurationError(
        f"{role}: {type(of).__name__} gave {given}; a distribution of batch shape {batches} and event shape {tuple(event_shape)} is "
        "wanted"
    )


def require_per_image(value: object, of: nn.Module, role: str, count: int) -> Tensor:
    """`value`, which the part `of` gave as `role`, if it is one number an image.

    Raises:
        ConfigurationError: it is something else; the message says what, and what is wanted.

    >>> require_per_image(torch.zeros(()), nn.Identity(), "objective", 2)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: objective: Identity gave a Tensor of shape (); one number an image, a tensor ...
    """
    if isinstance(value, Tensor) and value.shape == (count,):
        return value
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    raise ConfigurationError(
        f"{role}: {type(of).__name__} gave {_with_article(value)}{shape}; one number an image, a tensor of shape ({count},), is wanted"
    )


def _with_article(value: object) -> str:
    name = "Tensor" if isinstance(value, torch.Tensor) else type(value).__name__
    return f"a{'n' * (name[0] in 'AEIOUaeiou')} {name}"
