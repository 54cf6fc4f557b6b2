r"""What other programs want of a trained model: its functions of tensors, without random numbers.

- `encoder`: images x, and labels y of a conditional model, to mean and standard deviation of $q(z \mid x, y)$.
  If that is no Gaussian but, say, a flow: images x, noise $\epsilon \sim N(0, I)$, and y, to a sample z and $\log q(z \mid x, y)$.
- `decoder`: latents z, and labels y, to the mean of $p(x \mid z, y)$; of a Bernoulli likelihood, the probability that a pixel is 1.
- `classifier`: images x to the probability of each class, of a model with `predict`.

Any `types.LatentVariableModel` has the first two. `traced` makes one of them a graph of torch's core operations, for any number of
images.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.export import Dim, ExportedProgram

from vae_lightning.abilities import classes_of, predicts
from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError, one_line
from vae_lightning.machine.compilation import without_validation
from vae_lightning.types import LatentVariableModel

__all__ = ["Function", "functions_of", "traced"]


@dataclass(frozen=True)
class Function:
    """A function of a model, with tensors to try it on."""

    name: str
    """`encoder`, `decoder` or `classifier`."""
    module: nn.Module
    """Computes it."""
    inputs: dict[str, Tensor]
    """Example inputs by name, in order; the first axis of each counts images."""
    outputs: tuple[str, ...]
    """What the outputs are called."""


class _Encoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        posterior = self.model.posterior(x, y)
        return posterior.mean, posterior.stddev


class _Sampler(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        posterior = self.model.posterior(x, y)
        z = from_noise(posterior, noise)
        return z, posterior.log_prob(z)


class _Decoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        mean: Tensor = self.model.likelihood(z, y).mean
        return mean


class _Classifier(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        probabilities: Tensor = self.model.predict(x)
        return probabilities


def functions_of(model: Any, x: Tensor, y: Tensor) -> list[Function]:
    """The functions that `model` has.

    Args:
        x: images `(B, C, H, W)` to try them on; B at least 2.
        y: their labels, int64 `(B,)`.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, num_classes=10)
    >>> functions = functions_of(model, torch.zeros(3, 1, 28, 28), torch.tensor([1, 2, 3]))
    >>> [(function.name, list(function.inputs), function.outputs) for function in functions]
    [('encoder', ['x', 'y'], ('loc', 'scale')), ('decoder', ['z', 'y'], ('mean',))]
    """
    functions: list[Function] = []
    if isinstance(model, LatentVariableModel):
        labels = {"y": y} if classes_of(model) else {}
        with torch.no_grad():
            posterior = model.posterior(x, y if labels else None)
            noise = torch.linspace(-2, 2, len(x) * model.latent_dim, device=x.device).reshape(len(x), -1)
            z = from_noise(posterior, noise)
        if isinstance(factors(posterior), Normal):
            functions.append(Function("encoder", _Encoder(model), {"x": x, **labels}, ("loc", "scale")))
        else:
            functions.append(Function("encoder", _Sampler(model), {"x": x, "noise": noise, **labels}, ("z", "log_prob")))
        functions.append(Function("decoder", _Decoder(model), {"z": z, **labels}, ("mean",)))
    if predicts(model):
        functions.append(Function("classifier", _Classifier(model), {"x": x}, ("probabilities",)))
    return functions


def traced(function: Function) -> ExportedProgram:
    """The graph of a function, for any number of images.

    Raises:
        ConfigurationError: the function cannot be traced, or only for one number of images.
    """
    batch = Dim("batch")
    inputs = tuple(function.inputs.values())
    try:
        with torch.no_grad(), without_validation():
            function.module.eval()(*inputs)  # what it makes at its first call, and keeps, is a constant of the graph then
            return torch.export.export(function.module, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    except Exception as error:  # whatever the code of a user's own part does that no graph has
        raise ConfigurationError(f"{function.name}: cannot be traced as a graph: {one_line(error, 300)}") from error
