"""A command knows from its environment that it is a job of a sweep, or several jobs, or one of several processes."""

from pathlib import Path

import pytest

from vae_lightning.commands import job
from vae_lightning.commands.commandline import CONF, _of_a_sweep
from vae_lightning.commands.job import JobOfStack, environment_of, environment_of_stack, is_stack, jobs_of_stack
from vae_lightning.commands.suggestions import Catalogue


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
