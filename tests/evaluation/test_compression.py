"""The size of a file of test images is what the ELBO says, and stands in the report beside it."""

import math

import pytest
import torch
from code_lengths import Toy
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vae_lightning.evaluation.compression import compression
from vae_lightning.evaluation.material import Material
from vae_lightning.types import Estimate


def material(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Material:
    bound = {"elbo": Estimate(-1.0, 0.1, len(x), 1, "none", "bound")}
    return Material(model, lambda split, count: (x[:count], y[:count]), bound, "none", getattr(model, "num_classes", 0))


@pytest.mark.parametrize("num_classes", [0, 3])
def test_bits_are_those_of_the_elbo_which_is_exact_here(num_classes: int) -> None:
    model = Toy(num_classes=num_classes)
    x, y = model.draw(4000)
    report = compression(material(model, x, y))
    with torch.no_grad():
        nats = -model.likelihood(torch.zeros(4000, 2), y if num_classes else None).log_prob(x).mean().item()
    exact = (nats + math.log(max(1, num_classes))) / (12 * math.log(2))
    assert report["bits_per_pixel_elbo"].value == pytest.approx(exact, rel=1e-5)
    assert report["bits_per_pixel"].value == pytest.approx(exact, rel=1e-2)
    assert report["bits_per_pixel"].standard_error == pytest.approx(report["bits_per_pixel_elbo"].standard_error, rel=0.05)
    assert report["bits_per_pixel_initial"].value >= 100 * 64 / (4000 * 12)
    assert {name.partition("/")[2] for name in report if name.startswith("bits_per_pixel_by/")} >= {"gzip", "bz2", "xz", "png"}
    assert all(report[f"images_coded_per_second/{name}"].value > 0 for name in ("compressed", "decompressed"))


def test_what_cannot_be_coded_is_left_out_by_name() -> None:
    grey = torch.full((4, 1, 3, 4), 0.5)
    assert "grey levels" in str(compression.unfit(material(Toy(), grey, torch.zeros(4))))
    x, y = Toy().draw(4)
    assert compression.unfit(material(Toy(), x, y)) is None


class Sorted(Toy):
    """A model of an operation without fixed arithmetic."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(x.flatten(1).sort(-1)[0][:, :2], 1.0), 1)


def test_a_model_of_operations_without_fixed_arithmetic_is_left_out_by_name() -> None:
    x, y = Toy().draw(4)
    assert "torch's sort has no fixed arithmetic" in str(compression.unfit(material(Sorted(), x, y)))
