"""The parts of a model, whoever wrote them: each is built, and refused in a line if it is, or gives, something else."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.arguments import build, require
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.models.base import named

__all__ = ["built_part", "require_begun", "require_distribution", "require_per_image"]

M = TypeVar("M", bound=nn.Module)


def built_part(
    where: str, spec: str | Mapping[str, Any], options: Mapping[str, Callable[..., M]], kind: type[M], **offered: object
) -> M:
    """What `spec` describes, which has all that a model asks of a `kind`.

    Args:
        where: the model's argument that `spec` stands in: `objective`.
        options: what each name without a dot builds.
        kind: the base class whose annotated attributes a model reads; a part need not inherit from it, if it has them.
        offered: what the model knows; see `arguments.build`.

    Raises:
        ConfigurationError: an import path builds something else.

    >>> from vae_lightning.objectives.goals import OBJECTIVES, Objective
    >>> built_part("objective", {"name": "torch.nn.Identity"}, OBJECTIVES, Objective)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: objective.name=torch.nn.Identity: builds an object of Identity, which has no ...
    """
    spec = named(spec)
    part = build(where, spec, options, **offered)
    require_begun(part, f"{where}.name={spec['name']}")
    base = "torch.nn.Module" if kind is nn.Module else f"{kind.__module__}.{kind.__qualname__}"
    missing = [name for name in vars(kind).get("__annotations__", {}) if not hasattr(part, name)]
    if not isinstance(part, nn.Module):
        missing = ["parameters, as it is no torch.nn.Module"]
    if missing:
        said = f"builds an object of {type(part).__name__}, which has no {', '.join(missing)}; inherit from {base}"
        raise ConfigurationError(f"{where}.name={spec['name']}: {said}")
    for path in getattr(type(part), "numbers", ()):
        require(hasattr(part, path.partition(".")[0]), f"{where}.numbers", path, "the name of an attribute")
    outputs = getattr(part, "outputs", 1)
    require(isinstance(outputs, int) and outputs >= 1, f"{where}.outputs", outputs, "a whole number of at least 1")
    return part


def require_begun(part: object, where: str) -> None:
    """Refuse a module whose `__init__` has not called that of `torch.nn.Module`, which fails wherever it is used.

    Raises:
        ConfigurationError: it is such a module.

    >>> require_begun(nn.Identity.__new__(nn.Identity), "prior.name=mine.Prior")
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: prior.name=mine.Prior: Identity.__init__ does not call super().__init__()
    """
    if isinstance(part, nn.Module) and "_modules" not in vars(part):
        raise ConfigurationError(f"{where}: {type(part).__name__}.__init__ does not call super().__init__()")


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
    given = kind_of(value)
    if isinstance(value, Distribution):
        given += f" of batch shape {tuple(value.batch_shape)} and event shape {tuple(value.event_shape)}"
    batches = " or ".join(str(batch) for batch, _ in wanted)
    raise ConfigurationError(
        f"{role}: {type(of).__name__} gave {given}; a distribution of batch shape {batches} and event shape {tuple(event_shape)} "
        "is wanted"
    )


def require_per_image(value: object, of: nn.Module, role: str, count: int) -> Tensor:
    """`value`, which the part `of` gave as `role`, if it is one number an image.

    Raises:
        ConfigurationError: it is something else; the message says what, and what is wanted.

    >>> import torch
    >>> require_per_image(torch.zeros(()), nn.Identity(), "objective", 2)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: objective: Identity gave a Tensor of shape (); a number an image is ...
    """
    if isinstance(value, Tensor) and value.shape == (count,):
        return value
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    raise ConfigurationError(
        f"{role}: {type(of).__name__} gave {kind_of(value)}{shape}; a number an image is wanted, a tensor of shape ({count},)"
    )
