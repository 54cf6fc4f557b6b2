"""Figures: tensors and models by the protocol in, matplotlib figures and animations out; one function a figure.

Each is declared where it is defined (`registry.declare`) with what it needs and its caption; `catalog.CATALOG` holds them all.
"""

from vae_lightning.figures.animation import (
    Animation,
    Recording,
    latent_walk,
    read_recording,
    training_decoded,
    training_manifold,
    training_reconstructions,
)
from vae_lightning.figures.completion import completion, isocontours, posterior_gap
from vae_lightning.figures.conditional import chosen_class, class_means, class_samples, class_style_grid, style_transfer
from vae_lightning.figures.images import elbo_per_image, reconstruction_pairs, reconstructions, reproductions, samples
from vae_lightning.figures.latents import (
    interpolations,
    kl_bars,
    latent_grid,
    latent_quantile_grid,
    latent_traversals,
    one_of_each,
    posterior_means,
    posterior_samples,
)
from vae_lightning.figures.metrics import confusion_matrix, learning_curves, mistakes, nll_convergence, rate_distortion
from vae_lightning.figures.style import CLASS_COLORS, png, style

__all__ = [
    "CLASS_COLORS",
    "Animation",
    "Recording",
    "chosen_class",
    "class_means",
    "class_samples",
    "class_style_grid",
    "completion",
    "confusion_matrix",
    "elbo_per_image",
    "interpolations",
    "isocontours",
    "kl_bars",
    "latent_grid",
    "latent_quantile_grid",
    "latent_traversals",
    "latent_walk",
    "learning_curves",
    "mistakes",
    "nll_convergence",
    "one_of_each",
    "png",
    "posterior_gap",
    "posterior_means",
    "posterior_samples",
    "rate_distortion",
    "read_recording",
    "reconstruction_pairs",
    "reconstructions",
    "reproductions",
    "samples",
    "style",
    "style_transfer",
    "training_decoded",
    "training_manifold",
    "training_reconstructions",
]
