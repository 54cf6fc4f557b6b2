"""A command that is a job of a sweep, or several jobs of a stack: why it ended without a result, and where it goes on."""

import json
from pathlib import Path

import pytest

from vae_lightning.commands import job
from vae_lightning.commands.commandline import CONF, _of_a_sweep, one_line_errors
from vae_lightning.commands.job import JobOfStack, environment_of, environment_of_stack, is_stack, jobs_of_stack
from vae_lightning.commands.resuming import RESUMES, resumes, with_begun
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.errors import ConfigurationError


@pytest.fixture
def reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in job.environment_of(tmp_path / "run", tmp_path / "reason.json").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return tmp_path / "reason.json"


def test_without_an_environment_a_command_is_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not job.is_job()
    assert job.job_folder() is None
    job.note_reason("nobody asked")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigurationError("model.latent_dim=0: must be at least 1"), "model.latent_dim=0: must be at least 1"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_error_of_a_job_is_its_reason(reason: Path, tmp_path: Path, error: Exception, said: str) -> None:
    assert job.job_folder() == tmp_path / "run"
    with pytest.raises((SystemExit, ZeroDivisionError)), one_line_errors():
        raise error
    assert json.loads(reason.read_text()) == {"reason": said}


def test_ctrl_c_is_no_reason(reason: Path) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise KeyboardInterrupt
    assert not reason.exists()


def test_of_several_processes_the_first_one_speaks(reason: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    job.note_reason("another process has died")
    assert not reason.exists()


def test_job_that_has_not_begun_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RESUMES, raising=False)
    assert with_begun(["seed=1"], tmp_path) == ["seed=1"]
    assert not resumes(tmp_path)


def test_job_that_was_stopped_before_its_first_checkpoint_begins_anew_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(RESUMES, "elsewhere")
    (tmp_path / ".hydra").mkdir()
    for name, content in {"config": "seed: 1", "overrides": "[seed=1]", "hydra": "hydra: {}"}.items():
        (tmp_path / ".hydra" / f"{name}.yaml").write_text(content)
    assert with_begun(["seed=1"], tmp_path) == ["seed=1"]
    assert resumes(tmp_path)
    assert "begins anew" in capsys.readouterr().err


def test_jobs_of_a_stack_are_read_once_and_not_handed_to_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [JobOfStack((f"seed={n}", "name=ä b"), {"VAE_LIGHTNING_JOB": f"run {n}"}, f"{n}.log") for n in range(2)]
    monkeypatch.setenv(job.STACK, environment_of_stack(jobs)[job.STACK])
    assert is_stack()
    assert jobs_of_stack() == jobs
    assert not is_stack()


@pytest.mark.parametrize("rank", [None, "0", "1"])
def test_process_that_lightning_starts_for_a_job_goes_on_as_the_jobs_first_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rank: str | None
) -> None:
    """The job's folder has a config, but that of the very training."""
    for name, value in environment_of(tmp_path, tmp_path / "reason.json").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vae_lightning.commands.commandline.with_begun", lambda words, folder: [*words, "ckpt_path=last.ckpt"])
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    catalogue = Catalogue(CONF, "train")
    assert _of_a_sweep(["seed=1"], catalogue) == ["seed=1", "ckpt_path=last.ckpt"], "a variable of the shell's says nothing"
    monkeypatch.setenv(job.NOW, "2026-11-28T12:00:00")
    assert ("ckpt_path=last.ckpt" in _of_a_sweep(["seed=1"], catalogue)) == (rank is None)
