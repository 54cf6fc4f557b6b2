"""The model card: `README.md` beside the weights, filled from the run, in the form that the Hugging Face hub reads.

"Model cards for model reporting", Mitchell et al., 2019, https://arxiv.org/abs/1810.03993.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vae_lightning.export.functions import Function
from vae_lightning.export.graphs import Parity
from vae_lightning.glossary import described
from vae_lightning.reports.page import environment
from vae_lightning.reports.table import shown

__all__ = ["Card", "Signature"]

HEADLINES = ("elbo", "nll", "log_likelihood", "kl", "accuracy")
"""Estimates that a card states, if the run has them."""


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a function in words.

    >>> import torch
    >>> from torch import nn
    >>> decoder = Function("decoder", nn.Identity(), {"z": torch.zeros(2, 5)}, ("mean",))
    >>> signature = Signature.of(decoder, [torch.zeros(2, 1, 28, 28)])
    >>> signature.inputs, signature.outputs
    ('z float32 (batch, 5)', 'mean float32 (batch, 1, 28, 28)')
    """

    name: str
    """The function's name."""
    inputs: str
    """The inputs with their shapes."""
    outputs: str
    """The outputs with their shapes."""

    @classmethod
    def of(cls, function: Function, outputs: Sequence[Any]) -> "Signature":
        """The signature of a function that gives `outputs` for its example inputs."""
        named = zip(function.outputs, outputs, strict=True)
        return cls(function.name, _described(function.inputs.items()), _described(named))


def _described(tensors: Any) -> str:
    shown = (
        f"{name} {str(value.dtype).removeprefix('torch.')} ({', '.join(['batch', *map(str, value.shape[1:])])})"
        for name, value in tensors
    )
    return ", ".join(shown)


@dataclass(frozen=True)
class Card:
    """All that a model card says.

    >>> card = Card("vae", "VAE", 1_000, "MNIST", "dynamic", latent_dim=2, num_classes=0)
    >>> card.to_markdown().splitlines()[0]
    '---'
    """

    title: str
    """What the model is called."""
    kind: str
    """The model's class."""
    parameters: int
    """How many numbers it has."""
    dataset: str
    """The data that it was trained on."""
    binarization: str
    """How their images became binary."""
    latent_dim: int | None
    """D; None: it has no latent."""
    num_classes: int
    """The classes that condition it; 0: none do."""
    epoch: int = 0
    """The epochs that it was trained for."""
    step: int = 0
    """The optimizer steps that it was trained for."""
    estimates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The estimates on test images, as in `report.json`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The metrics of the training on test images, where there is no report."""
    command: str | None = None
    """The command that trained it; None: not known."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The provenance in `metrics.json`."""
    licence: str = "unknown"
    """An identifier as the hub has them, such as `mit`."""
    signatures: Sequence[Signature] = ()
    """The functions of the graphs."""
    parities: Sequence[Parity] = ()
    """The graphs' files, and how far each is from the model."""
    safetensors: bool = True
    """Whether the weights are beside the card as safetensors."""
    module: str | None = "vae_lightning.models"
    """The module that the model's class is imported from; None: the class has no `from_pretrained`."""
    version: str = ""
    """The version of this project that made it."""
    permuted: bool = False
    """Whether it was trained on images whose pixels are permuted, of which the graphs alone have them in place."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """Captions by the path of a figure beside the card."""

    @property
    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The estimates that are stated: name, value, error, images, meaning."""
        if self.estimates:
            kept = {name: self.estimates[name] for name in HEADLINES if name in self.estimates}
            return [(name, *shown(name, e), f"{e['num_images']:,}", e["estimator"] or described(name)) for name, e in kept.items()]
        values = {name: {"value": value, "standard_error": None} for name, value in self.metrics.items() if name in HEADLINES}
        return [(name, *shown(name, value), "", described(name)) for name, value in values.items()]

    @property
    def results(self) -> list[tuple[str, float]]:
        """Names and values for the hub's index of results."""
        if self.estimates:
            return [(name, self.estimates[name]["value"]) for name in HEADLINES if name in self.estimates]
        return [(name, value) for name, value in self.metrics.items() if name in HEADLINES]

    @property
    def onnx(self) -> bool:
        """Whether there are graphs for onnxruntime."""
        return any(parity.file.endswith(".onnx") for parity in self.parities)

    def to_markdown(self) -> str:
        """The card as the text of its file."""
        return environment(autoescape=False, package="vae_lightning.export").get_template("card.md.j2").render(card=self)
