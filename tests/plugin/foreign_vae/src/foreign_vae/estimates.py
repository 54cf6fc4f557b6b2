"""A part of the report."""

from vae_lightning.evaluation.material import Material
from vae_lightning.types import Estimate


def colourfulness(material: Material) -> dict[str, Estimate]:
    """How colourful images are."""
    x, _ = material.images("test", 20)
    spread = x.amax(1).sub(x.amin(1)).flatten(1).mean(1)
    return {"colourfulness": material.estimate(spread, "largest minus smallest channel, mean over pixels")}
