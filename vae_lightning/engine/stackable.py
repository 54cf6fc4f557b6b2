"""What models of one stack must have in common, and which setting of two models is to blame where they differ."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from vae_lightning.engine.purity import changes_of, python_state
from vae_lightning.errors import StackError
from vae_lightning.models.base import Module

if TYPE_CHECKING:
    from vae_lightning.engine.stack import MemberGraph

__all__ = ["difference", "require_alike", "require_models_alike"]

OF_EACH = frozenset({"_hparams", "_hparams_initial", "bound_samples", "lr_schedule", "optimizer", "seed", "start_from_mean"})
"""Attributes of a model that no step depends on, or that go into each model's steps as tensors."""
OF_DATA = ("batch_size", "binarization", "augmentation", "num_labels", "labelled_batch_size", "only_labelled")
NUMBERS = ("lr", "betas", "eps", "weight_decay", "momentum", "dampening")
"""Arguments of optimizers that may differ between models; a weight decay of 0 differs from all others."""


class Trained(Protocol):
    """A model with what trains it."""

    @property
    def trainer(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def data(self) -> Any: ...


def difference(a: Trained, b: Trained) -> str | None:
    """The setting, with both values, that keeps two trainings which have not begun from being of one stack; None if none does.

    What the data hold is not looked at.
    """
    return next(chain(_of_models(a.model, b.model), _of_trainers(a, b), _of_data(a, b)), None)


def require_models_alike(models: Sequence[Module]) -> None:
    """Refuse to train `models` in one stack where they differ in more than numbers.

    Raises:
        StackError: names the setting that differs, with both values.
    """
    for other in models[1:]:
        _refuse(_of_models(models[0], other))


def require_alike(members: Sequence["MemberGraph"]) -> None:
    """Refuse to train `members`, which are about to take their first step, in one stack where more than numbers differ.

    Raises:
        StackError: names the setting that differs, with both values.
    """
    require_models_alike([member.model for member in members])
    for other in members[1:]:
        for differences in (_of_trainers, _of_updates, _of_data, _of_images):
            _refuse(differences(members[0], other))


def _refuse(differences: Iterator[str]) -> None:
    first = next(differences, None)
    if first is not None:
        raise StackError(f"{first}; models of a stack differ in numbers only: train these apart")


# ---- models


def _of_models(a: Module, b: Module) -> Iterator[str]:
    if type(a) is not type(b):
        yield f"model: {type(a).__name__} and {type(b).__name__}"
    for form in (_kinds, _shapes):
        if (of_a := form(a)) != (of_b := form(b)):
            names = [name for name in {**of_a, **of_b} if of_a.get(name) != of_b.get(name)]
            yield _named(a, b, names[0])
    states = [_without_identities(python_state(model)) for model in (a, b)]
    for name in changes_of(*states):
        if name not in OF_EACH:
            yield _named(a, b, name)
    specs = [
        {k: bool(v) if k == "weight_decay" else v for k, v in m.optimizer.items() if k == "weight_decay" or k not in NUMBERS}
        for m in (a, b)
    ]
    for key in {**specs[0], **specs[1]}:
        values = [spec.get(key, False if key == "weight_decay" else None) for spec in specs]
        if values[0] != values[1]:
            yield f"optimizer.{key}: {a.optimizer.get(key)} and {b.optimizer.get(key)}"


def _kinds(model: Module) -> dict[str, Any]:
    return {name: type(module) for name, module in model.named_modules()}


def _shapes(model: Module) -> dict[str, Any]:
    of_parameters = {name: (tuple(p.shape), p.dtype, p.device, p.requires_grad) for name, p in model.named_parameters()}
    return {**of_parameters, **{name: (tuple(b.shape), b.dtype, b.device) for name, b in model.named_buffers()}}


def _without_identities(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _without_identity(value) for name, value in state.items()}


def _without_identity(value: Any) -> Any:
    """`value` of a `python_state`, in which modules and tensors of two models that have the same form are equal."""
    if isinstance(value, list | tuple):
        return [_without_identity(item) for item in value]
    wrapped = getattr(value, "value", None)
    if isinstance(wrapped, torch.nn.Parameter):
        return tuple(wrapped.shape), wrapped.dtype
    if isinstance(wrapped, Tensor):
        return wrapped.tolist()
    return type(wrapped) if isinstance(wrapped, torch.nn.Module) else value


def _named(a: Module, b: Module, path: str) -> str:
    """The constructor argument in which two models differ that is most likely to blame for a difference at `path`."""
    flat = [dict(_flat("model", model.hparams)) for model in (a, b)]
    keys = [key for key in {**flat[0], **flat[1]} if key.split(".")[1] not in OF_EACH and flat[0].get(key) != flat[1].get(key)]
    words = {word.removesuffix("_of") for word in path.split(".")}
    keys.sort(key=lambda key: -len({*key.split(".")} & words))
    return f"{keys[0]}: {flat[0].get(keys[0])} and {flat[1].get(keys[0])}" if keys else f"model: {path} differs"


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{path}.{key}", item)
    else:
        yield path, value


# ---- what trains them


def _of_trainers(a: Trained, b: Trained) -> Iterator[str]:
    trainers = a.trainer, b.trainer
    clips = [trainer.gradient_clip_val for trainer in trainers]
    if bool(clips[0]) != bool(clips[1]):
        yield f"trainer.gradient_clip_val: {clips[0]} and {clips[1]}"
    for name in ("precision", "gradient_clip_algorithm"):
        values = [getattr(trainer, name) for trainer in trainers]
        if values[0] != values[1]:
            yield f"trainer.{name}: {values[0]} and {values[1]}"


def _of_updates(a: "MemberGraph", b: "MemberGraph") -> Iterator[str]:
    assert a.update is not None
    assert b.update is not None
    if type(a.update) is not type(b.update) or a.update.structure() != b.update.structure():
        yield f"optimizer: {a.model.optimizer} and {b.model.optimizer}"
    names = [member.function.names[: len(member.state.trained)] for member in (a, b)]
    if names[0] != names[1]:
        yield "model: the losses depend on other parameters"


def _of_data(a: Trained, b: Trained) -> Iterator[str]:
    if type(a.data) is not type(b.data):
        yield f"data: {type(a.data).__name__} and {type(b.data).__name__}"
    for name in OF_DATA:
        values = [getattr(training.data, name, None) for training in (a, b)]
        if values[0] != values[1]:
            yield f"data.{name}: {values[0]} and {values[1]}"


def _of_images(a: "MemberGraph", b: "MemberGraph") -> Iterator[str]:
    pairs = zip(a.state.resident, b.state.resident, strict=True)
    if any(x is not y and not (x.shape == y.shape and torch.equal(x, y)) for x, y in pairs):
        yield "data: the training images differ"
