"""The parts that an evaluation was asked for, one after the other: what one of them cannot do costs the others nothing.

Each part is registered where it is defined, see `evaluation.registry`; importing this module imports all files of the package, so
that `PARTS` is whole.
"""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from torch import Tensor, nn

from vae_lightning import evaluation
from vae_lightning.errors import ConfigurationError, DataError, kind_of, one_line
from vae_lightning.evaluation.material import ImageCounts, Material, PartSettings
from vae_lightning.evaluation.registry import PARTS, Part, part_of
from vae_lightning.machine.files import finite
from vae_lightning.plugins import is_path
from vae_lightning.types import Estimate

__all__ = ["PARTS", "ImageCounts", "Material", "Part", "PartSettings", "check_parts", "measure"]

log = logging.getLogger(__name__)


def _import_all() -> None:
    for module in iter_modules(evaluation.__path__, f"{evaluation.__name__}."):
        if module.name != __name__:
            import_module(module.name)


_import_all()


def check_parts(material: Material, names: Sequence[str]) -> None:
    """Refuse parts that were asked for by name and do not fit, before anything is computed.

    Raises:
        ConfigurationError: there is no part of such a name, or it does not fit; the line says why.
    """
    for name in names:
        reason = part_of(name).unfit(material)
        if reason is not None:
            raise ConfigurationError(f"parts={name}: {reason}")


def measure(material: Material, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Estimate] | str]]:
    """The estimates of each part in `names`, or why there are none, as soon as they are there.

    Args:
        names: keys of `PARTS`, or import paths of functions of a `Material`.
    """
    taken = dict.fromkeys(material.bound, "every evaluation")
    for name in names:
        started = time.perf_counter()
        try:
            part = part_of(name)
            reason = part.unfit(material)
            if reason is None:
                given = _for_one_alone(material) if is_path(name) else material
                estimates = _checked(part, part.measure(given), time.perf_counter() - started)
                _require_free(estimates, taken)
        except (ConfigurationError, DataError, NotImplementedError) as error:
            reason = one_line(error)
        except (Exception, SystemExit) as error:  # hours of other parts must not be lost with one that fails
            log.exception("%s could not be measured", name)
            reason = f"failed ({type(error).__name__}: {one_line(error, 200)})"
        if isinstance(material.model, nn.Module):
            material.model.eval()  # whatever code of a user's own has left it in
        if reason is None:
            taken |= dict.fromkeys(estimates, name)
            yield name, estimates
        else:
            yield name, reason


def _for_one_alone(material: Material) -> Material:
    """`material` with images of its own: code that changes them in place changes no other part."""

    def images(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        x, y = material.images(split, count)
        return x.clone(), y.clone()

    return dataclasses.replace(material, images=images)


def _checked(part: Part, measured: object, seconds: float) -> dict[str, Estimate]:
    """What a part gave, as a report can hold it: plain numbers, its heading, the seconds it took.

    Raises:
        ConfigurationError: the part gave something else than estimates by name.
    """
    if not isinstance(measured, Mapping):
        raise ConfigurationError(f"gave {kind_of(measured)}, and not a dict of Estimates by name")
    for key, value in measured.items():
        if not isinstance(key, str) or not isinstance(value, Estimate):
            raise ConfigurationError(f"gave {key!r}: {type(value).__name__}, and not the name of an estimate and an Estimate")
    return {key: _plain(key, value, part.heading, seconds) for key, value in measured.items()}


def _plain(name: str, value: Estimate, heading: str, seconds: float) -> Estimate:
    # a user's own part may well give tensors of one element as numbers
    numbers: dict[str, Any] = {key: float(getattr(value, key)) for key in ("value", "standard_error", "seconds")}
    numbers |= {key: int(getattr(value, key)) for key in ("num_images", "num_samples")}
    if math.isnan(numbers["seconds"]):
        numbers["seconds"] = seconds
    try:
        json.dumps(finite(value.settings))
    except TypeError as error:
        raise ConfigurationError(f"{name}: its settings must be plain values ({one_line(error)})") from error
    return dataclasses.replace(value, section=value.section or heading, **numbers)


def _require_free(estimates: Mapping[str, Estimate], taken: Mapping[str, str]) -> None:
    for name in estimates:
        if name in taken:
            raise ConfigurationError(f"{name}: is an estimate of {taken[name]} already; give it another name")
