"""Times all contenders in turn, A B C A B C, and writes a dated table: `make bench`, or `make bench-quick` before a release.

The work: an MLP VAE 784-400-20-400-784, ReLU, batch 128, Adam, 55,000 MNIST images, Bernoulli binarization at every use.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
REFERENCE = "typical Lightning loop, 0 workers"
CONVOLUTIONAL = "typical Lightning loop, cvae_cnn3"
OURS = "ours, default"
TOLERANCE = 0.9
"""A ratio below this share of the last one is warned of."""
MLP = ["model.net.hidden=[400]", "model.net.init=default"]
BARE = ["logger=none", *(f"callbacks.{name}=null" for name in ("checkpoint", "last_checkpoint", "learning_rate"))]
BARE += ["callbacks.progress_bar=null", "callbacks.model_summary=null"]


class Contender(NamedTuple):
    whose: str
    """Whose Python: "ours" or a peer's."""
    script: str
    arguments: list[str]
    reference: str = REFERENCE
    """The contender with the same network that it is compared to."""


def contenders(data: str, epochs: int, quick: bool) -> dict[str, Contender]:
    """By name, in the order in which they take turns."""
    usual = ["--data", data, "--epochs", str(epochs)]
    ours = [data, str(epochs)]
    mlp = [*ours, *MLP]
    chosen = {
        REFERENCE: Contender("ours", "typical_lightning.py", usual),
        OURS: Contender("ours", "ours.py", mlp),
        "limit, float32": Contender("ours", "limit.py", usual),
    }
    if quick:
        return chosen
    return chosen | {
        "typical Lightning loop, 2 workers": Contender("ours", "typical_lightning.py", [*usual, "--workers", "2"]),
        "PyTorch's example, 0 workers": Contender("ours", "plain_torch.py", usual),
        "ours, matmul_precision=medium": Contender("ours", "ours.py", [*mlp, "trainer.matmul_precision=medium"]),
        "ours, precision=bf16-mixed": Contender("ours", "ours.py", [*mlp, "trainer.precision=bf16-mixed"]),
        "ours, compile=false": Contender("ours", "ours.py", [*mlp, "trainer.compile=false"]),
        "ours, no logger, checkpoints or bar": Contender("ours", "ours.py", [*mlp, *BARE]),
        "limit, bfloat16": Contender("ours", "limit.py", [*usual, "--dtype", "bfloat16"]),
        "pythae 0.1.2, binarized once": Contender("peers", "pythae_trainer.py", usual),
        "JAX, lax.scan": Contender("peers", "jax_scan.py", usual),
        "JAX, lax.scan, bf16": Contender("peers", "jax_scan.py", [*usual, "--dtype", "bfloat16"]),
        CONVOLUTIONAL: Contender("ours", "typical_lightning.py", [*usual, "--model", "cvae_cnn3"], CONVOLUTIONAL),
        "ours, cvae_cnn3": Contender("ours", "ours.py", [*ours, "model=cvae_cnn3"], CONVOLUTIONAL),
    }


def absolute(python: str) -> str:
    """The path of an interpreter, wherever it is called from; links stay, since one of them is what makes it an environment's."""
    return python if os.sep not in python else os.path.abspath(python)  # noqa: PTH100


def run(contender: Contender, python: str) -> dict[str, float]:
    command = [python, str(HERE / "contenders" / contender.script), *contender.arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if result.returncode:
        sys.exit(f"{contender.script} {' '.join(contender.arguments)} failed:\n{result.stderr[-2000:]}")
    found: dict[str, float] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def table(rounds: dict[str, list[dict[str, float]]], chosen: dict[str, Contender]) -> list[str]:
    """Markdown: median, spread, ratio to the typical loop on the same network and final training loss."""
    lines = ["| contender | images/s, median (min to max) | ratio, median of rounds | training loss |", "|---|---|---|---|"]
    for name, results in rounds.items():
        speeds = [r["images_per_second"] for r in results]
        reference = [r["images_per_second"] for r in rounds[chosen[name].reference]]
        ratio = statistics.median(s / r for s, r in zip(speeds, reference, strict=True))
        loss = results[-1]["train_loss"]
        speed = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
        lines.append(f"| {name} | {speed} | {ratio:.2f} | {'' if loss != loss else f'{loss:.2f}'} |")
    return lines


def last_ratio() -> float | None:
    """The ratio of ours to the typical loop in the newest table."""
    for path in sorted(RESULTS.glob("*.md"), reverse=True):
        for line in path.read_text().splitlines():
            if line.startswith(f"| {OURS} |"):
                return float(line.split("|")[3])
    return None


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(HERE.parent / "data"), type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--peers", type=absolute, help="Python of an environment with benchmarks/requirements.txt; without it, peers are left out"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="only say what would be timed, by which Python")
    options = parser.parse_args()
    chosen = contenders(options.data, options.epochs, options.quick)
    chosen = {name: c for name, c in chosen.items() if options.peers or c.whose == "ours"}
    if options.list:
        for name, contender in chosen.items():
            print(f"{name}: {sys.executable if contender.whose == 'ours' else options.peers} {contender.script}")
        return
    from vae_lightning.data.sources import raw_folder

    processed = raw_folder("mnist", options.data).with_name("processed")
    if processed.exists():
        parser.error(f"{processed}: torchvision, and so the contenders, would read it instead of the raw files; move it away")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    before, started = last_ratio(), datetime.datetime.now()
    for number in range(options.rounds):
        for name, contender in chosen.items():
            rounds[name].append(run(contender, sys.executable if contender.whose == "ours" else options.peers))
            print(f"round {number + 1}: {name}: {rounds[name][-1]['images_per_second']:,.0f} images/s", flush=True)
        path = write(rounds, chosen, options, started)
    lines = table(rounds, chosen)
    print("\n".join(["", *lines, "", f"written to {path}"]))
    ratio = next(float(line.split("|")[3]) for line in lines if line.startswith(f"| {OURS} |"))
    if before is not None and ratio < TOLERANCE * before:
        print(f"warning: {ratio:.2f} times the typical loop, after {before:.2f} in the last table", file=sys.stderr)


def write(
    rounds: dict[str, list[dict[str, float]]],
    chosen: dict[str, Contender],
    options: argparse.Namespace,
    started: datetime.datetime,
) -> Path:
    """The table of the rounds so far, so that a run that is stopped leaves what it measured."""
    import torch

    dirty = " and changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    done = min(len(results) for results in rounds.values())
    head = [
        f"# {started:%Y-%m-%d %H:%M}",
        "",
        f"{torch.get_num_threads()} cores, {processor()}; torch {torch.__version__}, Python {platform.python_version()}; "
        f"commit {git('rev-parse', '--short', 'HEAD')}{dirty}; {done} rounds, {options.epochs} epochs each.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{started:%Y-%m-%d_%H-%M}.md"
    path.write_text("\n".join([*head, *table(rounds, chosen), ""]))
    return path


if __name__ == "__main__":
    main()
