"""A description of a model gets as much memory as its weights give reason for."""

import pytest
import torch

from vae_lightning import VAE
from vae_lightning.errors import CheckpointError
from vae_lightning.machine.construction import NoMoreThan, numbers_in


def test_model_of_the_weights_that_are_there_is_built_as_without_a_limit() -> None:
    torch.manual_seed(0)
    free = VAE(latent_dim=2, net={"name": "mlp", "hidden": [500, 500]})
    torch.manual_seed(0)
    with NoMoreThan(numbers_in(free.state_dict())):
        held = VAE(latent_dim=2, net={"name": "mlp", "hidden": [500, 500]})
    for name, value in held.state_dict().items():
        assert torch.equal(value, free.state_dict()[name]), name


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(10**12),
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.randn((10**6, 10**6), generator=torch.Generator()),
        lambda: torch.eye(10**6),
        lambda: torch.arange(10**12),
        lambda: torch.full((10**12,), 3.0),
        lambda: torch.nn.Linear(10**6, 10**6),
        lambda: [torch.nn.Linear(1000, 1000) for _ in range(10**6)],
    ],
)
def test_more_is_refused_before_it_is_asked_for(make: object) -> None:
    assert callable(make)
    with NoMoreThan(100), pytest.raises(CheckpointError, match="far more numbers than the 100 that the file holds; refused"):
        make()


def test_call_that_is_wrong_says_so_itself() -> None:
    with NoMoreThan(100), pytest.raises((RuntimeError, TypeError)):
        torch.zeros(-1)
    assert torch.zeros(3).tolist() == [0, 0, 0]
