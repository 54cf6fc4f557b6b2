"""`evaluate.py -m` is refused before anything is made."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_sweep_of_evaluations_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), "-m", "run=a,b"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: -m: the runs of a sweep are evaluated with sweep=<folder>")
    assert not list(tmp_path.iterdir())
