"""Common combinations by name: a VAE with an objective of its own, or with labels, whose numbers are arguments of the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vae_lightning.arguments import require
from vae_lightning.errors import ConfigurationError
from vae_lightning.models.vae import VAE
from vae_lightning.types import MNIST_CLASSES

__all__ = ["CVAE", "IWAE", "BetaVAE", "CapacityVAE"]


class CVAE(VAE):
    """A VAE of p(x, z | y), whose labels enter encoder and decoder; its terms belong to log p(x | y), on average above log p(x).

    "Learning structured output representation using deep conditional generative models", Sohn, Lee and Yan, 2015,
    https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models.

    Args beside those of `VAE`:
        num_classes: how many classes the labels have; None: as many as MNIST's. The commands give that of the data.

    >>> import torch
    >>> model = CVAE(num_classes=3, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> model.sample(2, y=torch.tensor([0, 2])).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, num_classes: int | None = None, **vae: Any) -> None:
        num_classes = MNIST_CLASSES if num_classes is None else num_classes
        require(num_classes >= 1, "num_classes", num_classes, "at least 1")
        super().__init__(num_classes=num_classes, **vae)


class BetaVAE(VAE):
    r"""A VAE with the objective `beta`: the KL weighted (Higgins et al., 2017, https://openreview.net/forum?id=Sy2fzU9gl).

    Args beside those of `VAE`:
        beta: weight of the KL in nats per image; 1 is the VAE.
        normalized: read `beta` as the paper's $\beta_{norm} = \beta D / N$ with N pixels, so that it compares across latent sizes.

    >>> model = BetaVAE(beta=2.0, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> model.beta, model.objective_of.beta
    (2.0, 2.0)
    """

    def __init__(self, beta: float = 4.0, normalized: bool = False, **vae: Any) -> None:
        numbers = {"beta": beta, "normalized": normalized}
        with _objective("beta", numbers, vae) as objective:
            super().__init__(objective=objective, **vae)
        self.keep_hyperparameters(numbers, without=["objective"])

    @property
    def beta(self) -> float:
        """The weight of the KL that the objective has now."""
        return float(self.objective_of.beta)  # type: ignore[arg-type]

    @beta.setter
    def beta(self, value: float) -> None:
        self.objective_of.beta = value  # type: ignore[assignment]


class CapacityVAE(VAE):
    """A VAE with the objective `capacity`: the KL drawn to a capacity that grows (Burgess et al., 2018,
    https://arxiv.org/abs/1804.03599).

    Args beside those of `VAE`:
        gamma: force that draws each image's KL to the capacity.
        capacity_max: the final capacity, nats.
        capacity_steps: optimizer steps over which the capacity grows linearly from 0.

    >>> import torch
    >>> model = CapacityVAE(capacity_max=25.0, capacity_steps=100, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> model.objective_of.capacity(torch.tensor(50.0))
    tensor(12.5000)
    """

    def __init__(self, gamma: float = 1000.0, capacity_max: float = 25.0, capacity_steps: int = 100_000, **vae: Any) -> None:
        numbers = {"gamma": gamma, "capacity_max": capacity_max, "capacity_steps": capacity_steps}
        with _objective("capacity", numbers, vae) as objective:
            super().__init__(objective=objective, **vae)
        self.keep_hyperparameters(numbers, without=["objective"])


class IWAE(VAE):
    """A VAE with the objective `iwae`, or `dreg` (Burda et al., 2016, https://arxiv.org/abs/1509.00519).

    Args beside those of `VAE`:
        num_samples: K.
        doubly_reparameterised: use the lower-variance gradient (Tucker et al., 2019, https://arxiv.org/abs/1810.04152); for
            Gaussian posteriors.
        gradient_samples: number of samples that the gradient is computed through, resampled by importance weight; 0: all K.

    >>> model = IWAE(num_samples=3, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> model.monitor, model.bound_samples
    ('val/iwae_bound', 3)
    """

    def __init__(self, num_samples: int = 5, doubly_reparameterised: bool = False, gradient_samples: int = 0, **vae: Any) -> None:
        numbers = {"gradient_samples": gradient_samples}
        with _objective("dreg" if doubly_reparameterised else "iwae", numbers, vae) as objective:
            super().__init__(num_samples=num_samples, objective=objective, **vae)
        self.keep_hyperparameters({"doubly_reparameterised": doubly_reparameterised, **numbers}, without=["objective"])


@contextmanager
def _objective(name: str, numbers: Mapping[str, Any], vae: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The spec of the objective that a class stands for; an error about a number of the objective names the model's argument."""
    if "objective" in vae:
        raise ConfigurationError(f"objective: this model's is {name}; another goes with model=vae model/objective=...")
    try:
        yield {"name": name, **numbers}
    except ConfigurationError as error:
        said = str(error).removeprefix("objective.")
        raise (error if said == str(error) or said.startswith("name") else type(error)(said)) from None
