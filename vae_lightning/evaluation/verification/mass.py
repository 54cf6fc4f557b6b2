"""Mass: held-out images cost fewer nats than what they are not: with other labels, as noise, inverted.

These are sanity checks of a likelihood, not proofs: a model that gives noise more mass than data, or exactly as much, has learnt
nothing, or its numbers are not of these images. What few images say by chance tells nothing, nor do labels that hardly matter, as
they do to a model that has hardly been trained. Each image is compared with what was made of it, so that the error is that of the
differences.
"""

import torch
from torch import Tensor

from vae_lightning.evaluation.verification.subject import CHANCE, ROUNDED, Subject
from vae_lightning.evaluation.verification.verdict import Finding, NotApplicableError, check, deviations
from vae_lightning.noise import generator

__all__ = ["inverted", "labels_in_images", "shuffled_labels", "shuffled_pixels", "telling_pixels"]

SAMPLES = 100
"""K of importance sampling."""
MEDIANS = 3.0
"""Medians of the differences of all images at which the difference of each is cut off."""
MATTERS = 1.0
"""Nats an image by which images differ from noise, or from negatives, once anything has been learnt."""
LABELLED = 2000
"""Images in which labels are looked for."""
ENOUGH = 20
"""Images of a class, and of the others, from which on a pixel tells them apart by no chance: by one in a million, of two values."""


@check("mass/labels", "held-out images cost fewer nats with their own labels than with others")
def shuffled_labels(subject: Subject) -> Finding:
    """Labels count."""
    if not subject.material.num_classes or subject.y is None:
        raise NotApplicableError("the model is not conditional")
    shift = (
        1
        + torch.randint(
            subject.material.num_classes - 1,
            subject.y.shape,
            generator=generator(subject.material.settings.seed, "verification", "y"),
        )
        if subject.material.num_classes > 1
        else torch.zeros_like(subject.y)
    )
    return _cheaper(subject, subject.x, (subject.y + shift.to(subject.y)) % subject.material.num_classes, matters=0.0)


@check("mass/noise", "held-out images cost fewer nats than noise, their own pixels in another order")
def shuffled_pixels(subject: Subject) -> Finding:
    """Noise of the same grey levels costs more."""
    source = generator(subject.material.settings.seed, "verification", "pixels")
    order = torch.rand(len(subject.x), subject.x[0].numel(), generator=source).argsort(-1).to(subject.x.device)
    return _cheaper(subject, subject.x.flatten(1).gather(1, order).view_as(subject.x), subject.y)


@check("mass/other", "held-out images cost fewer nats than other data, in whose place stand their negatives")
def inverted(subject: Subject) -> Finding:
    """Negatives, as complex as the images themselves, cost more."""
    return _cheaper(subject, subject.x.amin() + subject.x.amax() - subject.x, subject.y)


@check(
    "mass/labels_in_images", "no single pixel tells a class from all others, as if labels had been written into images", "pixels"
)
def labels_in_images(subject: Subject) -> Finding:
    """Images do not hold their labels."""
    if not subject.material.has_labels:
        raise NotApplicableError("the images have no labels")
    x, y = subject.material.images("test", LABELLED)
    found = telling_pixels(x.flatten(1), y)
    if not found:
        raise NotApplicableError(f"no class has {ENOUGH} images among {len(x):,}")
    telling = {label: count for label, count in found.items() if count}
    where = f"class {next(iter(telling))}" if telling else f"{len(x):,} images"
    return Finding(float(sum(telling.values())), 0.0, f"of {ENOUGH} images a class, none by chance", where, len(x))


def telling_pixels(x: Tensor, y: Tensor) -> dict[int, int]:
    """How many pixels of images `(N, P)` tell each class of labels `(N,)` from all others, by class; without those of few images.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(20, 1)
    >>> telling_pixels(x, torch.tensor([0, 1]).repeat(20))
    {0: 2, 1: 2}
    """
    found = {}
    for label in y.unique().tolist():
        own, rest = x[y == label], x[y != label]
        if min(len(own), len(rest)) >= ENOUGH:
            apart = (own.amin(0) > rest.amax(0)) | (own.amax(0) < rest.amin(0))
            found[int(label)] = int(apart.sum())
    return found


def _cheaper(subject: Subject, other: Tensor, labels: Tensor | None, matters: float = MATTERS) -> Finding:
    """The finding that the images cost fewer nats than `other` images with `labels`, each of which was made of one of them.

    Args:
        matters: nats of a difference that may not be left to chance.

    Raises:
        NotApplicableError: there is a difference, which may be chance, and chance may make one that matters.
    """
    source = subject.source("mass")
    own, others = (
        subject.log_p(x, y, source, SAMPLES).double() for x, y in ((subject.x, subject.y), (other.to(subject.x), labels))
    )
    difference = others - own
    same = bool((difference.abs() <= ROUNDED).all())
    # an encoder may answer what it has never seen with latents far away, whose endless nats would be all of a mean and its error
    cut = MEDIANS * float(difference.abs().median())
    difference = difference.clamp(-cut, cut)
    because = f"less by {CHANCE} at least"
    size = float(difference.mean())
    chance = deviations(len(difference)) * float(difference.std()) / len(difference) ** 0.5 + ROUNDED
    if not same and abs(size) <= chance and chance > matters:
        raise NotApplicableError(
            f"tells nothing: a difference of {size:.2g} nats, within {CHANCE} of {len(difference)} images ({chance:.2g})"
        )
    return Finding(
        size,
        -chance,
        because,
        f"mean of {len(difference)} images, each cut off at {cut:.4g}",
    )
