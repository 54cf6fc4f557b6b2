"""Time to a likelihood: `make speedrun` trains the net of Burda et al. from scratch, and says how many seconds that took.

Fixed are the data (binarized MNIST, dynamic), the net (784-200-200-50), the target (test NLL, K = 5,000, all test images), and what
is timed: whole commands `python train.py`, from their first word to their last, with imports, compiling, validation, logs,
checkpoints and the test. How the net is trained is free. A record is three seeds whose mean reaches the target, each of them
verified (`docs/speedrun.md`).
"""

import argparse
import datetime
import json
import math
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from host import described, now
from running import run

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
ESTIMATOR = [
    "evaluation.num_samples=5000",
    "evaluation.num_images=null",
    "evaluation.figures=[]",
    "evaluation.parts=[verification]",
    "evaluation.require_verified=true",
]
COLUMNS = ("seed", "seconds", "CPU seconds", "NLL (nats)", "ELBO (nats)", "active units", "verified")


class Target(NamedTuple):
    """What is to be reached, and by which trainings."""

    nll: float
    """The test NLL to be reached, in nats an image."""
    source: str
    trainings: tuple[tuple[str, ...], ...]
    """Words for `train.py`; from the second on, a training goes on where the one before it ended."""


SOAP = (
    "experiment=burda_vae",
    "recipe=soap",
    "model.objective.sticking_the_landing=true",
    "model.optimizer.lr=0.012",
    "model.lr_schedule.name=linear",
    "data.batch_size=1000",
    "trainer.check_val_every_n_epoch=10",
)
BURDA = '"Importance weighted autoencoders", Burda, Grosse and Salakhutdinov, 2016, table 1, one layer'
TARGETS = {
    "vae": Target(86.76, f"{BURDA}, VAE, k = 1", ((*SOAP, "trainer.max_epochs=240"),)),
}


class Row(NamedTuple):
    """One seed: what it took, in seconds, and what it reached, in nats an image."""

    seed: int
    seconds: float
    cpu_seconds: float
    nll: float
    elbo: float
    active_units: int | None


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", default="vae", choices=list(TARGETS), help="what is to be reached (vae)")
    parser.add_argument("--data", default=str(REPOSITORY / "data"), type=os.path.abspath, help="folder with MNIST/raw (data)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cpu: one thread of one core; cuda: one GPU")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds that one command may take")
    parser.add_argument("--out", type=Path, help="folder of the runs (outputs/speedrun/<time>)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the table")
    parser.add_argument("settings", nargs="*", help="further settings of all trainings, such as model.optimizer.lr=0.01")
    return parser


def commands(target: Target, options: argparse.Namespace, seed: int, folder: Path) -> list[list[str]]:
    """The trainings of one seed, each into a folder of its own below `folder`."""
    device = ["trainer.gpus=1"] if options.device == "cuda" else ["trainer.threads=1"]
    every = [*options.settings, *device, f"seed={seed}", f"data.root={options.data}", "trainer.enable_progress_bar=false"]
    chain: list[list[str]] = []
    for number, words in enumerate(target.trainings):
        before = [f"ckpt_path={folder / str(number - 1) / 'checkpoints' / 'last.ckpt'}"] if number else []
        chain.append([*words, *every, *before, f"hydra.run.dir={folder / str(number)}"])
    return chain


def measured(target: Target, options: argparse.Namespace, seed: int, folder: Path) -> Row:
    """Train and evaluate one seed.

    Raises:
        RuntimeError: a command failed, or a check of the likelihood did.
    """
    environment = {"OMP_NUM_THREADS": "1"} if options.device == "cpu" else {}
    seconds = cpu_seconds = 0.0
    chain = commands(target, options, seed, folder)
    for words in chain:
        print(f"seed {seed}: python train.py {' '.join(words)}", flush=True)
        ended = run([sys.executable, str(REPOSITORY / "train.py"), *words], options.limit, folder=folder, environment=environment)
        if ended.why:
            raise RuntimeError(f"seed {seed}: {ended.why}")
        seconds, cpu_seconds = seconds + ended.seconds, cpu_seconds + ended.cpu_seconds
    trained = folder / str(len(chain) - 1)
    words = [f"run={trained}", *ESTIMATOR, *(["gpus=1"] if options.device == "cuda" else [])]
    if why := run([sys.executable, str(REPOSITORY / "evaluate.py"), *words], options.limit, folder=folder).why:
        raise RuntimeError(f"seed {seed}: {why}")
    return row(seed, seconds, cpu_seconds, json.loads((trained / "evaluation" / "report.json").read_text()))


def row(seed: int, seconds: float, cpu_seconds: float, report: dict[str, Any]) -> Row:
    test = report["splits"]["test"]
    active = test.get("active_units")
    return Row(
        seed, seconds, cpu_seconds, test["nll"]["value"], test["elbo"]["value"], None if active is None else round(active["value"])
    )


def mean_and_error(values: Sequence[float]) -> str:
    """The mean over seeds and its standard error."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values) / math.sqrt(len(values)):.2f}"


def table(rows: Sequence[Row]) -> list[str]:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for one in rows:
        active = "" if one.active_units is None else one.active_units
        lines.append(
            f"| {one.seed} | {one.seconds:,.0f} | {one.cpu_seconds:,.0f} | {one.nll:.2f} | {one.elbo:.2f} | {active} | yes |"
        )
    over = [f"{statistics.mean(getattr(one, name) for one in rows):,.0f}" for name in ("seconds", "cpu_seconds")]
    over += [mean_and_error([getattr(one, name) for one in rows]) for name in ("nll", "elbo")]
    return [*lines, f"| mean | {' | '.join(over)} | | yes |"]


def main() -> None:
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))  # so that the training that is running is ended too
    target, started, loads, rows = TARGETS[options.target], datetime.datetime.now(), list[str](), list[Row]()
    out = (options.out or REPOSITORY / "outputs" / "speedrun" / f"{started:%Y-%m-%d_%H-%M-%S}").absolute()
    for seed in options.seeds:
        loads.append(f"{now().load:.1f}")
        folder = out / f"seed{seed}"
        folder.mkdir(parents=True)
        try:
            rows.append(measured(target, options, seed, folder))
        except RuntimeError as error:
            sys.exit(f"error: {error}")
        print(f"seed {seed}: {rows[-1].seconds:.0f} s, {rows[-1].cpu_seconds:.0f} CPU seconds, NLL {rows[-1].nll:.2f}", flush=True)
    reached = statistics.mean(one.nll for one in rows)
    words = [f"    python train.py {' '.join([*words, *options.settings])}" for words in target.trainings]
    lines = [f"# {started:%Y-%m-%d %H:%M}, speedrun to {target.nll} nats ({options.target})", "", f"{described()}.", ""]
    lines += [
        f"Target: test NLL {target.nll}, K = 5,000, all test images: {target.source}. Load before each: {', '.join(loads)}.",
        "",
    ]
    options.results.mkdir(exist_ok=True, parents=True)
    path: Path = options.results / f"{started:%Y-%m-%d_%H-%M}_speedrun_{options.target}.md"
    path.write_text("\n".join([*lines, *words, "", *table(rows), ""]))
    print("\n".join(["", *table(rows), "", f"written to {path}"]))
    if reached > target.nll:
        sys.exit(f"error: the mean NLL is {reached:.2f}, and {target.nll} was to be reached")


if __name__ == "__main__":
    main()
