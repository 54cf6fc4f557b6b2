"""Which jobs of a sweep can train together as one stack of models, found before any of them starts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from omegaconf import DictConfig

from vae_lightning.arguments import flattened
from vae_lightning.commands.config import Parts, plain_of
from vae_lightning.commands.tasks import Task
from vae_lightning.engine.eligibility import reason_against
from vae_lightning.engine.stackable import difference
from vae_lightning.errors import VAELightningError

__all__ = ["Grouped", "grouped", "largest"]

ON_CPU, ON_GPU = 16, 64
"""How many models a stack has at most, where nobody says so."""
OF_PROCESS = ("threads", "matmul_precision", "compile", "deterministic", "benchmark", "inference_mode", "detect_anomaly")
"""Settings of `trainer` that hold for a process as a whole."""
OF_EACH_DATA = {"root", "static_root", "seed", "eval_batch_size"}
"""Settings of `data` on which the training images do not depend."""
HYDRAS = ("hydra.job.chdir", "hydra.job.env_set", "hydra.job.env_copy")
"""Settings of Hydra's that hold for a process as a whole."""


@dataclass
class Grouped:
    """Which jobs go together, each by its place among all."""

    stacks: list[list[int]] = field(default_factory=list)
    alone: dict[int, str] = field(default_factory=dict)
    """The others, each with the reason why it is of no stack."""


class _Training(NamedTuple):
    trainer: L.Trainer
    model: L.LightningModule
    data: L.LightningDataModule
    cfg: Mapping[str, Any]


@dataclass
class _Group:
    """Jobs that are alike."""

    first: _Training
    places: list[int]
    differs: str | None = None
    """What keeps the first job from being of the group before."""


def largest(most: int | Literal["auto"]) -> int:
    """How many jobs train together at most; "auto": as many as keep a device busy."""
    return most if most != "auto" else ON_GPU if torch.cuda.is_available() else ON_CPU


def grouped(tasks: Sequence[Task], most: int | Literal["auto"], at_once: int = 1) -> Grouped:
    """Which of `tasks` can train together.

    Args:
        most: how many train together at most, as for `largest`.
        at_once: how many stacks there should be at least, if there are jobs enough.
    """
    found, groups = Grouped(), list[_Group]()
    seen: dict[str, L.LightningDataModule] = {}
    for place, task in enumerate(tasks):
        try:
            training = _training(task.config(), seen)
        except VAELightningError as error:  # which the job itself says in full
            found.alone[place] = str(error)
            continue
        reason = next((f"{word} is of a process as a whole" for word in task.words if word.lstrip("+").startswith(HYDRAS)), None)
        reason = reason or _against(training)
        if reason is not None:
            found.alone[place] = reason
        else:
            _sort_in(groups, place, training)
    limit = largest(most)
    for group in groups:
        if len(group.places) == 1:
            other = next((each for each in groups if each is not group), None)
            why = group.differs or (other and other.differs) or "it is the only one"
            found.alone[group.places[0]] = why
        else:
            found.stacks += _parts(group.places, min(limit, max(2, -(-len(group.places) // at_once))))
    return found


def _training(cfg: DictConfig, seen: dict[str, L.LightningDataModule]) -> _Training:
    parts = Parts(cfg)
    plain = plain_of(cfg)
    # data whose images have been read need not be read again
    data = parts.data()
    model = parts.model(seen.setdefault(repr(_of_images(plain)), data))
    return _Training(parts.trainer(model), model, data, plain)


def _of_images(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in cfg["data"].items() if key not in OF_EACH_DATA}


def _against(training: _Training) -> str | None:
    if training.cfg["trainer"]["compile"] is False:
        return "trainer.compile=false"
    return reason_against(training.trainer, training.model)


def _sort_in(groups: list[_Group], place: int, training: _Training) -> None:
    differs = None
    for group in groups:
        other = _difference(group.first, training)
        if other is None:
            group.places.append(place)
            return
        differs = differs or other
    groups.append(_Group(training, [place], differs))


def _difference(a: _Training, b: _Training) -> str | None:
    """The setting that keeps two trainings from being of one stack, with both values."""
    return next(_of_process(a, b), None) or difference(a, b) or next(_of_configs(a, b), None)


def _of_process(a: _Training, b: _Training) -> Iterator[str]:
    for key in OF_PROCESS:
        values = [training.cfg["trainer"].get(key) for training in (a, b)]
        if values[0] != values[1]:
            yield f"trainer.{key}: {values[0]} and {values[1]}"


def _of_configs(a: _Training, b: _Training) -> Iterator[str]:
    flat = [flattened({"data": _of_images(training.cfg)}) for training in (a, b)]
    for key in {**flat[0], **flat[1]}:
        if flat[0].get(key) != flat[1].get(key):
            yield f"{key}: {flat[0].get(key)} and {flat[1].get(key)}"


def _parts(places: Sequence[int], most: int) -> list[list[int]]:
    """`places` in parts of nearly equal length, none of them longer than `most`.

    >>> _parts(range(5), 3), _parts(range(7), 3)
    ([[0, 1, 2], [3, 4]], [[0, 1, 2], [3, 4], [5, 6]])
    """
    count = -(-len(places) // most)
    size, more = divmod(len(places), count)
    ends = [number * size + min(number, more) for number in range(count + 1)]
    return [list(places[start:end]) for start, end in pairwise(ends)]
