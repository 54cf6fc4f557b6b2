"""Times all contenders in turn, A B C A B C, and writes a dated table: `make bench`, or `make bench-quick` before a release.

What each contender computes, `roster.py` says. One that fails costs its own row, and the status at the end.
"""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from host import Moment, cores, described, now
from roster import OURS, Contender, contenders
from tables import Rounds, failures, last_ratio, ratio_of, table
from turns import Result, turn

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
TOLERANCE = 0.9
"""A ratio below this share of the last one is warned of."""


def absolute(python: str) -> str:
    """The path of an interpreter, wherever it is called from; links stay, since one of them is what makes it an environment's."""
    return python if os.sep not in python else os.path.abspath(python)  # noqa: PTH100


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(HERE.parent / "data"), type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that a contender may take")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: the rows of a GPU instead")
    parser.add_argument(
        "--peers", type=absolute, help="Python of an environment with benchmarks/requirements.txt; without it, peers are left out"
    )
    parser.add_argument("--only", default="", help="only contenders whose name contains this, and what they are compared to")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--list", action="store_true", help="only say what would be timed, by which Python")
    return parser


def chosen_by(options: argparse.Namespace) -> dict[str, Contender]:
    every = contenders(options.data, options.epochs, options.quick, options.device)
    wanted = {name: c for name, c in every.items() if options.only in name}
    references = {c.reference for c in wanted.values()}
    return {name: c for name, c in every.items() if (name in wanted or name in references) and (options.peers or c.whose == "ours")}


def refuse_what_cannot_be(parser: argparse.ArgumentParser, options: argparse.Namespace, chosen: dict[str, Contender]) -> None:
    import torch

    from vae_lightning.data.sources import raw_folder

    if not chosen:
        parser.error(f"--only {options.only}: no contender has that in its name (--list shows them)")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU that it can use")
    processed = raw_folder("mnist", options.data).with_name("processed")
    if processed.exists():
        parser.error(f"{processed}: torchvision, and so the contenders, would read it instead of the raw files; move it away")


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    chosen = chosen_by(options)
    pythons = {name: sys.executable if c.whose == "ours" else options.peers for name, c in chosen.items()}
    if options.list:
        for name, contender in chosen.items():
            print(f"{name}: {pythons[name]} {contender.script}")
        return
    refuse_what_cannot_be(parser, options, chosen)
    rounds: dict[str, list[Result]] = {name: [] for name in chosen}
    before, started, moments = last_ratio(options.results), datetime.datetime.now(), [now()]
    for number in range(options.rounds):
        for name, contender in chosen.items():
            rounds[name].append(turn(contender, pythons[name], options.limit))
            print(f"round {number + 1}: {name}: {rounds[name][-1].said}", flush=True)
        moments.append(now())
        path = write(rounds, chosen, options, started, moments)
    print("\n".join(["", *table(rounds, chosen), "", f"written to {path}"]))
    ratio = ratio_of(rounds.get(OURS, []), rounds.get(chosen[OURS].reference, [])) if OURS in chosen else None
    if before is not None and ratio is not None and options.device == "cpu" and ratio < TOLERANCE * before:
        print(f"warning: {ratio:.2f} times the typical loop, after {before:.2f} in the last table", file=sys.stderr)
    if count := failures(rounds):
        sys.exit(f"error: {count} turns failed, see the table")


def write(
    rounds: Rounds,
    chosen: dict[str, Contender],
    options: argparse.Namespace,
    started: datetime.datetime,
    moments: Sequence[Moment],
) -> Path:
    """The table of the rounds so far, so that a run that is stopped leaves what it measured."""
    lines = [f"# {started:%Y-%m-%d %H:%M}", ""]
    lines += [f"{described()}; {len(moments) - 1} rounds, {options.epochs} epochs each.", "", *busy(moments, rounds), ""]
    options.results.mkdir(exist_ok=True, parents=True)
    device = "" if options.device == "cpu" else f"_{options.device}"
    path: Path = options.results / f"{started:%Y-%m-%d_%H-%M}{device}.md"
    path.write_text("\n".join([*lines, *table(rounds, chosen), ""]))
    return path


def busy(moments: Sequence[Moment], rounds: Rounds) -> list[str]:
    """How much else the machine had to do: the load average before each round, and the cores in use during it."""
    load = "Load average at the start of each round: " + ", ".join(f"{moment.load:.1f}" for moment in moments[:-1])
    used = []
    for number, (start, end) in enumerate(pairwise(moments)):
        seconds = end.seconds - start.seconds
        timed = sum(results[number].cores * results[number].seconds for results in rounds.values()) / seconds
        everything = "" if start.busy is None or end.busy is None else f" of {(end.busy - start.busy) / seconds:.1f}"
        used.append(f"{timed:.1f}{everything}")
    what = "CPU seconds over wall seconds, of what was timed" + ("" if moments[0].busy is None else " and of all that ran")
    return [f"{load}. {what}: {', '.join(used)}; there are {cores()} cores."]


if __name__ == "__main__":
    main()
