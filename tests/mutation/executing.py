"""Which tests execute which statements, as coverage.py finds."""

import ast
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest
from running import OPTIONS, REPOSITORY, in_a_fork, tested

EVERYWHERE = ""
"""The context, as coverage.py calls it, of what runs while files are imported: any test of the room may depend on it."""
AN_HOUR = 3600.0


def tests_of(room: str) -> list[str]:
    folder = f"tests/{room}"
    return [folder if (REPOSITORY / folder).is_dir() else f"tests/test_{room}.py"]


class Noted:
    """A plugin of pytest that tells coverage.py which test is running, and notes how long each takes, and which fail."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured, self.seconds, self.failed = measured, dict[str, float](), set[str]()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.measured.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_runtest_logfinish(self) -> None:
        self.measured.switch_context(EVERYWHERE)


def note(paths: Sequence[str], files: Sequence[str], kept: Path) -> int:
    """Run the tests in `paths` with the `files` as they are, and write down what each executes, and bytecode, which all of the unchanged files share."""
    sys.dont_write_bytecode = False
    measured = coverage.Coverage(data_file=None, config_file=False, include=[str(Path.cwd() / file) for file in files])
    noted = Noted(measured)
    measured.start()
    pytest.main([*OPTIONS, *paths], [noted])
    measured.stop()
    data = measured.get_data()
    lines = {file: data.contexts_by_lineno(str(Path.cwd() / file)) for file in files}
    kept.write_text(json.dumps({"seconds": noted.seconds, "failed": sorted(noted.failed), "lines": lines}))
    return 0


@dataclass
class Tests:
    """The tests of a room that pass as it is."""

    seconds: dict[str, float]
    failed: Collection[str]
    lines: dict[str, dict[str, list[str]]]
    """By file and line, the names of the tests that execute it."""

    @classmethod
    def noted(cls, paths: Sequence[str], files: Sequence[str], folder: Path) -> "Tests":
        """The tests in `paths`, and the examples in the `files` of a room, as they are noted now.

        Raises:
            RuntimeError: they do not pass once more in the way in which mutants are tested.
        """
        kept = folder / "executing.json"
        in_a_fork(lambda: note([*paths, *files], files, kept), folder / "log", AN_HOUR)
        tests = cls(**json.loads(kept.read_text()))
        few = dict(list(tests._quickest_first(tests.seconds).items())[:50])
        if tested(few, folder / "log") != pytest.ExitCode.OK:
            raise RuntimeError(f"the tests do not pass:\n{(folder / 'log').read_text()[-3000:]}")
        return tests

    def described(self) -> str:
        left_out = f", without {len(self.failed)} that do not pass or are skipped" if self.failed else ""
        return f"{len(self.seconds)} tests of {sum(self.seconds.values()):.0f} s{left_out}"

    def executing(self, file: str, line: int) -> dict[str, float]:
        """The tests that execute the statement of a line, quickest first; all of the room if it runs as the file is imported."""
        known = self.lines[file]
        names = {name for each in statement(Path(file).read_text(), line) for name in known.get(str(each), ())}
        return self._quickest_first(self.seconds if EVERYWHERE in names else names)

    def but_for(self, names: Collection[str]) -> dict[str, float]:
        return self._quickest_first(self.seconds.keys() - names)

    def _quickest_first(self, names: Collection[str]) -> dict[str, float]:
        passing = (name for name in names if name in self.seconds and name not in self.failed)
        return {name: self.seconds[name] for name in sorted(passing, key=lambda name: (self.seconds[name], name))}


def statement(source: str, line: int) -> range:
    """The lines of the innermost statement around a line; of one that holds others, the lines before these."""
    around = [range(line, line + 1)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
            last = body[0].lineno - 1 if body else node.end_lineno
            around.append(range(first, max(first, last) + 1))
    return max((lines for lines in around[1:] if line in lines), key=lambda lines: lines.start, default=around[0])
