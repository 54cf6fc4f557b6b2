"""What a resumed run may import: its folder may be somebody else's, so a package of its classes has to be trusted by name.

`python train.py resume=<run folder> trust=[mypkg]`. Without `resume=`, a command names its classes itself, and all are trusted.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf

from vae_lightning.errors import ConfigurationError
from vae_lightning.plugins import LIGHTNING, locate, require_trust, trusting, values_under

__all__ = ["TRUSTS", "is_trust", "named_in", "only_trusted", "require_trusted_configs"]

TRUSTS = "VAE_LIGHTNING_TRUSTS"
"""An environment variable with the packages that this command trusts, which processes that Lightning starts have to know too."""
KINDS = ("pytorch_lightning.callbacks.callback.Callback", "pytorch_lightning.loggers.logger.Logger")
"""What of this project a training may name beside what an evaluation may."""
TRUST = re.compile(r"\+{0,2}trust=(?P<packages>.*)", re.DOTALL)
PACKAGE = re.compile(r"pkg://(?P<path>[\w.]+)")


def is_trust(word: str) -> bool:
    """Whether a word of a command line says what to trust."""
    return TRUST.fullmatch(word) is not None


def named_in(words: Sequence[str]) -> list[str]:
    """The packages that the words of a command line say are trusted.

    Raises:
        ConfigurationError: one is no name of a package.

    >>> named_in(["seed=1", "trust=[mypkg,theirs]"])
    ['mypkg', 'theirs']
    """
    packages = []
    for match in filter(None, map(TRUST.fullmatch, words)):
        listed = re.fullmatch(r"\[(.*)\]", match["packages"].strip(), re.DOTALL)
        for package in (listed[1] if listed else match["packages"]).split(","):
            if package.strip() and not package.strip().isidentifier():
                raise ConfigurationError(f"{match[0]}: must be names of packages: trust=[mypkg]")
            packages += [package.strip()] if package.strip() else []
    return packages


def require_trusted_configs(words: Sequence[str], packages: Sequence[str]) -> None:
    """Refuse configs of a package that is not trusted among `words`, which Hydra would import the package for.

    Raises:
        CheckpointError: there are such configs.
    """
    with trusting([*packages, LIGHTNING]):
        for word in words:
            for match in PACKAGE.finditer(word):
                require_trust(match["path"], word)


@contextmanager
def only_trusted(cfg: DictConfig) -> Iterator[None]:
    """A block in which the resumed run of `cfg` is trained; what its config names is of packages that are trusted.

    Raises:
        CheckpointError: something is not; nothing was imported.
    """
    packages = [package for package in os.environ.get(TRUSTS, "").split(",") if package]
    with trusting([*packages, LIGHTNING], KINDS):
        for key, target in values_under(OmegaConf.to_container(cfg, resolve=True)):
            locate(str(target), key)
        yield
