"""Going on with somebody else's sweep writes into its folder alone, and imports nothing that is not trusted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vae_lightning.sweeps.record import Asked, Record

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = ("data=shapes2d", "model.net.hidden=[16]", "model.latent_dim=2", "trainer.gpus=0", "trainer.max_steps=2", "logger=none")

PLACES = ("logs", "locks", "reasons")


def goes_on(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "train.py"), f"sweep={folder}", *words]
    where = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder.parent, env=where, capture_output=True, text=True, check=False)


def theirs(folder: Path, *more: str) -> Path:
    job = Asked((*WORDS, *more, "seed=0"), {"seed": 0}, "a")
    Record.empty(str(folder.parent)).with_jobs([job], ["seed"], job.words, ()).write(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("link", ["seed=0", *(f".sweep/{name}" for name in PLACES)])
def test_nothing_is_written_through_a_link(tmp_path: Path, link: str) -> None:
    folder, elsewhere = theirs(tmp_path / "sweep"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / link).symlink_to(elsewhere)
    result = goes_on(folder)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "is a link that leads out of its folder" in result.stderr
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_class_of_a_package_that_is_not_trusted_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "harmful.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    folder = theirs(tmp_path / "sweep", "+callbacks.x._target_=harmful.Callback")
    result = goes_on(folder)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "trust=[harmful]" in result.stderr
    assert not (tmp_path / "executed").exists()
