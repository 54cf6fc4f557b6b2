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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from host import cores, described, now
from running import run

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
ESTIMATOR = [
    "evaluation.num_samples=5000",
    "evaluation.num_images=null",
    "evaluation.train_images=1",
    "evaluation.figures=[]",
    "evaluation.parts=[verification]",
    "evaluation.require_verified=true",
]
COLUMNS = ("seed", "seconds", "CPU seconds", "NLL (nats)", "ELBO (nats)", "verified")


class Target(NamedTuple):
    """What is to be reached, and by which trainings."""

    nll: float
    """The test NLL to be reached, in nats an image."""
    source: str
    trainings: tuple[tuple[str, ...], ...]
    """Words for `train.py`; from the second on, a training goes on where the one before it ended."""


SOAP = ("experiment=burda_vae", "recipe=soap", "model.lr_schedule.name=linear", "trainer.check_val_every_n_epoch=10")
ELBO = (*SOAP, "model.objective.sticking_the_landing=true", "data.batch_size=1000", "model.optimizer.lr=0.012")


def dreg(samples: int, batch_size: int, lr: float, steps: int, epochs: int) -> tuple[str, ...]:
    """Trains the importance-weighted bound up to `epochs`, by a rate on its way from `lr` at step 0 to 0 at `steps`."""
    words = [f"model.num_samples={samples}", f"data.batch_size={batch_size}", f"model.optimizer.lr={lr}"]
    return (*SOAP, "model/objective=dreg", *words, f"+model.lr_schedule.total_steps={steps}", f"trainer.max_epochs={epochs}")


RESAMPLED = ("model.objective.gradient_samples=8", "model.optimizer.eps=0.0001", "trainer.gradient_clip_val=100")
BURDA = '"Importance weighted autoencoders", Burda, Grosse and Salakhutdinov, 2016, table 1, one layer'
TARGETS = {
    "vae": Target(86.76, f"{BURDA}, VAE, k = 1", ((*ELBO, "trainer.max_epochs=160"),)),
    "iwae": Target(
        84.78,
        f"{BURDA}, IWAE, k = 50",
        (
            (*ELBO, "+model.lr_schedule.total_steps=16500", "trainer.max_epochs=120"),
            dreg(samples=5, batch_size=1000, lr=0.0099, steps=24_200, epochs=300),
            (*dreg(samples=50, batch_size=500, lr=0.007, steps=27_500, epochs=400), *RESAMPLED),
        ),
    ),
}


class Trained(NamedTuple):
    """One seed: what its trainings took, in seconds, and the folder of the last one."""

    seed: int
    seconds: float
    cpu_seconds: float
    folder: Path


class Row(NamedTuple):
    """One seed: what it took, in seconds, and what it reached, in nats an image."""

    seed: int
    seconds: float
    cpu_seconds: float
    nll: float
    elbo: float


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


def trained(target: Target, options: argparse.Namespace, seed: int, folder: Path) -> Trained:
    """Train one seed, on one thread of a CPU or on one GPU.

    Raises:
        RuntimeError: a command failed.
    """
    environment = {"OMP_NUM_THREADS": "1"} if options.device == "cpu" else {}
    seconds = cpu_seconds = 0.0
    for words in commands(target, options, seed, folder):
        print(f"seed {seed}: python train.py {' '.join(words)}", flush=True)
        ended = run([sys.executable, str(REPOSITORY / "train.py"), *words], options.limit, folder=folder, environment=environment)
        if ended.why:
            raise RuntimeError(f"seed {seed}: {ended.why}")
        seconds, cpu_seconds = seconds + ended.seconds, cpu_seconds + ended.cpu_seconds
    print(f"seed {seed}: {seconds:.0f} s, {cpu_seconds:.0f} CPU seconds", flush=True)
    return Trained(seed, seconds, cpu_seconds, folder / str(len(target.trainings) - 1))


def evaluated(options: argparse.Namespace, training: Trained) -> Row:
    """Measure and verify the likelihood of one seed, which is not timed.

    Raises:
        RuntimeError: the command failed, a check of the likelihood did, or the likelihood is no number.
    """
    environment = {"OMP_NUM_THREADS": "1"} if options.device == "cpu" else {}  # as other seeds are evaluated at the same time
    words = [f"run={training.folder}", *ESTIMATOR, *(["gpus=1"] if options.device == "cuda" else [])]
    ended = run([sys.executable, str(REPOSITORY / "evaluate.py"), *words], options.limit, environment=environment)
    if ended.why:
        raise RuntimeError(f"seed {training.seed}: {ended.why}")
    found = row(training, json.loads((training.folder / "evaluation" / "report.json").read_text()))
    print(f"seed {found.seed}: NLL {found.nll:.2f}", flush=True)
    if not math.isfinite(found.nll):
        raise RuntimeError(f"seed {found.seed}: its NLL is no number")
    return found


def row(training: Trained, report: dict[str, Any]) -> Row:
    test = report["splits"]["test"]
    return Row(training.seed, training.seconds, training.cpu_seconds, test["nll"]["value"], test["elbo"]["value"])


def mean_and_error(values: Sequence[float]) -> str:
    """The mean over seeds and its standard error."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values) / math.sqrt(len(values)):.2f}"


def table(rows: Sequence[Row]) -> list[str]:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for one in rows:
        lines.append(f"| {one.seed} | {one.seconds:,.0f} | {one.cpu_seconds:,.0f} | {one.nll:.2f} | {one.elbo:.2f} | yes |")
    over = [f"{statistics.mean(getattr(one, name) for one in rows):,.0f}" for name in ("seconds", "cpu_seconds")]
    over += [mean_and_error([getattr(one, name) for one in rows]) for name in ("nll", "elbo")]
    return [*lines, f"| mean | {' | '.join(over)} | yes |"]


def main() -> None:
    options = arguments().parse_args()
    target, started, loads, trainings = TARGETS[options.target], datetime.datetime.now(), list[str](), list[Trained]()
    out = (options.out or REPOSITORY / "outputs" / "speedrun" / f"{started:%Y-%m-%d_%H-%M-%S}").absolute()
    try:
        for folder in (folders := [out / f"seed{seed}" for seed in options.seeds]):
            if folder.exists() or folders.count(folder) > 1:
                raise RuntimeError(f"{folder}: is there already, or twice; give another --out, and each of --seeds once")
        for seed, folder in zip(options.seeds, folders, strict=True):
            loads.append(f"{now().load:.1f}")
            folder.mkdir(parents=True)
            trainings.append(trained(target, options, seed, folder))
        with ThreadPoolExecutor(cores() if options.device == "cpu" else 1) as pool:
            rows = list(pool.map(lambda training: evaluated(options, training), trainings))
    except RuntimeError as error:
        sys.exit(f"error: {error}")
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
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))  # so that the training that is running is ended too
    main()
