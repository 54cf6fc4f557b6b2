r"""What the page computes of a model beside what `export.functions` has: the two terms of the ELBO, and samples of the prior.

- `terms`: images x, standard normal noise $\epsilon$ and labels y to $\log p(x \mid z, y)$ and
  $KL(q(z \mid x, y) \,\|\, p(z \mid y))$, nats, with z the sample of the posterior that the noise makes.
- `prior`: noise, and labels of a conditional model, to a sample z of $p(z \mid y)$.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vae_lightning.abilities import classes_of
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.export.functions import Function, functions_of
from vae_lightning.objectives.bounds import kl, mean_log_likelihood
from vae_lightning.types import Draw, LatentVariableModel

__all__ = ["functions_for_page"]


class _Terms(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        posterior = self.model.posterior(x, y)
        z = from_noise(posterior, noise.unsqueeze(0))
        draw = Draw(posterior, self.model.prior(y), z, self.model.likelihood(z, y))
        return mean_log_likelihood(draw, x), kl(draw)


class _Prior(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        return from_noise(self.model.prior(y), noise)


def functions_for_page(model: Any, x: Tensor, y: Tensor) -> dict[str, Function]:
    """The functions of `model` that the page computes, by name.

    Args:
        x: images `(B, C, H, W)` to try them on; B at least 2.
        y: their labels, int64 `(B,)`.

    Raises:
        ConfigurationError: the model has no latent.

    >>> from vae_lightning import VAE
    >>> functions = functions_for_page(VAE(net={"name": "mlp", "hidden": [4]}), torch.zeros(3, 1, 28, 28), torch.zeros(3).long())
    >>> {name: list(function.inputs) for name, function in functions.items()}
    {'encoder': ['x'], 'decoder': ['z'], 'terms': ['x', 'noise'], 'prior': ['noise']}
    """
    if not isinstance(model, LatentVariableModel):
        raise ConfigurationError(f"{kind_of(model)} has no latent, so there is nothing to explore; give the run of a VAE")
    functions = {function.name: function for function in functions_of(model, x, y)}
    labels = {"y": y} if classes_of(model) else {}
    noise = torch.linspace(-2, 2, len(x) * model.latent_dim).reshape(len(x), -1)
    terms = Function("terms", _Terms(model), {"x": x, "noise": noise, **labels}, ("log_likelihood", "kl"))
    prior = Function("prior", _Prior(model), {"noise": noise, **labels}, ("z",))
    return functions | {"terms": terms, "prior": prior}
