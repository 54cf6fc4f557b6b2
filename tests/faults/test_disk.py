"""A disk that is full in the middle of a training or an evaluation, and a folder that may not be written to."""

import csv
import json
import logging
import logging.handlers
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_lightning as L
import torch
from faults.conftest import Mount, fill
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vae_lightning.commands import ownership
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.train import train
from vae_lightning.errors import StorageError
from vae_lightning.machine.checkpoints import newest_whole

Compose = Callable[..., DictConfig]
CONF = Path(__file__).resolve().parents[2] / "conf"
SHAPES = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100")
SMALL = (*SHAPES, "model.net.hidden=[8]", "model.latent_dim=2", "callbacks.latents=null", "trainer.log_every_n_steps=1")
EPOCHS = (*SMALL, "trainer.max_epochs=3")


class Fills(L.Callback):
    """Fills the disk as epoch `at` begins, or `save_dir` of the logger."""

    def __init__(self, disk: str, at: int) -> None:
        self.disk, self.at = disk, at

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == self.at:
            fill(Path(self.disk))


def filled(disk: Path, at: int) -> tuple[str, ...]:
    return (f"+callbacks.fills._target_={Fills.__module__}.Fills", f"+callbacks.fills.disk={disk}", f"+callbacks.fills.at={at}")


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def test_checkpoint_is_kept_and_training_goes_on_from_it_when_there_is_room(
    compose: Compose, small_disk: Mount, tmp_path: Path
) -> None:
    whole = train(compose(*EPOCHS, "logger=csv")).metrics
    disk = small_disk(2048)
    cfg = compose(*EPOCHS, "logger=csv", f"run_dir={disk / 'run'}", *filled(disk, 2))
    with pytest.raises(
        StorageError, match=r"could not be written \(No space left on device\); go on from .*=\S*last.ckpt$"
    ) as error:
        train(cfg)
    assert "\n" not in str(error.value)
    last, said = newest_whole(disk / "run" / "checkpoints")
    assert (last.name, said) == ("last.ckpt", None)
    assert torch.load(last, weights_only=True)["epoch"] == 1
    assert not list(disk.rglob("*.unfinished"))
    (disk / "ballast").unlink()
    again = train(compose(*EPOCHS, "logger=csv", f"run_dir={disk / 'run'}", f"ckpt_path={last}"))
    assert without_times(again.metrics) == without_times(whole)
    assert json.loads((disk / "run" / "metrics.json").read_text())["metrics"] == again.metrics


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["tensorboard", "csv"])
@pytest.mark.parametrize("fault", ["full from the start", "full later", "read-only"])
def test_logger_that_cannot_write_ends_no_training_and_is_said_once(
    compose: Compose,
    small_disk: Mount,
    mounted: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    logger: str,
    fault: str,
) -> None:
    # so many rows that the file outgrows the page of the disk that it has
    settings = (*SMALL, f"logger={logger}", f"trainer.max_epochs={20 if fault == 'full later' else 3}")
    whole = train(compose(*settings, folder="whole")).metrics
    disk = small_disk(1024)
    if fault == "read-only":
        mounted("-o", "remount,ro", on=disk)
    elif fault == "full from the start":
        fill(disk)
    later = filled(disk, 1) if fault == "full later" else ()
    caplog.clear()
    result = train(compose(*settings, f"logger.{logger}.save_dir={disk}", *later))
    assert without_times(result.metrics) == without_times(whole)
    (said,) = [record.getMessage() for record in caplog.records if "this logger" in record.getMessage()]
    reason = "Read-only file system" if fault == "read-only" else "No space left on device"
    assert said.startswith(f"logger.{logger}: cannot write")
    assert said.endswith(f"({reason}); the training goes on without this logger")
    assert "Traceback" not in capfd.readouterr().err
    if fault == "full later":  # what had been logged before is there
        if logger == "csv":
            assert {"0", "1"} & {row["step"] for row in csv.DictReader((disk / "csv" / "metrics.csv").open())}
        else:
            assert EventAccumulator(str(disk / "tensorboard")).Reload().Scalars("train/loss")


class Writes(L.Callback):
    """A user's callback that writes to TensorBoard by itself."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(trainer.logger, TensorBoardLogger)
        trainer.logger.experiment.add_text("mine", "x" * 100_000, trainer.global_step)
        trainer.logger.experiment.add_scalars("several", {"a": 1.0, "b": 2.0}, trainer.global_step)


def test_users_callbacks_that_write_to_a_full_disk_end_nothing_either(
    compose: Compose, small_disk: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    disk = small_disk(256)
    mine = f"+callbacks.mine._target_={Writes.__module__}.Writes"
    images = ("callbacks.latents=null", "callbacks.histograms.every_n_epochs=1", "data.eval_batch_size=50")
    train(compose(*EPOCHS, *images, f"logger.tensorboard.save_dir={disk}", mine))
    assert caplog.text.count("the training goes on without this logger") == 1


def test_loggers_mistake_is_no_failure_to_write(compose: Compose) -> None:
    class Wrong(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            assert isinstance(trainer.logger, TensorBoardLogger)
            trainer.logger.log_metrics({"mine": "text"})  # type: ignore[dict-item]

    globals()["Wrong"] = Wrong
    with pytest.raises(ValueError, match="you tried to log text which is currently not supported"):
        train(compose(*SMALL, f"+callbacks.mine._target_={Wrong.__module__}.Wrong"))


def test_run_folder_that_cannot_be_made_or_begun_leaves_nothing(
    compose: Compose, small_disk: Mount, mounted: Callable[..., None]
) -> None:
    disk = small_disk(64)
    ballast = fill(disk)
    with pytest.raises(StorageError, match=r"config.yaml: could not be written \(No space left on device\)"):
        train(compose(*SMALL, f"run_dir={disk / 'run'}"))
    assert list(disk.iterdir()) == [ballast]
    mounted("-o", "remount,ro", on=disk)
    with pytest.raises(StorageError, match=r"^hydra.run.dir=\S*/run: cannot be made \(Read-only file system\); choose another"):
        train(compose(*SMALL, f"run_dir={disk / 'run'}"))


def test_metrics_that_cannot_be_written_are_said_and_the_checkpoints_stay(compose: Compose, small_disk: Mount) -> None:
    disk = small_disk(1024)

    class Last(L.Callback):
        def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            fill(disk)

    globals()["Last"] = Last
    with pytest.raises(StorageError, match=r"metrics.json: could not be written \(No space left on device\)"):
        train(compose(*SMALL, "logger=none", f"run_dir={disk / 'run'}", f"+callbacks.mine._target_={Last.__module__}.Last"))
    assert newest_whole(disk / "run" / "checkpoints")[0].name == "last.ckpt"
    assert not (disk / "run" / "metrics.json").exists()


@pytest.fixture
def command() -> Iterator[None]:
    """A program that Hydra has started, whose log is held back until the run folder is there."""
    memory = logging.handlers.MemoryHandler(1000, flushLevel=100)
    root = logging.getLogger()
    root.addHandler(memory)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        HydraConfig.instance().set_config(hydra.compose("train", return_hydra_config=True))
    yield
    HydraConfig.instance().cfg = None
    root.removeHandler(memory)


@pytest.mark.usefixtures("command")
def test_log_that_cannot_be_written_is_said_once(small_disk: Mount, capfd: pytest.CaptureFixture[str]) -> None:
    disk = small_disk(16)
    log = logging.getLogger("vae_lightning")
    fill(disk)
    with ownership._logged_to(disk):
        for number in range(3):
            log.warning("warning %d", number)
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"{disk / 'train.log'}: cannot be written any more (No space left on device); the training goes on"


# ---- evaluation


@pytest.fixture
def run(compose: Compose, tmp_path: Path) -> Path:
    cfg = compose(*SMALL, "logger=none")
    train(cfg)
    OmegaConf.save(cfg, tmp_path / "run" / ".hydra" / "config.yaml")
    return tmp_path / "run"


def evaluated(run: Path, to: Path | None, *overrides: str) -> Any:
    quick = ["gpus=0", "evaluation.num_samples=2", "evaluation.num_images=30", "evaluation.train_images=10"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return evaluate(hydra.compose("evaluate", [*quick, f"run={run}", f"to={to or 'null'}", *overrides]))


@pytest.mark.parametrize("room", [0, 20, 60, 120])
def test_report_and_figures_on_a_full_disk_are_one_line_and_the_earlier_ones_stay(run: Path, small_disk: Mount, room: int) -> None:
    disk = small_disk(2048)
    evaluated(run, disk / "evaluation", "evaluation.figures=[samples]")
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file() and path.name != ".lock"}
    ballast = fill(disk)
    with ballast.open("rb+") as file:
        file.truncate(ballast.stat().st_size - room * 1024)
    with pytest.raises(StorageError, match=r"could not be written \(No space left on device\)") as error:
        evaluated(run, disk / "evaluation", "evaluation.seed=1", "evaluation.figures=[samples,reconstructions,interpolations]")
    assert "\n" not in str(error.value)
    report = json.loads((disk / "evaluation" / "report.json").read_text())
    assert report["splits"]["test"]["elbo"]["value"] < 0
    assert {path.suffix for path in before} >= {".json", ".html", ".md", ".png"}
    for path, content in before.items():
        if path.suffix != ".json":
            assert path.read_bytes() == content or path.suffix == ".png", f"{path} is neither the old one nor a new one"
    assert not list(disk.rglob("*.unfinished"))
    ballast.unlink()
    again = evaluated(run, disk / "evaluation", "evaluation.figures=[samples]")
    assert again.report["splits"]["test"]["elbo"]["value"] < 0
    assert not (disk / "evaluation" / "earlier").exists(), "the report was whole, and so gone on with"


def test_evaluation_into_a_folder_that_may_not_be_written_to_says_where_else(run: Path, read_only: Callable[[Path], None]) -> None:
    read_only(run)
    with pytest.raises(StorageError, match=r"evaluation: cannot be written to \(Read-only file system\); .* to=<folder>"):
        evaluated(run, None)
