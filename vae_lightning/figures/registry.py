'''How a figure is declared where it is defined, and how a user brings one.

A figure is a function of a `Subject` with a docstring. The docstring is the caption: its first sentence says what one sees, the
rest what a good one looks like. `declare` puts it into `CATALOG`, from which everything else is derived: what `evaluate.py` draws
and in which order, its help, the tables of the documentation, the check of the names that a user asks for.

A researcher's own figure needs no declaration: `evaluation.figures=[mypkg.figures.pixel_variance]` takes any such function by its
import path.

    """mypkg/figures.py"""

    from matplotlib.figure import Figure

    def pixel_variance(subject):
        """The variance of each pixel over the test images. Good: dark where they differ."""
        fig = Figure()
        fig.subplots().imshow(subject.x.var(0).mean(0).cpu())
        return fig

What it needs, and the settings that it depends on, may be said with a `FigureSpec`:

    pixel_variance = FigureSpec(draw=pixel_variance, needs=(needs_labels,), settings=("seed",))
'''

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure

from vae_lightning.abilities import predicts
from vae_lightning.arguments import located_or_chosen
from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.animated import Animation
from vae_lightning.figures.subject import Subject
from vae_lightning.plugins import is_path
from vae_lightning.types import LatentVariableModel

__all__ = [
    "CATALOG",
    "SECTIONS",
    "FigureSpec",
    "Need",
    "declare",
    "figure_named",
    "needs_classifier",
    "needs_conditional",
    "needs_labels",
    "needs_latent",
    "needs_more_than",
    "needs_plane",
]

Need = Callable[[Subject], str | None]
"""Why a figure cannot be drawn of a subject, as a sentence; None if it can."""

SECTIONS = ("training", "images", "latent space", "classes", "seen in part", "classifier", "animations")
"""The order in which a page shows figures; within a section, that of their declaration."""


@dataclass(frozen=True)
class FigureSpec:
    """A figure: how it is drawn, what it needs, and what is said of it.

    >>> spec = FigureSpec(draw=lambda subject: Figure(), caption="An empty page. Good: nothing on it.")
    >>> spec.description
    'An empty page.'
    """

    draw: Callable[[Subject], Figure | Animation]
    """The figure of a subject that has what it needs."""
    name: str = ""
    """The figure's name, and the name of its file; for a user's figure, the import path."""
    caption: str = ""
    """What one sees, and what a good one looks like; taken from the docstring of `draw` if empty."""
    section: str = SECTIONS[-1]
    """The heading under which a page shows the figure."""
    needs: tuple[Need, ...] = ()
    """What a subject must have."""
    settings: tuple[str, ...] = ()
    """Names, as in `conf/evaluation/`, of the settings of an evaluation that the figure depends on."""

    def __post_init__(self) -> None:
        if not self.caption:
            object.__setattr__(self, "caption", " ".join((inspect.getdoc(self.draw) or "").split()))

    @property
    def description(self) -> str:
        """The first sentence of the caption."""
        return self.caption.partition(" Good:")[0].partition(". ")[0].rstrip(".") + "."

    def unfit(self, subject: Subject) -> str | None:
        """Why the figure cannot be drawn of `subject`, or None."""
        return next((reason for need in self.needs if (reason := need(subject))), None)


CATALOG: dict[str, FigureSpec] = {}
"""Every declared figure by name, in the order in which a page shows them."""


def declare(
    name: str, section: str, *needs: Need, settings: tuple[str, ...] = ()
) -> Callable[[Callable[[Subject], Figure | Animation]], Callable[[Subject], Figure | Animation]]:
    """Put the decorated function of a `Subject` into `CATALOG` as figure `name`; its docstring is the caption.

    Args:
        section: one of `SECTIONS`.
        needs: what a subject must have.
        settings: of an evaluation, those that the figure depends on.
    """

    def register(draw: Callable[[Subject], Figure | Animation]) -> Callable[[Subject], Figure | Animation]:
        CATALOG[name] = FigureSpec(draw, name, "", section, needs, settings)
        for spec in sorted(CATALOG.values(), key=lambda spec: SECTIONS.index(spec.section)):
            CATALOG[spec.name] = CATALOG.pop(spec.name)
        return draw

    return register


def figure_named(name: str) -> FigureSpec:
    """The figure called `name`: one of `CATALOG`, or a user's own by its import path.

    Raises:
        ConfigurationError: there is no such figure, or what the path names is no function of one argument.
    """
    target: Any = located_or_chosen("figures", name, CATALOG)
    if not is_path(name):
        assert isinstance(target, FigureSpec)
        return target
    spec = target if isinstance(target, FigureSpec) else FigureSpec(target) if callable(target) else None
    if spec is None or not _takes_one(spec.draw):
        raise ConfigurationError(f"figures={name}: must be a function of one argument, a Subject, that gives a matplotlib Figure")
    return replace(spec, name=name)


def _takes_one(draw: Callable[..., object]) -> bool:
    if isinstance(draw, type):
        return False
    try:
        inspect.signature(draw).bind(None)
    except (TypeError, ValueError):
        return False
    return True


# ---- what figures need


def needs_latent(subject: Subject) -> str | None:
    """Need: a latent-variable model."""
    return None if isinstance(subject.model, LatentVariableModel) else "the model has no latent"


def needs_plane(subject: Subject) -> str | None:
    """Need: a latent of two dimensions."""
    size = getattr(subject.model, "latent_dim", 2)
    return needs_latent(subject) or (None if size == 2 else f"the latent has {size} dimensions, not two")


def needs_more_than(dimensions: int) -> Need:
    """Need: a latent of more dimensions than these."""
    words = {1: "one dimension", 2: "two dimensions"}.get(dimensions, f"{dimensions} dimensions")

    def enough(subject: Subject) -> str | None:
        size = getattr(subject.model, "latent_dim", 0)
        return needs_latent(subject) or (None if size > dimensions else f"the latent has no more than {words}")

    return enough


def needs_conditional(subject: Subject) -> str | None:
    """Need: a latent-variable model that is given labels."""
    return needs_latent(subject) or (None if subject.num_classes else "the model ignores labels")


def needs_labels(subject: Subject) -> str | None:
    """Need: images that have labels."""
    return None if subject.labels.exist else "the images have no labels"


def needs_classifier(subject: Subject) -> str | None:
    """Need: a model that predicts classes, and labels to hold them to."""
    return needs_labels(subject) if predicts(subject.model) else "the model is no classifier"
