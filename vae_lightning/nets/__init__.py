"""Networks: tensors in, tensors out, no probability. A new net is a file here and a line in `NETS` or `CLASSIFIERS`."""

from collections.abc import Callable

from vae_lightning.nets.classifier import ClassifierCNN, ClassifierMLP
from vae_lightning.nets.cnn import CNN2Decoder, CNN2Encoder, CNN3Decoder, CNN3Encoder
from vae_lightning.nets.gated import GatedMLPDecoder, GatedMLPEncoder
from vae_lightning.nets.layers import Decoder, Encoder, Net
from vae_lightning.nets.mlp import MLPDecoder, MLPEncoder
from vae_lightning.nets.resnet import ResNetDecoder, ResNetEncoder

__all__ = ["CLASSIFIERS", "DECODERS", "ENCODERS", "ClassifierCNN", "ClassifierMLP", "Decoder", "Encoder", "Net"]

ENCODERS: dict[str, Callable[..., Encoder]] = {
    "mlp": MLPEncoder,
    "gated_mlp": GatedMLPEncoder,
    "cnn2": CNN2Encoder,
    "cnn3": CNN3Encoder,
    "resnet": ResNetEncoder,
}
DECODERS: dict[str, Callable[..., Decoder]] = {
    "mlp": MLPDecoder,
    "gated_mlp": GatedMLPDecoder,
    "cnn2": CNN2Decoder,
    "cnn3": CNN3Decoder,
    "resnet": ResNetDecoder,
}
CLASSIFIERS: dict[str, Callable[..., Net]] = {"classifier_cnn": ClassifierCNN, "classifier_mlp": ClassifierMLP}
