"""Commands in this process, as a user gives them, and what they leave behind: for the catalogue in `test_bad_input.py`."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from vae_lightning.commands import commandline
from vae_lightning.commands.commandline import CONF, one_line_errors, register_resolvers
from vae_lightning.commands.config import check_config
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.overrides import prepared
from vae_lightning.commands.own_parts import with_own_parts
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.train import train

__all__ = ["check", "give", "state"]

CATALOGUES = {name: Catalogue(CONF, name) for name in ("train", "evaluate")}


def give(script: str, words: Sequence[str], settings: Sequence[str] = ()) -> None:
    """Give a command as `commandline.start` does, but for Hydra's logging and folders.

    Args:
        script: "train" or "evaluate".
        words: as they are typed.
        settings: words of the test, which stand in front of them.
    """
    with _command(script, words, settings) as cfg:
        if script == "train":
            train(cfg)
        else:
            evaluate(cfg)


def check(words: Sequence[str], settings: Sequence[str] = ()) -> None:
    """Compose and check what `train.py` with these words would train, and train nothing."""
    with _command("train", words, settings) as cfg:
        check_config(cfg)


@contextmanager
def _command(script: str, words: Sequence[str], settings: Sequence[str]) -> Iterator[DictConfig]:
    register_resolvers()
    catalogue = CATALOGUES[script]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commandline, "_catalogue", catalogue)
        patch.setattr(commandline.sys, "argv", [f"{script}.py", *words])
        with one_line_errors():
            typed = with_own_parts(prepared([*settings, *words], catalogue.groups, catalogue.meant), CONF)
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                cfg = hydra.compose(script, typed)
            yield cfg


def state(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder, links as links, by its name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {path.readlink()}"
        elif path.is_file() and path.stat().st_size < 1 << 30:
            found[str(path.relative_to(folder))] = hashlib.md5(path.read_bytes()).hexdigest()
        else:
            found[str(path.relative_to(folder))] = "folder" if path.is_dir() else "special"
    return found
