"""The errors this project raises. Each is also a built-in error, and its message is one line a user can act on."""

from typing import Any

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DataError",
    "NotFiniteError",
    "StorageError",
    "UnknownKeyError",
    "VAELightningError",
    "one_line",
    "printable",
]


class VAELightningError(Exception):
    """Base of every error raised on purpose by this project."""


class ConfigurationError(VAELightningError, ValueError):
    """A key or value that was asked for is wrong: the message names the key and what would be right."""


class UnknownKeyError(ConfigurationError):
    """A key that does not exist.

    Args:
        key: as it was asked for, `model.latent_dmi`.
        known: what exists where it would stand.
    """

    def __init__(self, message: str, key: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.key, self.known = key, known


class DataError(VAELightningError, OSError):
    """A data file is missing, altered or unreachable: the message names the file and what to do."""


class CheckpointError(VAELightningError, RuntimeError):
    """A run folder or checkpoint cannot be used: the message names it and says why."""


class NotFiniteError(VAELightningError, ArithmeticError):
    """Training went wrong: a loss, a gradient or a metric is infinite or not a number. The message says where, and what to try.

    Args:
        message: that.
        record: what is known of it, as plain values that JSON can hold: `step`, `epoch`, `tensor`, `images`, ...
    """

    def __init__(self, message: str, record: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.record = record or {}


class StorageError(VAELightningError, OSError):
    """A result could not be written, a full disk for example: what was there before is untouched."""


def one_line(error: BaseException | str, most: int | None = None) -> str:
    r"""The words of `error` on one line, cut after `most` characters; the name of its class where it has none.

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
