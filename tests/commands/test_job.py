"""A command that is a job of a sweep says why it ended without a result, and goes on with its run where that stood."""

import json
from pathlib import Path

import pytest

from vae_lightning.commands import job
from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.commands.resuming import RESUMES, resumes, with_begun
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
