"""A command from its first word to its exit status, with errors in one line that names the key or file.

Errors of Hydra, OmegaConf, the system and torch that a user can cause end in one line on standard error and status 2. A mistake in
the program keeps its traceback, with a note that it is one.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import contextlib
import errno
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vae_lightning.arguments import unknown_key
from vae_lightning.commands.job import end_with_worker, job_folder, note_reason, started_with
from vae_lightning.commands.overrides import flags_first, prepared, takes_a_path
from vae_lightning.commands.own_parts import with_own_parts
from vae_lightning.commands.resuming import is_resume, with_begun, with_resumed
from vae_lightning.commands.search import register_search
from vae_lightning.commands.suggestions import Catalogue, unknown_group, unknown_option, unknown_setting
from vae_lightning.commands.sweep import register
from vae_lightning.commands.sweeping import with_sweep, without_sweep
from vae_lightning.errors import ConfigurationError, LostRankError, NotFiniteError, UnknownKeyError, VAELightningError, printable
from vae_lightning.machine import screen
from vae_lightning.machine.collection import collect_seldom
from vae_lightning.machine.parent import ended_with_parent
from vae_lightning.machine.shell import setting
from vae_lightning.machine.signals import Interruption, handled, heed, noted, received, status_of
from vae_lightning.plugins import add_working_directory, search_working_directory

__all__ = [
    "INTERRUPTED",
    "WENT_WRONG",
    "end_with",
    "failed_job",
    "one_line_errors",
    "paths_of_the_command",
    "register_resolvers",
    "start",
    "whole_command",
    "words_of_a_job",
]

SET_HERE = "VAE_LIGHTNING_SET_HYDRA_FULL_ERROR"
"""An environment variable that tells processes started by Lightning that this program, not the user, set HYDRA_FULL_ERROR."""
TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and SET_HERE not in os.environ
INTERRUPTED = 130
"""Exit status after Ctrl-C, by the convention of shells."""
WRONG = 2
"""Exit status of a command that is wrong."""
WENT_WRONG = 1
"""Exit status of a training that went wrong, though nothing was wrong with the command."""
NAMES = """
    ENOSPC EDQUOT EACCES EPERM EROFS ENAMETOOLONG ENOTDIR EISDIR EEXIST ENOENT ELOOP EFBIG EIO EMFILE ENFILE ENOMEM EBUSY ESTALE
    ENOTEMPTY EILSEQ ENXIO ENODEV
"""
ENVIRONMENT = {getattr(errno, name) for name in NAMES.split() if hasattr(errno, name)}
"""Errors of the system that a user can mend: a full disk, a folder without permission to write, a name that is too long."""
MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that Lightning takes a process's rank from as it is imported."""
BUG = "This is a mistake in vae_lightning, or in a class of your own, and not in how the command was written: please report it."


def conf_of(package: Path) -> Path:
    """The folder of the configuration files: inside of `package` if the package is installed, beside it in a checkout."""
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


CONF = conf_of(Path(__file__).resolve().parents[1])

_catalogue = Catalogue(CONF, "train")
_failed_jobs = 0
"""Jobs of a sweep in this process that went wrong."""


def start(name: str, main: Callable[[], object], conf: Path = CONF) -> None:
    """Run `main`, made by `hydra.main`, as the command of the script `name`: "train" or "evaluate"."""
    global _catalogue
    _catalogue = Catalogue(conf, name)
    # Lightning, where it is imported before Hydra says what becomes of logs, would write to the terminal and not to train.log
    logging.getLogger().addHandler(logging.NullHandler())
    collect_seldom()
    screen.prepare()
    register_resolvers()
    if name == "train" and not any(map(is_resume, sys.argv[1:])):
        add_working_directory()
    else:
        search_working_directory()
    with whole_command(), _led():
        _check_environment()
        words = with_own_parts((with_resumed if name == "train" else _words)(sys.argv[1:], _catalogue), conf)
        sys.argv[1:] = (_of_a_sweep if name == "train" else without_sweep)(words, _catalogue)
        main()
    if _failed_jobs:
        sys.exit(WENT_WRONG)


@contextlib.contextmanager
def whole_command() -> Iterator[None]:
    """A block that is a command: it can be interrupted anywhere, and errors end it in a line.

    An interruption that a library has swallowed counts at the end of the block at the latest.
    """
    with one_line_errors(), handled(at_once=True), one_line_errors():  # the first is for a signal that comes between the others
        yield
        heed()


@contextlib.contextmanager
def _led() -> Iterator[None]:
    """A block in which a process that belongs to another rank than the first leaves signals to the training, where ranks agree.

    If the process left by itself, Lightning would kill all others. It ends with the process that started it.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        yield
        return
    ended_with_parent()
    with noted(lambda signum: None):
        yield


def _words(words: Sequence[str], catalogue: Catalogue) -> list[str]:
    return prepared(words, catalogue.groups, catalogue.meant)


def _of_a_sweep(words: Sequence[str], catalogue: Catalogue) -> list[str]:
    """The words of a training, which may be a sweep or a job of one."""
    register()
    register_search()
    end_with_worker()
    job = job_folder()
    if job is None:
        return with_sweep(words, catalogue)
    # a process that Lightning has started is given the words with which the job goes on
    return list(words) if started_with() is not None else with_begun(words, job)


def words_of_a_job(words: Sequence[str], folder: Path) -> list[str]:
    """The settings, as Hydra reads them, of a job with these words; they go on with the run in `folder` if that has begun."""
    own = with_own_parts(_words(words, _catalogue), CONF)
    return flags_first(with_begun(own, folder), _catalogue.meant)[1]


def _check_environment() -> None:
    """Refuse a rank that is no number, on which importing Lightning would fail."""
    for variable in RANKS:
        value = os.environ.get(variable, "0")
        if re.fullmatch("[0-9]+", value) is None:
            raise ConfigurationError(f"{variable}={value}: this environment variable must be a number of at least 0, or not set")


def failed_job(error: NotFiniteError) -> float:
    """NaN as the result of a job of a sweep that went wrong, which sweepers count as failed; outside of sweeps, raise `error`."""
    global _failed_jobs
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        raise error
    _failed_jobs += 1
    _fail(_flat(str(error)))
    return math.nan


def register_resolvers() -> None:
    """Register `${folder_name:...}`, a folder's name for overrides, and `${first_of:a,b}`, the first value that is not null."""

    def folder_name(overrides: str) -> str:
        said = re.sub(r"(^|,)[+~]+", r"\1", overrides)  # how a setting is added or left out says nothing of the run
        return re.sub(r"[^\w.,=+-]+", "_", said)[:150] or "run"

    def first_of(*values: str | None) -> str | None:
        return next((value for value in values if value is not None), None)

    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("first_of", first_of, replace=True)


def paths_of_the_command(cfg: DictConfig) -> None:
    """Make relative paths in `cfg` absolute if Hydra changed the working directory: they are relative to the command's own."""
    here = HydraConfig.get().runtime.cwd
    if os.path.realpath(here) != os.path.realpath(os.curdir):
        with open_dict(cfg):
            _make_absolute(cfg, "", here)


def _make_absolute(node: Any, above: str, here: str) -> None:
    for key in list(node):
        full = f"{above}{key}"
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if isinstance(value, DictConfig):
            _make_absolute(value, f"{full}.", here)
        elif isinstance(value, str) and takes_a_path(full) and full != "name":
            node[key] = os.path.join(here, value)  # noqa: PTH118


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A block that turns errors a user can cause into one line and exit status 2; `HYDRA_FULL_ERROR=1` adds the traceback."""
    try:
        with _full_errors():
            yield
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(INTERRUPTED)
    except Interruption as error:
        _say(str(error))
        sys.exit(status_of(error.signal))
    except Exception as error:
        line = _line(error)
        signal = received()
        if signal is not None and (line is None or _may_come_of_interruption(error)):  # what a library makes of one
            _say(str(Interruption(signal)))
            sys.exit(status_of(signal))
        if line is None and BUG not in getattr(error, "__notes__", ()):
            error.add_note(BUG)
            note_reason(f"{type(error).__name__}: {_flat(str(error))}")
        if line is None or TRACEBACK:
            raise
        _fail(line)
        sys.exit(WENT_WRONG if isinstance(error, NotFiniteError | LostRankError) else WRONG)


def _may_come_of_interruption(error: BaseException | None) -> bool:
    """Whether an interruption has led to `error`, or may have: to one of Hydra's, whose imports may swallow one."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, Interruption):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _full_errors() -> Iterator[None]:
    """A block in which Hydra raises its errors instead of printing them and ending the program."""
    before = {name: os.environ.get(name) for name in ("HYDRA_FULL_ERROR", SET_HERE)}
    if not TRACEBACK:
        os.environ[SET_HERE] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _say(message: str) -> None:
    """Say what ended the command; alone, of an interruption, which is no reason why a job has no result."""
    print(f"error: {printable(message)}", file=sys.stderr)


def _fail(message: str) -> None:
    """Say what ended the command, and note it as the reason why its job has no result."""
    _say(message)
    note_reason(message)


def end_with(messages: Sequence[str]) -> NoReturn:
    """Say what went wrong, a line each, and end the program with the status of a command that was right and went wrong."""
    for message in messages:
        print(f"error: {printable(message)}", file=sys.stderr)
    note_reason("; ".join(messages))
    sys.exit(WENT_WRONG)


def _line(error: Exception) -> str | None:
    """The line for an error that a user can cause; None for an error that is a mistake in the program."""
    words = _flat(str(error))
    if isinstance(error, UnknownKeyError) and error.key:
        return str(unknown_setting(error.key, error.known, _catalogue, sys.argv[1:]))
    if isinstance(error, VAELightningError):
        return words
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error)
    if isinstance(error, ValueError) and _raised_by_hydra(error):
        return words
    if isinstance(error, ValueError) and words.startswith("Key backend:") and "MPLBACKEND" in os.environ:
        return f"MPLBACKEND={os.environ['MPLBACKEND']}: this environment variable names no backend of matplotlib; unset it"
    if isinstance(error, YAMLError):
        return f"a configuration file is no YAML: {words}"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in words.lower() for word in MEMORY)):
        return f"out of memory ({words[:160]}); a smaller data.batch_size, model.num_samples or net takes less"
    if isinstance(error, OSError) and error.errno is None and (file := _being_loaded(error)):
        return f"{file}: holds no settings, key: value a line ({words})"
    if isinstance(error, OSError) and error.errno in ENVIRONMENT:
        return f"{error.filename or 'writing'}: {error.strerror}"
    return None


def _raised_by_hydra(error: Exception) -> bool:
    """Whether Hydra itself raised `error`, which it does for flags that do not go together and settings of a wrong type."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("hydra.")


def _being_loaded(error: Exception) -> str:
    """The file that OmegaConf was reading as it raised `error`; an empty string if it was not."""
    trace, file = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == "omegaconf.omegaconf":
            file = str(getattr(trace.tb_frame.f_locals.get("file_"), "name", file))
        trace = trace.tb_next
    return file


def _composition(error: Exception) -> str:
    """The line for an error of Hydra or OmegaConf from the composition of the config."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        return str(unknown_option(error.missing_cfg_file, list(error.options), _catalogue))
    if isinstance(error.__cause__, VAELightningError):  # of a part that Hydra builds, such as a launcher
        return _flat(str(error.__cause__))
    for candidate in (error, error.__cause__):
        if isinstance(candidate, OmegaConfBaseException):
            return _configuration(candidate)
    words = _flat(str(error))
    if isinstance(error, OverrideParseException):
        return _not_parsed(error, words)
    group = re.search(r"Could not override '([^']+)'\.(?: Did you mean to override (?:one of )?(.*?)\?)?", words)
    if isinstance(error, ConfigCompositionException) and group:
        return str(unknown_group(group[1], _catalogue, group[2] or ""))
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", words)
    if several:
        key, values = several.groups()
        return f"{key}={values}: several values are a sweep, which needs -m; one list is written {key}=[{values}]"
    return words


def _not_parsed(error: OverrideParseException, words: str) -> str:
    key, _, value = str(error.override).partition("=")
    reason = words.partition(" See https://")[0].partition(" expecting ")[0]
    quoted = setting(key, value)
    hint = f'; if it is one text, write "{quoted}"' if value and not set(quoted) & set('"$`\\!') else ""
    return f"{error.override}: cannot be read ({reason}){hint}"


def _configuration(error: OmegaConfBaseException) -> str:
    key = str(error.full_key or error.key)
    if "is not in struct" in str(error):
        known = error.parent_node.keys() if isinstance(error.parent_node, DictConfig) else []
        return str(unknown_setting(key, [str(name) for name in known if name != "hydra"], _catalogue, sys.argv[1:]))
    node = error.parent_node
    if " not in '" in str(error) and isinstance(node, DictConfig):  # a key of Hydra's own that does not exist
        return str(unknown_key(key, map(str, node.keys())))
    return f"{key}: {_flat(str(error.msg or error))}"


def _flat(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
