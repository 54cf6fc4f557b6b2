"""Launchers of other projects run the jobs of a sweep: each as its command, whatever becomes of the launcher."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.core.utils import run_job as run_job_of_hydra
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from vae_lightning.commands import launchers
from vae_lightning.commands.commandline import CONF, register_resolvers
from vae_lightning.commands.job import environment_of
from vae_lightning.commands.launchers import Launched
from vae_lightning.commands.processes import Processes
from vae_lightning.commands.tasks import JobLauncher, Task
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.sweeps.claims import claimed, due
from vae_lightning.sweeps.record import log_of, reason_of

STAND_IN = str(Path(__file__).with_name("stand_in.py"))


class Here(Launcher):
    """A launcher of another project, which runs jobs in its own process, as Hydra's own does.

    Args:
        breaks: the number of the job at which it breaks.
        interrupted: the number of the job at which Ctrl-C is pressed.
    """

    def __init__(self, breaks: int = -1, interrupted: int = -1) -> None:
        self.breaks, self.interrupted = breaks, interrupted

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        returns = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            if number == self.breaks:
                raise RuntimeError("the cluster\n  is gone")
            if number == self.interrupted:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            config.hydra.job.num = number
            returns.append(
                run_job_of_hydra(self.task_function, config, "hydra.sweep.dir", "hydra.sweep.subdir", self.hydra_context, False)
            )
        return returns


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Launched]]:
    """A function that makes the launcher `here` what runs a sweep's jobs."""
    target = "hydra_plugins.tests.Here"
    monkeypatch.setitem(Plugins.instance().class_name_to_class, target, Here)
    node = {"_target_": target, "breaks": -1, "interrupted": -1}
    ConfigStore.instance().store(group="hydra/launcher", name="here", node=node, provider="tests")
    register_resolvers()
    monkeypatch.setattr(launchers, "OFTEN", 0.05)

    def of(*words: str) -> Launched:
        config = compose("train", ["hydra/launcher=here", *words], return_hydra_config=True)
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        return Launched(context, config, Here())

    before = set(threading.enumerate())
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield of
    for thread in set(threading.enumerate()) - before:  # of a launcher that was not waited for
        thread.join(20)
    HydraConfig.instance().cfg = None  # which jobs at once put back as they found it, in any order


def tasks_of(folder: Path, *jobs: tuple[str, ...]) -> list[Task]:
    def task(run: Path, words: tuple[str, ...]) -> Task:
        def claim() -> Any:
            return due(run)

        return Task(STAND_IN, words, environment_of(run, reason_of(run)), log_of(run), claim, lambda: None, DictConfig)

    return [task(folder / f"job={number}", words) for number, words in enumerate(jobs)]


def run(launcher: JobLauncher, tasks: list[Task]) -> tuple[int | None, dict[str, int]]:
    """What a launcher gives back, and the exit statuses of the jobs that it says have ended."""
    ended: dict[str, int] = {}

    def note(task: Task, code: int) -> None:
        assert task.log.stem not in ended, "a job ends once"
        ended[task.log.stem] = code

    return launcher.run(tasks, 1, [], note), ended


def test_each_job_is_run_as_its_command_in_the_folder_of_the_sweep(launched: Callable[..., Launched], tmp_path: Path) -> None:
    sweep = tmp_path / "a sweep, with 'signs'=1"
    tasks = tasks_of(sweep, ("seed=0",), ("killed",), ("seed=2", "wrong"))
    assert isinstance(launched(), JobLauncher)
    assert run(launched(), tasks) == (None, {"job=0": 0, "job=1": -9, "job=2": 3})
    assert json.loads((sweep / "job=0" / "seen.json").read_text())["words"] == ["seed=0"]
    assert log_of(sweep / "job=0").read_text() == "words: seed=0\n"
    assert "SIGKILL" in reason_of(sweep / "job=1").read_text()
    assert "status 3" in reason_of(sweep / "job=2").read_text()
    assert sorted(path.name for path in sweep.iterdir()) == [".sweep", "job=0", "job=1", "job=2"], "nothing else is made"
    assert [path.name for path in tmp_path.iterdir()] == [sweep.name]


def test_a_launcher_that_breaks_at_once_is_an_error_in_one_line(launched: Callable[..., Launched], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^hydra/launcher=here: the cluster is gone$"):
        run(launched("hydra.launcher.breaks=0"), tasks_of(tmp_path, ("seed=0",)))


def test_a_launcher_that_breaks_later_leaves_the_other_jobs_for_the_next_time(
    launched: Callable[..., Launched], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tasks_of(tmp_path, ("seed=0",), ("seed=1",))
    assert run(launched("hydra.launcher.breaks=1"), tasks) == (None, {"job=0": 0})
    assert capsys.readouterr().err == "error: hydra/launcher=here: the cluster is gone\n"
    assert not reason_of(tmp_path / "job=1").exists(), "it is missing, and has not failed"
    assert run(launched(), tasks[1:]) == (None, {"job=1": 0})


def test_ctrl_c_ends_the_sweep_and_says_so(launched: Callable[..., Launched], tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, ("seed=0",), ("seed=1",))
    assert run(launched("hydra.launcher.interrupted=1"), tasks) == (signal.SIGINT, {"job=0": 0})


def test_a_job_that_somebody_else_runs_is_not_said_to_have_ended(
    launched: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_lightning.commands.worker.MOMENT", 0.1)
    monkeypatch.setattr(launchers, "ENDING", 0.1)
    tasks = tasks_of(tmp_path, ("seed=0",), ("seed=1",))
    with claimed(tmp_path / "job=0"):
        assert run(launched(), tasks) == (None, {"job=1": 0})
    assert not [*tmp_path.glob(".sweep/launched/*/job=0/ended.json")]


def test_a_job_that_another_command_runs_is_not_waited_for(
    launched: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_lightning.commands.worker.MOMENT", 0.1)
    monkeypatch.setattr("vae_lightning.commands.launchers._ended", None)
    with claimed(tmp_path / "job=0"):
        assert run(launched(), tasks_of(tmp_path, ("seed=0",))) == (None, {})


def test_a_command_that_stops_leaves_the_jobs_of_another_one_alone(launched: Callable[..., Launched], tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, ("seed=0",), ("seed=1",), ("seed=2",))
    assert run(launched(), tasks[:1]) == (None, {"job=0": 0})
    (first,) = tmp_path.glob(".sweep/launched/*")
    orders = {path: path.read_bytes() for path in first.rglob("*.json")}
    assert run(launched("hydra.launcher.interrupted=0"), tasks) == (signal.SIGINT, {"job=0": 130})
    (second,) = set(tmp_path.glob(".sweep/launched/*")) - {first}
    assert [path.parent.name for path in sorted(second.rglob("stop"))] == ["job=0", "job=1", "job=2"]
    assert not [*first.rglob("stop")]
    assert {path: path.read_bytes() for path in first.rglob("*.json")} == orders


@pytest.mark.parametrize(
    ("name", "settings", "gpus", "at_once"),
    [
        ("joblib", {"joblib": {"n_jobs": 3}}, 0, 3),
        ("joblib", {"joblib": {"n_jobs": -1}}, 0, 4),
        ("joblib", {"joblib": {"n_jobs": -2}}, 0, 3),
        ("submitit_local", {"params": {"cpus_per_task": 2}}, 0, 2),
        ("submitit_local", {"params": {"cpus_per_task": None}}, 0, 1),
        ("submitit_local", {"params": {}}, 2, 2),
        ("submitit_slurm", {"params": {"cpus_per_task": 2}}, 2, 1),
        ("ray", {}, 2, 1),
    ],
)
def test_how_many_jobs_share_this_machine(
    launched: Callable[..., Launched],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    settings: dict[str, Any],
    gpus: int,
    at_once: int,
) -> None:
    monkeypatch.setattr(launchers, "cores", lambda: 4)
    launcher = launched()
    launcher.name = name
    for key, value in settings.items():
        setattr(launcher.plugin, key, value)
    assert launcher.at_once(gpus) == at_once


@pytest.mark.slow
def test_jobs_of_the_basic_launcher_see_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_lightning.commands import running

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    gpus, launcher = running._gpus(), Processes()
    assert gpus == ["4", "6"]
    assert launcher.at_once(len(gpus)) == 2
    ended: list[int] = []
    launcher.run(tasks_of(tmp_path, *[("slow",)] * 3), 2, gpus, lambda _, code: ended.append(code))
    seen = [json.loads((tmp_path / f"job={number}" / "seen.json").read_text())["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert ended == [0, 0, 0]
    assert {*seen[:2]} == {"4", "6"}
    assert seen[2] in gpus


def test_what_goes_wrong_beside_the_command_is_the_jobs_reason(
    launched: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space\nleft")

    monkeypatch.setattr("vae_lightning.commands.worker._run", full)
    assert run(launched(), tasks_of(tmp_path, ("seed=0",))) == (None, {"job=0": 143})
    assert "no space left" in reason_of(tmp_path / "job=0").read_text()


@pytest.mark.parametrize("link", ["launched", "places"])
def test_nothing_is_written_through_a_link_in_somebody_elses_sweep(
    launched: Callable[..., Launched], tmp_path: Path, link: str
) -> None:
    sweep, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (sweep / ".sweep" / link).parent.mkdir(parents=True)
    (sweep / ".sweep" / link).symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        run(launched(), tasks_of(sweep, ("seed=0",)))
    assert not [*elsewhere.iterdir()]
