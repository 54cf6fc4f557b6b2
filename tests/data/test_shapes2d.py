"""Rendered shapes: areas, centres and symmetries are those of geometry, and splits are of distinct combinations."""

import hashlib
import math

import pytest
import torch
from torch import Tensor

from vae_lightning.arguments import check
from vae_lightning.data import Shapes2DDataModule, shapes2d
from vae_lightning.data.shapes2d import FACTOR_SIZES, RADIUS, SCALES, SHAPES, render
from vae_lightning.errors import ConfigurationError

AREAS = (2.0, math.pi / 2, (4 + math.pi) / (2 * (1 + shapes2d.HEART_CENTRE) ** 2))
"""Of the shapes of radius 1; the heart's is that of a square of side 2 and two half discs, scaled."""


def every(**fixed: int) -> Tensor:
    """All combinations of factors with some of them fixed, `(N, 5)`."""
    values = [[fixed[name]] if name in fixed else range(size) for name, size in zip(shapes2d.FACTORS, FACTOR_SIZES, strict=True)]
    return torch.cartesian_prod(*[torch.tensor(list(v)) for v in values])


def centre_of_mass(images: Tensor) -> tuple[Tensor, Tensor]:
    """(x, y) in pixels from the upper left corner of the image."""
    grey, place = images[:, 0].double(), torch.arange(28) + 0.5
    mass = grey.sum((1, 2))
    return (grey.sum(1) * place).sum(1) / mass, (grey.sum(2) * place).sum(1) / mass


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("scale", range(len(SCALES)))
def test_area_is_that_of_the_shape_at_its_scale(shape: int, scale: int) -> None:
    images = render(every(shape=shape, scale=scale, x=11, y=20))
    area = images.double().sum((1, 2, 3)) / 255
    exact = AREAS[shape] * (RADIUS * SCALES[scale]) ** 2
    # the grid of points moves an outline by half a point at most, and an outline is no longer than the circle around it
    assert area.mean().item() == pytest.approx(exact, rel=0.01)
    assert (area - exact).abs().max() < 0.125 * 2 * math.pi * RADIUS * SCALES[scale]


def test_centre_of_mass_is_where_x_and_y_say() -> None:
    factors = every(scale=2, rotation=7, y=5)
    x, y = centre_of_mass(render(factors))
    torch.testing.assert_close(x, 6.25 + factors[:, 3].double() / 2, atol=0.08, rtol=0)
    torch.testing.assert_close(y, torch.full_like(y, 6.25 + 5 / 2), atol=0.08, rtol=0)


def test_whole_pixels_of_translation_only_move_the_image() -> None:
    moved = render(every(scale=5, x=16, y=9)), render(every(scale=5, x=18, y=13))
    assert torch.equal(moved[0].roll((2, 1), (-2, -1)), moved[1])


@pytest.mark.parametrize(("shape", "steps"), [(0, 10), (1, 20), (2, 40)])
def test_rotations_that_look_the_same_are_those_of_the_symmetry(shape: int, steps: int) -> None:
    # at the largest and the second smallest scale; both phases
    for scale, place in ((5, 16), (1, 9)):
        images = render(every(shape=shape, scale=scale, x=place, y=place))
        assert torch.equal(images, images.roll(steps, 0))
        assert len(images.unique(dim=0)) == steps


def test_right_angles_turn_the_image() -> None:
    # places 1 and 30 along an axis are each other's mirror images about the middle of the image
    def image(rotation: int, x: int, y: int) -> Tensor:
        return render(torch.tensor([[2, 4, rotation, x, y]]))[0, 0]

    for rotation in (0, 3, 17):
        assert torch.equal(image(rotation, 6, 21).rot90(-1), image((rotation + 10) % 40, 31 - 21, 6))


def test_every_shape_is_whole_in_the_image() -> None:
    corners = [render(every(scale=5, x=x, y=y)).double().sum((1, 2, 3)) for x in (0, 31) for y in (0, 31)]
    inner = {
        (x % 2, y % 2): render(every(scale=5, x=14 + x % 2, y=14 + y % 2)).double().sum((1, 2, 3)) for x in (0, 1) for y in (0, 1)
    }
    for found, place in zip(corners, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        assert torch.equal(found, inner[place])
    # and the largest reaches the border, so no pixel is wasted
    edge = render(torch.tensor([[0, 5, 5, 0, 16], [0, 5, 5, 31, 16]]))
    assert edge[0, 0, :, :2].any()
    assert edge[1, 0, :, -2:].any()


def test_combinations_look_different_as_far_as_symmetry_lets_them() -> None:
    grey = torch.cat([render(every(x=x, y=y)) for x in (14, 15) for y in (14, 15)]).flatten(1)
    distinct = (10 + 20 + 40) * len(SCALES) * 4
    assert len(grey.unique(dim=0)) == distinct
    assert len((grey > 127).byte().unique(dim=0)) == 1638


def test_splits_are_disjoint_repeatable_and_labelled_by_shape() -> None:
    data, again = (Shapes2DDataModule(train_size=600, val_size=100, test_size=300, seed=seed) for seed in (0, 1))
    rows = torch.cat([data.factors(split) for split in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == len(rows) == 1000
    for split, size in (("train", 600), ("val", 100), ("test", 300)):
        x, y = data.evaluation_images(split)
        assert torch.equal(y, data.factors(split)[:, 0])
        assert torch.equal(x, data.images_of(data.factors(split)))
        assert torch.equal(x, again.evaluation_images(split)[0])
        assert x.shape == (size, 1, 28, 28)
    other = Shapes2DDataModule(train_size=600, val_size=100, test_size=300, eval_seed=1)
    assert not torch.equal(other.factors("test"), data.factors("test"))


def test_combinations_are_drawn_evenly() -> None:
    factors = Shapes2DDataModule().factors("train")
    for column, size in zip(factors.T, FACTOR_SIZES, strict=True):
        counts = column.bincount(minlength=size).double()
        assert (counts - 50_000 / size).abs().max() < 5 * math.sqrt(50_000 / size)


def test_images_of_factors_are_binarized_as_the_data_are() -> None:
    factors = Shapes2DDataModule().factors("test")[:500]
    grey = Shapes2DDataModule(binarization="none").images_of(factors)
    assert len(grey.unique()) > 2
    assert torch.equal(Shapes2DDataModule().images_of(factors), (grey > 0.5).float())
    drawn = Shapes2DDataModule(binarization="dynamic")
    assert set(drawn.images_of(factors).unique().tolist()) == {0, 1}
    assert torch.equal(drawn.images_of(factors), drawn.images_of(factors))
    assert abs((drawn.images_of(factors) - grey).mean()) < 0.001
    permuted = Shapes2DDataModule(permute_pixels=True)
    assert torch.equal(permuted.images_of(factors), Shapes2DDataModule().images_of(factors))


def test_checksums_tell_settings_and_images_apart() -> None:
    sums = Shapes2DDataModule().checksums()
    assert sums == Shapes2DDataModule(batch_size=7, root="elsewhere").checksums()
    other = Shapes2DDataModule(train_size=7).checksums()
    assert other["shapes2d settings"] != sums["shapes2d settings"]
    assert other["shapes2d images"] == sums["shapes2d images"]
    for split in ("train", "val", "test"):
        assert other[f"shapes2d {split}"] != sums[f"shapes2d {split}"]


def test_checksums_are_of_the_images_in_use() -> None:
    data = Shapes2DDataModule(train_size=100, test_size=50, val_size=50)
    sums = data.checksums()
    images = (data.evaluation_images("test")[0] * 255).round().to(torch.uint8)
    assert sums["shapes2d test"] == hashlib.md5(images.numpy().tobytes()).hexdigest()
    data._splits["train"][0][3, 0, 5, 5] += 1
    assert data.checksums()["shapes2d train"] != sums["shapes2d train"]


def test_mean_image_is_of_images_as_they_are_binarized() -> None:
    data = Shapes2DDataModule(train_size=100, test_size=50, val_size=50)
    assert torch.allclose(data.mean_image(), data.images_of(data.factors("train")).mean(0), atol=1e-6)


def test_rounding_decides_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    # so images are the same on every machine: no point lies within a millionth of an outline
    for factor in (1 - 1e-6, 1 + 1e-6):
        monkeypatch.setattr(shapes2d, "RADIUS", RADIUS * factor)
        assert torch.equal(shapes2d._sprites.__wrapped__(), shapes2d._sprites())


@pytest.mark.parametrize("arguments", [{"train_size": 0}, {"test_size": 0}, {"val_size": 0}, {"train_size": 730_000}])
def test_impossible_sizes_are_refused_by_name(arguments: dict[str, int]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=rf"{name}="):
        Shapes2DDataModule(**arguments)


def test_static_binarization_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="use dynamic or threshold"):
        Shapes2DDataModule(binarization="static")


def test_arguments_of_mnist_are_known() -> None:
    check(Shapes2DDataModule, {"train_size": 10, "batch_size": 3, "augment_shift": 1.0, "root": "data"}, "data")
    with pytest.raises(ConfigurationError, match=r"data\.batch_sise: no such key; did you mean data\.batch_size"):
        check(Shapes2DDataModule, {"batch_sise": 3}, "data")


@pytest.mark.parametrize("name", SHAPES)
def test_shape_has_its_centre_of_mass_at_zero_and_its_farthest_point_at_one(name: str) -> None:
    axis = torch.linspace(-1.5, 1.5, 1501, dtype=torch.float64)
    u, v = torch.meshgrid(axis, axis, indexing="ij")
    inside = SHAPES[name](u, v)
    assert abs(float(u[inside].mean())) < 1e-3
    assert abs(float(v[inside].mean())) < 1e-3
    assert float(torch.hypot(u, v)[inside].max()) == pytest.approx(1, abs=5e-3)
