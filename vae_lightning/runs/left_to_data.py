"""Arguments of a model that a config leaves to the data: the shape of the images, and the number of their classes."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vae_lightning.arguments import parameters
from vae_lightning.errors import ConfigurationError, kind_of

__all__ = ["OF_DATA", "left_to_data", "with_data", "without_unknown"]

OF_DATA = {"image_shape": "image_shape", "num_classes": "num_classes", "classes": "num_classes"}
"""Arguments of models that may be left to the data, and what the data call each."""


def left_to_data(model: Callable[..., object], asked: Mapping[str, Any]) -> list[str]:
    """The arguments of `model` that `asked` leaves to the data: by null, or, of those that it needs, by saying nothing.

    >>> def model(image_shape, num_classes=0, latent_dim=2): ...
    >>> left_to_data(model, {"latent_dim": 3}), left_to_data(model, {"image_shape": [1, 8, 8], "num_classes": None})
    (['image_shape'], ['num_classes'])
    """
    needed = {name for name, parameter in parameters(model)[0].items() if parameter.default is inspect.Parameter.empty}
    return [key for key in OF_DATA if asked.get(key, None if key in needed else 0) is None]


def without_unknown(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `asked` says without the data."""
    return {key: value for key, value in asked.items() if value is not None or key not in OF_DATA}


def with_data(model: Callable[..., object], asked: Mapping[str, Any], data: object) -> dict[str, Any]:
    """The arguments that `asked` gives `model`, with those that are left to `data` as the data say them.

    Raises:
        ConfigurationError: the data do not say what the model needs.
    """
    found = without_unknown(asked)
    for key in left_to_data(model, asked):
        value = getattr(data, OF_DATA[key], None)
        if value == 0:
            raise ConfigurationError(f"{key}: null is the number of classes of the data, and these have no labels")
        if value is not None:
            found[key] = list(value) if isinstance(value, Iterable) else value
        elif parameters(model)[0][key].default is inspect.Parameter.empty:
            raise ConfigurationError(f"{key}: is left to the data, and {kind_of(data)} has no {OF_DATA[key]}; give it")
    return found
