"""What the entry point imports: from then on, `evaluation=full` measures this part too."""

from foreign_vae.estimates import colourfulness
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.registry import part
from vae_lightning.types import Estimate


@part("registered_colourfulness")
def registered(material: Material) -> dict[str, Estimate]:
    """How colourful images are."""
    return {"registered_colourfulness": colourfulness(material)["colourfulness"]}
