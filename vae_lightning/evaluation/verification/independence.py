"""Independence: what a model says of an image is the same whatever images are beside it, and whatever it is not told.

Batch statistics in evaluation, as of a BatchNorm that was left in training mode, would make log p(x) a function of an image's
neighbours, and so no probability of the image.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation.verification.subject import Subject
from vae_lightning.evaluation.verification.verdict import Finding, NotApplicableError, check
from vae_lightning.inference.elbo import bound_at
from vae_lightning.noise import generator

__all__ = ["bound_of_one_sample", "labels_unseen", "log_p", "posterior"]

SAMPLES = 16
"""K of the bound that is compared."""
BESIDE = "alone, in a batch and in a permuted batch"


@check("independence/log_p", f"log p(x) of an image, by the bound of {SAMPLES} samples, is the same {BESIDE}")
def log_p(subject: Subject) -> Finding:
    """log p(x) of an image is its own."""
    return _compare(subject, lambda rows: subject.log_p(*_rows(subject, rows), subject.source("alone", rows), SAMPLES))


@check("independence/elbo", f"the ELBO of an image is the same {BESIDE}")
def bound_of_one_sample(subject: Subject) -> Finding:
    """The ELBO of an image is its own."""

    def elbo(rows: Tensor) -> Tensor:
        x, y = _rows(subject, rows)
        q = subject.model.posterior(x, y)
        noise = subject.source("alone", rows).normal("posterior", 1, subject.model.latent_dim)
        return bound_at(subject.model, q, from_noise(q, noise.to(q.mean)), x, y).elbo

    return _compare(subject, elbo)


@check("independence/posterior", f"q(z | x) of an image is the same {BESIDE}")
def posterior(subject: Subject) -> Finding:
    """The posterior of an image is its own: the density of the same points."""
    model, everyone = subject.model, torch.arange(len(subject.x), device=subject.x.device)
    q = model.posterior(*_rows(subject, everyone))
    noise = subject.source("points").normal("posterior", 1, model.latent_dim).to(q.mean)
    # another tensor than the sample, of which some distributions know the density
    z = from_noise(q, noise)[0].clone()

    def density(rows: Tensor) -> Tensor:
        return model.posterior(*_rows(subject, rows)).log_prob(z[rows])

    return _compare(subject, density)


@check("independence/labels", "a model that claims log p(x) gives the same whatever labels it is told")
def labels_unseen(subject: Subject) -> Finding:
    """An unconditional model does not look at labels."""
    if subject.material.num_classes:
        raise NotApplicableError("the model is conditional: it claims log p(x | y)")
    if not subject.material.has_labels:
        raise NotApplicableError("the images have no labels")
    x, y = subject.images
    source = subject.source("alone")
    told = [subject.log_p(x, labels, source, SAMPLES) for labels in (None, y, y.roll(1), torch.zeros_like(y))]
    scale = told[0].abs() + _numbers(subject)
    spread = torch.stack(told).amax(0) - torch.stack(told).amin(0)
    return subject.rounded(spread, scale, "image {}")


def _rows(subject: Subject, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    return subject.x[rows], None if subject.y is None else subject.y[rows]


def _compare(subject: Subject, compute: Callable[[Tensor], Tensor]) -> Finding:
    """The largest difference between `compute(rows)` of all images, of each alone, and of all in another order."""
    count = len(subject.x)
    everyone = torch.arange(count, device=subject.x.device)
    order = torch.randperm(count, generator=generator(subject.material.settings.seed, "verification", "order")).to(everyone)
    whole = compute(everyone).double()
    permuted = torch.empty_like(whole)
    permuted[order] = compute(order).double()
    alone = torch.cat([compute(everyone[row : row + 1]).double() for row in range(count)])
    difference = torch.stack([alone - whole, permuted - whole]).abs().amax(0)
    return subject.rounded(difference, whole.abs() + _numbers(subject), "image {}")


def _numbers(subject: Subject) -> Tensor:
    """How many numbers are summed for an image, pixels and latents, weighed by how far rounding moves the density of a latent."""
    q = subject.model.posterior(*_rows(subject, torch.arange(len(subject.x), device=subject.x.device)))
    latents = (1 + (1 + q.mean.abs()) / q.stddev).sum(-1)
    return latents.double() + subject.x[0].numel()
