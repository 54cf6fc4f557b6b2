"""Contracts of encoders and decoders, which are any modules called as `types.Encoder` and `types.Decoder` say."""

from typing import Any

import torch
from torch import Tensor, nn

from vae_lightning.errors import kind_of
from vae_lightning.noise import generator
from vae_lightning.testing.claims import (
    BreachError,
    Contract,
    agree,
    claim,
    finite,
    images_of,
    reports,
    require_gradients,
    require_independence,
    require_repeatability,
    shaped,
)
from vae_lightning.types import MNIST_SHAPE

__all__ = ["DecoderContract", "EncoderContract", "NetContract", "check_decoder", "check_encoder"]

COUNT = 16


class NetContract(Contract):
    """What encoders and decoders have in common: rows in, rows out, each by itself, the same each time."""

    latent_dim: int = 2
    """D, for which the net is made."""
    num_classes: int = 0
    """How many classes the one-hot labels have that the net is given; 0: it is given no labels."""
    image_shape: tuple[int, int, int] = MNIST_SHAPE
    """`(C, H, W)`, for which the net is made."""
    unused: tuple[str, ...] = ()
    """Parameters that no gradient is meant to reach."""

    def rows(self, count: int = COUNT, seed: int = 0) -> Tensor:
        """Random inputs `(count, *)`."""
        raise NotImplementedError

    def outputs_of(self, net: nn.Module, rows: Tensor, classes: Tensor | None = None) -> Tensor:
        """All numbers that `net` puts out of `rows` and their classes, flat: `(B, N)`; each has the right shape and is finite."""
        raise NotImplementedError

    def passed(self, net: nn.Module, rows: Tensor, classes: Tensor | None = None) -> Any:
        """What `net` gives of `rows`, called as a model calls it."""
        name = type(net).__name__
        if not self.num_classes:
            with reports(f"{name}: a call with {tuple(rows.shape)}"):
                return net(rows)
        classes = torch.arange(len(rows)) % self.num_classes if classes is None else classes
        labels = torch.nn.functional.one_hot(classes, self.num_classes).to(rows.dtype)
        with reports(f"{name}: a call with {tuple(rows.shape)} and one-hot labels {tuple(labels.shape)}"):
            return net(rows, labels)

    def net(self) -> nn.Module:
        """The net in training mode, which no result may depend on."""
        net = self.part()
        if not isinstance(net, nn.Module):
            raise BreachError(f"{type(net).__name__} is no torch.nn.Module")
        self.outputs_of(net, self.rows())  # a lazy layer gets its parameters here
        return net.train()

    def test_gives_the_right_shapes_and_finite_numbers(self) -> None:
        self.outputs_of(self.net(), self.rows())

    def test_takes_a_batch_of_one(self) -> None:
        self.outputs_of(self.net(), self.rows(1))

    def test_gives_the_same_a_second_time(self) -> None:
        net, rows = self.net(), self.rows()
        require_repeatability(lambda: self.outputs_of(net, rows), f"{type(net).__name__}: the output")

    def test_treats_each_row_by_itself(self) -> None:
        net = self.net()
        require_independence(
            lambda rows: self.outputs_of(net, rows), self.rows(), self.rows(seed=1), f"{type(net).__name__}: the output"
        )

    def test_every_number_depends_on_the_input(self) -> None:
        net, rows = self.net(), self.rows(4 * COUNT)
        classes = torch.zeros(len(rows), dtype=torch.int64)  # or differences might be the labels'
        spread = self.outputs_of(net, rows, classes).detach()
        constant = (spread == spread[:1]).all(0)
        count = int(constant.sum())
        claim(count == 0, f"{type(net).__name__}: {count} of {constant.numel()} outputs are the same for all of {len(rows)} inputs")

    def test_uses_labels(self) -> None:
        if self.num_classes > 1:
            net, rows = self.net(), self.rows()
            classes = torch.arange(len(rows)) % self.num_classes
            own, other = (self.outputs_of(net, rows, y).detach() for y in (classes, (classes + 1) % self.num_classes))
            claim(not agree(own, other, 0.0), f"{type(net).__name__}: the output is the same whatever the labels are")

    def test_gradients_reach_every_parameter(self) -> None:
        net = self.net()
        output = self.outputs_of(net, self.rows())
        weights = torch.randn(output.shape, generator=generator("contract", "weights"))
        require_gradients(net, (output * weights).sum(), self.unused, f"{type(net).__name__}: the output")


class EncoderContract(NetContract):
    """An encoder: images `(B, C, H, W)`, and one-hot labels in a conditional model, to mean and log-variance, `(B, D)` each.

    >>> from vae_lightning.nets.mlp import MLPEncoder
    >>> class TestMyEncoder(EncoderContract):
    ...     image_shape = (1, 8, 8)
    ...
    ...     def make(self) -> nn.Module:
    ...         return MLPEncoder(latent_dim=2, num_classes=0, image_shape=(1, 8, 8), hidden=[8])
    >>> TestMyEncoder().check()
    """

    def rows(self, count: int = COUNT, seed: int = 0) -> Tensor:
        return images_of(self.image_shape, count, seed)

    def outputs_of(self, net: nn.Module, rows: Tensor, classes: Tensor | None = None) -> Tensor:
        name, pair = type(net).__name__, self.passed(net, rows, classes)
        count = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
        pairs = isinstance(pair, tuple | list) and len(pair) == 2
        claim(pairs, f"{name}: gives {kind_of(pair)}{count}, not a pair of mean and log-variance")
        shape = (len(rows), self.latent_dim)
        heads = [shaped(value, shape, f"{name}: the {what}") for what, value in zip(("mean", "log-variance"), pair, strict=True)]
        return finite(torch.cat(heads, dim=-1), f"{name}: mean and log-variance")


class DecoderContract(NetContract):
    """A decoder: latents `(B, D)`, and one-hot labels in a conditional model, to parameters `(B, outputs * C, H, W)`.

    >>> from vae_lightning.nets.mlp import MLPDecoder
    >>> class TestMyDecoder(DecoderContract):
    ...     image_shape = (1, 8, 8)
    ...
    ...     def make(self) -> nn.Module:
    ...         return MLPDecoder(latent_dim=2, num_classes=0, image_shape=(1, 8, 8), hidden=[8])
    >>> TestMyDecoder().check()
    """

    outputs: int = 1
    """Numbers that the likelihood wants of each pixel of each channel."""

    def rows(self, count: int = COUNT, seed: int = 0) -> Tensor:
        return torch.randn(count, self.latent_dim, generator=generator("contract", "latents", seed))

    def outputs_of(self, net: nn.Module, rows: Tensor, classes: Tensor | None = None) -> Tensor:
        channels, height, width = self.image_shape
        name, shape = type(net).__name__, (len(rows), self.outputs * channels, height, width)
        parameters = shaped(self.passed(net, rows, classes), shape, f"{name}: the output")
        return finite(parameters, f"{name}: the output").flatten(1)


def check_encoder(encoder: nn.Module, **settings: Any) -> None:
    """Hold `encoder` to `EncoderContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    EncoderContract.of(encoder, **settings).check()


def check_decoder(decoder: nn.Module, **settings: Any) -> None:
    """Hold `decoder` to `DecoderContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    DecoderContract.of(decoder, **settings).check()
