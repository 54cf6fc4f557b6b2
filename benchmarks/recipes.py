"""The long recipes of the published table (`docs/results.md`), each as words for `train.py` and `evaluate.py`.

`make gpu` trains as many of them as there is time for, in this order; for longer: `make gpu ARGS="--only recipes --seconds 3000"`
"""

from typing import NamedTuple


class Recipe(NamedTuple):
    name: str
    train: list[str]
    epochs: int
    """Epochs of the recipe; where there is no time for all, fewer are trained, and the record says how many."""
    published: float | None
    """The published test NLL, in nats an image."""
    evaluate: tuple[str, ...] = ("evaluation.num_samples=5000", "evaluation.figures=[]", "evaluation.train_images=1000")
    batch: int = 100
    static: bool = False
    """Whether it needs Larochelle's binarized images."""


RECIPES = [
    Recipe("VAE, k = 1, dynamic", ["experiment=burda_vae"], 1650, 86.76),
    Recipe("IWAE, k = 5, dynamic", ["experiment=burda_iwae5"], 1650, 85.54),
    Recipe("conditional VAE, k = 1, dynamic", ["experiment=burda_cvae"], 1650, 82.32),
    Recipe("IWAE, k = 50, dynamic", ["experiment=burda_iwae50"], 1650, 84.78),
    Recipe("VAE, k = 5, dynamic", ["experiment=burda_vae5"], 1650, 86.47),
    Recipe("VampPrior, gated 300-300, z = 40, dynamic", ["experiment=vampprior"], 300, 82.43),
    Recipe("VAE, k = 1, static", ["experiment=burda_vae", "data.binarization=static"], 1650, 88.71, static=True),
    Recipe("IWAE, k = 5, static", ["experiment=burda_iwae5", "data.binarization=static"], 1650, 87.63, static=True),
    Recipe("altosaar, static", ["experiment=altosaar"], 167, 97.10, batch=128, static=True),
]
