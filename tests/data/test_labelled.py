"""Few labels: equally many a class, whichever labels there are."""

import random

import pytest
import torch

from vae_lightning.data.labelled import places_of_labelled
from vae_lightning.errors import ConfigurationError
from vae_lightning.noise import generator


@pytest.mark.parametrize("seed", range(20))
def test_labelled_images_are_distinct_and_balanced(seed: int) -> None:
    chance = random.Random(seed)
    num_classes, each = chance.randint(1, 12), chance.randint(1, 20)
    counts = [each + chance.choice((0, 0, chance.randint(0, 30))) for _ in range(num_classes)]
    labels = torch.tensor(chance.sample([c for c, count in enumerate(counts) for _ in range(count)], sum(counts)))
    places = places_of_labelled(labels, each * num_classes, num_classes, generator(seed))
    assert len(places.unique()) == len(places) == each * num_classes
    assert labels[places].bincount(minlength=num_classes).tolist() == [each] * num_classes
    assert torch.equal(places, places_of_labelled(labels, each * num_classes, num_classes, generator(seed)))
    most = min(counts) * num_classes
    with pytest.raises(
        ConfigurationError, match=f"^num_labels={most + num_classes}: must be at most {most}, equally many a class$"
    ):
        places_of_labelled(labels, most + num_classes, num_classes, generator(seed))


def test_each_image_of_a_class_may_be_the_one_with_a_label() -> None:
    labels = torch.arange(3).repeat(4)
    drawn = torch.cat([places_of_labelled(labels, 3, 3, generator(seed)) for seed in range(200)])
    counts = drawn.bincount(minlength=12)
    assert counts.min() > 50 - 5 * (200 * 0.25 * 0.75) ** 0.5
