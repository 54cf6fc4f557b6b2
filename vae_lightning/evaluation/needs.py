"""What parts of an evaluation need of a material: each gives the reason why it is not there, or None."""

import torch
from torch.distributions import Normal

from vae_lightning.distributions.factors import factors as factors_of
from vae_lightning.distributions.totals import is_binary, is_mass
from vae_lightning.errors import kind_of
from vae_lightning.evaluation.material import Material

__all__ = ["discrete_pixels", "factors", "gaussian_posterior", "judge", "labels", "plane", "unconditional"]


def plane(material: Material) -> str | None:
    """A latent of at most two dimensions."""
    size = material.model.latent_dim
    return None if size <= 2 else f"needs a latent of at most two dimensions, and this model's has {size}"


def gaussian_posterior(material: Material) -> str | None:
    """A posterior whose dimensions are independent Gaussians."""
    x, y = material.labelled("test", 2)
    with torch.no_grad():
        posterior = material.model.posterior(x, y)
    if isinstance(factors_of(posterior), Normal):
        return None
    return f"compares the encoder with diagonal Gaussians, and its posterior is {kind_of(posterior)}"


def discrete_pixels(material: Material) -> str | None:
    """A likelihood that is a probability of pixel values that the images have, and not a density: bits count outcomes."""
    x, y = material.labelled("test", 1)
    with torch.no_grad():
        likelihood = material.model.likelihood(material.model.posterior(x, y).mean, y)
        discrete = is_mass(likelihood, x[0])
    if is_binary(likelihood) and material.has_grey_levels():
        return "the images have grey levels, which are no outcomes of a distribution of binary images"
    return None if discrete else "the likelihood is a density of pixel values, of which bits depend on the unit"


def labels(material: Material) -> str | None:
    """Images with labels."""
    return None if material.has_labels else "the images have no labels"


def unconditional(material: Material) -> str | None:
    """A posterior of the image alone."""
    return "the posterior of a conditional model is told the label, which probes would read back" if material.num_classes else None


def judge(material: Material) -> str | None:
    """A classifier that looks at samples."""
    if material.judge is not None:
        return None
    return "classifier=null: must be the run of a classifier that judges samples; experiment=classifier trains one"


def factors(material: Material) -> str | None:
    """Images whose factors of variation are known, and a posterior that is told none of them."""
    if material.factors is None:
        return "the data set has no known factors of variation: data=shapes2d has"
    return "the posterior of a conditional model is told one of the factors" if material.num_classes else None
