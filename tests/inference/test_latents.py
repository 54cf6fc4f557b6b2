"""Places in latent space are where they are said to be."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, StudentT
from toys import Painter

from vae_lightning.distributions.sampling import GaussianMixture
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.latents import (
    great_circle,
    labels_for,
    latent_mesh,
    line,
    mean_images,
    posterior_means,
    quantile_mesh,
    traversals,
)
from vae_lightning.models import VAE


def test_mesh_reads_from_the_top_left_with_the_second_dimension_upwards() -> None:
    mesh = latent_mesh(2.0, 3).view(3, 3, 2)
    assert mesh[0, 0].tolist() == [-2, 2]
    assert mesh[0, -1].tolist() == [2, 2]
    assert mesh[-1, 0].tolist() == [-2, -2]
    assert mesh[1, 1].tolist() == [0, 0]


def test_quantile_mesh_stands_for_equal_shares_of_the_prior() -> None:
    own = Normal(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    mesh = quantile_mesh(Independent(own, 1), 10)
    shares = own.cdf(mesh).view(10, 10, 2)
    assert torch.allclose(shares[0, :, 0], (torch.arange(10) + 0.5) / 10)
    assert torch.allclose(shares[:, 0, 1].flip(0), (torch.arange(10) + 0.5) / 10)


def test_quantiles_of_a_prior_that_does_not_factorise_make_no_mesh() -> None:
    components = Independent(Normal(torch.randn(3, 2), 1.0), 1)
    with pytest.raises(NotImplementedError, match="GaussianMixture does not factorise"):
        quantile_mesh(GaussianMixture(torch.zeros(3), components))
    heavy = Independent(StudentT(torch.full((2,), 3.0)), 1)
    with pytest.raises(NotImplementedError, match="StudentT has no quantile function icdf"):
        quantile_mesh(heavy)


def test_line_has_equal_steps_and_both_ends() -> None:
    start, end = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, 0.0, 7.0])
    steps = line(start, end, 5)
    assert torch.equal(steps[0], start)
    assert torch.equal(steps[-1], end)
    assert torch.allclose(steps.diff(dim=0), (end - start) / 4)


def test_great_circle_has_equal_angles_and_even_lengths() -> None:
    start, end = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    steps = great_circle(start, end, 4)[:, 0]
    assert torch.allclose(steps.norm(dim=-1), torch.tensor([3, 7 / 3, 5 / 3, 1]))
    angles = torch.atan2(steps[:, 1], steps[:, 0])
    assert torch.allclose(angles, torch.linspace(0, math.pi / 2, 4), atol=1e-6)


def test_great_circle_between_points_of_one_ray_is_the_line() -> None:
    start = torch.tensor([1.0, 2.0])
    assert torch.allclose(great_circle(start, 2 * start, 3), line(start, 2 * start, 3))


def test_traversals_move_one_unit_and_leave_the_others() -> None:
    anchor = torch.tensor([0.1, 0.2, 0.3])
    z = traversals(anchor, torch.tensor([2, 0]), torch.tensor([-1.0, 1.0]))
    assert torch.allclose(z, torch.tensor([[[0.1, 0.2, -1], [0.1, 0.2, 1]], [[-1, 0.2, 0.3], [1, 0.2, 0.3]]]))
    assert torch.equal(anchor, torch.tensor([0.1, 0.2, 0.3]))


def test_mean_images_do_not_depend_on_the_batches() -> None:
    model, z = Painter(num_classes=10), latent_mesh(2.0, 5)
    y = torch.arange(25) % 10
    images = mean_images(model, z, y)
    assert torch.equal(images, mean_images(model, z, y, max_batch=7))
    assert torch.allclose(images[:, 0, 5, 0], z[:, 0].sigmoid())
    assert labels_for(z, None) is None
    assert torch.equal(mean_images(model, z, labels_for(z, 1))[:, 0, 0, 0].round(), torch.ones(25))


@pytest.mark.parametrize("between", [line, great_circle])
def test_ways_between_many_pairs_are_those_between_each(between: Callable[..., Tensor]) -> None:
    start, end = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ways = [between(one, other, 5) for one, other in zip(start, end, strict=True)]
    assert torch.allclose(between(start, end, 5), torch.stack(ways, 1))


def test_means_keep_no_graph_of_what_they_were_computed_from() -> None:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}).eval()
    x = torch.rand(5, 1, 28, 28)
    means = posterior_means(model, x)
    assert torch.allclose(means, model.posterior(x).mean)
    assert torch.allclose(posterior_means(model, x, max_batch=2), means, atol=1e-6)
    assert not means.requires_grad
    assert not mean_images(model, means.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: latent_mesh(0.0), "extent=0.0: must be positive"),
        (lambda: latent_mesh(1.0, 1), "rows=1: must be at least 2"),
        (lambda: quantile_mesh(Painter().prior(), 0), "rows=0"),
        (lambda: line(torch.zeros(2), torch.ones(2), 1), "steps=1"),
    ],
)
def test_wrong_places_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError, match=message):
        call()
