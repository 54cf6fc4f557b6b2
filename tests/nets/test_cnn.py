"""Convolutional nets: shapes, sizes of the systems they come from, and labels as constant channels."""

import pytest
import torch

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets import DECODERS, ENCODERS
from vae_lightning.nets.cnn import CNN2Decoder, CNN2Encoder, CNN3Decoder, CNN3Encoder, Conv2d, ConvTranspose2d

X = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
NAMES = ["cnn2", "cnn3"]


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("latent_dim", [1, 20])
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str, latent_dim: int, num_classes: int) -> None:
    y = torch.eye(10)[:5] if num_classes else None
    loc, log_variance = ENCODERS[name](latent_dim, num_classes)(X, y)
    assert loc.shape == log_variance.shape == (5, latent_dim)
    assert DECODERS[name](latent_dim, num_classes)(loc, y).shape == (5, 1, 28, 28)


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (CNN3Encoder, (11 * 36 + 1) * 16 + (16 * 16 + 1) * 32 + (32 * 9 + 1) * 64 + 2 * 65 * 20),
        (CNN3Decoder, 31 * 32 + (32 * 16 * 16 + 16) + (16 * 8 * 16 + 8) + (8 * 16 + 1)),
        (CNN2Encoder, (11 * 25 + 1) * 16 + (16 * 25 + 1) * 32 + 2 * 513 * 20),
        (CNN2Decoder, 31 * 392 + (8 * 25 + 1) * 8 + (8 * 25 + 1)),
    ],
)
def test_sizes(net: type[torch.nn.Module], count: int) -> None:
    assert sum(p.numel() for p in net(20, 10).parameters()) == count


def test_cnn3_has_the_sizes_of_the_system_it_replaces() -> None:
    sizes = [sum(p.numel() for p in net(20, 10).parameters()) for net in (CNN3Encoder, CNN3Decoder)]
    assert sizes == [35_672, 11_385]


@pytest.mark.parametrize("name", NAMES)
def test_label_enters_the_encoder_as_constant_channels(name: str) -> None:
    """The plain form: ten more planes beside the image, convolved as they are; same values, same gradients."""
    encoder, y = ENCODERS[name](2, 10).double(), torch.eye(10, dtype=torch.float64)[:5]
    assert isinstance(encoder.first, torch.nn.Conv2d)
    planes = torch.cat([X.double(), y[:, :, None, None].expand(5, 10, 28, 28)], dim=1)
    plain = torch.nn.functional.conv2d(planes, encoder.first.weight, encoder.first.bias, encoder.first.stride)
    torch.testing.assert_close(encoder.entry(X.double(), y), plain)
    gradients = [torch.autograd.grad(h.square().sum(), encoder.first.weight)[0] for h in (encoder.entry(X.double(), y), plain)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", NAMES)
def test_label_changes_what_comes_out(name: str) -> None:
    encoder, decoder = ENCODERS[name](2, 10), DECODERS[name](2, 10)
    first, second = (torch.eye(10)[i].expand(5, -1) for i in range(2))
    assert not torch.allclose(encoder(X, first)[0], encoder(X, second)[0])
    z = torch.zeros(5, 2)
    assert not torch.allclose(decoder(z, first), decoder(z, second))


@pytest.mark.parametrize("name", NAMES)
def test_every_pixel_of_the_output_depends_on_z(name: str) -> None:
    decoder = DECODERS[name](4, 0)
    one, other = decoder(torch.randn(2, 64, 4).flatten(0, 1)).unflatten(0, (2, 64))
    assert (one - other).abs().amax(0).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_do_not_mix(name: str) -> None:
    encoder, decoder = ENCODERS[name](2, 0), DECODERS[name](2, 0)
    loc, _ = encoder(X)
    torch.testing.assert_close(encoder(X[2:3])[0], loc[2:3])
    torch.testing.assert_close(decoder(loc[2:3]), decoder(loc)[2:3])


@pytest.mark.parametrize("kernel", range(2, 9))
def test_every_kernel_in_range_fits_the_image(kernel: int) -> None:
    assert CNN2Encoder(2, 0, kernel=kernel)(X)[0].shape == (5, 2)


def test_kernel_is_the_encoders_alone() -> None:
    sizes = {kernel: [p.shape for p in CNN2Decoder(2, 0, kernel=kernel).parameters()] for kernel in (3, 5)}
    assert sizes[3] == sizes[5]
    assert CNN2Encoder(2, 0, kernel=3).first.kernel_size == (3, 3)


@pytest.mark.parametrize("kernel", [0, 1, 9, -5])
def test_other_kernels_are_refused(kernel: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^kernel={kernel}: must be from 2 to 8"):
        CNN2Encoder(2, 0, kernel=kernel)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (Conv2d(4, 3, 3), 3),
        (Conv2d(4, 3, 3), 5),
        (Conv2d(4, 3, 3, padding=1), 3),
        (ConvTranspose2d(4, 3, 4, stride=3, padding=1, output_padding=1), 1),
        (ConvTranspose2d(4, 3, 4, stride=3, padding=0, output_padding=1), 1),
        (ConvTranspose2d(4, 3, 4, stride=3, padding=2, output_padding=1), 3),
        (ConvTranspose2d(4, 1, 4, stride=4), 7),
        (ConvTranspose2d(4, 1, 4, stride=4, padding=1), 7),
        (ConvTranspose2d(4, 2, 4, stride=4, output_padding=2), 3),
        (ConvTranspose2d(4, 1, 4, stride=4, padding=1, output_padding=2), 3),
        (ConvTranspose2d(4, 3, 5, stride=2, padding=2, output_padding=1), 7),
        (ConvTranspose2d(4, 3, 2, stride=3), 5),
    ],
)
def test_matrix_products_are_the_convolutions_they_stand_for(layer: torch.nn.Module, size: int) -> None:
    """Values and gradients are those of torch's own layer."""
    layer = layer.double()
    x = torch.randn(5, 4, size, size, dtype=torch.float64, requires_grad=True)
    kind = type(layer).__mro__[1]
    assert kind in (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    results = [forward(layer, x) for forward in (type(layer).forward, kind.forward)]
    torch.testing.assert_close(*results)
    leaves = [x, *layer.parameters()]
    gradients = [torch.autograd.grad(result.square().sum(), leaves) for result in results]
    torch.testing.assert_close(*gradients)
