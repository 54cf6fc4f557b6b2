"""Processes of one training have one moment, and so one run folder."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from vae_lightning.commands import moment
from vae_lightning.commands.job import NOW
from vae_lightning.errors import ConfigurationError

FOLDER = "${now:%Y-%m-%d_%H-%M-%S_%f}"


@pytest.fixture(autouse=True)
def hydras_own_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "SLURM_PROCID", "NODE_RANK", NOW):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)  # set and taken away, so that what a test leaves is removed
    yield
    moment._stores.clear()
    from hydra.core.utils import setup_globals

    setup_globals()


def folder(**trainer: Any) -> str:
    """The folder that a process of a training would write into."""
    of_one = {"gpus": "auto", "accelerator": "cpu", "devices": 1, "num_nodes": 1}
    config = OmegaConf.create({"trainer": of_one | trainer, "folder": FOLDER})
    moment.agree_on_now(config)
    return str(config.folder)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


RANK = {"torchrun": "RANK", "srun": "SLURM_PROCID", "by hand": "NODE_RANK"}
STARTED = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "run", "LOCAL_RANK": "0"},
    "srun": {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_ID": "77"},
    "by hand": {},
}


@pytest.mark.parametrize("started", STARTED)
def test_process_on_another_machine_has_the_moment_of_the_first(monkeypatch: pytest.MonkeyPatch, port: int, started: str) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    for variable, value in STARTED[started].items():
        monkeypatch.setenv(variable, value)
    folders = []
    for rank in ("0", "1"):
        monkeypatch.delenv(NOW, raising=False)
        monkeypatch.setenv(RANK[started], rank)
        folders.append(folder(num_nodes=2))
    assert folders[0] == folders[1]


def test_process_that_lightning_starts_has_the_moment_of_the_one_that_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder(devices=2)
    assert first != folder(devices=2), "another training"
    last = folder(devices=2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert folder(devices=2) == last


def test_lone_training_meets_nobody_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": "1", "TORCHELASTIC_RUN_ID": "run"}.items():
        monkeypatch.setenv(variable, value)
    folder()
    assert not moment._stores


def test_first_process_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    from datetime import timedelta

    monkeypatch.setattr(moment, "WAIT", timedelta(seconds=1))
    for variable, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "1"}.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=rf"^trainer\.num_nodes: .* cannot be reached at 127\.0\.0\.1:{port}"):
        folder(num_nodes=2)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MASTER_PORT": "abc"}, r"^MASTER_PORT=abc: must be a port, 1 to 65535$"),
        ({"MASTER_PORT": "0"}, r"^MASTER_PORT=0: must be a port"),
        ({"NODE_RANK": "first"}, r"^NODE_RANK=first: must be 0 to 1, as trainer\.num_nodes=2$"),
        ({"NODE_RANK": "2"}, r"^NODE_RANK=2: must be 0 to 1"),
    ],
)
def test_machine_that_says_nonsense_of_itself_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    for variable, value in ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"} | environment).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said):
        folder(num_nodes=2)
