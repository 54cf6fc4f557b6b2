"""A loss, gradient or metric that is infinite or not a number stops training: where it began, and on which images."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vae_lightning.errors import NotFiniteError
from vae_lightning.objectives.goals import Objective

if TYPE_CHECKING:
    from vae_lightning.models.base import Module

__all__ = ["check_gradient", "check_loss", "check_means"]

Pair = tuple[Tensor, Tensor]


def check_loss(model: "Module", loss: Tensor, batch: Pair, batch_idx: int) -> None:
    """Stop before the step that `loss` `()` is of, if it is not finite.

    A GPU would have to be waited for, so nothing is looked at there; `check_means` finds it at the next log entry.

    Raises:
        NotFiniteError: says the step, the first tensor that is not finite, and the numbers of the batch's images.
    """
    if loss.device.type == "cpu" and not math.isfinite(loss.item()):
        first, images = _first_in_step(model, batch, batch_idx)
        _stop(model, f"the loss of step {model.global_step + 1}", first, batch_idx, images, _fault_of(batch[0]))


def check_gradient(model: "Module", norms: Mapping[str, Tensor], batch_idx: int) -> None:
    """Stop if one of `norms`, `()` each, of the gradient of the step that was just taken, is not finite.

    Raises:
        NotFiniteError: says the step, and the first parameter whose gradient is not finite.
    """
    if not all(math.isfinite(norm.item()) for norm in norms.values()):
        names = (f"gradient of {name}" for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad))
        _stop(model, f"the gradient of step {model.global_step}", next(names, "its norm"), batch_idx)


def check_means(model: "Module", means: Mapping[str, float], batches: Iterable[Sequence[Tensor]] | None = None) -> None:
    """Stop if one of `means`, metrics since the last log entry by name, is not finite.

    Args:
        batches: what they are the means of, which is looked at if the weights are not to blame.

    Raises:
        NotFiniteError: says which, by which step, and the first weights that are not finite, or what is wrong with the images.
    """
    infinite = [name for name, value in means.items() if not math.isfinite(value)]
    if infinite:
        what, lost = f"{', '.join(infinite)} by step {model.global_step}", next(_weights(model), "")
        seen = () if lost or batches is None else batches
        fault = next(filter(None, (_fault_of(batch[0]) for batch in seen)), "")
        _stop(model, what, lost or infinite[0], advice=fault)


def _stop(
    model: "Module", what: str, first: str, batch_idx: int | None = None, places: list[int] | None = None, advice: str = ""
) -> NoReturn:
    numbers = None if batch_idx is None else _image_numbers(model, batch_idx)
    record: dict[str, Any] = {"what": what, "step": model.global_step, "epoch": model.current_epoch, "first_tensor": first}
    record["images"] = numbers
    record["images_not_finite"] = [numbers[place] for place in places] if numbers and places else None
    raise NotFiniteError(
        f"{what} (epoch {model.current_epoch}) is not finite; the first tensor that is not: {first}; {advice or _advice(model)}",
        record,
    )


def _fault_of(images: Tensor) -> str:
    """What is wrong with a batch's images themselves; empty if nothing is."""
    if not images.is_floating_point():
        return ""
    if not _is_finite(images):
        return "the data module gives pixels that are not numbers: mend the data"
    low, high = (float(value) for value in images.aminmax())
    return "" if low >= 0 and high <= 1 else f"the data module gives pixels from {low:.4g} to {high:.4g}, which must be from 0 to 1"


def _advice(model: "Module") -> str:
    precision = getattr(model.trainer, "precision", "32-true")
    first = [] if precision == "32-true" else ["precision=32-true"]
    return "try " + ", ".join([*first, "a smaller learning rate", "gradient_clip_val=1 of the trainer", "a wider likelihood"])


def _image_numbers(model: "Module", batch_idx: int) -> list[int] | None:
    """Places of the batch's images in the training split; None of a loader that does not tell."""
    numbers = getattr(model.trainer.train_dataloader, "image_numbers", None)
    return None if numbers is None else [int(number) for number in numbers(batch_idx)]


@torch.no_grad()
def _first_in_step(model: "Module", batch: Pair, batch_idx: int) -> tuple[str, list[int] | None]:
    """The first tensor of a step that is not finite, in the order in which it is computed, and the images whose loss is not."""
    x, y, noise, step = model.step_inputs(batch, batch_idx)
    infinite = [] if _is_finite(x) else ["the images"]
    infinite += _weights(model)
    with ExitStack() as hooks, model.trainer.precision_plugin.forward_context():
        for name, module in model.named_modules():
            if name and not isinstance(module, Objective):  # which is computed from terms that are looked at below
                hooks.callback(module.register_forward_pre_hook(_noting(f"what goes into {name}", infinite)).remove)
                hooks.callback(module.register_forward_hook(_noting(f"output of {name}", infinite)).remove)
        terms = model.terms(model(x, y, noise), x, y, step)
    names = sorted(terms, key=lambda name: (name == "loss", name not in ("log_likelihood", "kl")))  # of which other terms are made
    infinite += [f"{name} of the images" for name in names if not _is_finite(terms[name])]
    return infinite[0] if infinite else "their mean", terms["loss"].isfinite().logical_not().nonzero().flatten().tolist()


def _noting(what: str, infinite: list[str]) -> Any:
    """A forward hook that adds `what` to `infinite` where the last of the hook's arguments holds a tensor that is not finite."""

    def note(_module: nn.Module, *passed: Any) -> None:
        if not all(_is_finite(leaf) for leaf in tree_leaves(passed[-1]) if isinstance(leaf, Tensor)):
            infinite.append(what)

    return note


def _weights(model: "Module") -> Iterator[str]:
    return (f"weights {name}" for name, tensor in model.state_dict().items() if not _is_finite(tensor))


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
