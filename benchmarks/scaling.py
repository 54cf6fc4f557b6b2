"""Images a second over batch sizes and widths, against the limit: `make bench-scaling`, a table and a figure.

One contender after the other, three rounds each; the figure says how far the cost of a step grows beyond its arithmetic.
"""

import argparse
import datetime
import os
import statistics
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from bench import RESULTS, absolute
from host import commit, processor
from roster import MLP, Contender
from turns import turn

BATCHES = [32, 128, 512, 1024, 4096]
WIDTHS = [128, 256, 400, 1024, 2048]
BATCH, WIDTH = 128, 400


def speed_of(contender: Contender, python: str) -> float:
    """Images a second of one turn; a curve with a hole is no use, so a failure ends it all."""
    result = turn(contender, python, limit=900)
    if result.speed is None:
        sys.exit(f"error: {contender.script} {' '.join(contender.arguments)} failed: {result.why}")
    return result.speed


def speed(data: str, python: str, batch: int, width: int, rounds: int) -> tuple[float, float]:
    """Median images a second of ours, compiled, and of the limit."""
    overrides = [*MLP, f"model.net.hidden=[{width}]", f"data.batch_size={batch}", "trainer.compile=true"]
    ours = Contender("ours", "ours.py", [data, "3", "trainer.gpus=0", *overrides])
    limit = Contender("ours", "limit.py", ["--data", data, "--epochs", "2", "--batch", str(batch), "--hidden", str(width)])
    pairs = [[speed_of(contender, python) for contender in (ours, limit)] for _ in range(rounds)]
    ours_speed, limit_speed = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"batch {batch}, width {width}: {ours_speed:,.0f} of {limit_speed:,.0f} images/s", flush=True)
    return ours_speed, limit_speed


def table(name: str, values: list[int], speeds: list[tuple[float, float]]) -> list[str]:
    lines = [f"| {name} | ours, images/s | limit, images/s | limit / ours |", "|---|---|---|---|"]
    return lines + [f"| {v} | {o:,.0f} | {m:,.0f} | {m / o:.2f} |" for v, (o, m) in zip(values, speeds, strict=True)]


def draw(curves: list[tuple[str, list[int], list[tuple[float, float]]]], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
    for axis, (name, values, speeds) in zip(axes, curves, strict=True):
        ours, limit = zip(*speeds, strict=True)
        axis.loglog(values, limit, "--", color="0.5", label="limit: products, noise, Adam")
        axis.loglog(values, ours, "o-", color="#0072b2", label="python train.py")
        axis.set_xticks(values, [str(value) for value in values])
        axis.minorticks_off()
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("images/s")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=absolute, required=True, help="Python of this project's environment")
    parser.add_argument("--data", default=str(Path(__file__).resolve().parents[1] / "data"), type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    started = datetime.datetime.now()
    curves = []
    for name, values in (("batch size", BATCHES), ("width", WIDTHS)):
        pairs = [(value, WIDTH) if name == "batch size" else (BATCH, value) for value in values]
        curves.append((name, values, [speed(options.data, options.python, *pair, options.rounds) for pair in pairs]))
    path = RESULTS / f"{started:%Y-%m-%d_%H-%M}_scaling.md"
    draw(curves, path.with_suffix(".png"))
    fixed = f"width {WIDTH} where the batch size varies, batch size {BATCH} where the width does"
    head = [f"# {started:%Y-%m-%d %H:%M}, scaling", "", f"{processor()}; commit {commit()}; "]
    head[-1] += f"{options.rounds} rounds; {fixed}; float32, compiled."
    tables = [line for curve in curves for line in ["", *table(*curve)]]
    path.write_text("\n".join([*head, *tables, "", f"![]({path.stem}.png)", ""]))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
