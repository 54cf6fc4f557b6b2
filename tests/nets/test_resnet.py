"""Residual nets: shapes, sizes, labels, branches that start near zero, and a receptive field that covers the image."""

import pytest
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets.resnet import ResidualBlock, ResNetDecoder, ResNetEncoder

X = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize(("channels", "blocks"), [((4, 4, 4), 1), ([3, 4, 5], 2)])
def test_shapes(channels: list[int], blocks: int, num_classes: int) -> None:
    encoder, decoder = (net(3, num_classes, channels=channels, blocks=blocks) for net in (ResNetEncoder, ResNetDecoder))
    y = torch.eye(10)[:5] if num_classes else None
    loc, log_variance = encoder(X, y)
    assert loc.shape == log_variance.shape == (5, 3)
    assert decoder(loc, y).shape == (5, 1, 28, 28)


def test_sizes_of_the_defaults() -> None:
    def block(before: int, after: int) -> int:
        return (9 * before + 1) * after + (9 * after + 1) * after

    encoder = 10 * 16 + block(16, 16) + block(16, 32) + 17 * 32 + block(32, 32) + 33 * 32 + 2 * (49 * 32 + 1) * 20
    decoder = 21 * 49 * 32 + block(32, 32) + block(32, 32) + block(32, 16) + 33 * 16 + (9 * 16 + 1)
    assert parameters(ResNetEncoder(20, 0)) == encoder
    assert parameters(ResNetDecoder(20, 0)) == decoder
    assert 150_000 < encoder + decoder < 500_000


def test_block_is_its_input_and_a_branch_of_two_convolutions() -> None:
    block, h = ResidualBlock(4, 4), torch.randn(2, 4, 7, 7)
    branch = block.second(torch.nn.functional.elu(block.first(torch.nn.functional.elu(h))))
    torch.testing.assert_close(block(h), h + branch)


@pytest.mark.parametrize("init", ["he", "xavier", "default"])
def test_branches_start_near_zero(init: str) -> None:
    for build in (ResNetEncoder, ResNetDecoder):
        net = build(2, 0, channels=(8, 8, 8), blocks=2, init=init)
        for block in [m for m in net.modules() if isinstance(m, ResidualBlock)]:
            h = torch.randn(4, 8, 8, 8)
            branch = block.second(torch.nn.functional.elu(block.first(torch.nn.functional.elu(h))))
            assert branch.var() < 0.1 * h.var()


def test_label_is_the_same_everywhere_in_the_image() -> None:
    encoder = ResNetEncoder(2, 10, channels=(4, 4, 4))
    added = encoder.entry(X, torch.eye(10)[:5]) - encoder.entry(X, torch.zeros(5, 10))
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added))
    assert (added[0] != added[1]).any()


def test_label_changes_what_comes_out() -> None:
    encoder, decoder = ResNetEncoder(2, 10, channels=(4, 4, 4)), ResNetDecoder(2, 10, channels=(4, 4, 4))
    first, second = (torch.eye(10)[i].expand(5, -1) for i in range(2))
    assert not torch.allclose(encoder(X, first)[0], encoder(X, second)[0])
    z = torch.zeros(5, 2)
    assert not torch.allclose(decoder(z, first), decoder(z, second))


def test_images_of_a_batch_do_not_mix() -> None:
    encoder, decoder = ResNetEncoder(2, 0, channels=(4, 4, 4)), ResNetDecoder(2, 0, channels=(4, 4, 4))
    loc: Tensor = encoder(X)[0]
    torch.testing.assert_close(encoder(X[2:3])[0], loc[2:3])
    torch.testing.assert_close(decoder(loc[2:3]), decoder(loc)[2:3])


def test_every_pixel_counts_and_is_drawn_and_every_parameter_learns() -> None:
    encoder, decoder = ResNetEncoder(4, 0, channels=(4, 4, 4)), ResNetDecoder(4, 0, channels=(4, 4, 4))
    x = X.clone().requires_grad_()
    loc, log_variance = encoder(x)
    logits = decoder(loc + (0.5 * log_variance).exp() * torch.randn_like(loc))
    logits.square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(0) > 0).all()
    assert all(p.grad is not None and p.grad.any() for net in (encoder, decoder) for p in net.parameters())
    one, other = decoder(torch.randn(2, 4))
    assert (one != other).all()


@pytest.mark.parametrize(
    ("arguments", "key"), [({"channels": [4, 4]}, "channels"), ({"channels": [4, 0, 4]}, "channels"), ({"blocks": 0}, "blocks")]
)
@pytest.mark.parametrize("net", [ResNetEncoder, ResNetDecoder])
def test_wrong_sizes_are_refused(net: type, arguments: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{key}="):
        net(2, 0, **arguments)
