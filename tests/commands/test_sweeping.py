"""What the words of a sweep's command say, and what of them Hydra sees."""

import os
from pathlib import Path

import pytest

from vae_lightning.commands import job
from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.sweeping import evaluated_sweep, latest, wanted, with_sweep, without_sweep
from vae_lightning.commands.trusted import TRUSTS
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.sweeps.record import JOBS, Asked, Record


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRUSTS, raising=False)


def given(*words: str) -> list[str]:
    return with_sweep(words, Catalogue(CONF, "train"))


def sweep(folder: Path, *words: str, start: Path | None = None, flags: tuple[str, ...] = ()) -> Path:
    record = Record.empty(str(start or Path.cwd())).with_jobs([Asked(("seed=0",), {"seed": 0}, "a")], ["seed"], words, flags)
    record.write(folder)
    return folder


def test_other_commands_stay_as_they_are() -> None:
    for words in (
        ["seed=1"],
        ["--cfg", "job", "-m", "seed=1,2"],
        ["--help", "-m"],
        ["sweep=null", "seed=1"],
        ["hydra.verbose=true"],
    ):
        assert given(*words) == words
        assert wanted().words is None


def test_settings_are_kept_from_hydra_but_for_what_says_where_the_sweep_goes() -> None:
    words = [
        "-m",
        "model=beta_vae",
        "model.beta=1,4",
        "model/prior=mog,vamp",
        "name=x",
        "hydra.sweep.dir=s",
        "hydra/launcher=basic",
    ]
    assert given(*words) == ["-m", "hydra.sweep.dir=s", "hydra/launcher=basic", "model=beta_vae"]
    assert wanted().words == ("model=beta_vae", "model.beta=1,4", "model/prior=mog,vamp", "name=x")
    assert not wanted().everything
    assert given("-m", "model=vae,beta_vae", "model.beta=2") == ["-m"]
    assert given("hydra.mode=MULTIRUN", "seed=0,1") == ["-m", "hydra.mode=MULTIRUN"]


def test_a_job_of_a_sweep_is_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(job.JOB, "sweep/seed=0")
    assert given("-m", "seed=0,1") == ["-m", "seed=0,1"]


def test_new_does_not_look_for_an_earlier_one() -> None:
    assert given("sweep=new", "seed=0,1") == ["-m"]
    assert wanted().new
    assert wanted().words == ("seed=0,1",)


def test_folder_alone_wants_all_its_jobs_with_what_hydra_was_told(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "s", "seed=0,1", flags=("--config-dir", "conf", "hydra.searchpath=[pkg://pytorch_lightning.x]"))
    for value in (str(folder), f"'{folder}'", str(folder / "seed=0")):
        assert given(f"sweep={value}", "hydra.launcher.jobs=2") == [
            *("-m", "--config-dir", "conf", "hydra.searchpath=[pkg://pytorch_lightning.x]", "hydra.launcher.jobs=2")
        ]
        assert (wanted().folder, wanted().everything) == (folder, True)
        (folder / "seed=0").mkdir(exist_ok=True)


def test_settings_beside_a_folder_win_over_its_own(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "s", "model=beta_vae", "model.beta=1,4", "seed=0,1")
    given(f"sweep={folder}", "model.beta=10", "model.latent_dim=2,4")
    assert wanted().words == ("model=beta_vae", "seed=0,1", "model.beta=10", "model.latent_dim=2,4")
    assert not wanted().everything


def test_latest_is_the_sweep_begun_or_extended_last(tmp_path: Path) -> None:
    old, new = sweep(tmp_path / "outputs/vae/a"), sweep(tmp_path / "outputs/vae/b")
    os.utime(old / JOBS, (1, 1))
    assert latest() == new
    os.utime(new / JOBS, (0, 0))
    given("-m", "sweep=latest")
    assert wanted().folder == old


def test_relative_paths_are_those_of_the_first_command(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    given(f"sweep={sweep(tmp_path / 's', start=tmp_path / 'elsewhere')}")
    assert Path.cwd() == tmp_path / "elsewhere"
    os.chdir(tmp_path)
    given(f"sweep={sweep(tmp_path / 's', start=tmp_path / 'gone')}")
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["sweep=nowhere"], CheckpointError, "sweep=nowhere: there is no such folder"),
        (["sweep=."], CheckpointError, "is no folder of a sweep"),
        (["sweep=latest"], CheckpointError, "sweep=latest: there is no sweep below outputs; start one"),
        (["sweep=new", "sweep=latest"], ConfigurationError, "sweep=latest: one sweep at a time"),
    ],
)
def test_what_is_no_sweep_is_refused(words: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        given(*words)


def test_configs_of_a_strangers_sweep_are_not_imported(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "s", flags=("hydra.searchpath=[pkg://theirs.conf]",))
    with pytest.raises(CheckpointError, match=r"trust=\[theirs\]"):
        given(f"sweep={folder}")
    given(f"sweep={folder}", "trust=[theirs]")
    assert os.environ[TRUSTS] == "theirs"


def test_evaluation_of_a_sweep_is_kept_from_hydra() -> None:
    catalogue = Catalogue(CONF, "evaluate")
    assert without_sweep(["--cfg", "job", "sweep=latest", "jobs=2"], catalogue) == ["--cfg", "job", "jobs=2"]
    assert evaluated_sweep() == "latest"
    assert without_sweep(["run=latest"], catalogue) == ["run=latest"]
    assert evaluated_sweep() is None
