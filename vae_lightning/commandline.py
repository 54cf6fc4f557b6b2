"""What a user sees of an error: one line on standard error that names the key or file, and an exit status that is not 0.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.errors import ConfigurationError, VAELightningError

__all__ = ["INTERRUPTED", "one_line_errors", "register_resolvers"]

TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of the system that are the user's to mend: a full disk, a folder that may not be written to."""


def register_resolvers() -> None:
    """`${folder_name:...}` makes a folder name of overrides; `${first_of:a,b}` is the first that is not null."""

    def folder_name(overrides: str) -> str:
        return re.sub(r"[^\w.,=+-]+", "_", overrides)[:150] or "run"

    def first_of(*values: str | None) -> str | None:
        return next((value for value in values if value is not None), None)

    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("first_of", first_of, replace=True)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can cause into one line and exit status 2; `HYDRA_FULL_ERROR=1` shows the traceback as well."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra's errors reach this place
    try:
        yield
    except (VAELightningError, HydraException, OmegaConfBaseException) as error:
        if TRACEBACK:
            raise
        sys.exit(_fail(_explained(error)))
    except OSError as error:
        if TRACEBACK or error.errno not in ENVIRONMENT:
            raise
        sys.exit(_fail(f"{error.filename or 'writing'}: {error.strerror}"))
    except KeyboardInterrupt:
        _fail("interrupted")
        sys.exit(INTERRUPTED)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _explained(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        return _missing_option(error.missing_cfg_file, list(error.options))
    for candidate in (error, cause):
        if isinstance(candidate, OmegaConfBaseException):
            return _configuration(candidate)
    return _flat(str(error))


def _missing_option(file: str, options: list[str]) -> str:
    from vae_lightning.arguments import choose

    group, _, name = file.rpartition("/")
    try:
        choose(group, name, dict.fromkeys(options))
    except ConfigurationError as error:
        return str(error)
    return _flat(file)


def _configuration(error: OmegaConfBaseException) -> str:
    from vae_lightning.arguments import unknown_key

    key = str(error.full_key or error.key)
    if "is not in struct" in str(error):
        known = error.parent_node.keys() if isinstance(error.parent_node, DictConfig) else []
        return str(unknown_key(key, [str(k) for k in known if k != "hydra"]))
    return f"{key}: {_flat(str(error.msg or error))}"


def _flat(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
