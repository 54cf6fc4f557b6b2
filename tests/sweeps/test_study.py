"""The trials of a search in Optuna's journal: who works on which, and what Optuna's own tools find there."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.sweeps import study
from vae_lightning.sweeps.search import JOURNAL, Search, SearchSettings
from vae_lightning.sweeps.study import Reporter, Trials, require_optuna

SETTINGS = SearchSettings(n_trials=4, startup_trials=1)
SEARCHED = Search(SETTINGS, "val/elbo", "max", {"x": "0.0 to 1.0"}, ())


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna", reason="needs the extra optuna")


def trials(folder: Path, **settings: Any) -> Trials:
    search = replace(SEARCHED, settings=replace(SETTINGS, **settings))
    search.write(folder)
    return Trials(folder, search)


def loaded(optuna: Any, folder: Path) -> Any:
    """The study as Optuna's own tools find it."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))


def drawn(there: Trials, trial: Any) -> float:
    return float(there.drawing(trial).suggest_float("x", 0.0, 1.0))


def all_of(folder: Path, **settings: Any) -> list[float]:
    """Run all trials of a search whose value is the best at x = 0.3; what each drew."""
    values = []
    there = trials(folder, **settings)
    while True:
        with there.claimed(1) as mine:
            if not mine:
                return values
            values.append(drawn(there, mine[0]))
            there.complete(mine[0], -((values[-1] - 0.3) ** 2))


def test_without_optuna_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"^hydra/sweeper=optuna: needs Optuna: pip install 'vae_lightning\[optuna\]'$"):
        require_optuna()


def test_old_optuna_is_refused(optuna: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    require_optuna()
    monkeypatch.setattr(optuna, "__version__", "2.10.1")
    with pytest.raises(ConfigurationError, match=r"needs Optuna 4 or newer, and 2\.10\.1 is installed"):
        require_optuna()


def test_optuna_reads_what_came_out(optuna: Any, tmp_path: Path) -> None:
    there = trials(tmp_path)
    with there.claimed(3) as mine:
        assert [trial.number for trial in mine] == [0, 1, 2]
        values = [drawn(there, trial) for trial in mine]
        there.name(mine[0], ["a", "b"])
        assert not Reporter(tmp_path, 0)(1, -3.5)
        there.complete(mine[0], -3.5)
        assert Reporter(tmp_path, 1)(1, -9.0), "it is worse than the median of those that came to their end"
        there.prune(mine[1])
        there.fail(mine[2], "the disk is full")
    found = loaded(optuna, tmp_path)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [trial.params for trial in found.trials] == [{"x": value} for value in values]
    assert found.best_trial.value == -3.5
    assert found.best_trial.user_attrs["runs"] == ["a", "b"]
    assert found.trials[1].intermediate_values == {1: -9.0}
    assert found.trials[2].user_attrs["reason"] == "the disk is full"
    assert there.counted() == {"complete": 1, "pruned": 1, "fail": 1}
    assert there.failed_now()


def test_trial_of_a_process_that_died_is_gone_on_with_under_its_number(optuna: Any, tmp_path: Path) -> None:
    first = trials(tmp_path)
    with first.claimed(1) as mine:
        value = drawn(first, mine[0])
    second = trials(tmp_path)  # the first one holds nothing any more
    with second.claimed(2) as mine:
        assert [trial.number for trial in mine] == [0, 1]
        assert drawn(second, mine[0]) == value
        assert drawn(second, mine[1]) != value


def test_trial_that_died_before_it_drew_draws_what_it_would_have(optuna: Any, tmp_path: Path) -> None:
    whole = all_of(tmp_path / "whole")
    first = trials(tmp_path / "killed")
    with first.claimed(1):
        pass
    assert all_of(tmp_path / "killed") == whole


def test_two_commands_share_the_trials(optuna: Any, tmp_path: Path) -> None:
    one, two = trials(tmp_path), trials(tmp_path)
    with one.claimed(1) as mine, two.claimed(5) as theirs:
        assert [trial.number for trial in mine] == [0]
        assert [trial.number for trial in theirs] == [1, 2, 3], "there are four in all"
        with one.claimed(1) as more:
            assert more == [], "the others are being run"


def test_failed_trials_count_for_the_command_that_they_failed_under_alone(optuna: Any, tmp_path: Path) -> None:
    there = trials(tmp_path)
    for number in range(4):
        with there.claimed(1) as mine:
            assert [trial.number for trial in mine] == [number]
            there.fail(mine[0], "no") if number % 2 else there.complete(mine[0], 1.0)
    with there.claimed(1) as mine:
        assert mine == []
    again = trials(tmp_path)
    assert not again.failed_now()
    with again.claimed(9) as mine:
        assert [trial.number for trial in mine] == [4, 5]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@pytest.mark.filterwarnings("ignore::Warning")
def test_search_that_was_stopped_draws_what_one_would_that_was_not(optuna: Any, tmp_path: Path, sampler: str) -> None:
    whole = all_of(tmp_path / "whole", n_trials=14, sampler=sampler)
    all_of(tmp_path / "parts", n_trials=5, sampler=sampler)
    all_of(tmp_path / "parts", n_trials=11, sampler=sampler)
    all_of(tmp_path / "parts", n_trials=14, sampler=sampler)
    assert [trial.params["x"] for trial in loaded(optuna, tmp_path / "parts").trials] == whole
    assert len(set(whole)) == 14
    if sampler == "tpe":
        assert sum(abs(x - 0.3) for x in whole[10:]) < sum(abs(x - 0.3) for x in whole[:10]) / 10 * 4, "it learns"


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@pytest.mark.filterwarnings("ignore::Warning")
def test_each_trial_draws_its_own_of_what_has_no_order(optuna: Any, sampler: str) -> None:
    """Also where the sampler leaves that to another one, which Optuna 4 does for a low-discrepancy sequence."""
    settings, kinds = replace(SETTINGS, sampler=sampler), optuna.distributions.CategoricalDistribution(("a", "b", "c"))
    drawn = [
        study.sampler_of(settings, number).sample_independent(there, there.ask(), "net", kinds)
        for there in [optuna.create_study()]
        for number in range(12)
    ]
    assert set(drawn) == {"a", "b", "c"}


@pytest.mark.parametrize(("pruner", "stopped"), [("median", {1, 2}), ("asha", {1, 2}), ("none", set())])
def test_pruners_stop_what_is_worse(optuna: Any, tmp_path: Path, pruner: str, stopped: set[int]) -> None:
    there = trials(tmp_path, pruner=pruner)
    with there.claimed(3) as mine:
        found = {}
        for trial, value in zip(mine, (-1.0, -5.0, -4.0), strict=True):
            found[trial.number] = [Reporter(tmp_path, trial.number)(step, value) for step in (1, 2)]
            if not any(found[trial.number]):
                there.complete(trial, value)
        assert {number for number, hopeless in found.items() if any(hopeless)} == stopped
        assert Reporter(tmp_path, 0)(1, -100.0) is False, "a value that was reported stays"
    assert loaded(optuna, tmp_path).trials[0].intermediate_values == {1: -1.0, 2: -1.0}


def test_end_of_a_journal_that_is_no_line_is_cut_off_and_said(
    optuna: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    all_of(tmp_path, n_trials=2)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    assert len(all_of(tmp_path, n_trials=3)) == 1
    assert len(loaded(optuna, tmp_path).trials) == 3
    (said,) = (record.getMessage() for record in caplog.records if record.name == study.__name__)
    assert said.startswith(f"{tmp_path / JOURNAL}: ended within a line")


def test_damaged_journal_is_refused_by_its_path(optuna: Any, tmp_path: Path) -> None:
    all_of(tmp_path, n_trials=2)
    content = (tmp_path / JOURNAL).read_text()
    (tmp_path / JOURNAL).write_text(f"nonsense\n{content}")
    with pytest.raises(CheckpointError, match=rf"{JOURNAL}: is damaged \("):
        trials(tmp_path)


@pytest.mark.parametrize(
    ("names", "direction", "key", "message"),
    [
        (["a"], "minimize", "x", "its study is to minimize, and the search to maximize"),
        (["a"], "maximize", "other", "its trials vary other, and the search does not"),
        (["a", "b"], "maximize", "x", "does not hold one study"),
    ],
)
def test_journal_of_another_search_is_refused(
    optuna: Any, tmp_path: Path, names: list[str], direction: str, key: str, message: str
) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL)))
    for name in names:
        foreign = optuna.create_study(study_name=name, storage=storage, direction=direction)
        foreign.optimize(lambda trial: trial.suggest_float(key, 0.0, 1.0), n_trials=1)
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}/{JOURNAL}: {message}.*; move it elsewhere"):
        trials(tmp_path)


def test_journal_that_has_lost_its_beginning_is_no_new_study(tmp_path: Path) -> None:
    all_of(tmp_path, n_trials=2)
    _, _, rest = (tmp_path / JOURNAL).read_text().partition("\n")
    (tmp_path / JOURNAL).write_text(rest)
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}/{JOURNAL}: .*; move it elsewhere"):
        trials(tmp_path)
    assert (tmp_path / JOURNAL).read_text() == rest


@pytest.mark.parametrize("line", ["[]", "null", '{"op_code": 99, "worker_id": "a"}'])
def test_journal_of_what_optuna_does_not_know_is_refused(optuna: Any, tmp_path: Path, line: str) -> None:
    all_of(tmp_path, n_trials=1)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(CheckpointError, match=rf"{JOURNAL}: .*; move it elsewhere"):
        trials(tmp_path)


@pytest.mark.parametrize("name", [JOURNAL, ".sweep/search.lock", ".sweep/locks"])
def test_files_that_lead_elsewhere_are_not_written_to(optuna: Any, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    link = tmp_path / "s" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="is a link that leads out of its folder"):
        trials(tmp_path / "s")
    assert elsewhere.read_text() == "mine\n"


def test_renamed_folder_keeps_its_study(optuna: Any, tmp_path: Path) -> None:
    all_of(tmp_path / "a", n_trials=2)
    (tmp_path / "a").rename(tmp_path / "b")
    with ExitStack() as held:
        mine = held.enter_context(trials(tmp_path / "b", n_trials=9).claimed(1))
        assert [trial.number for trial in mine] == [2]
