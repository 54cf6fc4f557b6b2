"""The errors this project raises. Each is also a built-in error, and its message is one line a user can act on."""

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DataError",
    "StorageError",
    "VAELightningError",
]


class VAELightningError(Exception):
    """Base of every error raised on purpose by this project."""


class ConfigurationError(VAELightningError, ValueError):
    """A key or value that was asked for is wrong: the message names the key and what would be right."""


class DataError(VAELightningError, OSError):
    """A data file is missing, altered or unreachable: the message names the file and what to do."""


class CheckpointError(VAELightningError, RuntimeError):
    """A run folder or checkpoint cannot be used: the message names it and says why."""


class StorageError(VAELightningError, OSError):
    """A result could not be written, a full disk for example: what was there before is untouched."""
