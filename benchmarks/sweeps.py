"""Jobs per hour of a sweep by each launcher, and what a job costs beyond its training: `python benchmarks/sweeps.py`, a table.

Every row is one command, `python train.py -m seed=range(0,16) trainer.max_epochs=2 hydra/launcher=...`, in an empty folder, timed
from its first word to its last. When a job trains, validates and tests is noted in its run folder (`clock.py`); the rest of the
command's time is what jobs cost beyond that, and start-up is what passes of it until the first job trains.
"""

import argparse
import datetime
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from host import cores, described, now
from running import Ended, run

HERE = Path(__file__).resolve().parent
LAUNCHERS = {
    "basic": ["hydra/launcher=basic"],
    "basic, two at once": ["hydra/launcher=basic", "hydra.launcher.jobs=2"],
    "joblib": ["hydra/launcher=joblib"],
    "stacked": ["hydra/launcher=stacked"],
}
COLUMNS = (
    "launcher",
    "jobs an hour",
    "seconds",
    "of these training",
    "beyond it, a job",
    "without start-up",
    "start-up",
)


class Row(NamedTuple):
    """What one sweep took, in seconds."""

    jobs: int
    seconds: float
    training: float
    """In which at least one job trained, validated or tested."""
    start_up: float
    """Until the first job did."""

    @property
    def beyond(self) -> float:
        """Seconds a job in which none trained."""
        return (self.seconds - self.training) / self.jobs

    @property
    def beyond_after_start_up(self) -> float:
        return (self.seconds - self.training - self.start_up) / self.jobs


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(HERE.parent / "data"), type=os.path.abspath)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that a sweep may take")
    parser.add_argument("--only", default="", help="only launchers whose name contains this")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the table")
    parser.add_argument("settings", nargs="*", help="further settings of all jobs, such as model.net.hidden=[32]")
    return parser


def command(options: argparse.Namespace, launcher: Sequence[str]) -> list[str]:
    clock = ["+callbacks.clock._target_=clock.Clock", "+callbacks.clock.run_dir=${run_dir}"]
    jobs = [f"seed=range(0,{options.jobs})", f"trainer.max_epochs={options.epochs}", f"data.root={options.data}"]
    return [sys.executable, str(HERE.parent / "train.py"), "-m", *jobs, *clock, *options.settings, *launcher]


def measured(options: argparse.Namespace, launcher: Sequence[str]) -> Row | str:
    """What a sweep took, or why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        found = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        ended = run(command(options, launcher), options.limit, folder=Path(folder), environment={"PYTHONPATH": found})
        return ended.why or row(ended, began, [json.loads(path.read_text()) for path in Path(folder).glob("outputs/**/clock.json")])


def row(ended: Ended, began: float, clocks: Sequence[Sequence[tuple[str, float, float]]]) -> Row | str:
    stages = [(start, end) for clock in clocks for _, start, end in clock]
    if not stages:
        return "no job trained"
    return Row(len(clocks), ended.seconds, union(stages), min(start for start, _ in stages) - began)


def union(intervals: Sequence[tuple[float, float]]) -> float:
    """The length of the time that is in at least one of `intervals`."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def table(rows: dict[str, Row | str]) -> list[str]:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for name, result in rows.items():
        if isinstance(result, str):
            lines.append(f"| {name} | {result} |{' |' * (len(COLUMNS) - 2)}")
            continue
        numbers = (result.seconds, result.training)
        small = (result.beyond, result.beyond_after_start_up, result.start_up)
        cells = [f"{3600 * result.jobs / result.seconds:,.0f}", *(f"{n:,.0f}" for n in numbers), *(f"{n:.2f}" for n in small)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))  # so that the sweep that is running is ended too
    chosen = {name: words for name, words in LAUNCHERS.items() if options.only in name}
    started, rows, loads = datetime.datetime.now(), dict[str, Row | str](), list[str]()
    for name, words in chosen.items():
        loads.append(f"{now().load:.1f}")
        rows[name] = measured(options, words)
        print(f"{name}: {rows[name]}", flush=True)
    settings = f", {' '.join(options.settings)}" if options.settings else ""
    what = (
        f"{options.jobs} jobs of {options.epochs} epochs on {cores()} cores{settings}; seconds of the clock, a job where it says so"
    )
    lines = [f"# {started:%Y-%m-%d %H:%M}, sweeps", "", f"{described()}.", "", f"{what}. Load before each: {', '.join(loads)}.", ""]
    options.results.mkdir(exist_ok=True, parents=True)
    path: Path = options.results / f"{started:%Y-%m-%d_%H-%M}_sweeps.md"
    path.write_text("\n".join([*lines, *table(rows), ""]))
    print("\n".join(["", *table(rows), "", f"written to {path}"]))
    if failed := sum(isinstance(result, str) for result in rows.values()):
        sys.exit(f"error: {failed} sweeps failed, see the table")


if __name__ == "__main__":
    main()
