"""What lies where in latent space is drawn where it lies."""

from collections.abc import Sequence

import pytest
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from toys import Painter

from vae_lightning.distributions.sampling import GaussianMixture
from vae_lightning.errors import ConfigurationError
from vae_lightning.figures import latents
from vae_lightning.inference.latents import great_circle


def scattered(axes: Axes) -> Tensor:
    return torch.as_tensor(axes.collections[0].get_offsets().data).sort(0).values.float()


def test_grid_has_the_first_dimension_to_the_right_and_the_second_upwards(shown) -> None:  # type: ignore[no-untyped-def]
    axes = latents.latent_grid(Painter(), extent=2.0, rows=5).axes[0]
    grid = shown(axes)
    levels = torch.linspace(-2, 2, 5)
    assert torch.allclose(grid[:, :, 5, 0].logit(), levels.expand(5, 5), atol=1e-5)
    assert torch.allclose(grid[:, :, 5, 27].logit(), levels.flip(0).unsqueeze(1).expand(5, 5), atol=1e-5)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["-2", "0", "2"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["2", "0", "-2"]


def test_grid_of_a_conditional_model_is_of_the_label_it_names(shown) -> None:  # type: ignore[no-untyped-def]
    for label in (2, 3):
        axes = latents.latent_grid(Painter(num_classes=10), rows=2, label=label).axes[0]
        assert axes.get_title().endswith(f"class {label}")
        assert torch.equal(shown(axes)[..., 0, 0].round(), torch.full((2, 2), label % 2.0))


def test_quantile_grid_shows_equal_shares_of_the_prior(shown) -> None:  # type: ignore[no-untyped-def]
    grid = shown(latents.latent_quantile_grid(Painter(), rows=4).axes[0])
    assert torch.allclose(Normal(0, 1).cdf(grid[0, :, 5, 0].logit()), torch.tensor([0.125, 0.375, 0.625, 0.875]), atol=1e-5)


@pytest.mark.parametrize("draw", [latents.latent_grid, latents.latent_quantile_grid])
def test_grid_needs_two_dimensions(draw) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError, match="two dimensions, this model has 3"):
        draw(Painter(3))


def test_kl_bars_are_the_closed_form_in_falling_order(x: Tensor, y: Tensor) -> None:
    model = Painter(3)
    axes = latents.kl_bars(model, x, y).axes[0]
    loc = model.posterior(x).mean
    expected = kl_divergence(Normal(loc, 0.1), Normal(0.0, 1.0)).mean(0).sort(descending=True)
    assert torch.allclose(torch.tensor([bar.get_height() for bar in axes.patches]).float(), expected.values, atol=1e-5)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(i) for i in expected.indices.tolist()]


def test_traversals_move_the_most_active_units_from_end_to_end(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter(4)
    axes = latents.latent_traversals(model, x, y, units=2, steps=3, extent=1.0).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert {name.partition(":")[0] for name in names} == {"unit 0", "unit 1"}, "the others have the prior's mean"
    grid, row = shown(axes), names.index(next(name for name in names if name.startswith("unit 0")))
    assert torch.allclose(grid[row, :, 5, 0].logit(), torch.tensor([-1.0, 0, 1]), atol=1e-5)
    assert grid[row, :, 5, 27].unique().numel() == 1, "the other unit stays"


def test_traversals_go_by_the_variance_of_means_where_the_kl_is_no_sum(
    x: Tensor, y: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Painter(3)
    components = Independent(Normal(torch.randn(2, 3), 1.0), 1)
    monkeypatch.setattr(model, "prior", lambda _=None: GaussianMixture(torch.zeros(2), components))
    variance = model.posterior(x).mean.var(0)
    expected = [f"unit {unit}: var {variance[unit]:.2f}" for unit in variance.argsort(descending=True).tolist()]
    axes = latents.latent_traversals(model, x, y, units=3, steps=3).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == expected


def test_posterior_means_are_no_samples_and_samples_are(x: Tensor, y: Tensor) -> None:
    model = Painter()
    assert torch.allclose(scattered(latents.posterior_means(model, x, y).axes[0]), model.posterior(x).mean.sort(0).values)
    first, second = (scattered(latents.posterior_samples(model, x, y, seed).axes[0]) for seed in (0, 1))
    assert not torch.allclose(first, second)


def test_plane_keeps_two_dimensions_and_projects_more_on_the_widest() -> None:
    z = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1, 3.0])
    assert torch.equal(latents.projected(z[:, :2])[0], z[:, :2])
    points, names = latents.projected(z)
    assert torch.allclose(points.var(0), torch.linalg.eigvalsh(z.mT.cov()).flip(0)[:2])
    assert "principal" in names[0]
    assert torch.equal(points, latents.projected(z.clone())[0])
    assert latents.projected(z[:, :1])[0].shape == (500, 2)
    with pytest.raises(ConfigurationError, match="projection=pac: unknown; did you mean pca"):
        latents.projected(z, projection="pac")  # type: ignore[arg-type]


def test_umap_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ConfigurationError, match="pip install umap-learn"):
        latents.projected(torch.randn(10, 3), projection="umap")


def test_interpolation_begins_and_ends_at_the_first_images_of_its_digits(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter()
    grid = shown(latents.interpolations(model, x, y, pairs=((1, 2), (4, 5)), steps=5).axes[0])
    reproduced = model.likelihood(model.posterior(x).mean).mean[:, 0]
    for row, pair in zip(grid, ((1, 2), (4, 5)), strict=True):
        for end, digit in ((0, pair[0]), (-1, pair[1])):
            assert torch.allclose(row[end], reproduced[digit], atol=1e-6), "the labels of this data are 0, 1, 2, ..."
        assert torch.allclose(row[:, 5, 0].logit().diff(), row[:, 5, 0].logit().diff().mean().expand(4), atol=1e-4)


def test_spherical_interpolation_is_on_the_great_circle(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter()
    grid = shown(latents.interpolations(model, x, y, pairs=((3, 8),), spherical=True).axes[0])
    loc = model.posterior(x).mean
    assert torch.allclose(grid[0, :, 5, 0].logit(), great_circle(loc[3], loc[8], 10)[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("classes", "rows"),
    [
        (range(10), ["1 to 2", "3 to 8", "4 to 5"]),
        ((0, 1, 2), ["1 to 2", "0 to 1", "2 to 0"]),
        ((4, 5, 7, 9), ["4 to 5", "5 to 7", "7 to 9"]),
        ((0, 9), ["0 to 9"]),
    ],
)
def test_interpolations_are_between_classes_that_there_are(classes: Sequence[int], rows: list[str], x: Tensor) -> None:
    y = torch.tensor([classes[i % len(classes)] for i in range(len(x))])
    axes = latents.interpolations(Painter(), x, y).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == rows


def test_interpolation_needs_two_classes(x: Tensor, y: Tensor) -> None:
    with pytest.raises(ConfigurationError, match="images of two classes, and all 40 are of class 7"):
        latents.interpolations(Painter(), x, y * 0 + 7)


def test_class_without_an_image_is_named(x: Tensor, y: Tensor) -> None:
    with pytest.raises(ConfigurationError, match="class 9: none of the 5 images"):
        latents.interpolations(Painter(), x[:5], y[:5], pairs=((1, 9),))


def test_one_of_each_class_is_the_first() -> None:
    assert latents.one_of_each(torch.tensor([2, 0, 0, 1, 2])) == [1, 3, 0]
