"""The pieces that nets share: activations, gates, initialisations, dropout whose noise is given, bases of encoders and decoders."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.arguments import choose, require

__all__ = ["ACTIVATIONS", "INITIALISATIONS", "Decoder", "Dropout", "Encoder", "GatedLinear", "Net", "Stack", "initialise"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}

INITIALISATIONS: dict[str, Callable[[Tensor], object] | None] = {
    "default": None,
    "xavier": nn.init.xavier_uniform_,
    "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "normal": partial(nn.init.normal_, std=0.01),
}


class GatedLinear(nn.Linear):
    r"""$(A x + a) \odot \sigma(B x + b)$ as one matrix product; `weight` is A above B, `bias` a above b.

    >>> GatedLinear(before=3, after=2)(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, 2 * after)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(super().forward(x), dim=-1)


@torch.no_grad()
def initialise(net: nn.Module, name: str) -> None:
    """Initialise all weights by `name` with zero biases; `default` leaves torch's own."""
    fill = choose("init", name, INITIALISATIONS)
    if fill is None:
        return
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            # two matrices under one another are to vary as each of them would alone
            for weight in layer.weight.chunk(2) if isinstance(layer, GatedLinear) else [layer.weight]:
                fill(weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Dropout(nn.Module):
    """Drops features with probability `p`: those whose uniform noise, which is given with the features, is below `p`.

    Without noise nothing is dropped. Training passes noise and evaluation does not, so that no mode has to be switched.

    Args:
        p: the probability.
        features: the shape of one image's features at this layer, by which noise is drawn.

    >>> Dropout(p=0.5, features=(3,))(torch.ones(3), torch.tensor([0.1, 0.5, 0.9]))
    tensor([0., 2., 2.])
    """

    numbers: ClassVar[tuple[str, ...]] = ("p",)
    """Attributes that a compiled step takes in as they are at present."""

    def __init__(self, p: float, features: tuple[int, ...]) -> None:
        super().__init__()
        require(0 <= p < 1, "dropout", p, "in [0, 1)")
        self.p = p
        self.features = features

    def forward(self, h: Tensor, uniform: Tensor | None = None) -> Tensor:
        return h if uniform is None else h * (uniform >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, features={self.features}"


class Stack(nn.Sequential):
    """`nn.Sequential` that hands each Dropout the next noise.

    >>> net = Stack(nn.Identity(), Dropout(p=0.5, features=(2,)))
    >>> net(torch.ones(2), iter([torch.tensor([0.1, 0.9])])), net(torch.ones(2))
    (tensor([0., 2.]), tensor([1., 1.]))
    """

    def forward(self, h: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, Dropout):
                h = layer(h, next(dropout) if dropout else None)
            else:
                h = layer(h)
        return h


class Net(nn.Module):
    """A network that knows its dropout layers, in the order in which it uses them.

    Its `forward` takes an iterator over their noise as its last argument.

    >>> net = Net()
    >>> net.body = Stack(nn.Linear(4, 3), Dropout(p=0.5, features=(3,)))
    >>> net.dropout_features
    [(3,)]
    """

    @property
    def dropout_features(self) -> list[tuple[int, ...]]:
        """The feature shape of each dropout layer that is on."""
        return [layer.features for layer in self.modules() if isinstance(layer, Dropout)]


class Encoder(Net):
    """Images `(B, C, H, W)`, and one-hot labels `(B, num_classes)` if conditional, to mean and log-variance, each `(B, D)`.

    Subclasses set `body`, which ends in `(B, features)`, call `add_heads`, and say in `entry` what goes into the body.

    >>> class Linear(Encoder):
    ...     def __init__(self, latent_dim: int, image_shape: tuple[int, ...]) -> None:
    ...         super().__init__()
    ...         self.body = Stack(nn.Flatten())
    ...         self.add_heads(image_shape[1] * image_shape[2], latent_dim)
    ...
    ...     def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
    ...         return x.mean(1)
    >>> loc, log_variance = Linear(latent_dim=2, image_shape=(3, 8, 8))(torch.zeros(4, 3, 8, 8))
    >>> loc.shape
    torch.Size([4, 2])
    """

    body: Stack

    def add_heads(self, features: int, latent_dim: int) -> None:
        self.loc = nn.Linear(features, latent_dim)
        self.log_variance = nn.Linear(features, latent_dim)

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The body's input: image and label, joined."""
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor | None = None, dropout: Iterator[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h = self.body(self.entry(x, y), dropout)
        return self.loc(h), self.log_variance(h)


class Decoder(Net):
    """Latents `(B, D)`, and one-hot labels `(B, num_classes)` if conditional, to the likelihood's parameters.

    These are `(B, outputs * C, H, W)`: for each of `outputs` numbers a pixel, the C channels of an image. Subclasses set `body`.

    >>> decoder = Decoder()
    >>> decoder.body = Stack(nn.Linear(2, 3 * 8 * 8), nn.Unflatten(1, (3, 8, 8)))
    >>> decoder(torch.zeros(4, 2)).shape
    torch.Size([4, 3, 8, 8])
    """

    body: Stack

    def forward(self, z: Tensor, y: Tensor | None = None, dropout: Iterator[Tensor] | None = None) -> Tensor:
        parameters: Tensor = self.body(z if y is None else torch.cat([z, y], dim=-1), dropout)
        return parameters

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer: `outputs` numbers for each pixel and channel, or for each channel."""
        bias = [layer for layer in self.body if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))][-1].bias
        assert isinstance(bias, nn.Parameter)
        return bias

    @torch.no_grad()
    def start_from_mean(self, mean: Tensor) -> None:
        """Set the output bias so that the decoder starts from the mean image `(C, H, W)` of the training set.

        Raises:
            ConfigurationError: the likelihood has several numbers a pixel, and not every one of them is the logit of a mean.
        """
        bias = self.output_bias
        single = bias.numel() in (mean.numel(), len(mean))
        require(single, "start_from_mean", True, "false with a likelihood of more than one number a pixel and channel")
        target = mean.flatten() if bias.numel() == mean.numel() else torch.stack([channel.mean() for channel in mean])
        # pixels that are always black would want a logit of minus infinity
        bias.copy_(target.clamp(1e-3, 1 - 1e-3).logit())
