"""What models of one stack must have in common, and which setting of two models is to blame where they differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vae_lightning.engine.purity import changes_of, python_state
from vae_lightning.errors import ConfigurationError
from vae_lightning.models.base import Module

if TYPE_CHECKING:
    from vae_lightning.engine.stack import MemberGraph

__all__ = ["require_alike"]

OF_EACH = frozenset({"_hparams", "_hparams_initial", "bound_samples", "lr_schedule", "optimizer", "seed", "start_from_mean"})
"""Attributes of a model that no step depends on, or that go into each model's steps as tensors."""


def require_alike(members: Sequence["MemberGraph"]) -> None:
    """Refuse to train `members` in one stack where they differ in more than numbers.

    Raises:
        ConfigurationError: names the setting that differs, with both values.
    """
    first = members[0]
    for other in members[1:]:
        difference = next(_differences(first, other), None)
        if difference is not None:
            raise ConfigurationError(f"{difference}; models of a stack differ in numbers only: train these apart")


def _differences(a: "MemberGraph", b: "MemberGraph") -> Iterator[str]:
    yield from _of_trainers(a, b)
    if type(a.model) is not type(b.model):
        yield f"model: {type(a.model).__name__} and {type(b.model).__name__}"
    shapes, others = (_shapes(member) for member in (a, b))
    if shapes != others:
        yield _named(a.model, b.model, _first_difference(shapes, others))
    yield from _of_state(a.model, b.model)
    yield from _of_optimizers(a, b)
    yield from _of_data(a, b)


def _of_trainers(a: "MemberGraph", b: "MemberGraph") -> Iterator[str]:
    for name in ("precision", "gradient_clip_algorithm"):
        if (of_a := getattr(a.trainer, name)) != (of_b := getattr(b.trainer, name)):
            yield f"trainer.{name}: {of_a} and {of_b}"
    clips = [member.trainer.gradient_clip_val for member in (a, b)]
    if bool(clips[0]) != bool(clips[1]):
        yield f"trainer.gradient_clip_val: {clips[0]} and {clips[1]}"
    devices = [member.trainer.strategy.root_device for member in (a, b)]
    if devices[0] != devices[1]:
        yield f"trainer.devices: {devices[0]} and {devices[1]}"


def _shapes(member: "MemberGraph") -> dict[str, Any]:
    state = member.state
    tensors = zip(member.function.names, [*state.trained, *state.others], strict=True)
    trained = set(member.function.names[: len(state.trained)])
    return {name: (tuple(tensor.shape), tensor.dtype, name in trained) for name, tensor in tensors}


def _of_state(a: Module, b: Module) -> Iterator[str]:
    states = [_comparable(python_state(model)) for model in (a, b)]
    for name in changes_of(*states):
        if name not in OF_EACH:
            yield _named(a, b, name)


def _comparable(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _without_identity(value) for name, value in state.items()}


def _without_identity(value: Any) -> Any:
    """`value` of a `python_state`, in which modules and tensors of two models that have the same form are equal."""
    if isinstance(value, list | tuple):
        return [_without_identity(item) for item in value]
    wrapped = getattr(value, "value", None)
    if isinstance(wrapped, Tensor):
        return tuple(wrapped.shape), wrapped.dtype
    if isinstance(wrapped, torch.nn.Module):
        return type(wrapped)
    return value


def _of_optimizers(a: "MemberGraph", b: "MemberGraph") -> Iterator[str]:
    names = [member.model.optimizer["name"] for member in (a, b)]
    if type(a.update) is not type(b.update) or type(a.trainer.optimizers[0]) is not type(b.trainer.optimizers[0]):
        yield f"optimizer.name: {names[0]} and {names[1]}"
    assert a.update is not None and b.update is not None
    if a.update.structure() != b.update.structure():
        specs = [{k: v for k, v in member.model.optimizer.items()} for member in (a, b)]
        yield f"optimizer: {specs[0]} and {specs[1]}"


def _of_data(a: "MemberGraph", b: "MemberGraph") -> Iterator[str]:
    assert a.data is not None and b.data is not None
    if type(a.data) is not type(b.data):
        yield f"data: {type(a.data).__name__} and {type(b.data).__name__}"
    for name in ("batch_size", "binarization", "augmentation", "num_labels", "labelled_batch_size", "only_labelled"):
        if (of_a := getattr(a.data, name)) != (of_b := getattr(b.data, name)):
            yield f"data.{name}: {of_a} and {of_b}"
    pairs = zip(a.state.resident, b.state.resident, strict=True)
    if any(x.shape != y.shape or not torch.equal(x, y) for x, y in pairs):
        yield "data: the training images differ"


def _named(a: Module, b: Module, otherwise: str) -> str:
    """The first constructor argument in which two models differ that may be to blame, else `otherwise`."""
    flat = [dict(_flat("model", model.hparams)) for model in (a, b)]
    keys = [key for key in {**flat[0], **flat[1]} if key.split(".")[1] not in OF_EACH and flat[0].get(key) != flat[1].get(key)]
    words = otherwise.replace("_of", "").split(".")
    # an argument of the same name is to blame rather than a number that may differ
    keys.sort(key=lambda key: -len(set(key.split(".")) & set(words)))
    if not keys:
        return f"model: {otherwise} differs"
    return f"{keys[0]}: {flat[0].get(keys[0])} and {flat[1].get(keys[0])}"


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{path}.{key}", item)
    else:
        yield path, value


def _first_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return next(name for name in {**a, **b} if a.get(name) != b.get(name))
