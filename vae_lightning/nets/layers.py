"""The pieces the nets share: activations, gates, initialisations, and dropout whose noise is given."""

from collections.abc import Callable, Iterator
from functools import partial

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
    r"""$(A x + a) \odot \sigma(B x + b)$ as one matrix product; `weight` is A above B, `bias` a above b."""

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
    """Drops features with probability `p` where the uniform noise given with them is below it.

    Without noise nothing is dropped: training passes it, evaluation does not, and no mode has to be switched.
    `features` is the shape of one image's features here, which tells whoever draws the noise how much is wanted.
    """

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
    """`nn.Sequential` that hands each Dropout the next noise."""

    def forward(self, h: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, Dropout):
                h = layer(h, next(dropout) if dropout else None)
            else:
                h = layer(h)
        return h


class Net(nn.Module):
    """A network that knows its dropout layers, in the order in which it uses them."""

    @property
    def dropout_features(self) -> list[tuple[int, ...]]:
        """The feature shape of each dropout layer that is on."""
        return [layer.features for layer in self.modules() if isinstance(layer, Dropout)]


class Encoder(Net):
    """Images `(B, 1, 28, 28)`, and one-hot labels `(B, C)` if conditional, to mean and log-variance, each `(B, D)`.

    Subclasses set `body`, which ends in `(B, features)`, and call `add_heads`.
    """

    body: Stack

    def add_heads(self, features: int, latent_dim: int) -> None:
        self.loc = nn.Linear(features, latent_dim)
        self.log_variance = nn.Linear(features, latent_dim)

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        """What goes into the body: image and label, joined."""
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor | None = None, dropout: Iterator[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h = self.body(self.entry(x, y), dropout)
        return self.loc(h), self.log_variance(h)


class Decoder(Net):
    """Latents `(B, D)`, and one-hot labels `(B, C)` if conditional, to pixel logits `(B, 1, 28, 28)`."""

    body: Stack

    def forward(self, z: Tensor, y: Tensor | None = None, dropout: Iterator[Tensor] | None = None) -> Tensor:
        logits: Tensor = self.body(z if y is None else torch.cat([z, y], dim=-1), dropout)
        return logits

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer: one number a pixel, or one for all."""
        bias = [layer for layer in self.body if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))][-1].bias
        assert isinstance(bias, nn.Parameter)
        return bias

    @torch.no_grad()
    def start_from_mean(self, mean: Tensor) -> None:
        """Set the output bias so that the decoder starts from the mean image `(1, 28, 28)` of the training set."""
        bias = self.output_bias
        target = mean.flatten() if bias.numel() == mean.numel() else mean.mean().expand(bias.shape)
        # pixels that are always black would want a logit of minus infinity
        bias.copy_(target.clamp(1e-3, 1 - 1e-3).logit())
