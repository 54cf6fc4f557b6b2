"""Mutation testing of a room: whether its tests notice that an operator, a number or a branch of it was changed.

    make mutants ARGS="objectives noise --sample 80 --seed 0"

Which mutants there are, and their source, is cosmic-ray's work. Running them is done here, as importing torch takes longer than most
tests: a process that has imported torch forks for each mutant, in a copy of the checkout (`running.py`). Of a room's tests those are
run that execute the changed statement, quickest first (`executing.py`).

Places in the source are sampled, and at each place one of the mutants that cosmic-ray has for it: of a binary operator it makes
eleven, which would count eleven times as much as a number. Annotations are left out, which have no effect that a test could notice.
"""

import argparse
import ast
import os
import random
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from executing import Tests, tests_of
from running import REPOSITORY, copy_of_checkout, prepare, result_of

PACKAGE = "vae_lightning"
ROOMS = ("objectives", "distributions", "inference", "noise", "data", "engine")
SURVIVED = ("survived", "not executed")


@dataclass(frozen=True, order=True)
class Mutant:
    """A change at a place of a file: the `occurrence`th that an operator of cosmic-ray makes."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    def source(self, original: str) -> str:
        changed = mutate_code(original, get_operator(self.operator)(), self.occurrence)
        if changed is None:
            raise LookupError(f"{self}: cosmic-ray finds nothing to change")
        return str(changed)

    def shown(self, original: str, changed: str) -> str:
        before, after = (text.splitlines()[self.line - 1].strip() for text in (original, changed))
        return f"`{before}` -> `{after}`"


def files_of(room: str) -> list[Path]:
    """The files of a room, relative to the checkout."""
    folder = Path(PACKAGE, room)
    if not (REPOSITORY / folder).is_dir():
        return [folder.with_suffix(".py")]
    return sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / folder).rglob("*.py"))


def all_mutants(file: Path) -> list[Mutant]:
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as kept:
        work = WorkDB(kept.name, WorkDB.Mode.create)
        init([REPOSITORY / file], work, {})
        specs = [spec for item in work.work_items for spec in item.mutations]
        work.close()
    without_effect = places_without_effect(REPOSITORY / file)
    mutants = (Mutant(str(file), *spec.start_pos, spec.operator_name, spec.occurrence) for spec in specs)
    return sorted(mutant for mutant in mutants if not without_effect((mutant.line, mutant.column)))


def places_without_effect(path: Path) -> Callable[[tuple[int, int]], bool]:
    """Whether a place is in an annotation, or holds an asterisk or a slash that is no operator."""
    with tokenize.open(path) as stream:
        tokens = [token for token in tokenize.generate_tokens(stream.readline) if token.type not in (tokenize.NL, tokenize.COMMENT)]
    no_operators = {
        token.start
        for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if token.string in ("*", "**", "/") and (before.string in ("(", ",", "[", "{", "lambda") or after.string in (",", ")"))
    }
    spans = []
    for node in ast.walk(ast.parse(path.read_text())):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                spans.append(((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)))
    return lambda place: place in no_operators or any(start <= place < end for start, end in spans)


def sampled(files: Sequence[Path], size: int, seed: int) -> tuple[list[Mutant], int]:
    """`size` mutants at as many places, and how many places there are."""
    at: dict[tuple[str, int, int], list[Mutant]] = {}
    for mutant in (mutant for file in files for mutant in all_mutants(file)):
        at.setdefault((mutant.file, mutant.line, mutant.column), []).append(mutant)
    chance, places = random.Random(seed), sorted(at)
    chance.shuffle(places)
    candidates: Iterator[Mutant] = (chance.choice(at[place]) for place in places)
    chosen: list[Mutant] = []
    while len(chosen) < size and (mutant := next(candidates, None)) is not None:
        if is_another_program(mutant):
            chosen.append(mutant)
    return chosen, len(places)


def is_another_program(mutant: Mutant) -> bool:
    """Whether a mutant can be parsed, and not to what it was."""
    original = (REPOSITORY / mutant.file).read_text()
    try:
        return ast.dump(ast.parse(mutant.source(original))) != ast.dump(ast.parse(original))
    except SyntaxError:
        return False


def mutate(room: str, arguments: argparse.Namespace, folder: Path) -> tuple[int, int]:
    """Run the mutants of a room and print what came of each; how many were killed, and of how many."""
    files = files_of(room)
    mutants, places = sampled(files, arguments.sample, arguments.seed)
    mutants = [mutant for mutant in mutants if any(word in f"{mutant.file}:{mutant.line}" for word in arguments.only)]
    tests = Tests.noted(arguments.tests or tests_of(room), list(map(str, files)), folder)
    print(f"{room}: {places} places, {len(mutants)} mutants, {tests.described()}", flush=True)
    lived = []
    for mutant in mutants:
        original = (REPOSITORY / mutant.file).read_text()
        changed = mutant.source(original)
        executing = tests.executing(mutant.file, mutant.line)
        result, seconds, count = result_of(mutant.file, changed, executing, folder / "log")
        if result in SURVIVED:  # what is kept for later, as by functools.cache, is computed by the first test that asks for it
            result, more, others = result_of(mutant.file, changed, tests.but_for(executing), folder / "log", without=result)
            seconds, count = seconds + more, count + others
        line = f"{mutant.file}:{mutant.line}: {mutant.shown(original, changed)}"
        print(f"  {result:12} {seconds:5.1f} s {count:4} tests  {line}", flush=True)
        if result in SURVIVED:
            lived.append(f"  {result}: {line} ({mutant.operator.rpartition('/')[2]})")
    killed = len(mutants) - len(lived)
    print(
        f"{room}: {killed} of {len(mutants)} killed ({killed / max(1, len(mutants)):.1%}), seed {arguments.seed}", *lived, sep="\n"
    )
    return killed, len(mutants)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Change a room's source at random places, and see whether its tests notice.")
    parser.add_argument("rooms", nargs="*", default=ROOMS, help=f"of {PACKAGE}, as {', '.join(ROOMS)}; these if none is named")
    parser.add_argument("--sample", type=int, default=80, help="mutants of a room")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--tests", nargs="*", help="files and folders of tests that are to notice, in place of the room's")
    parser.add_argument("--only", nargs="*", default=[""], help="mutants of the sample whose file:line has one of these in it")
    arguments = parser.parse_args(words)
    prepare()
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        os.chdir(copy_of_checkout(Path(folder)))
        counts = [mutate(room, arguments, Path(folder)) for room in arguments.rooms]
    killed, tried = map(sum, zip(*counts, strict=True))
    print(f"all: {killed} of {tried} killed ({killed / max(1, tried):.1%})")
    return 0 if killed >= 0.9 * tried else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
