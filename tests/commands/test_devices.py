"""Which GPUs each of the trainings that run at once may use."""

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from vae_lightning.commands.devices import devices_of, gpu_places, gpus_of
from vae_lightning.errors import ConfigurationError


def trainer(**settings: Any) -> Any:
    return OmegaConf.create({"gpus": "auto", "accelerator": "auto", "devices": "auto", "strategy": "auto"} | settings)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 1),
        ({"gpus": 0}, 0),
        ({"gpus": 2}, 2),
        ({"gpus": -1}, 4),
        ({"accelerator": "cpu", "devices": 2}, 0),
        ({"accelerator": "gpu"}, 4),
        ({"accelerator": "gpu", "devices": 3}, 3),
        ({"accelerator": "gpu", "devices": "2"}, 2),
        ({"accelerator": "gpu", "devices": [1, 3]}, 4),
        ({"devices": -1}, 4),
    ],
)
def test_training_takes_as_many_gpus_as_it_asks_for(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert gpus_of(trainer(**settings)) == count
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    if settings.get("gpus", 0) in (0, "auto"):
        assert gpus_of(trainer(**settings)) == 0


def test_job_of_a_sweep_may_ask_for_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert devices_of(trainer(gpus=2)) == {"accelerator": "cuda", "devices": 2}
    assert gpu_places(["0", "1", "2", "3"], 2) == ["0,1", "2,3"]
    assert gpu_places(["0", "1", "2", "3"], 3) == ["0,1,2"], "the fourth stays idle"
    with pytest.raises(ConfigurationError, match=r"^trainer\.gpus=5: this machine has only 4"):
        gpus_of(trainer(gpus=5))
