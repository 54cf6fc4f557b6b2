"""A trained model in the form that the page reads: its graphs, its numbers, and what is said of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_lightning.abilities import Labels, binarization_of, classes_of
from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.constants import Constants, Width
from vae_lightning.explorer.functions import functions_for_page
from vae_lightning.explorer.graphs import graph_of
from vae_lightning.explorer.material import CHECKED, MAPPED, Rounding, activity, latents_of, rounding, spread, typical

__all__ = ["Explored", "Source", "explored"]

FUNCTIONS = ("encoder", "decoder", "terms", "prior", "classifier")
BYTES_OF_IMAGES = 48_000
"""About as many bytes of test images go into a page."""
IMAGES = 60
"""The most test images that a page holds."""
EXAMPLES = 3
"""How many images a function is traced with."""


@dataclass(frozen=True)
class Source:
    """Where a model and its images come from.

    >>> Source("outputs/vae", "VAE", "best.ckpt, epoch 3", "0" * 64, "MNIST").title
    'outputs/vae'
    """

    title: str
    """What the run is called."""
    kind: str
    """The model's class."""
    weights: str
    """The checkpoint in words."""
    digest: str
    """SHA-256 of the weights."""
    dataset: str
    """What the images are called."""


@dataclass(frozen=True)
class Explored:
    """A model as the page has it.

    >>> Explored({"title": "vae"}, Rounding(1e-4, 0.01), (1, 28, 28)).rounding.elbo
    0.01
    """

    plain: Mapping[str, Any]
    """All that the page reads, as JSON has it."""
    rounding: Rounding
    """What keeping the weights in fewer bits changes."""
    image_shape: tuple[int, ...]
    """C, H and W."""


def explored(model: Any, data: Any, x: Tensor, y: Tensor, labels: Labels, source: Source, width: Width = "float16") -> Explored:
    """`model` in the form that the page reads.

    Args:
        model: a `types.LatentVariableModel` of images with their pixels in place.
        data: the data module of its training.
        x: test images `(N, C, H, W)`, N at least 3.
        y: their labels `(N,)`.
        width: how large tensors are kept.

    Raises:
        ConfigurationError: the model has no latent, cannot be traced, needs an operation that the page does not know, or gives
            values that are not finite.
    """
    constants = Constants(width)
    functions = functions_for_page(model, x[:EXAMPLES], y[:EXAMPLES])
    graphs = {name: graph_of(functions[name], constants) for name in FUNCTIONS if name in functions}
    mapped, of_them = spread(x, MAPPED), spread(y, MAPPED)
    usual = typical(graphs, mapped, of_them)
    if not all(map(math.isfinite, usual.values())):
        raise ConfigurationError("the model gives values that are not finite for test images, which the page cannot show")
    latents = latents_of(model, mapped, of_them)
    active = activity(model, mapped, of_them, latents)
    difference = rounding(graphs, mapped, of_them)
    binary = binarization_of(data) != "none"
    pictures = _pictured(x, binary)
    plain = {
        **vars(source),
        "shape": list(x.shape[1:]),
        "latentDim": model.latent_dim,
        "classes": classes_of(model),
        "labels": labels.listed(max(classes_of(model), labels.classes_in(y))) if labels.exist else [],
        "noun": labels.noun,
        "binary": binary,
        "binarization": binarization_of(data),
        "functions": {name: graph.to_plain() for name, graph in graphs.items()},
        "order": active.order,
        "activity": active.values.tolist(),
        "measure": active.measure,
        "means": constants.add(latents.means),
        "scale": latents.scales.mean(0).tolist(),
        "mapped": of_them.tolist(),
        "images": constants.add(pictures.bool() if binary else (pictures * 255).round().to(torch.uint8)),
        "pictured": spread(y, len(pictures)).tolist(),
        "typical": usual,
        "rounding": {"mean": difference.mean, "elbo": difference.elbo, "images": min(CHECKED, len(mapped))},
        "width": width,
    }
    return Explored({**plain, "constants": constants.to_plain()}, difference, tuple(x.shape[1:]))


def _pictured(x: Tensor, binary: bool) -> Tensor:
    """As many of the images as the page has room for."""
    size = max(1, x[0].numel() // (8 if binary else 1))
    return spread(x, min(IMAGES, max(4, BYTES_OF_IMAGES // size)))
