"""Which machine this is, and how busy."""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


def git(*arguments: str) -> str:
    """The output of git; nothing where there is no git or no repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()
    except OSError:
        return ""


def commit() -> str:
    """The commit in short, and whether tracked files have changed since."""
    dirty = " and changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{dirty}"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def cores() -> int:
    """Cores that this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str | int]:
    """Processor, cores, GPU and versions, by what they are called."""
    import torch

    gpu = "none"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return {
        "cores": cores(),
        "processor": processor(),
        "gpu": gpu,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }


def described() -> str:
    """The machine in one sentence, for the head of a table."""
    facts = machine()
    gpu = "no GPU" if facts["gpu"] == "none" else facts["gpu"]
    versions = f"torch {facts['torch']}, Python {facts['python']}; commit {facts['commit']}"
    return f"{facts['cores']} cores, {facts['processor']}; {gpu}; {versions}"


class Moment(NamedTuple):
    """A moment, and how much the whole machine had computed by then."""

    load: float
    """The load average over the minute before."""
    seconds: float
    busy: float | None
    """Processor seconds of all cores since the machine started; None where the system does not say."""


def now() -> Moment:
    return Moment(os.getloadavg()[0], time.perf_counter(), _busy())


def _busy() -> float | None:
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _waiting, *others = map(int, stat.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
