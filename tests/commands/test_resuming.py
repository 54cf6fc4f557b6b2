"""A run that was stopped anywhere is resumed by its folder, and a command that cannot be meant so is refused in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from vae_lightning import runs
from vae_lightning.commands import resuming
from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.resuming import RESUMES, merged, with_resumed
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.train import Result, train
from vae_lightning.errors import CheckpointError, ConfigurationError

Compose = Callable[..., DictConfig]
REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN = Catalogue(CONF, "train")
SMALL = (
    *("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100", "model.net.hidden=[8]"),
    *("model.latent_dim=2", "trainer.log_every_n_steps=1", "logger=csv", "trainer.max_epochs=2"),
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget which run was resumed, before and after a test."""
    monkeypatch.setenv(RESUMES, "")
    monkeypatch.delenv(RESUMES)
    yield
    os.environ.pop(RESUMES, None)


def recorded(folder: Path, *words: str, cwd: Path | None = None, hydras: tuple[str, ...] = (), **more: Any) -> Path:
    """Write into `folder` what a command of these words leaves in .hydra."""
    config = {"run_dir": str(folder), "ckpt_path": None, "name": None, "trainer": {"max_epochs": 10, "max_steps": -1}}
    own = {"hydra": {"runtime": {"cwd": str(cwd or Path.cwd())}, "overrides": {"hydra": list(hydras)}, "job": {"name": "train"}}}
    (folder / ".hydra").mkdir(parents=True)
    for name, content in (("config", config | more), ("overrides", list(words)), ("hydra", own)):
        OmegaConf.save(OmegaConf.create(content), folder / ".hydra" / f"{name}.yaml")
    return folder


def stands(folder: Path, name: str = "last.ckpt") -> Path:
    """Write a checkpoint, as small as one can be, into `folder`."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    torch.save({"state_dict": {}, "global_step": 1, "epoch": 0}, folder / "checkpoints" / name)
    return folder / "checkpoints" / name


def ended(folder: Path, **more: Any) -> None:
    (folder / "metrics.json").write_text(json.dumps({"metrics": {}, **more}))


def resumed(*words: str) -> list[str]:
    return with_resumed(words, TRAIN)


# ---- the words


def test_a_run_s_own_words_then_those_typed_then_its_place(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "a b=c,d", "model=iwae", "seed=3", "ckpt_path=/gone/last.ckpt", hydras=("hydra.run.dir=x",))
    last = stands(folder)
    words = resumed(f"resume={folder}", "seed=4")
    assert words == ["model=iwae", "seed=4", f"hydra.run.dir='{folder}'", f"ckpt_path='{last}'"]
    assert resuming.resumes(folder)
    assert not resuming.resumes(tmp_path)


@pytest.mark.parametrize("part", ["", "checkpoints", "..", "."])
def test_a_run_is_named_by_parts_of_it_too(tmp_path: Path, part: str) -> None:
    folder = recorded(tmp_path / "only" / "run")
    last = stands(folder)
    assert f"ckpt_path={last}" in resumed(f"resume={folder / part}")


def test_without_resume_a_command_line_is_as_it_was() -> None:
    assert resumed("model=vae", "resume=null") == ["model=vae"]
    assert RESUMES not in os.environ


@pytest.mark.parametrize(
    ("before", "typed", "after"),
    [
        (["seed=1", "name=a"], ["seed=2"], ["name=a", "seed=2"]),
        (["+a.b=1"], ["a.b=2"], ["+a.b=1", "a.b=2"]),
        (["+a.b=1", "a.b=2"], ["a.b=3"], ["+a.b=1", "a.b=3"]),
        (["+a.b=1"], ["+a.b=2"], ["+a.b=1", "a.b=2"]),
        (["+a.b=1"], ["~a.b"], []),
        (["a.b=1"], ["~a.b"], ["~a.b"]),
        (["~a.b"], ["a.b=1"], ["a.b=1"]),
        (["+extra=one"], ["extra=two"], ["+extra=two"]),
        (["model/net=mlp"], ["model/net=cnn3", "seed=1"], ["model/net=cnn3", "seed=1"]),
    ],
)
def test_the_later_word_wins_by_key(before: list[str], typed: list[str], after: list[str]) -> None:
    assert merged(before, typed) == after


def test_settings_that_another_option_has_no_place_for_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("callbacks=early_stopping", "callbacks.early_stopping.patience=3", "callbacks.animation.frames=5")
    folder = recorded(tmp_path / "run", *words)
    stands(folder)
    assert resumed(f"resume={folder}", "callbacks=default")[:2] == ["callbacks.animation.frames=5", "callbacks=default"]
    assert "callbacks.early_stopping.patience=3 is left out" in capsys.readouterr().err
    assert "callbacks.early_stopping.patience=3" in resumed(f"resume={folder}", "callbacks=early_stopping")


def test_relative_paths_are_those_of_the_directory_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for place in (there / "data", here / "both", there / "both", here / "moved"):
        place.mkdir(parents=True)
    data = {"root": "data", "static_root": "both", "path": "moved"}
    folder = recorded(tmp_path / "run", "data.root=data", cwd=there, data=data, hydras=("hydra.searchpath=[file://conf]",))
    stands(folder)
    monkeypatch.chdir(here)
    words = resumed(f"resume={folder}")
    assert words[:2] == [f"hydra.searchpath=[file://{there}/conf]", "data.root=data"]
    assert f"data.root={there}/data" in words
    assert f"data.static_root={there}/both" in words
    assert not [word for word in words if word.startswith("data.path")], "is not there, but here"
    assert f"data.root={there}/data" not in resumed(f"resume={folder}", "data.root=/other")
    shutil.rmtree(there)  # on another machine
    assert not [word for word in resumed(f"resume={folder}") if str(there) in word and "searchpath" not in word]


def test_a_value_of_the_environment_is_the_one_of_then(tmp_path: Path) -> None:
    words = ("data.root=${oc.env:SOMEWHERE}", "seed=${oc.env:NUMBER}")
    folder = recorded(tmp_path / "run", *words, data={"root": "/then"}, seed=7)
    stands(folder)
    assert resumed(f"resume={folder}")[:2] == ["data.root=/then", "seed=7"]


def test_config_directories_of_the_run_are_searched_again(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run")
    stands(folder)
    path = folder / ".hydra" / "hydra.yaml"
    content = OmegaConf.load(path)
    (tmp_path / "mine").mkdir()
    content.hydra.runtime.config_sources = [{"path": str(tmp_path / "mine"), "provider": "command-line"}]
    content.hydra.job.config_name = "other"
    OmegaConf.save(content, path)
    assert resumed(f"resume={folder}")[:4] == ["--config-dir", str(tmp_path / "mine"), "--config-name", "other"]
    assert resumed(f"resume={folder}", "--config-dir=/new", "-cn", "x")[:3] == ["--config-dir=/new", "-cn", "x"]
    (tmp_path / "mine").rmdir()
    with pytest.raises(ConfigurationError, match=r"--config-dir .*mine: is gone"):
        resumed(f"resume={folder}")


# ---- where it stands


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded(tmp_path / "run")
    last, previous = stands(folder), stands(folder, "last.previous.ckpt")
    last.write_bytes(last.read_bytes()[:200])
    assert f"ckpt_path={previous}" in resumed(f"resume={folder}")
    assert capsys.readouterr().err.count("\n") == 1
    previous.unlink()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: is damaged"):
        resumed(f"resume={folder}")


def test_checkpoints_that_a_setting_put_elsewhere_are_found(tmp_path: Path) -> None:
    def callbacks(where: str) -> dict[str, Any]:
        return {"last": {"_target_": "vae_lightning.callbacks.LastCheckpoint", "dirpath": where}}

    other = stands(recorded(tmp_path / "other"))
    folder = recorded(tmp_path / "run", callbacks=callbacks(str(other.parent)))
    assert f"ckpt_path={other}" in resumed(f"resume={folder}")
    moved = recorded(tmp_path / "moved", run_dir="/was/here", callbacks=callbacks("/was/here/checkpoints"))
    assert f"ckpt_path={stands(moved)}" in resumed(f"resume={moved}")


def test_a_run_without_a_checkpoint_begins_anew_or_where_it_went_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resumed(f"resume={recorded(tmp_path / 'run', 'seed=1')}") == ["seed=1", f"hydra.run.dir={tmp_path}/run"]
    assert "has no checkpoint yet, so it begins anew" in capsys.readouterr().err
    other = stands(recorded(tmp_path / "other"))
    later = recorded(
        tmp_path / "later", "ckpt_path=other/checkpoints/last.ckpt", cwd=tmp_path, ckpt_path="other/checkpoints/last.ckpt"
    )
    assert f"ckpt_path={other}" in resumed(f"resume={later}")
    gone = recorded(tmp_path / "gone", ckpt_path=f"{tmp_path}/gone/checkpoints/last.ckpt")
    with pytest.raises(ConfigurationError, match="is gone, and there is no newer one"):
        resumed(f"resume={gone}")


# ---- refused, in one line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m",), "-m: one run is resumed at a time"),
        (("hydra.mode=MULTIRUN",), "-m: one run is resumed at a time"),
        (("ckpt_path=a.ckpt",), "ckpt_path: resume=.* goes on from its newest checkpoint"),
        (("hydra.run.dir=b",), "hydra.run.dir: resume=.* goes on in its own folder"),
        (("run_dir=b",), "run_dir: resume=.* goes on in its own folder"),
        (("resume=b",), "resume=b: one run is resumed at a time"),
        (("resume",), "resume: settings are written key=value"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    folder = recorded(tmp_path / "run")
    stands(folder)
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        resumed(f"resume={folder}", *words)
    assert RESUMES not in os.environ


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "overrides.yaml",
            None,
            r"overrides\.yaml: is missing, so the run cannot be resumed by its folder alone; give its settings",
        ),
        ("hydra.yaml", None, r"hydra\.yaml: is missing"),
        ("config.yaml", None, "is not a run folder"),
        ("overrides.yaml", "a: [", r"overrides\.yaml: is damaged"),
        ("overrides.yaml", "a: 1", r"overrides\.yaml: is damaged: it is no list of settings"),
        ("overrides.yaml", "[--config-dir=/evil]", r"overrides\.yaml: is damaged: '--config-dir=/evil' is no setting"),
        ("overrides.yaml", "[hydra.job.env_set.A=1]", "is damaged: 'hydra.job.env_set.A=1' is no setting"),
        ("overrides.yaml", "[seed]", "is damaged: 'seed' is no setting"),
        ("overrides.yaml", "[3]", "is damaged: 3 is no setting"),
        ("hydra.yaml", "[]", r"hydra\.yaml: is damaged"),
        ("hydra.yaml", "\x00", r"hydra\.yaml: is damaged"),
        ("hydra.yaml", "hydra: {overrides: {hydra: [[]]}}", r"hydra\.yaml: is damaged: its overrides\.hydra is \[\[\]\]"),
        ("hydra.yaml", "hydra: {overrides: {hydra: a}}", r"hydra\.yaml: is damaged: its overrides\.hydra is 'a'"),
        ("hydra.yaml", "hydra: {runtime: {config_sources: [3]}}", r"is damaged: its runtime\.config_sources is \[3\]"),
        ("hydra.yaml", "hydra: {runtime: {config_sources: 3}}", r"is damaged: its runtime\.config_sources is 3"),
        ("config.yaml", "3", r"config\.yaml: is damaged"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = recorded(tmp_path / "run")
    stands(folder)
    path = folder / ".hydra" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises((ConfigurationError, CheckpointError), match=message) as refusal:
        resumed(f"resume={folder}")
    assert "\n" not in str(refusal.value)


def test_what_is_no_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    last = stands(recorded(tmp_path / "run"))
    for path, message in (
        ("nix", "there is no such folder"),
        (str(last), "is a file; give the run folder"),
        ("", "give a run folder"),
        ("latest", "there is no run below outputs"),
    ):
        with pytest.raises((ConfigurationError, CheckpointError), match=message):
            resumed(f"resume={path}")


def test_a_finished_run_says_what_to_ask_for(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run")
    stands(folder)
    ended(folder)
    with pytest.raises(ConfigurationError, match=r"is finished; ask for more, such as resume=.*run trainer\.max_epochs=20$"):
        resumed(f"resume={folder}")
    assert "trainer.max_epochs=20" in resumed(f"resume={folder}", "trainer.max_epochs=20")
    own = {"_target_": "mine.Stopping", "patience": 3}
    more = {"trainer": {"max_epochs": 4, "max_steps": 100}, "callbacks": {"early_stopping": own}, "model": {}}
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(more))
    wanted = "trainer.max_steps=200 trainer.max_epochs=8 callbacks.early_stopping.patience=6 'trust=[mine]'"
    with pytest.raises(ConfigurationError, match=rf"such as 'resume=.*run more' {re.escape(wanted)}$"):
        resumed(f"resume={folder.rename(tmp_path / 'run more')}")
    folder = (tmp_path / "run more").rename(folder)
    ended(folder, interrupted=True)
    assert resumed(f"resume={folder}")
    ended(folder, metrics={"test/elbo": "abc"})
    assert resumed(f"resume={folder}"), "a damaged record is no end"
    ended(folder, not_finite={"what": "train/loss"})
    with pytest.raises(ConfigurationError, match=r"was ended by train/loss, which was not finite.* smaller model\.optimizer\.lr"):
        resumed(f"resume={folder}")


def test_latest_is_the_run_that_was_trained_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for age, name in ((50, "old"), (40, "sweep/0_x"), (30, "new")):
        folder = recorded(tmp_path / "outputs" / "vae" / name)
        for path in (folder / ".hydra" / "config.yaml", *([stands(folder)] if name == "old" else [])):
            os.utime(path, (1000 - age, 1000 - age))
    assert f"hydra.run.dir={tmp_path}/outputs/vae/new" in resumed("resume=latest")
    os.utime(tmp_path / "outputs" / "vae" / "old" / "checkpoints" / "last.ckpt", (990, 990))
    assert f"hydra.run.dir={tmp_path}/outputs/vae/old" in resumed("resume=latest")
    ended(tmp_path / "outputs" / "vae" / "old")
    with pytest.raises(
        ConfigurationError, match=r"old is finished; .*of those that are not, the newest is resume=outputs/vae/new$"
    ):
        resumed("resume=latest")


# ---- the training


def resumed_in(folder: Path, compose_into: Compose, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    """Resume the run in `folder`, as a command does whose words were `words`."""
    monkeypatch.setenv(RESUMES, str(folder))
    return train(compose_into(folder, *words))


def table(folder: Path) -> list[str]:
    """The rows of the CSV log, without those of timings."""
    header, *rows = (line.split(",") for line in (folder / "csv" / "metrics.csv").read_text().splitlines())
    timings = [place for place, name in enumerate(header) if name.startswith("time/")]
    return [",".join(row) for row in rows if not any(row[place] for place in timings)]


@pytest.fixture(scope="module")
def finished(compose_into: Compose, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train(compose_into(tmp_path_factory.mktemp("finished") / "run", *SMALL, "callbacks.animation.frames=3"))


@pytest.fixture
def copy(finished: Result, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "moved"))


def test_killed_before_its_metrics_only_the_end_is_made(
    finished: Result, copy: Path, compose_into: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "metrics.json").unlink()
    (copy / "test_per_image.npz").write_bytes(b"of another test")
    (copy / "checkpoints" / "kept.ckpt").write_bytes((copy / "checkpoints" / "last.ckpt").read_bytes())
    last = f"ckpt_path={copy}/checkpoints/last.ckpt"
    with pytest.raises(ConfigurationError, match="so nothing is left to train"):
        train(compose_into(copy, *SMALL, last))
    result = resumed_in(copy, compose_into, monkeypatch, *SMALL, "callbacks.animation.frames=3", last)
    assert result.metrics == finished.metrics
    assert {key.partition("/")[0] for key in result.metrics} == {"train", "val", "test"}
    assert table(copy) == table(finished.folder)
    assert (copy / "checkpoints" / "last.ckpt").read_bytes() == (copy / "checkpoints" / "kept.ckpt").read_bytes()
    assert sorted(path.name for path in (copy / "animation").iterdir()) == sorted(
        path.name for path in (finished.folder / "animation").iterdir()
    )
    again = json.loads((copy / "metrics.json").read_text())
    assert again["provenance"]["continued_from"]["changed"] == {}
    assert (copy / "test_per_image.npz").read_bytes() == (finished.folder / "test_per_image.npz").read_bytes()


def test_killed_before_its_first_checkpoint_it_begins_anew(
    finished: Result, copy: Path, compose_into: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "checkpoints")
    (copy / "metrics.json").unlink()
    with pytest.raises(ConfigurationError, match="is of another run"):
        train(compose_into(copy, *SMALL))
    result = resumed_in(copy, compose_into, monkeypatch, *SMALL, "callbacks.animation.frames=3")
    assert result.metrics == finished.metrics
    assert table(copy) == table(finished.folder)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_more_than_was_asked_is_recorded_and_said_where_it_differs(
    compose_into: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, schedule: str
) -> None:
    own = (*SMALL, f"model.lr_schedule.name={schedule}")
    part = train(compose_into(tmp_path / "part", *own)).folder
    longer = ("trainer.max_epochs=3", f"ckpt_path={part}/checkpoints/last.ckpt")
    rest = resumed_in(part, compose_into, monkeypatch, *own, *longer)
    record = json.loads((part / "metrics.json").read_text())["provenance"]["continued_from"]
    assert record["changed"] == {"trainer.max_epochs": {"was": 2, "is": 3}}
    assert (part / ".hydra" / "until_step_8" / "metrics.json").is_file()
    said = "model.lr_schedule.name=cosine follows the new length from step 8 on" in caplog.text
    monkeypatch.delenv(RESUMES)
    whole = train(compose_into(tmp_path / "whole", *own, "trainer.max_epochs=3"))
    assert said == (schedule == "cosine")
    assert (rest.metrics == whole.metrics) == (schedule == "constant")
    if schedule == "constant":
        assert table(part) == table(whole.folder), "the rows of the end of the shorter training are set aside"


def test_records_of_a_step_are_kept_though_training_goes_on_from_it_again(
    copy: Path, compose_into: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = copy / "checkpoints" / "early.ckpt"
    shutil.copyfile(copy / "checkpoints" / "last.ckpt", early)
    for epochs in (3, 4):
        resumed_in(copy, compose_into, monkeypatch, *SMALL, f"trainer.max_epochs={epochs}", f"ckpt_path={early}")
    kept = [OmegaConf.load(copy / ".hydra" / name / "config.yaml") for name in ("until_step_8", "until_step_8_2")]
    assert [config.trainer.max_epochs for config in kept] == [2, 3]


def test_a_moved_run_keeps_its_best_checkpoint(copy: Path, compose_into: Compose, finished: Result) -> None:
    aside = finished.folder.with_name("aside")
    finished.folder.rename(aside)
    try:
        on = ("trainer.max_epochs=3", "model.optimizer.lr=1e-12", f"ckpt_path={copy}/checkpoints/last.ckpt")
        result = train(compose_into(copy, *SMALL, *on))
    finally:
        aside.rename(finished.folder)
    assert result.trainer.checkpoint_callback.best_model_path == f"{copy}/checkpoints/best.ckpt"  # type: ignore[union-attr]


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(REPOSITORY / "train.py"), *words]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_resumes_from_another_directory_under_another_name(tmp_path: Path, finished: Result) -> None:
    small = (*SMALL, "trainer.gpus=0", "trainer.limit_train_batches=4", "data.batch_size=32")
    assert command(*small, "hydra.run.dir=part", "trainer.max_epochs=1", cwd=tmp_path).returncode == 0
    assert command(*small, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    (tmp_path / "else where").mkdir()
    moved = (tmp_path / "part").rename(tmp_path / "else where" / "p=a,rt")
    done = command(f"resume={moved}", cwd=tmp_path / "else where")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is finished; ask for more" in done.stderr
    more = command("resume=p=a,rt", "trainer.max_epochs=2", cwd=tmp_path / "else where")
    assert more.returncode == 0, more.stderr
    assert "GPU available" not in more.stderr, "Lightning's own words belong into train.log"
    assert (moved / "train.log").read_text().count("GPU available") == 2
    records = [json.loads((folder / "metrics.json").read_text()) for folder in (moved, tmp_path / "whole")]
    assert records[0]["metrics"] == records[1]["metrics"]
    assert "ckpt_path" not in records[0]["provenance"]["command"], "the command makes the run from its beginning"
    assert runs.history(moved)["train/elbo"][0].tolist() == list(range(8))


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_as_if_they_had_not_been(tmp_path: Path, mnist_root: Path) -> None:
    stress = [
        str(REPOSITORY / "tests" / "stress" / "resume.py"),
        "--runs",
        "2",
        "--kills",
        "2",
        "--only",
        "early stopping that stops",
    ]
    line = [sys.executable, *stress, "--data", str(mnist_root), "--folder", str(tmp_path / "stress")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 0 |" in done.stdout


def test_help_lists_resume() -> None:
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        template = hydra.compose("train", return_hydra_config=True).hydra.help.template
    assert "resume=" in template
