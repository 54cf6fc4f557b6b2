"""The hyperparameters by which TensorBoard's HParams tells runs apart."""

import re

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vae_lightning.arguments import flattened
from vae_lightning.commands.config import plain_of

__all__ = ["code", "hyperparameters_of"]

SHOWN_OF_TRAINER = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")

NOT_SHOWN_OF_DATA = ("root", "static_root", "path")


def hyperparameters_of(cfg: DictConfig) -> dict[str, float | str]:
    """The hyperparameters of a run, by key: seed, model, data, some settings of the trainer, and what the command line set."""
    plain = plain_of(cfg)
    # settings of data that are 0 or null are off
    data = {key: value for key, value in plain["data"].items() if value and key not in NOT_SHOWN_OF_DATA}
    trainer = {key: plain["trainer"].get(key) for key in SHOWN_OF_TRAINER}
    flat, everything = flattened({"model": plain["model"], "data": data, "trainer": trainer}), flattened(plain)
    flat |= {key: everything[key] for key in _overridden() if key in everything}
    names = {group: plain[group]["_target_"].rpartition(".")[2] for group in ("model", "data")}
    kept = {k: v for k, v in flat.items() if v is not None and k.rpartition(".")[2] not in ("_target_", "seed")}
    return {**names, "seed": cfg.seed} | {k: v if type(v) in (int, float) else str(v) for k, v in kept.items()}


def _overridden() -> list[str]:
    """The keys that the command line, or this job's place in a sweep, has set."""
    if not HydraConfig.initialized():
        return []
    names = (override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task)
    return [name for name in names if name not in ("run_dir", "ckpt_path", "data.root", "data.static_root", "data.path")]


def code(text: str) -> str:
    """Markdown that shows `text` as it is, whatever stands in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text.rstrip()}\n{fence}"
