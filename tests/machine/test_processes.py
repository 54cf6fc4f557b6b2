"""A training on one device is the only one of its kind, whatever a cluster's variables say."""

import pytest
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.utilities import rank_zero_only

from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.processes import is_alone, own_environment

ONE = {"accelerator": "cpu", "devices": 1, "num_nodes": 1}


@pytest.mark.parametrize(
    ("arguments", "alone"),
    [
        (ONE, True),
        ({"devices": "1"}, True),
        ({"devices": [3]}, True),
        ({"accelerator": "cpu", "devices": "auto"}, True),
        ({"accelerator": "cuda", "devices": "auto"}, False),
        ({"devices": 2}, False),
        ({**ONE, "num_nodes": 2}, False),
    ],
)
def test_one_device_of_one_machine_is_alone(arguments: dict[str, object], alone: bool) -> None:
    assert is_alone(arguments) == alone


@pytest.mark.parametrize("variables", [{"RANK": "1", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, {}])
def test_foreign_rank_is_not_taken(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning has it from them
    (environment,) = own_environment(ONE)
    assert isinstance(environment, LightningEnvironment)
    assert rank_zero_only.rank == 0


def test_several_devices_are_lightnings_to_arrange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert own_environment({**ONE, "devices": 2}) == []
    assert rank_zero_only.rank == 1


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("torchrun", {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}),
        ("srun", {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}),
    ],
)
def test_several_processes_for_one_device_are_refused(
    launcher: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"{launcher} started 2 processes.* give devices=2"):
        own_environment(ONE)
