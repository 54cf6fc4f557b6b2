"""What a command was given, such that it can be given again: a training that goes on, a report's command, the next step."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vae_lightning.plugins import OWN, declared, is_path, values_under

__all__ = ["to_trust", "typed_flags", "typed_words"]

NAMING = ("_target_", "name", "groups")
"""Keys whose value may be an import path."""


def typed_words() -> list[str]:
    """The words after the script's name that make this run: where further configs lie, and what was set; of a sweep's job too."""
    config = HydraConfig.get()
    searched = [word for word in config.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]
    # unresolved: what refers to another setting, such as the run's folder, means another value in another run
    typed: Any = OmegaConf.to_container(config.overrides.task, resolve=False)
    return [*typed_flags(config), *searched, *typed]


def typed_flags(hydra: Any) -> list[str]:
    """The flags that say where further configs lie, and which one is composed.

    Args:
        hydra: Hydra's own config.
    """
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    named = [] if hydra.job.config_name == hydra.job.name else ["--config-name", str(hydra.job.config_name)]
    return [*(word for folder in folders for word in ("--config-dir", str(folder))), *named]


def to_trust(cfg: DictConfig, *, all_parts: bool = False) -> list[str]:
    """The packages that an evaluation of the run of `cfg` has to be told to trust: a user's own that declare no entry point.

    Args:
        all_parts: also those of callbacks and loggers, which a training that is resumed has to be told to trust.

    >>> to_trust(OmegaConf.create({"model": {"net": {"name": "mypkg.Net"}}, "data": {"_target_": "vae_lightning.data.Shapes"}}))
    ['mypkg']
    """
    parts: Any = OmegaConf.to_container(cfg, resolve=False)
    found = list(values_under({key: parts.get(key) for key in ("model", "data")}, NAMING))
    if all_parts:
        found += values_under(parts)
    paths = [path for _, path in found if is_path(path) and "${" not in path]
    known = {"pytorch_lightning", *(package.partition(".")[0] for package in OWN), *declared()}
    return sorted({path.partition(".")[0] for path in paths} - known)
