"""`python train.py` as users run it, with everything on, in a folder that is thrown away."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import report

REPOSITORY = Path(__file__).resolve().parents[2]

data, epochs, *overrides = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    command = [
        sys.executable,
        str(REPOSITORY / "train.py"),
        "model.net.hidden=[400]",
        "model.net.init=default",
        f"data.root={data}",
    ]
    command += [f"trainer.max_epochs={epochs}", f"run_dir={folder}", f"hydra.run.dir={folder}", "trainer.gpus=0", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    record = json.loads(Path(folder, "metrics.json").read_text())
report(record["timing"]["images_per_second"], record["metrics"]["train/loss"])
