"""Every net for images of any shape: nothing of an image is lost, and each of its pixels is drawn."""

from typing import Any

import pytest
import torch

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets import CLASSIFIERS, DECODERS, ENCODERS, NETS
from vae_lightning.nets.sizes import Crop, Window, crop, image_dimensions, padding_to_fit, sizes_before

SHAPES = [(1, 28, 28), (3, 28, 28), (3, 32, 32), (1, 27, 41), (2, 64, 29)]
OWN: dict[str, dict[str, Any]] = {"mlp": {"hidden": [8]}, "gated_mlp": {"hidden": [8]}, "resnet": {"channels": [3, 3, 3]}}
SMALLEST = {"mlp": 1, "gated_mlp": 1, "cnn2": 13, "cnn3": 27, "resnet": 1}


def build(table: dict[str, Any], name: str, image_shape: tuple[int, ...], num_classes: int = 0, **own: Any) -> torch.nn.Module:
    net = table[name](latent_dim=4, num_classes=num_classes, image_shape=image_shape, **OWN.get(name, {}), **own)
    assert isinstance(net, torch.nn.Module)
    return net


@pytest.mark.parametrize("num_classes", [0, 5])
@pytest.mark.parametrize("image_shape", SHAPES)
@pytest.mark.parametrize("name", NETS)
def test_shapes(name: str, image_shape: tuple[int, ...], num_classes: int) -> None:
    y = torch.eye(5)[:2] if num_classes else None
    loc, log_variance = build(ENCODERS, name, image_shape, num_classes)(torch.rand(2, *image_shape), y)
    assert loc.shape == log_variance.shape == (2, 4)
    for outputs in (1, 3):
        made = build(DECODERS, name, image_shape, num_classes, outputs=outputs)(loc, y)
        assert made.shape == (2, outputs * image_shape[0], *image_shape[1:])


@pytest.mark.parametrize("image_shape", [(3, 28, 28), (3, 32, 32), (1, 27, 41), (2, 64, 29)])
@pytest.mark.parametrize("name", NETS)
def test_every_pixel_counts_and_is_drawn(name: str, image_shape: tuple[int, ...]) -> None:
    """The first layer alone is asked of a pixel, as few features let every signal through all layers."""
    torch.manual_seed(0)
    encoder, decoder = build(ENCODERS, name, image_shape).double(), build(DECODERS, name, image_shape).double()
    for parameter in encoder.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1.0)  # so that no path is blocked or cancels another
    x = torch.rand(1, *image_shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(x)[0].log().sum(), x)
    assert (gradient != 0).all()
    one, other = decoder(torch.randn(2, 128, 4, dtype=torch.float64).flatten(0, 1)).unflatten(0, (2, 128))
    assert (one - other).abs().amax(0).min() > 0


@pytest.mark.parametrize("name", NETS)
def test_what_is_too_small_is_refused(name: str) -> None:
    size = SMALLEST[name]
    build(ENCODERS, name, (1, size, size + 1))(torch.rand(2, 1, size, size + 1))
    build(DECODERS, name, (1, 1, 2))(torch.rand(2, 4))
    for smaller in ((1, size - 1, 40), (1, 40, size - 1)):
        with pytest.raises(ConfigurationError) as caught:
            build(ENCODERS, name, smaller)
        wanted = f"at least {size} high and wide" if size > 1 else "channels, height and width, each at least 1"
        assert str(caught.value) == f"image_shape={list(smaller)}: must be {wanted}"


@pytest.mark.parametrize("kernel", range(2, 9))
def test_cnn2_takes_images_from_where_its_kernels_fit(kernel: int) -> None:
    size = 3 * kernel - 2
    assert ENCODERS["cnn2"](latent_dim=2, num_classes=0, image_shape=(1, size, size), kernel=kernel)(torch.rand(2, 1, size, size))
    with pytest.raises(ConfigurationError, match=rf"must be at least {size} high and wide"):
        ENCODERS["cnn2"](latent_dim=2, num_classes=0, image_shape=(1, size - 1, size), kernel=kernel)


@pytest.mark.parametrize("image_shape", [(1, 28), (1, 28, 0), (0, 28, 28), (1, 1, 28, 28)])
@pytest.mark.parametrize("name", NETS)
def test_what_is_no_shape_of_an_image_is_refused(name: str, image_shape: tuple[int, ...]) -> None:
    for table in (ENCODERS, DECODERS):
        with pytest.raises(ConfigurationError, match=r"^image_shape=\[.*: must be channels, height and width"):
            build(table, name, image_shape)
    with pytest.raises(ConfigurationError, match=r"^outputs=0: must be at least 1"):
        build(DECODERS, name, (1, 28, 28), outputs=0)


@pytest.mark.parametrize("image_shape", [*SHAPES, (1, 1, 1), (3, 2, 5)])
def test_classifiers_take_images_of_any_shape(image_shape: tuple[int, ...]) -> None:
    for name in CLASSIFIERS:
        net = CLASSIFIERS[name](num_classes=5, image_shape=image_shape, dropout=0.5)
        x = torch.rand(2, *image_shape)
        assert net(x, iter([torch.rand(2, *features) for features in net.dropout_features])).shape == (2, 5)
        assert net.features(x).shape[0] == 2  # type: ignore[operator]


def test_nothing_is_padded_or_cut_for_mnist() -> None:
    for name in NETS:
        for table in (ENCODERS, DECODERS):
            net = build(table, name, (1, 28, 28))
            assert not any(isinstance(layer, Crop) for layer in net.modules())
            assert not any(getattr(net, "padding", ()))


# ---- the arithmetic


@pytest.mark.parametrize("window", [Window(5, 2), Window(6, 3), Window(4, 1, padding=1), Window(3, 2, padding=1)])
@pytest.mark.parametrize("size", [7, 8, 28])
def test_windows_are_torchs(window: Window, size: int) -> None:
    kernel, stride, padding, _ = window
    x = torch.zeros(1, 1, size, size)
    assert torch.nn.Conv2d(1, 1, kernel, stride, padding)(x).shape[-1] == window.down(size)
    up = window._replace(output_padding=stride - 1)
    assert torch.nn.ConvTranspose2d(1, 1, *up)(x).shape[-1] == up.up(size)


@pytest.mark.parametrize("size", range(13, 45))
def test_padding_is_the_least_with_which_the_convolutions_reach_everything(size: int) -> None:
    (left, right, above, below), (height, _) = padding_to_fit((3, size, size), [Window(5, 2), Window(5, 2)])
    assert (left, right) == (above, below)
    assert 0 <= right - left <= 1
    padded = size + left + right
    assert (height - 1) * 4 + 13 == padded  # where one place of the output is 4 pixels from the next and sees 13
    assert padded - 4 < size or padded == 13


@pytest.mark.parametrize("size", range(1, 40))
def test_sizes_of_a_decoder_are_the_smallest_that_suffice(size: int) -> None:
    up = Window(4, 3, padding=2, output_padding=1).up
    before, after = sizes_before((size, size), [up])
    assert after == (size, size)
    assert up(before[0]) >= size
    assert before[0] == 1 or up(before[0] - 1) < size


@pytest.mark.parametrize(("size", "rows"), [(4, (1, 5)), (5, (0, 5)), (1, (2, 3)), (6, (0, 6))])
def test_the_middle_is_kept(size: int, rows: tuple[int, int]) -> None:
    x = torch.arange(6.0).view(1, 6, 1).expand(1, 6, 6)
    assert torch.equal(Crop((size, 6))(x), x[:, slice(*rows)])
    assert len(crop(lambda size: size, (6, 6), (size, 6))) == (size != 6)


def test_channels_of_a_decoder_are_the_likelihoods_numbers_of_each() -> None:
    assert image_dimensions((3, 8, 9), outputs=2) == (6, 8, 9)
