"""The page: one file with the models in it, which asks for nothing from elsewhere."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.explored import Explored
from vae_lightning.explorer.operations import script
from vae_lightning.figures.style import CLASS_COLORS
from vae_lightning.machine.files import finite
from vae_lightning.reports.page import environment
from vae_lightning.version import __version__

__all__ = ["BEGINNING", "PAGE", "SCRIPTS", "explorer_page", "page_in", "weights_of_page"]

PAGE = "explorer.html"
"""What the page is called in the folder of an evaluation."""
SCRIPTS = (
    "tensors.js",
    "products.js",
    "special.js",
    "operations.js",
    "interpreter.js",
    "chance.js",
    "model.js",
    "elements.js",
    "pad.js",
    "paper.js",
    "latents.js",
    "drawing.js",
    "completing.js",
    "walking.js",
    "sampling.js",
    "main.js",
)
"""The page's scripts, in order; each uses those before it."""
BEGINNING = 2048
"""So many bytes of a page hold the weights that it is of."""
WEIGHTS = re.compile(rb'<meta name="vae-lightning-weights" content="([0-9a-f ]*)">')


def explorer_page(models: Sequence[Explored]) -> str:
    """The page of one model, or of two beside each other.

    Raises:
        ConfigurationError: the two are of images of different shapes.
    """
    shapes = [model.image_shape for model in models]
    if len(set(shapes)) > 1:
        shown = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise ConfigurationError(f"with: the two runs are of images of different shapes, {shown}, which cannot be compared")
    content = {"version": __version__, "colors": CLASS_COLORS, "models": [model.plain for model in models]}
    return (
        environment(autoescape=True, package="vae_lightning.explorer")
        .get_template("explorer.html.j2")
        .render(
            title=" and ".join(str(model.plain["title"]) for model in models),
            weights=" ".join(str(model.plain["digest"]) for model in models),
            style=Markup(script("explorer.css")),
            content=_embedded(content),
            scripts=Markup("\n".join(script(name).replace('"use strict";\n', "") for name in SCRIPTS)),
        )
    )


def weights_of_page(page: bytes) -> str | None:
    """SHA-256 of the weights that a page shows first; None if it is no explorer's page.

    Args:
        page: its first 2,048 bytes, or more.
    """
    found = WEIGHTS.search(page[:BEGINNING])
    return found[1].decode().partition(" ")[0] if found else None


def page_in(folder: Path, digest: str) -> str | None:
    """The name of the explorer's page in `folder`, if there is one and it is of the weights `digest`."""
    path = folder / PAGE
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        return PAGE if weights_of_page(file.read(BEGINNING)) == digest else None


def _embedded(content: Mapping[str, Any]) -> Markup:
    """JSON that nothing in it can end, whatever a run or a class is called."""
    text = json.dumps(finite(content), separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
