"""Loggers that cannot end a training: what fails first is said in a line, and the training goes on without that logger.

A full disk, a folder that may not be written to, or a server that does not answer costs what would have been logged, and nothing
that is learned. A logger keeps its class for `isinstance`, and goes to other processes as it did.
"""

import functools
import logging
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger

from vae_lightning.errors import VAELightningError, one_line

__all__ = ["expendable", "unraised_in_threads"]

log = logging.getLogger(__name__)

CALLS = (
    *("after_save_checkpoint", "finalize", "log_graph", "log_hyperparams", "log_image", "log_metrics", "log_text"),
    *("save", "watch"),
)
"""What a logger is asked to do while a model is trained; not every logger can do each."""
QUESTIONS = ("name", "version")
"""What a logger may have to ask its server for, beside its experiment."""
FILES = (TensorBoardLogger, CSVLogger)
"""Loggers that write files and ask no server."""
LOST = "_lost_since_a_failure"
NAME = "_name_in_the_config"


class _Nothing:
    """What stands for the experiment of a lost logger: anything can be asked of it, and nothing comes of it."""

    def __call__(self, *_: Any, **__: Any) -> "_Nothing":
        return self

    def __getattr__(self, name: str) -> "_Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> "_Nothing":
        return self


def expendable(logger: Logger, name: str) -> Logger:
    """`logger`, whose failures are said once, under `name`, and end nothing.

    Of a logger that writes files, errors of the system are such failures, and names of folders that the logger's library cannot
    take; of another, every error, as each library has its own.

    >>> class Unreachable(CSVLogger):
    ...     def log_metrics(self, metrics, step=None):
    ...         raise ConnectionError("no route to host")
    >>> expendable(Unreachable("."), "logger.mine").log_metrics({"loss": 1.0})
    """
    setattr(logger, NAME, name)
    logger.__class__ = _expendable(type(logger))
    return logger


@contextmanager
def unraised_in_threads() -> Iterator[None]:
    """A block in which a thread of TensorBoard that cannot write prints no traceback: the next call to its writer raises that."""
    before = threading.excepthook

    def hook(arguments: Any) -> None:
        ours = type(arguments.thread).__module__.startswith("tensorboard.")
        if not (ours and isinstance(arguments.exc_value, OSError)):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@functools.cache
def _expendable(kind: type[Logger]) -> type[Logger]:
    """A subclass of `kind` under the name of `kind`."""
    body: dict[str, Any] = {name: _guarded(getattr(kind, name)) for name in CALLS if hasattr(kind, name)}
    instead: dict[str, Any] = {"experiment": _Nothing()}
    if not issubclass(kind, FILES):  # whose names are those of their folders
        instead |= dict.fromkeys(QUESTIONS, "")
    body |= {n: _asked(getattr(kind, n), value) for n, value in instead.items() if isinstance(getattr(kind, n, None), property)}
    body |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    body["__reduce__"] = lambda self: (_blank, (kind,), self.__getstate__())
    made: type[Logger] = types.new_class(kind.__name__, (kind,), exec_body=lambda names: names.update(body))
    return made


def _blank(kind: type[Logger]) -> Logger:
    made: Logger = object.__new__(_expendable(kind))
    return made


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Logger, *arguments: Any, **named: Any) -> Any:
        return _tried(self, None, lambda: function(self, *arguments, **named))

    return call


def _asked(of: property, instead: Any) -> property:
    def get(self: Logger) -> Any:
        value = _tried(self, instead, lambda: of.__get__(self))
        return _with_guarded_calls(value, self) if isinstance(self, TensorBoardLogger) else value

    return property(get, of.fset, of.fdel, of.__doc__)


def _tried(logger: Logger, instead: Any, call: Callable[[], Any]) -> Any:
    """The value of `call`; `instead` if the logger is lost, also by this very call."""
    if LOST in logger.__dict__:
        return instead
    try:
        return call()
    except Exception as error:
        if LOST in logger.__dict__:  # within another call, which has said so
            return instead
        failure = _failure(logger, error)
        if failure is None:
            raise
        setattr(logger, LOST, True)
        words = getattr(failure, "strerror", None) or f"{type(failure).__name__}: {one_line(failure, 200)}"
        if isinstance(failure, UnicodeError):
            words = "a name of its folder is no UTF-8"
        where = getattr(failure, "filename", None)
        log.warning(
            "%s: cannot write%s any more (%s); the training goes on without this logger",
            logger.__dict__.get(NAME, type(logger).__name__),
            f" {where}" if where else "",
            words,
        )
        return instead


def _failure(logger: Logger, error: BaseException) -> BaseException | None:
    """What in `error` is a failure of what `logger` writes to; None if `error` is a mistake."""
    if not isinstance(logger, FILES):
        return None if isinstance(error, VAELightningError) and not isinstance(error, OSError) else error
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError | UnicodeError):  # Lightning makes a ValueError of anything
        cause = cause.__cause__
    return cause


def _with_guarded_calls(writer: Any, logger: Logger) -> Any:
    """TensorBoard's `writer`, SummaryWriter or FileWriter, with public methods that end nothing, for callbacks that call them."""
    kind: Any = type(writer)
    if kind.__module__ == "torch.utils.tensorboard.writer" and "_logger" not in writer.__dict__:
        writer._logger = logger
        writer.__class__ = _writing(kind)
    return writer


@functools.cache
def _writing(kind: Any) -> Any:
    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            return _tried(self._logger, None, lambda: function(self, *arguments, **named))

        return call

    names = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]
    body: dict[str, Any] = {name: guarded(getattr(kind, name)) for name in names}
    if hasattr(kind, "_get_file_writer"):

        def file_writer(self: Any) -> Any:
            found = _tried(self._logger, _Nothing(), lambda: kind._get_file_writer(self))
            return _with_guarded_calls(found, self._logger)

        body["_get_file_writer"] = file_writer
    return type(kind.__name__, (kind,), {**body, "__module__": kind.__module__, "__qualname__": kind.__qualname__})
