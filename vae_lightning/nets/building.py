"""Specs to networks: the names there are, and how a network of somebody else's is built and called."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from vae_lightning.arguments import build, located_or_chosen
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.nets.classifier import ClassifierCNN, ClassifierMLP
from vae_lightning.nets.cnn import CNN2Decoder, CNN2Encoder, CNN3Decoder, CNN3Encoder
from vae_lightning.nets.gated import GatedMLPDecoder, GatedMLPEncoder
from vae_lightning.nets.layers import Decoder, Encoder, Net
from vae_lightning.nets.mlp import MLPDecoder, MLPEncoder
from vae_lightning.nets.resnet import ResNetDecoder, ResNetEncoder
from vae_lightning.noise import Source

__all__ = [
    "CLASSIFIERS",
    "DECODERS",
    "ENCODERS",
    "NETS",
    "NetPair",
    "build_decoder",
    "build_encoder",
    "classified",
    "decoded",
    "dropout_features",
    "dropout_noise",
    "encoded",
]


class NetPair(NamedTuple):
    """An encoder and a decoder that belong together, by what builds each; their arguments are given by name.

    Args:
        encoder: of `latent_dim`, `num_classes`, `image_shape` those that it takes, and arguments of its own.
        decoder: of `latent_dim`, `num_classes`, `image_shape`, `outputs` those that it takes, and arguments of its own.

    >>> import torch
    >>> pair = NetPair(encoder=CNN2Encoder, decoder=MLPDecoder)
    >>> pair.decoder(latent_dim=2, num_classes=0, image_shape=(3, 8, 8), hidden=[8])(torch.zeros(4, 2)).shape
    torch.Size([4, 3, 8, 8])
    """

    encoder: Callable[..., nn.Module]
    decoder: Callable[..., nn.Module]


NETS = {
    "mlp": NetPair(MLPEncoder, MLPDecoder),
    "gated_mlp": NetPair(GatedMLPEncoder, GatedMLPDecoder),
    "cnn2": NetPair(CNN2Encoder, CNN2Decoder),
    "cnn3": NetPair(CNN3Encoder, CNN3Decoder),
    "resnet": NetPair(ResNetEncoder, ResNetDecoder),
}
ENCODERS: dict[str, Callable[..., nn.Module]] = {name: pair.encoder for name, pair in NETS.items()}
DECODERS: dict[str, Callable[..., nn.Module]] = {name: pair.decoder for name, pair in NETS.items()}
CLASSIFIERS: dict[str, Callable[..., Net]] = {"classifier_cnn": ClassifierCNN, "classifier_mlp": ClassifierMLP}


def build_encoder(net: Any, encoder: Any, **offered: object) -> nn.Module:
    """The module `encoder`, or what that spec describes, or else the encoder of the spec `net`."""
    return _built("encoder", net, encoder, ENCODERS, offered)


def build_decoder(net: Any, decoder: Any, **offered: object) -> nn.Module:
    """The module `decoder`, or what that spec describes, or else the decoder of the spec `net`."""
    return _built("decoder", net, decoder, DECODERS, offered)


def _built(
    role: str, net: Any, own: Any, options: Mapping[str, Callable[..., nn.Module]], offered: Mapping[str, object]
) -> nn.Module:
    if isinstance(own, nn.Module):
        return own
    where, spec = (role, own) if own is not None else ("net", net)
    spec = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "module" in spec:
        raise ConfigurationError(
            f"{role}: was given as a module of {spec['module']}, so it can be loaded only where it is given again"
        )
    if where == "net":
        pair = located_or_chosen("net.name", spec.get("name"), NETS)
        if not callable(getattr(pair, role, None)):
            raise ConfigurationError(f"net.name={spec['name']}: has no {role}; a net is a pair of both, such as nets.NetPair")
        module: nn.Module = build(where, {**spec, "name": "own"}, {"own": getattr(pair, role)}, **offered)
    else:
        module = build(where, spec, options, **offered)
    if not isinstance(module, nn.Module):
        raise ConfigurationError(f"{where}.name={spec['name']}: builds {kind_of(module)}, which is no torch.nn.Module")
    return module


def dropout_features(net: nn.Module) -> list[tuple[int, ...]]:
    """The feature shape of each dropout layer of `net` whose noise is given with its input; none of a net that is not a `Net`."""
    return net.dropout_features if isinstance(net, Net) else []


def dropout_noise(net: nn.Module, source: Source, name: str, repeats: int = 1) -> tuple[Tensor, ...]:
    """Uniform noise on [0, 1), `(repeats * B, *features)`, for each dropout layer of `net`, which stands in a model as `name`."""
    return tuple(
        source.uniform(f"dropout {number} of {name}", features, repeats) for number, features in enumerate(dropout_features(net))
    )


def encoded(
    encoder: nn.Module, x: Tensor, y: Tensor | None, dropout: Iterator[Tensor] | None, latent_dim: int
) -> tuple[Tensor, Tensor]:
    """What `encoder` makes of images `(B, C, H, W)`, and of one-hot labels where there are some: two tensors `(B, latent_dim)`.

    Raises:
        ConfigurationError: it gives anything else.
    """
    pair = _passed(encoder, x, y, dropout)
    shape = (x.shape[0], latent_dim)
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(p, Tensor) and p.shape == shape for p in pair)):
        wanted = f"a pair is wanted, mean and log-variance of the latents, each of shape {shape}"
        raise ConfigurationError(f"encoder: {type(encoder).__name__} gave {_described(pair)} of images {tuple(x.shape)}; {wanted}")
    return pair[0], pair[1]


def decoded(
    decoder: nn.Module, z: Tensor, y: Tensor | None, dropout: Iterator[Tensor] | None, outputs: int, image_shape: Sequence[int]
) -> Tensor:
    """What `decoder` makes of latents `(B, D)`, and of one-hot labels where there are some: parameters `(B, outputs * C, H, W)`.

    Raises:
        ConfigurationError: it gives anything else.
    """
    parameters = _passed(decoder, z, y, dropout)
    channels, height, width = image_shape
    shape = (z.shape[0], outputs * channels, height, width)
    if not (isinstance(parameters, Tensor) and parameters.shape == shape):
        numbers = f"{outputs} number{'s' * (outputs > 1)} for each pixel of {channels} channel{'s' * (channels > 1)}"
        raise ConfigurationError(
            f"decoder: {type(decoder).__name__} gave {_described(parameters)} of latents {tuple(z.shape)}; the likelihood wants "
            f"{numbers}, one tensor of shape {shape}"
        )
    return parameters


def _passed(net: nn.Module, value: Tensor, y: Tensor | None, dropout: Iterator[Tensor] | None) -> Any:
    if isinstance(net, Encoder | Decoder):
        return net(value, y, dropout)
    return net(value) if y is None else net(value, y)


def _described(value: object) -> str:
    """What kind of thing a net gave, and of which shape: `a tuple of (2, 3) and (2, 4)`."""
    if isinstance(value, Tensor):
        return f"one tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        shapes = [str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in value]
        return f"{kind_of(value)} of {' and '.join(shapes) or 'nothing'}"
    return f"{kind_of(value)}"


def classified(net: nn.Module, x: Tensor, dropout: Iterator[Tensor] | None) -> Tensor:
    """Logits `(B, C)` that the classifier `net` gives of `x`."""
    logits: Tensor = net(x, dropout) if isinstance(net, Net) else net(x)
    return logits
