"""Images cost less than what they are not, and labels that were written into images are found."""

import pytest
import torch
from planted import Halves, finding, material_of, verdict
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vae_lightning.evaluation.verification.mass import telling_pixels


class Deaf(Halves):
    """A conditional model that does not listen to its label."""

    def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
        return super().logits(z, None if y is None else torch.zeros_like(y))


def test_images_cost_less_than_with_other_labels_as_noise_and_inverted() -> None:
    model = Halves(num_classes=2)
    whole = material_of(model, model.images, num_classes=2, count=48)
    for name in ("labels", "noise", "other"):
        assert finding(f"mass/{name}", whole).passed, name
    assert finding("mass/labels", whole).size < -5, "nats of a row of four pixels"


def test_conditional_model_that_does_not_listen_to_its_label_is_caught() -> None:
    assert not finding("mass/labels", material_of(Deaf(2), Halves(2).images, num_classes=2)).passed
    assert not verdict("mass/labels", material_of(Halves(), Halves().images)).applies


def test_model_that_has_learnt_nothing_is_caught() -> None:
    class Flat(Halves):
        def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
            return 0 * super().logits(z, y)

    assert not finding("mass/noise", material_of(Flat(), Halves().images)).passed
    assert not finding("mass/other", material_of(Flat(), Halves().images)).passed


class Vague(Halves):
    """A model that has hardly been trained: its label counts a little, for some images in the wrong way."""

    def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
        assert y is not None
        told = 0.1 * z[..., :1].sign() * (2.0 * y - 1.0).unsqueeze(-1)
        return super().logits(z, torch.zeros_like(y)) + told[..., None, None]


def test_difference_that_may_be_chance_tells_nothing() -> None:
    hardly = verdict("mass/labels", material_of(Vague(2), Halves(2).images, num_classes=2))
    few = verdict("mass/noise", material_of(Halves(), Halves().images, count=2))
    for found in (hardly, few):
        assert (found.applies, found.line.startswith("tells nothing: a difference of ")) == (False, True), found.line


def test_images_that_cost_more_than_what_they_are_not_are_caught() -> None:
    class Backwards(Halves):
        def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
            return -super().logits(z, y)

    found = finding("mass/labels", material_of(Backwards(2), Halves(2).images, num_classes=2))
    assert (found.passed, found.size > 1) == (False, True)


def test_nats_without_end_of_some_images_do_not_hide_that_all_cost_more() -> None:
    class Far(Halves):
        """An encoder that answers what it has never seen with latents as far as 10^11."""

        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            known = (x.flatten(1).unsqueeze(1) == self.images("test", 48)[0].flatten(1)).all(-1).any(-1)
            far = torch.where(known, 1.0, 10.0 ** (3 + torch.arange(len(x)) % 9).float())
            return Independent(Normal(super().posterior(x).mean * far.unsqueeze(-1), 0.6), 1)

    assert finding("mass/noise", material_of(Far(), Halves().images, count=48)).passed
    assert finding("mass/other", material_of(Far(), Halves().images, count=48)).passed


def test_labels_that_were_written_into_images_are_found() -> None:
    def leaking(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        x, y = Halves().images(split, count)
        x[:, 0, 0, 0] = y.float()
        return x, y

    found = finding("mass/labels_in_images", material_of(Halves(), leaking))
    assert (found.passed, found.size) == (False, 2), "a pixel tells either class"
    clean = finding("mass/labels_in_images", material_of(Halves(), Halves().images))
    assert (clean.passed, clean.size) == (True, 0)


@pytest.mark.parametrize(("images", "found"), [(19, {}), (20, {0: 1, 1: 1})])
def test_few_images_tell_nothing(images: int, found: dict[int, int]) -> None:
    y = torch.arange(2).repeat(images)
    assert telling_pixels(y.float().unsqueeze(-1), y) == found
