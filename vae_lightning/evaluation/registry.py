"""The parts of an evaluation, each registered where it is defined: what it needs, what its estimates mean, how it measures.

A part is a function of a `Material` that gives estimates by name. `part` puts it into `PARTS`, from which the checks of
`parts=[...]`, the headings of a report, the glossary and the documentation are made. A file in this package is target by itself;
a part of another package is named by its import path, or registers itself when an entry point imports it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from vae_lightning.arguments import located_or_chosen
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.glossary import Metric, define

if TYPE_CHECKING:
    from vae_lightning.evaluation.material import Material
    from vae_lightning.types import Estimate

__all__ = ["PARTS", "SECTIONS", "SETTINGS", "Measure", "Need", "Part", "configured", "part", "part_of"]

T = TypeVar("T")

Need = Callable[["Material"], "str | None"]
"""Why a material does not have what a part needs, in words; None if it has."""
Measure = Callable[["Material"], Mapping[str, "Estimate"]]
"""Estimates by name."""


@dataclass(frozen=True)
class Part:
    """One part of an evaluation; calling it measures.

    >>> half = Part("half", lambda material: {}, needs=(lambda material: "needs the other half",))
    >>> half.unfit(None)
    'needs the other half'
    """

    name: str
    """The name by which `parts=[...]` asks for the part."""
    measure: Measure
    """The estimates of a material, by name."""
    needs: tuple[Need, ...] = ()
    """What a material must have for this part to make sense, in the order in which it is asked."""
    metrics: tuple[Metric, ...] = ()
    """What the estimates mean."""
    section: str = ""
    """The heading for estimates that name none; without one, the part's own name."""
    further_sections: tuple[str, ...] = ()
    """Headings that some of its estimates name."""
    place: int = 1000
    """Parts of smaller numbers are measured and shown first."""
    settings: Mapping[str, type] = field(default_factory=dict)
    """Dataclasses of settings that it reads from its material, by their names in the configuration of an evaluation."""

    def __call__(self, material: Material) -> Mapping[str, Estimate]:
        return self.measure(material)

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.measure) or "").partition("\n")[0]

    @property
    def heading(self) -> str:
        """What its estimates stand under where they do not say."""
        return self.section or self.name.rpartition(".")[2].replace("_", " ")

    def unfit(self, material: Material) -> str | None:
        """Why it makes no sense for `material`, or None."""
        return next((reason for need in self.needs if (reason := need(material)) is not None), None)


PARTS: dict[str, Part] = {}
"""Every part by name, in the order in which `parts=all` measures them; `evaluation.parts` has imported those of this package."""
SETTINGS: dict[str, type] = {}
"""Dataclasses of settings by their names in the configuration of an evaluation."""
SECTIONS = ("likelihood", "convergence of the nll with K", "nll of each class")
"""Headings of what every evaluation measures."""


def part(
    name: str,
    *,
    needs: tuple[Need, ...] = (),
    metrics: tuple[Metric, ...] = (),
    section: str = "",
    further_sections: tuple[str, ...] = (),
    place: int = 1000,
    settings: Mapping[str, type] | None = None,
) -> Callable[[Measure], Part]:
    """Register the decorated function as a part of evaluations; see `Part` for the arguments.

    Raises:
        ConfigurationError: another part has this name, or a metric means something else already.
    """

    def register(measure: Measure) -> Part:
        entry = Part(name, measure, needs, define(*metrics), section, further_sections, place, settings or {})
        known = PARTS.get(name)
        if known is not None and known.measure.__module__ != measure.__module__:
            raise ConfigurationError(f"{name}: is a part already, of {known.measure.__module__}; choose another name")
        PARTS[name] = entry
        in_order = sorted(PARTS.items(), key=lambda item: item[1].place)
        PARTS.clear()
        PARTS.update(in_order)
        for key, kind in entry.settings.items():
            configured(key)(kind)
        return entry

    return register


def configured(name: str) -> Callable[[type[T]], type[T]]:
    """Let the configuration of an evaluation hold the fields of the decorated dataclass under `name`."""

    def register(kind: type[T]) -> type[T]:
        SETTINGS[name] = kind
        return kind

    return register


def part_of(name: Any) -> Part:
    """The part that `name` means: one of `PARTS`, or an import path of a part or of a function of a `Material`.

    Raises:
        ConfigurationError: there is none.
    """
    target: object = located_or_chosen("parts", name, PARTS)
    if isinstance(target, Part):
        return target
    if not callable(target) or isinstance(target, type):
        raise ConfigurationError(f"parts={name}: is {kind_of(target)}, and no function of a Material that gives Estimates")
    return Part(str(name), target)
