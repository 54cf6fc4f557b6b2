"""The errors that this project raises on purpose; each is also a built-in error, and the message is one line that says what to do.

>>> try:
...     raise DataError("root=data: there is no such folder")
... except OSError as error:
...     print(isinstance(error, VAELightningError), error)
True root=data: there is no such folder
"""

from signal import Signals
from typing import Any

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DataError",
    "Interruption",
    "LostRankError",
    "NotFiniteError",
    "StackError",
    "StorageError",
    "UnknownKeyError",
    "VAELightningError",
    "kind_of",
    "one_line",
    "printable",
]


class VAELightningError(Exception):
    r"""Base of every error raised on purpose by this project. Of a name in its message, what a terminal would obey is escaped.

    >>> str(VAELightningError("a\x1b[31m.npz: is damaged"))
    'a\\x1b[31m.npz: is damaged'
    """

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


class ConfigurationError(VAELightningError, ValueError):
    """A key or value that was asked for is wrong: the message names the key and what would be right."""


class UnknownKeyError(ConfigurationError):
    """A key was asked for that does not exist.

    Args:
        key: the key as it was asked for, `model.latent_dmi`.
        known: the keys that exist in its place.

    >>> UnknownKeyError("sede: no such key; did you mean seed?", "sede", ("seed",)).known
    ('seed',)
    """

    def __init__(self, message: str, key: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.key, self.known = key, known


class StackError(ConfigurationError):
    """Trainings cannot be of one stack: the message names the setting in which they differ. Each of them can be trained alone."""


class DataError(VAELightningError, OSError):
    """A data file is missing, altered or unreachable: the message names the file and what to do."""


class CheckpointError(VAELightningError, RuntimeError):
    """A run folder or checkpoint cannot be used: the message names the folder or file and says why."""


class NotFiniteError(VAELightningError, ArithmeticError):
    """Training went wrong: a loss, a gradient or a metric is infinite or not a number. The message says where, and what to try.

    Args:
        message: where it went wrong, and what to try.
        record: the circumstances as plain values that JSON can hold: `step`, `epoch`, `first_tensor`, `images`, ...

    >>> NotFiniteError("the loss of step 7 is not finite", {"step": 7}).record["step"]
    7
    """

    def __init__(self, message: str, record: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.record = record or {}


class LostRankError(VAELightningError, RuntimeError):
    """Another process of a training has died, so that none can go on: the message says which, and what there is to go on from."""


class StorageError(VAELightningError, OSError):
    """A result could not be written, because the disk is full, say; the file that was there before is untouched."""


class Interruption(BaseException):
    """A signal asked the program to end, at a time when there was nothing that had to come to a good end first.

    Args:
        signum: the signal's number.

    >>> Interruption(15).signal.name
    'SIGTERM'
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signal = Signals(signum)

    def __str__(self) -> str:
        return f"interrupted by {self.signal.name}"


def one_line(error: BaseException | str, most: int | None = None) -> str:
    r"""The message of `error` on one line, cut after `most` characters; the name of the error's class if the message is empty.

    >>> one_line(ValueError("size mismatch:\n  (3, 2)\n  (3, 4)"))
    'size mismatch: (3, 2) (3, 4)'
    >>> one_line(KeyboardInterrupt())
    'KeyboardInterrupt'
    """
    return printable(" ".join(str(error).split()))[:most] or type(error).__name__


def printable(text: str) -> str:
    r"""`text` with escapes in the place of characters that a terminal would obey, as names in somebody's files may hold.

    >>> printable("a\x1b[31m b")
    'a\\x1b[31m b'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else c.encode("unicode_escape").decode() for c in text)


def kind_of(value: object) -> str:
    """The class of `value` with its article, for messages.

    >>> kind_of(3), kind_of("three")
    ('an int', 'a str')
    """
    name = type(value).__name__
    return f"a{'n' * (name[0] in 'AEIOUaeiou')} {name}"
