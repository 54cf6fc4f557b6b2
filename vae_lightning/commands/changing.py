"""What a training that goes on is asked otherwise than before: recorded, and where that makes a difference, said in one line."""

import logging
from collections.abc import Mapping
from typing import Any

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from vae_lightning.arguments import changes
from vae_lightning.models.base import Module
from vae_lightning.models.schedules import depends_on_length
from vae_lightning.runs.continuing import Continuation
from vae_lightning.runs.layout import CONFIG
from vae_lightning.runs.yaml_files import read_yaml

__all__ = ["note_changes"]

log = logging.getLogger(__name__)

LENGTHS = ("trainer.max_epochs", "trainer.max_steps")


def note_changes(going_on: Continuation, cfg: DictConfig, trainer: L.Trainer, model: L.LightningModule) -> None:
    """Record which settings differ from those in the run folder of the checkpoint, and say what a new length means."""
    before = _config_of(going_on)
    if before is None:
        return
    differing = changes(before, _plain(OmegaConf.to_container(cfg, resolve=True)))
    going_on.changed = differing | going_on.changed
    if not any(key in differing for key in LENGTHS) or not isinstance(model, Module):
        return
    length, longer = (_steps(settings, going_on) for settings in (before["trainer"], trainer))
    if length is None or longer is None or length == longer:
        return
    steps, spec = going_on.progress.steps, model.lr_schedule
    each = max(1, steps // going_on.progress.epochs) if going_on.progress.epochs else max(1, steps)
    if spec and depends_on_length(spec, steps, (length, longer), each):
        log.warning(
            "%s follows the new length from step %d on; the steps before were taken with the rates of the old length, so that the "
            "result is not that of a training that was as long from the start",
            f"model.lr_schedule.name={spec['name']}",
            steps,
        )


def _config_of(going_on: Continuation) -> dict[str, Any] | None:
    """The config in the run folder of the checkpoint; None if there is none that can be read."""
    for folder in going_on.path.resolve().parents:
        if (folder / CONFIG).is_file():
            try:
                content = read_yaml(folder / CONFIG, folder)
            except (OSError, ValueError, YAMLError, RecursionError):  # the checkpoint itself says what matters
                return None
            return _plain(content) if isinstance(content, Mapping) and isinstance(content.get("trainer"), Mapping) else None
    return None


def _plain(content: Any) -> dict[str, Any]:
    return {str(key): value for key, value in content.items()}


def _steps(asked: Any, going_on: Continuation) -> int | None:
    """The optimizer steps of a training of this length, by the steps an epoch so far; None if its length is not known."""
    get = asked.get if isinstance(asked, Mapping) else lambda key: getattr(asked, key)
    epochs, steps = get("max_epochs"), get("max_steps")
    each = going_on.progress.steps / going_on.progress.epochs if going_on.progress.epochs else None
    known = [int(steps)] if isinstance(steps, int) and steps > 0 else []
    if isinstance(epochs, int) and epochs > 0:
        # within the first epoch, no epoch says how many steps it has
        known.append(round(epochs * each) if each else epochs * max(1, going_on.progress.steps))
    return min(known) if known else None
