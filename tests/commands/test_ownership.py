"""A run folder belongs to one training, and a refused command leaves no trace in it."""

import hashlib
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from short_fits import Written

from vae_lightning import runs
from vae_lightning.commands import ownership
from vae_lightning.commands.ownership import KeepFolders, RunFolder
from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError

Compose = Callable[..., DictConfig]
REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100")
SMALL = (*SHAPES, "model.net.hidden=[8]", "model.latent_dim=2", "callbacks.latents=null", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def finished(compose_into: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of one epoch, with all that a training may leave in one."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    loggers = (
        "+logger.csv._target_=vae_lightning.runs.loggers.CSVLogger",
        f"+logger.csv.save_dir={folder}",
        "+logger.csv.name=csv",
    )
    train(compose_into(folder, *SMALL, *loggers, "+logger.csv.version=''", "callbacks.animation.frames=2"))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, at `tmp_path`/run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below `folder`, with the hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def test_new_training_in_a_used_folder_is_refused_with_the_way_on(compose: Compose, run: Path) -> None:
    before = tree(run)
    with pytest.raises(ConfigurationError) as refusal:
        train(compose(*SMALL, "seed=1"))
    assert f"hydra.run.dir={run}" in str(refusal.value)
    assert f"resume={run}" in str(refusal.value)
    assert tree(run) == before


def test_training_that_lightning_refuses_leaves_no_folder_and_takes_nobodys(compose: Compose, tmp_path: Path) -> None:
    for was_there in (False, True):
        if was_there:
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "mine").touch()
        with pytest.raises(ConfigurationError, match="limit_train_batches"):
            train(compose(*SMALL, "trainer.limit_train_batches=0.0001"))
        assert (tmp_path / "run").exists() == was_there
    assert (tmp_path / "run" / "mine").is_file()


@pytest.mark.parametrize(
    "left", ["metrics.json", "test_per_image.npz", "tensorboard/events.out.tfevents.1", "csv/metrics.csv", "animation/step_1.npz"]
)
def test_whatever_is_left_of_a_run_makes_a_folder_used(compose: Compose, tmp_path: Path, left: str) -> None:
    path = tmp_path / "run" / left
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(ConfigurationError, match=f"{left} is of another run; choose another hydra.run.dir$"):
        train(compose(*SMALL))
    assert [p for p in (tmp_path / "run").rglob("*") if p.is_file()] == [path]


def test_checkpoints_elsewhere_are_not_overwritten_either(compose: Compose, run: Path) -> None:
    elsewhere = f"callbacks.last_checkpoint.dirpath={run}/checkpoints"
    with pytest.raises(ConfigurationError, match=r"last\.ckpt is of another run"):
        train(compose(*SMALL, elsewhere, folder="new"))
    assert not (run.parent / "new").exists()


def test_second_training_at_once_is_refused_and_a_killed_one_holds_nothing(compose: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    hold = f"import filelock, time; a = filelock.FileLock({str(folder / '.lock')!r}); a.acquire(); print(1, flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ConfigurationError, match=r"run.dir=.*: another training is writing into it"):
            train(compose(*SMALL))
        assert {path.name for path in folder.iterdir()} == {ownership.LOCK, "checkpoints"}
        (folder / "checkpoints" / "last.ckpt").touch()
        with pytest.raises(ConfigurationError, match="another training is writing into it"):
            train(compose(*SMALL))
        (folder / "checkpoints" / "last.ckpt").unlink()
        other.send_signal(signal.SIGKILL)
    result = train(compose(*SMALL))
    assert result.metrics
    with FileLock(folder / ownership.LOCK, timeout=0):
        pass  # and it is free again


@pytest.mark.parametrize("anew", [False, True])
def test_best_of_another_objective_is_put_aside_as_the_training_goes_on_in_its_folder(
    compose: Compose, run: Path, anew: bool
) -> None:
    """A training that is stopped before its first validation would otherwise be evaluated by what another objective trained."""
    best, kept = run / "checkpoints" / "best.ckpt", run / ".hydra" / "until_step_4" / "best.ckpt"
    content = best.read_bytes()
    goal = ("model/objective=iwae", "model.num_samples=2") if anew else ()
    on = (f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=5")
    train(compose(*SMALL, *goal, *on, "callbacks.animation.frames=2"))
    assert (kept if anew else best).read_bytes() == content
    assert (kept.exists(), best.exists()) == (anew, not anew)


def test_going_on_in_its_folder_keeps_what_is_there(compose: Compose, run: Path) -> None:
    before = list((run / "animation").iterdir())
    rows = (run / "csv" / "metrics.csv").read_text().splitlines()
    loggers = ("+logger.csv._target_=vae_lightning.runs.loggers.CSVLogger", f"+logger.csv.save_dir={run}", "+logger.csv.name=csv")
    on = (f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_epochs=2", "model.optimizer.lr=0.01")
    train(compose(*SMALL, *loggers, "+logger.csv.version=''", "callbacks.animation.frames=2", *on))
    assert all(path.is_file() for path in before)
    history = runs.history(run)
    assert history["train/elbo"][0].tolist() == list(range(8)), "the curve goes on where it was"
    later = (run / "csv" / "metrics.csv").read_text().splitlines()
    # the validation and test that ended the shorter training are no longer at its end
    assert [row for row in rows[1:] if row not in later] == rows[-2:]
    aside = (run / "csv" / "superseded.csv").read_text().splitlines()
    assert len(aside) == 3, "but set aside"
    assert OmegaConf.load(run / "tensorboard" / "hparams.yaml").optimizer.lr == 0.01
    assert OmegaConf.load(run / ".hydra" / "config.yaml").model.optimizer.lr == 0.01
    assert OmegaConf.load(run / ".hydra" / "until_step_4" / "config.yaml").model.optimizer.lr == 0.001
    assert json.loads((run / ".hydra" / "until_step_4" / "metrics.json").read_text())["metrics"]
    written = Written(run / "tensorboard")
    start = written.events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    shown = parse_session_start_info_plugin_data(start).hparams
    assert shown["model.optimizer.lr"].number_value == 0.01
    assert written.scalar("train/elbo")[:4] == history["train/elbo"][1].tolist()[:4]


def test_going_on_from_an_earlier_step_supersedes_what_came_after_it(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, "logger=csv", "trainer.max_epochs=1"))
    early = tmp_path / "run" / "checkpoints" / "early.ckpt"
    shutil.copyfile(early.with_name("last.ckpt"), early)
    assert (tmp_path / "run" / "test_per_image.npz").is_file()
    for epochs in (2, 3):
        train(compose(*SMALL, "logger=csv", f"trainer.max_epochs={epochs}", f"ckpt_path={early}", "trainer.limit_test_batches=0"))
    assert not (tmp_path / "run" / "test_per_image.npz").is_file(), "it would be of the weights before"
    steps = runs.history(tmp_path / "run")["train/elbo"][0].tolist()
    assert steps == list(range(12))
    assert "\n" in (tmp_path / "run" / "csv" / "superseded.csv").read_text()


def test_config_is_saved_as_resolved(compose: Compose, tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", str(mnist_root))
    train(compose(*SMALL, "data.root=${oc.env:SOMEWHERE}", "logger=none", "data.seed=${seed}"))
    monkeypatch.delenv("SOMEWHERE")
    loaded = runs.load(*runs.find(str(tmp_path / "run"), None))
    assert loaded.config.data.root == str(mnist_root)
    assert "${" not in (tmp_path / "run" / ".hydra" / "config.yaml").read_text()


@pytest.mark.slow
def test_refused_command_leaves_a_finished_run_as_it_was_and_no_folder_of_its_own(run: Path, tmp_path: Path) -> None:
    before = tree(run)
    for folder in ("run", "new/folder"):
        wrong = [f"hydra.run.dir={folder}", "data.binarization=none", "model.latent_dim=0"]
        result = subprocess.run(
            [sys.executable, str(REPOSITORY / "train.py"), *wrong], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert "model.latent_dim=0: must be at least 1" in result.stderr
    assert tree(run) == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folder_that_was_there_stays_though_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    folder = tmp_path / "mine" / "new" / "run"
    with RunFolder(folder):
        folder.mkdir(parents=True)  # as Hydra does
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


@pytest.mark.parametrize(
    ("mode", "subdir", "message"),
    [
        ("run", ".hydra", "hydra.output_subdir=.hydra: leave it out"),
        ("multirun", "other", "hydra.output_subdir=other: leave it out"),
    ],
)
def test_what_hydra_would_write_by_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, subdir: str, message: str
) -> None:
    overrides = [f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}", f"hydra.output_subdir={subdir}"]
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = hydra.compose("train", overrides, return_hydra_config=True)
    with pytest.raises(SystemExit):
        getattr(KeepFolders(), f"on_{mode}_start")(config)
    assert message in capsys.readouterr().err


def test_log_is_held_back_until_the_folder_is_taken(tmp_path: Path) -> None:
    handler = logging.handlers.MemoryHandler(100, 100)
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("early").warning("before")
        assert [record.getMessage() for record in handler.buffer] == ["before"]
        with ownership._logged_to(tmp_path):  # without Hydra there is no name for the file
            pass
    finally:
        logging.getLogger().removeHandler(handler)
    assert not list(tmp_path.iterdir())


def test_later_rank_neither_logs_into_a_folder_nor_leaves_one(compose: Compose, tmp_path: Path) -> None:
    later: Any = type("Trainer", (), {"is_global_zero": False, "global_step": 0})()
    with RunFolder(tmp_path / "outputs" / "later") as folder:
        folder.path.mkdir(parents=True)  # as Hydra does in a process that torchrun starts
        folder.take(compose(*SMALL), later, None)
        assert not list(folder.path.iterdir())
    assert not (tmp_path / "outputs").exists()
