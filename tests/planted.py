"""Models whose likelihood is one, and the same models with a bug planted into them, for the checks of `evaluation.verification`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from toys import LinearGaussian

from vae_lightning.evaluation.material import ImageCounts, Material, PartSettings
from vae_lightning.evaluation.verification.subject import Subject
from vae_lightning.evaluation.verification.verdict import CHECKS, Finding, Verdict
from vae_lightning.inference.ais import AISSettings

Images = Callable[[str, int | None], tuple[Tensor, Tensor]]


def material_of(model: Any, images: Images, num_classes: int = 0, count: int = 24, num_samples: int = 200) -> Material:
    """What an evaluation would measure, of few images and chains."""
    few = AISSettings(num_chains=8, num_distributions=10, leapfrog_steps=3)
    of_parts = (ImageCounts(estimators=min(8, count), verification=count), few)
    return Material(model, images, {}, "none", num_classes, PartSettings(num_samples=num_samples, of_parts=of_parts))


def verdict(name: str, material: Material) -> Verdict:
    """The verdict of one check."""
    return CHECKS[name](Subject(material))


def finding(name: str, material: Material) -> Finding:
    """The finding of a check that applies."""
    result = verdict(name, material)
    assert result.finding is not None, result.line
    return result.finding


class Halves(nn.Module):
    """Binary images, `(1, 2, 4)` by default, whose left and right pixels are as bright as z_0 and z_1 say; float32.

    A label brightens the first row. `posterior_of` and `likelihood_of` are where bugs go.
    """

    def __init__(self, num_classes: int = 0, rows: int = 8, latent_dim: int = 2) -> None:
        super().__init__()
        self.num_classes, self.rows, self.latent_dim = num_classes, rows, latent_dim

    def prior(self, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(self.latent_dim), 2.0), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        loc = torch.stack([x[..., :2].mean((-3, -2, -1)), x[..., 2:].mean((-3, -2, -1))], -1).logit(0.02)
        rest = torch.zeros(len(x), self.latent_dim - 2)
        return Independent(Normal(torch.cat([loc, rest], -1), 0.6), 1)

    def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
        logits = z[..., :2].repeat_interleave(2, -1)[..., None, None, :].expand(*z.shape[:-1], 1, self.rows, 4).clone()
        if self.num_classes:
            assert y is not None, "a conditional model needs labels"
            logits[..., 0, 0, :] = (4.0 * y - 2.0).unsqueeze(-1)
        return logits

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Bernoulli(logits=self.logits(z, y), validate_args=False), 3, validate_args=False)

    def images(self, split: str, count: int | None) -> tuple[Tensor, Tensor]:
        """Images that the model itself draws, and labels."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            y = torch.arange(count or 200) % max(2, self.num_classes)
            return self.likelihood(self.prior().sample((len(y),)), y).sample(), y


def linear_images(model: LinearGaussian) -> Images:
    """Images that a linear-Gaussian model draws, and labels."""

    def images(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(0)
        y = torch.arange(count or 200) % max(2, model.num_classes)
        z, noise = (torch.randn(len(y), size, generator=source, dtype=torch.float64) for size in (model.latent_dim, 12))
        return (z @ model.weight.mT + model.offset(y) + model.noise * noise).detach(), y

    return images
