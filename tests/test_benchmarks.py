"""`make bench` calls its peers' Python by a path relative to the repository, from wherever it runs."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent / "benchmarks" / "bench.py"


def test_peers_are_called_by_a_path_that_holds_from_anywhere(tmp_path: Path) -> None:
    # a link, as an environment's python is: what it leads to has none of the environment's packages
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "python").symlink_to(sys.executable)
    command = [sys.executable, str(BENCH), "--peers", "peers/python", "--list"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"pythae 0.1.2, binarized once: {tmp_path}/peers/python pythae_trainer.py" in listed
    assert f"ours, default: {sys.executable} ours.py" in listed
