"""A job of a sweep as the process of a launcher runs it: on this machine, or on another one that shares the sweep's folder.

A launcher of another project (joblib, submitit, Ray) calls a function with a config in a process of its own. The function here,
`run_job`, reads from the sweep's folder which command is meant, claims the job, and runs the command: the same that a user would
type. What came of it is in the sweep's folder too, so it does not matter what becomes of the launcher.

A process of a launcher imports this module, so it imports neither torch nor Lightning.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vae_lightning.commands.job import worker_environment
from vae_lightning.machine.files import write_json
from vae_lightning.machine.signals import ENDING, status_of
from vae_lightning.sweeps.claims import claimed, descriptor_of_claim, is_finished, note_end
from vae_lightning.sweeps.record import reason_of

__all__ = ["Order", "ask_to_stop", "end_of", "has_begun", "launched", "run_job", "run_ordered"]

LAUNCHED = Path(".sweep", "launched")
"""Where, in a sweep's folder, each command has one with a folder for each job, which says what its launcher has to know."""
PLACES = Path(".sweep", "places")
"""Where, in a sweep's folder, each of the jobs at once on a machine locks a file for its GPU."""
ORDER, BEGUN, ENDED, STOP = Path("order.json"), Path("begun"), Path("ended.json"), Path("stop")
OFTEN = 0.5
"""Seconds after which it is looked again whether the sweep asks its jobs to stop."""
MOMENT, WHILE = 2.0, 120.0
"""Seconds for which a claim is waited for: of somebody who only looks, and of an attempt that is still ending."""
GRACE = 5.0
"""Seconds for which a process that was told to end waits for a further signal, as schedulers send one after the other."""


@dataclass(frozen=True)
class Order:
    """What a process of a launcher is to run."""

    run: str
    """The job's run folder."""
    script: str
    """The script, train.py."""
    words: Sequence[str]
    """The words of its command line."""
    environment: Mapping[str, str]
    """Environment variables beside those of the process."""
    log: str
    """The file for what it prints."""
    directory: str
    """The working directory, from which relative paths are taken."""
    gpus: Sequence[str] = ()
    """The names of the GPUs of this machine, of which each job has one; empty: the launcher deals them out."""
    places: int = 0
    """How many jobs run on this machine at once; 0: the launcher says so."""
    command: str = ""
    """What the sweep's command claims, as a job's run folder, for as long as it lives; empty: the job does not end with it."""

    @property
    def is_left(self) -> bool:
        """Whether the command that the job ends with is no more."""
        if not self.command:
            return False
        with claimed(Path(self.command)) as free:
            return free

    def write(self, folder: Path) -> None:
        """Write the order into a job's folder below `LAUNCHED`."""
        write_json(folder / ORDER, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Order":
        return cls(**json.loads((folder / ORDER).read_bytes()))


def launched(run: Path, command: str) -> Path:
    """The folder with what the launcher of a command has to know of the job with this run folder.

    Args:
        command: what tells the command from others, which may run jobs of the same sweep at the same time.
    """
    return run.parent / LAUNCHED / command / run.name


def end_of(folder: Path) -> int | None:
    """The exit status of the command that is ordered in `folder`, to whose end a launcher has come; None: it has not."""
    try:
        code = json.loads((folder / ENDED).read_bytes())["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, int) else None


def has_begun(folder: Path) -> bool:
    """Whether a process of the launcher has begun with the job that is ordered in `folder`, and has not left it to another one."""
    return (folder / BEGUN).exists()


def ask_to_stop(folder: Path) -> None:
    """Ask the job that is ordered in `folder`, on whatever machine it is, to stop with a checkpoint, or not to begin."""
    (folder / STOP).touch()


def _is_to_stop(folder: Path, order: Order) -> bool:
    """Whether the job is to stop: its command asks for it, or is no more."""
    return (folder / STOP).exists() or order.is_left


def run_job(_: DictConfig) -> None:
    """Run the command that is ordered in the folder that Hydra has for this job; the task function of launchers."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    run_ordered(folder)
    if Order.read(folder).is_left:  # nobody waits for this process, which would wait for further jobs
        os._exit(status_of(signal.SIGTERM))


def run_ordered(folder: Path) -> None:
    """Run the command that is ordered in `folder`, if nobody else does and the job has no result yet."""
    order = Order.read(folder)
    run = Path(order.run)
    patience = WHILE if (folder / BEGUN).exists() else MOMENT  # an earlier attempt, requeued, may still be ending
    (folder / BEGUN).touch()
    with _told() as told:
        with descriptor_of_claim(run, patience) as descriptor:
            if descriptor is None:  # another command runs it
                (folder / BEGUN).unlink(missing_ok=True)
            elif not (is_finished(run) or told.signum or _is_to_stop(folder, order)):
                reason_of(run).unlink(missing_ok=True)
                with _place(order) as environment:
                    code = _run(folder, order, environment, descriptor, told)
                if told.signum is None:
                    note_end(run, code)
                    write_json(folder / ENDED, {"status": code})
        told.obey()


def _run(folder: Path, order: Order, environment: Mapping[str, str], descriptor: int, told: "_Told") -> int:
    """Run the command to its end; return its exit status, negative if a signal killed it."""
    log = Path(order.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, order.script, *order.words],
            cwd=order.directory,
            env={**os.environ, **_threads(), **order.environment, **environment, **worker_environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor],  # so that nobody else begins the job before this command has ended, if this process is killed
        )
        told.process = process
        if told.signum is not None:
            told.tell(told.signum)
        code = _end(process, lambda: _is_to_stop(folder, order))
        told.process = None
    if code < 0 or code > 128:
        time.sleep(0.2)  # a scheduler that tells both of them to end may reach this process last
    return code


def _end(process: "subprocess.Popen[bytes]", is_to_stop: Callable[[], bool]) -> int:
    """Wait for the end of the command, which is asked to end where the job is to stop; return its exit status."""
    asked = False
    while True:
        try:
            return process.wait(OFTEN)
        except subprocess.TimeoutExpired:
            if not asked and is_to_stop():
                asked = True
                process.terminate()


def _threads() -> dict[str, str]:
    """OMP_NUM_THREADS for the cores that Slurm gave to this job, to which not every cluster binds a job."""
    count = os.environ.get("SLURM_CPUS_PER_TASK")
    return {"OMP_NUM_THREADS": count} if count and "OMP_NUM_THREADS" not in os.environ else {}


@contextlib.contextmanager
def _place(order: Order) -> Iterator[dict[str, str]]:
    """A block with one of the machine's GPUs for this job, as environment variables; empty if somebody else deals them out."""
    if not order.gpus:
        yield {}
        return
    locks = Path(order.run).parent / PLACES
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        for place in range(max(order.places, 1)):
            lock = FileLock(locks / str(place))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield {"CUDA_VISIBLE_DEVICES": order.gpus[place % len(order.gpus)]}
            finally:
                lock.release()
            return
        time.sleep(0.2)


class _Told:
    """What signals have told this process, which passes them on to its command."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.before: dict[int, Any] = {}

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        first = self.signum is None or self.signum == signum
        if first or signum != signal.SIGTERM:
            self.signum = signum
        if first:  # another one would have the command end at once, before its checkpoint is whole
            self.tell(signum)

    def tell(self, signum: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signum)

    def obey(self) -> None:
        """Do, once the command has ended, what the launcher does upon the signal, such as requeueing the job."""
        if self.signum is None:
            return
        until = time.monotonic() + GRACE
        while self.signum == signal.SIGTERM and self.before.get(signal.SIGTERM) is not signal.SIG_DFL and time.monotonic() < until:
            time.sleep(0.1)
        signum = self.signum
        self.restore()
        signal.raise_signal(signum)
        # a result would tell the launcher that this is the end of the job, which a scheduler may begin again
        os._exit(status_of(signum))

    def restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()


@contextlib.contextmanager
def _told() -> Iterator[_Told]:
    """A block in which signals that ask this process to end are noted and passed on; outside of the main thread they are not."""
    told = _Told()
    with contextlib.suppress(ValueError):  # not the main thread
        for number in ENDING:
            before = signal.getsignal(number)
            if before is not None and before is not signal.SIG_IGN:
                signal.signal(number, told.handle)
                told.before[number] = before
    try:
        yield told
    finally:
        told.restore()
