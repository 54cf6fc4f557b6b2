"""The parts of a model from what was asked for: each is built, and refused if it is none of its kind."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from vae_lightning.arguments import build
from vae_lightning.errors import ConfigurationError
from vae_lightning.models.base import named

__all__ = ["built_part"]

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
    base = "torch.nn.Module" if kind is nn.Module else f"{kind.__module__}.{kind.__qualname__}"
    missing = [name for name in vars(kind).get("__annotations__", {}) if not hasattr(part, name)]
    if not isinstance(part, nn.Module):
        missing = ["parameters, as it is no torch.nn.Module"]
    if missing:
        said = f"builds an object of {type(part).__name__}, which has no {', '.join(missing)}; inherit from {base}"
        raise ConfigurationError(f"{where}.name={spec['name']}: {said}")
    return part
