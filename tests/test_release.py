"""What is released: a wheel and a source distribution that train, evaluate and export in an environment without a checkout."""

import datetime
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

RELEASE: dict[str, Any] = runpy.run_path(str(REPOSITORY / ".ci" / "release.py"))


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


@pytest.mark.slow
def test_wheel_of_the_source_distribution_does_what_a_checkout_does(tmp_path: Path, mnist_root: Path) -> None:
    wheel, source = RELEASE["build"](tmp_path / "dist")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"conf/train.yaml", "vae_lightning/reports/templates/report.html.j2", "LICENSE", "train.py"} <= names
    programs = RELEASE["environment"](tmp_path / "environment", None)
    RELEASE["install"](programs, wheel)
    # here the launchers of sweeps may be installed too, over whose options Hydra's help takes longer; measured by what this machine
    # takes to import torch, which help must not wait for
    torch = min(RELEASE["core_seconds"](_run, sys.executable, "-c", "import torch") for _ in range(3))
    RELEASE["try_out"].__globals__["HELP_WITHIN"] = 1.5 * torch
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    RELEASE["try_out"](programs, folder, mnist_root)


def test_section_of_the_version_is_dated_once() -> None:
    day = datetime.date(2026, 12, 1)
    log = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- new\n\n## 0.1.0 (2026-11-01)\n"
    dated = RELEASE["dated"](log, "0.2.0", day)
    assert "## 0.2.0 (2026-12-01)\n\n- new" in dated
    assert RELEASE["dated"](dated, "0.2.0", datetime.date(2027, 1, 1)) == dated
    with pytest.raises(SystemExit, match=r"## 0\.3\.0 \(unreleased\)"):
        RELEASE["dated"](log, "0.3.0", day)
