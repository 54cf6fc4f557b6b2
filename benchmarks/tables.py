"""Results of rounds as a Markdown table, and the last such table's ratio."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from roster import OURS, Contender
from turns import Result

COLUMNS = ["contender", "images/s, median (min to max)", "ratio, median of rounds", "training loss", "cores used", "seconds in all"]


Rounds = Mapping[str, Sequence[Result]]


def failures(rounds: Rounds) -> int:
    return sum(result.measured is None for results in rounds.values() for result in results)


def table(rounds: Rounds, chosen: Mapping[str, Contender]) -> list[str]:
    """Markdown: median, spread, ratio to the contender of the same work, final training loss; a row for each, also if it failed."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for name, results in rounds.items():
        lines.append(f"| {name} | {' | '.join(_cells(results, rounds.get(chosen[name].reference, [])))} |")
    notes = {(name, note): None for name, results in rounds.items() for result in results for note in result.notes}
    return lines + [line for name, note in notes for line in ("", f"{name}: {note}")]


def _cells(results: Sequence[Result], reference: Sequence[Result]) -> list[str]:
    good = [result for result in results if result.measured is not None]
    failed = _failed(results)
    if not good:
        return [failed or "not run", "", "", "", ""]
    speeds = [result.measured["images_per_second"] for result in good]
    speed = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
    ratio = ratio_of(results, reference)
    loss = good[-1].measured.get("train_loss", float("nan"))
    return [
        speed + (f"; {failed}" if failed else ""),
        "" if ratio is None else f"{ratio:.2f}",
        "" if loss != loss else f"{loss:.2f}",
        f"{statistics.median(result.cores for result in good):.1f}",
        f"{statistics.median(result.seconds for result in good):.0f}",
    ]


def _failed(results: Sequence[Result]) -> str:
    whys = [result.why or "" for result in results if result.measured is None]
    if not whys:
        return ""
    often = "" if len(results) == 1 else f" in {len(whys)} of {len(results)} rounds"
    return f"failed{often}: {whys[-1]}".replace("|", r"\|")


def ratio_of(results: Sequence[Result], reference: Sequence[Result]) -> float | None:
    """The median ratio of speeds over the rounds in which both succeeded; None if there is no such round."""
    pairs = [(a.speed, b.speed) for a, b in zip(results, reference, strict=False)]
    ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    return statistics.median(ratios) if ratios else None


def last_ratio(folder: Path) -> float | None:
    """The ratio of ours to the typical loop in the newest table of a CPU that has one."""
    for path in sorted(folder.glob("*.md"), reverse=True):
        if path.stem.endswith("_cuda"):
            continue
        for line in path.read_text().splitlines():
            if line.startswith(f"| {OURS} |"):
                try:
                    return float(line.split("|")[3])
                except ValueError:  # it failed then
                    break
    return None
