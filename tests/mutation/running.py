"""Running tests of mutants: a copy of the checkout, and a fork of a process that has imported torch for each."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import Phase, settings

REPOSITORY = Path(__file__).resolve().parents[2]
IMPORTED = ("torch", "torch._dynamo", "torch._inductor.compile_fx", "numpy", "scipy.stats", "scipy.io", "pydantic", "zuko")
"""What no mutant's process imports anew. Lightning and torchvision are not among them, which the package has to prepare for first."""
OPTIONS = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:randomly")
OWN_FAULT = 70
"""The exit code of a process in which not the tests failed but what was to run them."""
RESULTS = {None: "timeout", pytest.ExitCode.OK: "survived"}
"""Where another code is "killed": pytest has one of its own for failures and for files that cannot be imported."""


class Chosen:
    """A plugin of pytest that runs the tests of these names only, in this order."""

    def __init__(self, names: Collection[str]) -> None:
        self.places = {name: place for place, name in enumerate(names)}

    def pytest_sessionstart(self) -> None:
        # the mutant is killed by then, and to look for a smaller example takes minutes
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", settings.get_profile("suite"), phases=phases)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.places), key=lambda item: self.places[item.nodeid])


def prepare() -> None:
    """Import what all have in common; of a mutant no bytecode is written, which would be taken for another of its size and second."""
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    os.environ.setdefault("VAE_LIGHTNING_DATA", str(REPOSITORY / "data"))
    for name in IMPORTED:
        importlib.import_module(name)


def copy_of_checkout(folder: Path) -> Path:
    """A copy of what git does not ignore."""
    copy = folder / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
    return copy


def in_a_fork(act: Callable[[], int], log: Path, seconds: float) -> int | None:
    """The exit code of `act` in a process of its own, which is killed with its children after `seconds`: then None."""
    child = os.fork()
    if child == 0:
        code = OWN_FAULT
        with suppress(BaseException):
            os.setsid()
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            code = act()
        os._exit(code)
    ends = time.monotonic() + seconds
    status: int | None = None
    while status is None and time.monotonic() < ends:
        time.sleep(0.02)
        done, found = os.waitpid(child, os.WNOHANG)
        status = found if done else None
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
        return None
    code = os.waitstatus_to_exitcode(status)
    if code == OWN_FAULT:
        raise RuntimeError(f"pytest could not be run:\n{log.read_text()[-3000:]}")
    return code


def tested(names: Mapping[str, float], log: Path) -> int | None:
    """pytest's exit code for the tests of these names, which take so many seconds; None: they take many times as long."""
    files = list(dict.fromkeys(name.partition("::")[0] for name in names))
    return in_a_fork(lambda: int(pytest.main([*OPTIONS, "-x", *files], [Chosen(names)])), log, 120 + 5 * sum(names.values()))


def result_of(
    file: str, changed: str, names: Mapping[str, float], log: Path, without: str = "not executed"
) -> tuple[str, float, int]:
    """What came of a mutant of a file of the copy, the present folder; seconds; and how many tests there were.

    Args:
        without: what comes of it if there is no test.
    """
    if not names:
        return without, 0.0, 0
    path, started = Path(file), time.monotonic()
    original = path.read_text()
    path.write_text(changed)
    code = tested(names, log)
    path.write_text(original)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError(f"none of the tests was found: {list(names)[:3]}")
    return RESULTS.get(code, "killed"), time.monotonic() - started, len(names)
