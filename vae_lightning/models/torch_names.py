"""What torch says of arguments of its optimizers and schedulers, behind the key that it is about."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_origin

from vae_lightning.arguments import parameters
from vae_lightning.errors import ConfigurationError, VAELightningError, one_line

__all__ = ["said", "torch_errors", "tuples", "without_null"]

WORDS = {"beta": "betas", "epsilon": "eps", "learning rate": "lr"}
"""What torch calls arguments of its optimizers in errors, where that is not their name."""


def without_null(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` without the arguments that are None: None leaves an argument out.

    >>> without_null({"name": "sgd", "lr": None})
    {'name': 'sgd'}
    """
    return {key: value for key, value in spec.items() if value is not None or key == "name"}


def tuples(target: Callable[..., object], spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with tuples in the place of lists where `target` takes tuples, which YAML cannot write."""
    named = parameters(target)[0]

    def wanted(key: str) -> bool:
        parameter = named.get(key)
        return parameter is not None and (isinstance(parameter.default, tuple) or get_origin(parameter.annotation) is tuple)

    return {key: tuple(value) if isinstance(value, list) and wanted(key) else value for key, value in spec.items()}


@contextmanager
def torch_errors(where: str, spec: Mapping[str, Any]) -> Iterator[None]:
    """Within, what is raised of a wrong value in `spec` becomes an error of ours, in one line."""
    try:
        yield
    except VAELightningError:
        raise
    except Exception as error:  # whatever torch, or the code of a user's package, raises
        raise ConfigurationError(said(where, spec, error)) from error


def said(where: str, spec: Mapping[str, Any], error: Exception) -> str:
    """What `error` says of `spec`, behind the key that it is about."""
    words = one_line(error)
    lower = words.lower()
    keys = [key for word, key in WORDS.items() if word in lower]
    keys += [key for key in spec if key != "name" and re.search(rf"\b{re.escape(key.lower())}\b", lower)]
    keys += ["differentiable"] if spec.get("differentiable") else []  # torch speaks of leaf variables then
    key = next((key for key in keys if key in spec), "name")
    return f"{where}.{key}={spec.get(key)}: {words or type(error).__name__}"
