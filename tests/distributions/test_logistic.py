"""The mixture on 256 grey levels is a distribution, however narrow or far away its components are, and the paper's."""

import math

import pytest
import torch
from torch import Tensor

from vae_lightning.distributions.logistic import LARGEST_LOG_SCALE, DiscretisedLogisticMixture

LEVELS = torch.arange(256, dtype=torch.float64) / 255


def mixture(dtype: torch.dtype = torch.float64, components: int = 4, batch: int = 50) -> DiscretisedLogisticMixture:
    """Components of all widths, some far beyond black and white."""
    torch.manual_seed(0)
    logits, loc, log_scale = torch.randn(3, components, batch, dtype=torch.float64)
    return DiscretisedLogisticMixture(logits.to(dtype), (1.5 * loc).to(dtype), (4 * log_scale).to(dtype))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
def test_masses_of_the_levels_sum_to_one(dtype: torch.dtype, tolerance: float) -> None:
    masses = mixture(dtype).log_prob(LEVELS.to(dtype).unsqueeze(-1)).double().exp()
    assert masses.shape == (256, 50)
    torch.testing.assert_close(masses.sum(0), torch.ones(50, dtype=torch.float64), atol=tolerance, rtol=0)


def test_moments_are_those_of_the_levels() -> None:
    pixels = mixture()
    masses, levels = pixels.log_prob(LEVELS.unsqueeze(-1)).exp(), LEVELS.unsqueeze(-1)
    torch.testing.assert_close(pixels.mean, (masses * levels).sum(0))
    torch.testing.assert_close(pixels.variance, (masses * levels.square()).sum(0) - pixels.mean.square(), atol=1e-10, rtol=0)


def test_masses_are_differences_of_the_papers_distribution_function() -> None:
    """Where nothing cancels: a mean in the middle and a scale of the range's size."""
    logits, loc, log_scale = torch.tensor([[0.3, -0.2], [0.1, -0.4], [-1.0, 0.5]], dtype=torch.float64)

    def distribution(x: Tensor) -> Tensor:
        return (logits.softmax(0) * ((x.unsqueeze(-1) - loc) / log_scale.exp()).sigmoid()).sum(-1)

    edges = (torch.arange(257, dtype=torch.float64) - 0.5) / 127.5 - 1
    below = distribution(edges)
    below[0], below[-1] = 0, 1
    torch.testing.assert_close(DiscretisedLogisticMixture(logits, loc, log_scale).log_prob(LEVELS).exp(), below.diff())


def test_a_level_far_from_a_narrow_component_has_its_small_mass_and_a_gradient() -> None:
    """e^-1000 and less is no number, so that differences of distribution functions would be 0 and their logarithm infinite."""
    loc = torch.tensor([-0.5], requires_grad=True)
    pixel = DiscretisedLogisticMixture(torch.zeros(1), loc, torch.tensor([-7.0]))
    log_prob = pixel.log_prob(torch.tensor([204 / 255]))  # 0.6 on the scale from -1 to 1
    # to the left of the bin by 1.1 less half a level, in units of the scale
    assert log_prob.item() == pytest.approx(-math.exp(7) * (1.1 - 1 / 255), rel=1e-3)
    log_prob.sum().backward()
    assert loc.grad is not None
    assert loc.grad.item() == pytest.approx(math.exp(7), rel=1e-3)


@pytest.mark.parametrize("sign", [-1, 1])
def test_scales_are_cut_off(sign: int) -> None:
    one, other = (
        DiscretisedLogisticMixture(torch.zeros(1), torch.zeros(1), torch.tensor([sign * size]))
        for size in (LARGEST_LOG_SCALE, 1e10)
    )
    levels = LEVELS.float()
    assert torch.equal(one.log_prob(levels), other.log_prob(levels))


def test_a_value_between_two_levels_has_the_mass_of_the_nearer_one() -> None:
    pixels, x = mixture(), torch.tensor([[-0.001], [100.4 / 255], [254.9 / 255], [1.001]], dtype=torch.float64)
    expected = pixels.log_prob(torch.tensor([[0.0], [100 / 255], [1.0], [1.0]], dtype=torch.float64))
    assert torch.equal(pixels.log_prob(x), expected)


def test_samples_come_by_their_masses() -> None:
    pixels, count = mixture(components=3, batch=2), 200_000
    samples = pixels.sample((count,))
    assert samples.shape == (count, 2)
    levels = (samples * 255).round().long()
    assert torch.equal(levels.double() / 255, samples)
    for pixel in range(2):
        shares = torch.bincount(levels[:, pixel], minlength=256) / count
        masses = pixels.log_prob(LEVELS.unsqueeze(-1)).exp()[:, pixel]
        assert ((shares - masses).abs() <= 5 * (masses * (1 - masses) / count).sqrt() + 1e-5).all()


def test_batches_of_several_dimensions_and_values_with_more_of_them_go_together() -> None:
    parameters, x = torch.randn(3, 2, 4, 5), torch.rand(7, 4, 5)
    together = DiscretisedLogisticMixture(*parameters).log_prob(x)
    assert together.shape == (7, 4, 5)
    torch.testing.assert_close(together[3, 1, 2], DiscretisedLogisticMixture(*parameters[..., 1, 2]).log_prob(x[3, 1, 2]))
