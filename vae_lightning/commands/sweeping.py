"""The words of a command that is a sweep: `-m`, and `sweep=<folder>`, `sweep=latest`, `sweep=new` or `sweep=<option>`.

Hydra composes a config before it asks which jobs there are, and would refuse there a setting that only some of the jobs have. So
the settings of a sweep are kept from Hydra, but for those that choose where the sweep goes and what runs it; each job is composed
with all of its own.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_lightning.commands.job import is_job
from vae_lightning.commands.overrides import FUNCTION, flags_first, parts_of
from vae_lightning.commands.resuming import merged
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.trusted import TRUSTS, is_trust, named_in, require_trusted_configs
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.machine.files import at_home
from vae_lightning.machine.shell import called, unquoted
from vae_lightning.sweeps.record import JOBS, Record
from vae_lightning.sweeps.search import Search, is_search

__all__ = ["Wanted", "evaluated_sweep", "latest", "sweep_folder", "wanted", "with_sweep", "without_sweep"]

SWEEP = re.compile(r"\+{0,2}sweep=(?P<value>.*)", re.DOTALL)
MULTIRUN = {"-m", "--multirun"}
INFORMATION = re.compile(r"(--cfg|-c|--info|-i|--help|-h|--hydra-help|--version|--shell-completion|-sc)(=.*)?")
"""Flags of a command that only shows something."""


@dataclass(frozen=True)
class Wanted:
    """What this command wants of a sweep."""

    words: tuple[str, ...] | None = None
    """The settings that Hydra has not seen; None: Hydra has them all."""
    folder: Path | None = None
    """The sweep to go on with; None: that of the same command, if there is one."""
    everything: bool = False
    """Whether all jobs of that sweep are wanted, and not those of a command."""
    new: bool = False
    """Whether another sweep of the same command does not count."""


_wanted = Wanted()


def wanted() -> Wanted:
    """What the command of this process wants of a sweep."""
    return _wanted


def with_sweep(words: Sequence[str], catalogue: Catalogue) -> list[str]:
    """The words of a command line as Hydra reads them, without the settings of a sweep, which `wanted` has then.

    Args:
        words: as `overrides.prepared` gives them.

    Raises:
        ConfigurationError, CheckpointError: there is no such sweep.
    """
    global _wanted
    _wanted = Wanted()
    flags, settings = flags_first(words, catalogue.meant)
    named = [word for word in settings if (match := SWEEP.fullmatch(word)) and match["value"].lower() not in ("null", "none")]
    sweeps = bool(named) or any(flag in MULTIRUN for flag in flags) or "hydra.mode=MULTIRUN" in settings
    if not sweeps or is_job() or any(map(INFORMATION.fullmatch, flags)):
        return list(words)
    if len(named) > 1:
        raise ConfigurationError(f"{named[1]}: one sweep at a time")
    typed = [word for word in settings if not (SWEEP.fullmatch(word) or is_trust(word))]
    of_hydra = [word for word in typed if _is_of_hydra(word)]
    own = [word for word in typed if not _is_of_hydra(word)]
    value = SWEEP.fullmatch(named[0])["value"] if named else ""  # type: ignore[index]
    if value in catalogue.groups.get("sweep", ()):
        return _of_command(flags, [*of_hydra, named[0]], own, catalogue)
    if value in ("", "new"):
        return _of_command(flags, of_hydra, own, catalogue, new=value == "new")
    folder = sweep_folder(value, catalogue.groups.get("sweep", ()))
    record = Record.read(folder)
    trust = named_in(words)
    require_trusted_configs([*record.words, *record.flags], trust)
    os.environ[TRUSTS] = ",".join(trust)
    if not own:
        _wanted = Wanted((), folder, everything=True)
    else:
        _wanted = Wanted(tuple(merged(record.words, own)), folder)
    if Path(record.start).is_dir():
        os.chdir(record.start)
    searched = [word for word in record.flags if _is_of_hydra(word)] + _of_search(folder, of_hydra)
    others = [word for word in record.flags if not _is_of_hydra(word)]
    return ["-m", *(flag for flag in flags if flag not in MULTIRUN), *others, *searched, *of_hydra]


def _of_command(
    flags: Sequence[str], of_hydra: Sequence[str], own: Sequence[str], catalogue: Catalogue, *, new: bool = False
) -> list[str]:
    global _wanted
    _wanted = Wanted(tuple(own), new=new)
    choices = [word for word in own if _is_choice(word, catalogue)]
    return ["-m", *(flag for flag in flags if flag not in MULTIRUN), *of_hydra, *choices]


def _of_search(folder: Path, typed: Sequence[str]) -> list[str]:
    """The words for Hydra that go on with the sweep in `folder` as a search, if it is one, but for those that were typed."""
    if not is_search(folder):
        return []
    keys = {word.partition("=")[0].lstrip("+") for word in typed}
    words = ["hydra/sweeper=optuna", *Search.read(folder).settings.words()]
    return [word for word in words if word.partition("=")[0] not in keys]


def _is_of_hydra(word: str) -> bool:
    return re.match(r"[+~]*hydra[./]", word) is not None


def _is_choice(word: str, catalogue: Catalogue) -> bool:
    """Whether a word chooses one option of a group that every config has."""
    key, _, value = word.partition("=")
    return "/" not in key and key in catalogue.groups and len(parts_of(value)) == 1 and not FUNCTION.fullmatch(value)


_evaluated: str | None = None


def evaluated_sweep() -> str | None:
    """What the command of this process says of which sweep's runs are evaluated; None: it evaluates one run."""
    return _evaluated


def without_sweep(words: Sequence[str], catalogue: Catalogue) -> list[str]:
    """The words of an evaluation as Hydra reads them, without the one that names a sweep, which `evaluated_sweep` has then."""
    global _evaluated
    flags, settings = flags_first(words, catalogue.meant)
    named = [match["value"] for match in map(SWEEP.fullmatch, settings) if match]
    _evaluated = named[-1] if named and named[-1].lower() not in ("null", "none") else None
    return [*flags, *(word for word in settings if not SWEEP.fullmatch(word))]


def sweep_folder(value: str, options: Sequence[str] = ()) -> Path:
    """The folder of the sweep that `sweep=<value>` names: a folder, a job's in it, or "latest".

    Args:
        options: what `value` may have been meant to be instead.

    Raises:
        CheckpointError: there is no such sweep.
    """
    text = unquoted(value)
    if text == "latest":
        return latest()
    folder = at_home(text)
    if not folder.is_dir():
        others = f", and no such sweep in conf/sweep, which has: {', '.join(options)}" if options else ""
        raise CheckpointError(f"sweep={value}: there is no such folder{others}")
    if not (folder / JOBS).is_file() and (folder.parent / JOBS).is_file():  # a job of it
        folder = folder.parent
    Record.read(folder)
    return folder.resolve()


def latest(outputs: Path = Path("outputs")) -> Path:
    """The folder of the sweep below `outputs` that was begun or extended last."""
    records = sorted(outputs.glob(f"**/{JOBS}"), key=lambda path: path.stat().st_mtime)
    if not records:
        raise CheckpointError(f"sweep=latest: there is no sweep below {outputs}; start one: {called('train.py')} -m seed=0,1,2")
    return records[-1].parent.parent.resolve()
