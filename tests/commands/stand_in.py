"""A stand-in for train.py: a job that says what it was given, and ends as its words ask it to."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from vae_lightning.commands.job import end_with_worker


def main() -> None:
    run, words = Path(os.environ["VAE_LIGHTNING_JOB"]), sys.argv[1:]
    run.mkdir(parents=True, exist_ok=True)
    print("words:", *words, flush=True)
    seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
    (run / "seen.json").write_text(json.dumps({**seen, "words": words, "cwd": str(Path.cwd())}))
    if "waits" in words:

        def told(signum: int, _frame: object) -> None:
            time.sleep(0.7)
            (run / "told").write_text(signal.Signals(signum).name)
            sys.exit(128 + signum)

        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(signum, told)
        end_with_worker()
        (run / "waits").touch()
        time.sleep(60)
    if "killed" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    if "wrong" in words:
        sys.exit(3)
    if "slow" in words:
        time.sleep(0.7)
    (run / "metrics.json").write_text(json.dumps({"metrics": {"test/elbo": -100.0}}))


if __name__ == "__main__":
    main()
