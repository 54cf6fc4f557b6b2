"""Networks: tensors in, tensors out, no probability. A new net is a file here and a line in `NETS` or `CLASSIFIERS`."""

from vae_lightning.nets.building import (
    CLASSIFIERS,
    DECODERS,
    ENCODERS,
    NETS,
    NetPair,
    build_decoder,
    build_encoder,
    classified,
    decoded,
    dropout_features,
    dropout_noise,
    encoded,
)
from vae_lightning.nets.classifier import ClassifierCNN, ClassifierMLP
from vae_lightning.nets.layers import Decoder, Encoder, Net

__all__ = [
    "CLASSIFIERS",
    "DECODERS",
    "ENCODERS",
    "NETS",
    "ClassifierCNN",
    "ClassifierMLP",
    "Decoder",
    "Encoder",
    "Net",
    "NetPair",
    "build_decoder",
    "build_encoder",
    "classified",
    "decoded",
    "dropout_features",
    "dropout_noise",
    "encoded",
]
