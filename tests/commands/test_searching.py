"""A search from its words to its trials, with trainings that are told what comes out of them; and one that trains."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from terminal import row

from vae_lightning.commands.commandline import CONF, WENT_WRONG, register_resolvers
from vae_lightning.commands.running import SweepRun
from vae_lightning.commands.searching import SearchRun
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.sweeping import Wanted, wanted, with_sweep
from vae_lightning.commands.tasks import Task
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.sweeps.record import JOBS, Record
from vae_lightning.sweeps.search import JOURNAL, SEARCH, Search, SearchSettings
from vae_lightning.sweeps.status import State, statuses
from vae_lightning.sweeps.study import REASON, Reporter
from vae_lightning.sweeps.table import table_of

optuna = pytest.importorskip("optuna", reason="needs the extra optuna: pip install 'vae_lightning[optuna]'")

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = ("data=shapes2d", "data.train_size=256", "data.val_size=64", "data.test_size=64", "data.batch_size=32")
SMALL = (*SHAPES, "model.net.hidden=[8]", "trainer.gpus=0", "trainer.max_epochs=3", "logger=none")
SPACE = (*SMALL, "model.optimizer.lr=tag(log,interval(1e-5,1e-1))", "model.latent_dim=range(2,21)")


def goodness(words: dict[str, str]) -> float:
    """The value of a run, which is the best at a learning rate of 1e-3 and a latent size of 8."""
    lr, size = float(words["model.optimizer.lr"]), int(words["model.latent_dim"])
    return -((math.log10(lr) + 3) ** 2) - (size - 8) ** 2 / 10 - int(words.get("seed", 0)) / 100


Outcome = dict[str, Any] | int


def finished(words: dict[str, str], environment: dict[str, str]) -> Outcome:
    return {"metrics": {"val/elbo": goodness(words), "test/elbo": 7.0}}


class Told:
    """What runs tasks, as they come out by what `outcome` says: the content of metrics.json, or how the process ended."""

    def __init__(self, outcome: Callable[[dict[str, str], dict[str, str]], Outcome] = finished, count: int = 1) -> None:
        self.outcome, self.count = outcome, count
        self.ran: list[str] = []
        self.stops_after: int | None = None

    def at_once(self, gpus: int) -> int:
        return self.count

    def together(self, gpus: int) -> int:
        return self.count

    def run(self, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Callable[[Task, int], None]) -> int | None:
        for task in tasks:
            if self.stops_after == len(self.ran):
                return 2
            words = dict(word.split("=", 1) for word in task.words if "=" in word)
            folder = Path(words["hydra.run.dir"].strip("'"))
            with task.claim() as mine:
                if not mine:
                    continue
                self.ran.append(folder.name)
                came = self.outcome(words, dict(task.environment))
                if isinstance(came, dict):
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / "metrics.json").write_text(json.dumps(came))
                ended(task, came if isinstance(came, int) else 0)
        return None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Search with some words; the exit status."""
    monkeypatch.chdir(tmp_path)
    register_resolvers()

    def search(launcher: Told, *words: str, wanted: Wanted | None = None, sweep: str | None = "s", **settings: Any) -> int:
        where = [] if sweep is None else [f"hydra.sweep.dir={sweep}"]
        config = hydra.compose("train", ["run_dir=.", *where], return_hydra_config=True)
        parser = OverridesParser.create(config_loader=hydra.core.global_hydra.GlobalHydra.instance().config_loader())
        made = SearchRun(config, parser, launcher, wanted or Wanted(words), SearchSettings(**settings))
        return made.run(list(words))

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield search


def study(folder: Path) -> Any:
    """The study as Optuna's own tools find it."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))


Run = Callable[..., int]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configs are not checked, which takes a tenth of a second each; the tests of what is wrong are others."""
    monkeypatch.setattr("vae_lightning.commands.running.check_config", lambda *arguments: None)


def test_best_trial_is_found_and_its_run_is_where_it_says(
    unchecked: None, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = Told()
    assert run(launcher, *SPACE, n_trials=30) == 0
    found = study(tmp_path / "s")
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 30
    assert found.best_value == max(trial.value for trial in found.trials)
    assert found.best_value > -0.5, "which a trial of twenty has by chance"
    (name,) = found.best_trial.user_attrs["runs"]
    job = next(job for job in Record.read(tmp_path / "s").jobs if job.folder == name)
    assert dict(word.split("=", 1) for word in job.words)["model.latent_dim"] == str(found.best_params["model.latent_dim"])
    assert float(job.settings["model.optimizer.lr"]) == found.best_params["model.optimizer.lr"]
    said = capsys.readouterr().out
    assert f"best:       trial {found.best_trial.number}, val/elbo {found.best_value:.2f}: lr=" in said
    assert "test/elbo" not in said, "what is searched for is not tested"
    assert f"run=s/{name}" in said
    assert "table: s/sweep.html" in said
    assert row(said, "lr")[-1] == "val/elbo"


@pytest.mark.slow
def test_what_the_page_says_to_read_a_search_with_reads_it(unchecked: None, run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, n_trials=20) == 0
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / "docs" / "search.md").read_text(), re.MULTILINE | re.DOTALL)
    *lines, best, importances = snippet.replace("outputs/vae/sweep_<time>", "s").strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    params, runs = eval(best, names)
    assert params == study(tmp_path / "s").best_params
    assert [(tmp_path / "s" / name).is_dir() for name in runs] == [True]
    assert sum(eval(importances, names).values()) == pytest.approx(1)


def test_value_of_a_trial_is_the_mean_of_its_seeds(unchecked: None, run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, "seed=0,1,5", n_trials=3) == 0
    for trial in study(tmp_path / "s").trials:
        words = {key: str(value) for key, value in trial.params.items()}
        assert trial.value == pytest.approx(goodness(words) - 0.02)
        assert [name.rpartition("seed=")[2] for name in trial.user_attrs["runs"]] == ["0", "1", "5"]
    assert len(Record.read(tmp_path / "s").jobs) == 9


def test_search_for_the_least_finds_the_least(run: Run, tmp_path: Path) -> None:
    def outcome(words: dict[str, str], environment: dict[str, str]) -> Outcome:
        return {"metrics": {"val/kl": -goodness(words)}}

    assert run(Told(outcome), *SPACE, "monitor=val/kl", "monitor_mode=min", n_trials=3) == 0
    found = study(tmp_path / "s")
    assert found.best_value == min(trial.value for trial in found.trials)
    assert Search.read(tmp_path / "s").mode == "min"


@pytest.mark.slow
def test_search_that_was_stopped_goes_on_as_if_it_had_not_been(unchecked: None, run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, n_trials=6, sweep="whole") == 0
    stopped = Told()
    stopped.stops_after = 3
    assert run(stopped, *SPACE, n_trials=6) == 130
    assert [trial.state.name for trial in study(tmp_path / "s").trials] == [*["COMPLETE"] * 3, "RUNNING"]
    again = Told()
    assert run(again, wanted=Wanted((), tmp_path / "s", everything=True), n_trials=6) == 0
    assert len(again.ran) == 3
    whole, parts = study(tmp_path / "whole").trials, study(tmp_path / "s").trials
    assert [(trial.params, trial.value) for trial in parts] == [(trial.params, trial.value) for trial in whole]


def test_trial_that_was_told_to_end_before_it_had_begun_has_not_failed(unchecked: None, run: Run, tmp_path: Path) -> None:
    codes = iter([143])

    def outcome(words: dict[str, str], environment: dict[str, str]) -> Outcome:
        return next(codes, None) or finished(words, environment)

    assert run(Told(outcome), *SPACE, n_trials=2) == 0
    assert [trial.state.name for trial in study(tmp_path / "s").trials] == ["COMPLETE", "COMPLETE"]


@pytest.mark.slow
def test_same_command_is_the_same_search_and_another_space_is_another(unchecked: None, run: Run, tmp_path: Path) -> None:
    def there() -> list[Path]:
        return sorted(tmp_path.glob(f"outputs/*/*/{SEARCH}"))

    assert run(Told(), *SPACE, n_trials=2, sweep=None) == 0
    (first,) = there()
    more = Told()
    assert run(more, *SPACE, n_trials=3, sampler="random", sweep=None) == 0
    assert (there(), len(more.ran)) == ([first], 1)
    assert Search.read(first.parent.parent).settings.n_trials == 3
    for number, others in enumerate((["model.latent_dim=range(2,5)"], ["trainer.max_epochs=4"])):
        assert run(Told(), *SPACE, *others, n_trials=1, sweep=None) == 0
        assert len(there()) == 2 + number


def test_sweep_of_the_settings_of_a_search_is_another_one(unchecked: None, run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, n_trials=1, sweep=None) == 0
    config = hydra.compose("train", ["run_dir=."], return_hydra_config=True)
    parser = OverridesParser.create(config_loader=hydra.core.global_hydra.GlobalHydra.instance().config_loader())
    words = [*SMALL, "model.optimizer.lr=0.01,0.001", "model.latent_dim=2,3"]
    assert SweepRun(config, parser, Told(), Wanted(tuple(words))).run(words) == 0
    assert sorted(len(Record.read(path.parent.parent).jobs) for path in tmp_path.glob(f"outputs/*/*/{JOBS}")) == [1, 4]


@pytest.mark.slow
def test_trial_that_fails_is_a_line_and_the_rest_goes_on(
    unchecked: None, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def outcome(words: dict[str, str], environment: dict[str, str]) -> Outcome:
        if len(launcher.ran) != 2:
            return finished(words, environment)
        Path(environment["VAE_LIGHTNING_REASON"]).parent.mkdir(parents=True, exist_ok=True)
        Path(environment["VAE_LIGHTNING_REASON"]).write_text(json.dumps({"reason": "train/loss: not finite in step 3"}))
        return {"metrics": {"val/elbo": None}, "not_finite": {"what": "train/loss"}}

    launcher = Told(outcome)
    assert run(launcher, *SPACE, n_trials=4) == 1
    trials = study(tmp_path / "s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[1].user_attrs[REASON] == "train/loss: not finite in step 3"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "train/loss: not finite in step 3" in line
    again = Told()
    assert run(again, *SPACE, n_trials=4) == 0
    assert len(again.ran) == 1, "another trial in the place of the one that failed"
    assert len(study(tmp_path / "s").trials) == 5


def test_run_without_the_metric_fails_its_trial(run: Run, tmp_path: Path) -> None:
    assert run(Told(lambda words, environment: {"metrics": {"train/loss": 1.0}}), *SPACE, n_trials=1) == 1
    assert study(tmp_path / "s").trials[0].user_attrs[REASON] == "val/elbo is not among its metrics"


@pytest.mark.parametrize("kills", [1, 2])
def test_trial_whose_process_is_killed_goes_on_once_under_its_number(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    launcher = Told(lambda words, environment: -9 if len(launcher.ran) <= kills else finished(words, environment))
    assert run(launcher, *SPACE, n_trials=2) == (0 if kills == 1 else 1)
    trials = study(tmp_path / "s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE" if kills == 1 else "FAIL", "COMPLETE"]
    assert launcher.ran[0] == launcher.ran[1]
    said = capsys.readouterr()
    numbers = re.findall(r"^(?:error: )?\[(\d)/2\]", said.err + said.out, re.MULTILINE)
    assert set(numbers) == {"1", "2"}, "a run that goes on is counted once"
    if kills == 2:
        assert trials[0].user_attrs[REASON].startswith("its process was killed by SIGKILL")


def test_other_seeds_of_a_trial_that_was_stopped_are_not_trained(unchecked: None, run: Run, tmp_path: Path) -> None:
    def outcome(words: dict[str, str], environment: dict[str, str]) -> Outcome:
        number = environment.get("VAE_LIGHTNING_TRIAL")
        assert (number is not None) == (words["seed"] == "0"), "the first run reports"
        hopeless = number is not None and Reporter(tmp_path / "s", int(number))(1, -float(number))
        return {**finished(words, environment), **({"pruned": True} if hopeless else {})}  # type: ignore[dict-item]

    assert run(Told(outcome, count=2), *SPACE, "seed=0,1", n_trials=5, startup_trials=1) == 0
    trials = study(tmp_path / "s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert [len(trial.user_attrs["runs"]) for trial in trials] == [2, 2, 1, 1, 1]
    states = [status.state for status in statuses(tmp_path / "s", Record.read(tmp_path / "s"))]
    assert (states.count(State.FINISHED), states.count(State.PRUNED), len(states)) == (4, 3, 7)
    again = Told()
    assert run(again, *SPACE, "seed=0,1", n_trials=5) == 0
    assert again.ran == [], "what was stopped stays so"


def test_trial_with_the_values_of_an_earlier_one_takes_its_result(unchecked: None, run: Run, tmp_path: Path) -> None:
    launcher = Told()
    two = [*SPACE, "model.optimizer.lr=0.001", "model.latent_dim=2,3"]
    assert run(launcher, *two, n_trials=12) == 0
    trials = study(tmp_path / "s").trials
    assert (len(trials), len(launcher.ran)) == (12, 2)
    assert {trial.value for trial in trials} == {-3.6, -2.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.latent_dim=int(interval(0,5))"], "model.latent_dim=0: must be at least 1"),
        (
            ["model.latent_dim=interval(2,5)"],
            "model.latent_dim=interval(2,5): takes whole numbers; write model.latent_dim=int(interv",
        ),
        (["model.optimizer.name=adam,adma"], "model.optimizer.name=adma: unknown"),
        (["model.optimizer.lr=1e-3", "model.latent_dim=2"], "hydra/sweeper=optuna: nothing to search"),
        (["monitor=test/elbo"], "monitor=test/elbo: is measured after training"),
        (["callbacks=none", "monitor=test/elbo"], "monitor=test/elbo: what is searched for on test images"),
        (["callbacks=none", "monitor=val/kll"], "monitor=val/kll: did you mean val/kl? else say with monitor_mode"),
        (["trainer.limit_val_batches=0"], "hydra/sweeper=optuna: judges by val/elbo, so it needs validation"),
        (["seed=interval(0,3)"], "seed=interval(0,3): a trial is averaged over seeds"),
        (
            ["data.binarization=dynamic,threshold"],
            "data.binarization=threshold: its val/elbo is of shapes2d, binarization threshold, p(x), 784 pixels, and that of other",
        ),
        (
            ["data.binarization=none", "model/likelihood=bernoulli,gaussian"],
            "model/likelihood=gaussian: its val/elbo is of shapes2d",
        ),
    ],
)
def test_what_is_wrong_is_said_before_the_first_trial(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    launcher = Told()
    with pytest.raises(ConfigurationError) as error:
        run(launcher, *SPACE, *words, sweep="new/s")
    assert str(error.value).startswith(message)
    assert launcher.ran == []
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_other_search_and_other_sweep_in_a_folder_are_refused(run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, n_trials=1) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.json")}
    with pytest.raises(
        ConfigurationError, match=r"^model\.latent_dim: the search tries 2 to 20 by 1, and not 2 to 4 by 1; start an"
    ):
        run(Told(), *SPACE, "model.latent_dim=range(2,5)", n_trials=1)
    with pytest.raises(ConfigurationError, match=r"^trainer\.max_epochs=9: all jobs of the sweep have trainer\.max_epochs=3"):
        run(Told(), *SPACE, "trainer.max_epochs=9", n_trials=1)
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "s" / SEARCH).unlink()
    with pytest.raises(CheckpointError, match=r"search\.json: is missing, and with it what the search tries"):
        run(Told(), *SPACE, n_trials=1)
    (tmp_path / "s" / JOURNAL).unlink()
    with pytest.raises(ConfigurationError, match="s: is a sweep and no search; choose another folder"):
        run(Told(), *SPACE, n_trials=1)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine.txt").touch()
    with pytest.raises(ConfigurationError, match="t: holds what is no sweep; choose another folder"):
        run(Told(), *SPACE, n_trials=1, sweep="t")


def test_fewer_trials_than_there_are_is_refused(unchecked: None, run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, n_trials=3) == 0
    before = (tmp_path / "s" / SEARCH).read_bytes()
    with pytest.raises(ConfigurationError, match=r"^hydra\.sweeper\.n_trials=2: there are 3 trials already"):
        run(Told(), *SPACE, n_trials=2)
    assert (tmp_path / "s" / SEARCH).read_bytes() == before
    assert run(Told(), *SPACE, n_trials=4) == 0


def test_run_that_is_gone_is_named_with_the_command_that_trains_it_again(
    unchecked: None, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(Told(), *SPACE, n_trials=2) == 0
    gone = tmp_path / "s" / study(tmp_path / "s").trials[1].user_attrs["runs"][0]
    shutil.rmtree(gone)
    capsys.readouterr()
    assert run(Told(), *SPACE, n_trials=2) == WENT_WRONG
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gone:")]
    assert f"s/{gone.name}, whose value still counts; train it again: " in line
    assert "train.py " in line
    assert shlex.split(line)[-1] == f"hydra.run.dir='s/{gone.name}'"


def test_sweep_latest_of_a_search_is_a_search(run: Run, tmp_path: Path) -> None:
    assert run(Told(), *SPACE, n_trials=1, sweep="outputs/vae/s") == 0
    catalogue = Catalogue(CONF, "train")
    words = with_sweep(["sweep=latest", "hydra.sweeper.n_trials=9"], catalogue)
    assert words[0] == "-m"
    assert "hydra/sweeper=optuna" in words
    assert [word for word in words if "n_trials" in word] == ["hydra.sweeper.n_trials=9"]
    assert "hydra.sweeper.pruner=median" in words
    assert wanted().folder == tmp_path / "outputs/vae/s"
    (tmp_path / "outputs/vae/s" / SEARCH).write_text("{")
    with pytest.raises(CheckpointError, match=r"search\.json: is damaged"):
        with_sweep(["sweep=latest"], catalogue)
    (tmp_path / "outputs/vae/s" / SEARCH).unlink()
    with pytest.raises(CheckpointError, match=r"search\.json: is missing, and with it what the search tries"):
        with_sweep(["sweep=latest"], catalogue)
    folder = tmp_path / "outputs/vae/s"
    assert table_of(folder, Record.read(folder)).searched, "so that no test of what was searched for is shown as one"


def started(cwd: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    where = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, str(REPOSITORY / "train.py"), *words]
    return subprocess.Popen(command, cwd=cwd, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def searched(cwd: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    process = started(cwd, *words, **environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.slow
def test_command_trains_trials_and_stops_hopeless_ones(tmp_path: Path) -> None:
    """The whole way: conf/sweep/optuna.yaml, processes, the journal, and the callback."""
    space = ["model.net.hidden=[16]", "model.optimizer.lr=1e-2,1e-7", "model.latent_dim=2,3"]
    asked = ["hydra.sweeper.n_trials=3", "hydra.sweeper.startup_trials=1", "hydra.sweeper.sampler=random", "hydra.sweeper.seed=3"]
    result = searched(tmp_path, "sweep=optuna", *SMALL, "trainer.compile=false", *space, *asked)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "vae").glob("sweep_*")
    trials = study(folder).trials
    assert [(trial.params["model.optimizer.lr"], trial.state.name) for trial in trials] == [
        *((1e-2, "COMPLETE"), (1e-7, "PRUNED"), (1e-2, "COMPLETE"))
    ]
    assert list(trials[0].intermediate_values) == [1, 2, 3]
    assert list(trials[1].intermediate_values) == [1]
    for trial in trials[:2]:
        (name,) = trial.user_attrs["runs"]
        content = json.loads((folder / name / "metrics.json").read_text())
        assert content.get("pruned", False) == (trial.state.name == "PRUNED")
        assert content["metrics"]["val/elbo"] == pytest.approx(trial.value)
        assert (folder / name / "checkpoints" / "last.ckpt").is_file()
    again = searched(tmp_path, "sweep=latest")
    assert again.returncode == 0, again.stderr
    assert "3 of 3 trials, 2 complete, 1 pruned" in again.stdout


@pytest.mark.slow
def test_trials_train_in_one_stack_which_a_hopeless_one_leaves(tmp_path: Path) -> None:
    space = ["model.net.hidden=[8]", "model.optimizer.lr=1e-2,1e-3,1e-7"]
    asked = ["hydra.sweeper.n_trials=6", "hydra.sweeper.pruner=asha", "hydra.sweeper.reduction_factor=2"]
    drawn = ["hydra.sweeper.sampler=random", "hydra.sweeper.seed=3", "hydra/launcher=stacked"]
    result = searched(tmp_path, "-m", "hydra/sweeper=optuna", *SMALL, *space, *asked, *drawn, CXX="/bin/false")
    assert result.returncode == 0, result.stderr
    assert "not stacked" not in result.stdout
    (folder,) = (tmp_path / "outputs" / "vae").glob("sweep_*")
    states = {(trial.params["model.optimizer.lr"], trial.state.name) for trial in study(folder).trials}
    assert (1e-7, "PRUNED") in states
    assert (1e-2, "COMPLETE") in states


@pytest.mark.exhaustive
@pytest.mark.slow
def test_search_whose_process_is_killed_is_ended_by_two_commands_as_it_would_have_been(tmp_path: Path) -> None:
    long = [*SMALL, "trainer.max_epochs=20", "model.optimizer.lr=interval(1e-4,1e-2)", "model.latent_dim=2"]
    asked = ["sweep=optuna", *long, "hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=none"]
    whole = searched(tmp_path, *asked, "hydra.sweep.dir=whole")
    assert whole.returncode == 0, whole.stderr
    process = started(tmp_path, *asked, "hydra.sweep.dir=s")
    while not list((tmp_path / "s").glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    both = [started(tmp_path, *asked, "hydra.sweep.dir=s") for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    undisturbed, trials = study(tmp_path / "whole").trials, study(tmp_path / "s").trials
    assert [(trial.number, trial.params, trial.value) for trial in trials] == [
        (trial.number, trial.params, trial.value) for trial in undisturbed
    ]
    assert sum(line.startswith("trial ") for out, _ in said for line in out.splitlines()) <= 3, "each trial is run by one of them"
