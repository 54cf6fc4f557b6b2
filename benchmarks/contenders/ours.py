"""`python train.py` as users run it, in a folder that is thrown away: the median epoch but the first, with logging and checkpoints.

Validation, which the others do not have, is left out. Arguments: the folder of the data, the number of epochs, `train.py`'s own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import report

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

data, epochs, *overrides = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    clock = Path(folder, "epochs")
    command = [sys.executable, str(REPOSITORY / "train.py"), f"data.root={data}", f"trainer.max_epochs={epochs}"]
    command += [f"hydra.run.dir={folder}/run", *overrides]
    command += ["+callbacks.clock._target_=epoch_clock.EpochClock", f"+callbacks.clock.path={clock}"]
    paths = os.pathsep.join(path for path in (str(HERE), os.environ.get("PYTHONPATH")) if path)
    # what it writes to stderr says why it failed, or that it went another way than the fast one
    status = subprocess.run(
        command, check=False, stdout=sys.stderr, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": paths}
    ).returncode
    if status:
        sys.exit(status)
    turns = [json.loads(line) for line in clock.read_text().splitlines()]
    record = json.loads(Path(folder, "run", "metrics.json").read_text())
assert len(turns) == int(epochs)
report(statistics.median(turn["images"] / turn["seconds"] for turn in turns[1:]), record["metrics"]["train/loss"])
