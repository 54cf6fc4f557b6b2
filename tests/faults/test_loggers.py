"""Servers of loggers that do not answer cost a training its log, and nothing else."""

import copy
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import Logger

from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError
from vae_lightning.machine import expendable

Compose = Callable[..., DictConfig]
SHAPES = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100")
SMALL = (*SHAPES, "model.net.hidden=[8]", "model.latent_dim=2", "callbacks.latents=null", "trainer.log_every_n_steps=1")


@pytest.fixture
def nobody() -> str:
    """An address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def trained_without(compose: Compose, caplog: pytest.LogCaptureFixture, name: str, *settings: str) -> None:
    whole = train(compose(*SMALL, "logger=none", folder="whole")).metrics
    result = train(compose(*SMALL, *settings))
    assert result.metrics == whole
    (said,) = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert said.endswith("the training goes on without this logger")
    assert "\n" not in said


def test_mlflow_that_cannot_be_reached(
    compose: Compose, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    trained_without(compose, caplog, "logger.mlflow", "logger=mlflow", f"logger.mlflow.tracking_uri={nobody}")


def test_wandb_that_cannot_be_reached(
    compose: Compose, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, nobody: str, tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="W&B is not installed")
    for name, value in {
        "WANDB_BASE_URL": nobody,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_INIT_TIMEOUT": "5",
        "WANDB_DIR": str(tmp_path),
        "WANDB_SILENT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    trained_without(compose, caplog, "logger.wandb", "logger=wandb")


def test_logger_that_is_not_installed_is_refused_before_training(compose: Compose, tmp_path: Path) -> None:
    for module in ("mlflow", "wandb"):
        try:
            __import__(module)
        except ImportError:
            with pytest.raises(ConfigurationError, match=rf"^logger\.{module}: .*{module}"):
                train(compose(*SMALL, f"logger={module}"))
    assert not (tmp_path / "run").exists()


class Unreachable(Logger):
    """A user's logger, whose server goes away after some entries: a real socket that is closed."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.calls, self.finalized = after, 0, 0
        self._experiment: socket.socket | None = None

    @property
    def name(self) -> str:
        return "mine"

    @property
    def version(self) -> str:
        return "0"

    @property
    def experiment(self) -> socket.socket:
        if self._experiment is None:
            if self.after == 0:
                raise ConnectionRefusedError("nobody listens")
            server = socket.create_server(("127.0.0.1", 0))
            self._experiment = socket.create_connection(server.getsockname())
            self._other, _ = server.accept()
            server.close()
        return self._experiment

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls += 1
        if self.calls == self.after:
            self._other.close()
            self.experiment.close()
        self.experiment.sendall(repr(metrics).encode())

    def log_hyperparams(self, *_: object) -> None:
        self.experiment.sendall(b"hyperparameters")


@pytest.mark.parametrize("after", [0, 1, 3])
def test_users_logger_whose_server_goes_away(compose: Compose, caplog: pytest.LogCaptureFixture, after: int) -> None:
    mine = f"{Unreachable.__module__}.Unreachable"
    settings = (f"+logger.mine._target_={mine}", f"+logger.mine.after={after}")
    trained_without(compose, caplog, "logger.mine", "logger=none", *settings)


def test_expendable_logger_is_of_its_class_and_goes_to_other_processes(tmp_path: Path) -> None:
    logger = expendable.expendable(CSVLogger(tmp_path, name="csv", version=""), "logger.csv")
    for again in (copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))):
        assert isinstance(again, CSVLogger)
        assert type(again) is type(logger)
        assert type(again).__name__ == "CSVLogger"
        again.log_metrics({"loss": 1.0}, 0)
        again.save()
    assert (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0] == "loss,step"
    (tmp_path / "file").touch()
    lost = expendable.expendable(CSVLogger(tmp_path / "file", name="csv", version=""), "logger.csv")
    lost.log_metrics({"loss": 1.0}, 0)
    lost.save()
    lost.finalize("success")
    assert not hasattr(lost.experiment, "__len__")
