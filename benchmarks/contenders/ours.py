"""`python train.py` as users run it, in a folder that is thrown away: every epoch but the first, with logging and checkpoints.

Validation, which the others do not have, is left out.
"""

import json
import os
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
    command = [sys.executable, str(REPOSITORY / "train.py"), f"data.root={data}", f"trainer.max_epochs={epochs}", "trainer.gpus=0"]
    command += [f"hydra.run.dir={folder}/run", *overrides]
    command += ["+callbacks.clock._target_=epoch_clock.EpochClock", f"+callbacks.clock.path={clock}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(HERE)})
    seconds = [float(line) for line in clock.read_text().split()]
    record = json.loads(Path(folder, "run", "metrics.json").read_text())
assert len(seconds) == int(epochs)
report(55_000 * (int(epochs) - 1) / sum(seconds[1:]), record["metrics"]["train/loss"])
