"""Few labels: equally many a class, whichever labels there are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vae_lightning.data.labelled import places_of_labelled
from vae_lightning.errors import ConfigurationError
from vae_lightning.noise import generator


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**32 - 1), st.data())
def test_labelled_images_are_distinct_and_balanced(num_classes: int, each: int, seed: int, data: st.DataObject) -> None:
    more = data.draw(st.lists(st.integers(0, 30), min_size=num_classes, max_size=num_classes), "images of a class beyond those")
    counts = [each + beyond for beyond in more]
    labels = torch.arange(num_classes).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator(seed, "order"))]
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
