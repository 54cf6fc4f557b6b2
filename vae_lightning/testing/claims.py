"""What all contracts share: how a part is made and checked, and the claims that more than one kind of part must bear out."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from vae_lightning.errors import kind_of, one_line
from vae_lightning.noise import generator, global_noise

__all__ = [
    "BreachError",
    "Contract",
    "agree",
    "claim",
    "finite",
    "images_of",
    "parameters_without_gradient",
    "reports",
    "require_gradients",
    "require_independence",
    "require_repeatability",
    "shaped",
]


class Contract:
    """What one part must fulfil, a method each, whose names begin with `test_`.

    For pytest, inherit in a class whose name begins with `Test` and give the part in `make`; settings are class attributes.
    Elsewhere, `Contract.of(part, **settings).check()`.

    >>> class OneContract(Contract):
    ...     wanted = 1
    ...
    ...     def test_is_one(self) -> None:
    ...         claim(self.part() == self.wanted, f"the part is {self.part()}, not {self.wanted}")
    >>> OneContract.of(2).check()
    Traceback (most recent call last):
    ...
    vae_lightning.testing.claims.BreachError: the part is 2, not 1
    """

    def make(self) -> Any:
        """The part that is to be checked, a new one at each call."""
        raise NotImplementedError(f"{type(self).__name__}: give the part to be checked in make(self)")

    @classmethod
    def of(cls, part: Any, **settings: Any) -> Self:
        """The contract of `part`, of which every check gets a copy; `settings` are class attributes of the contract."""
        contract = cls()
        for name, value in {**settings, "make": lambda: copy.deepcopy(part)}.items():
            if not hasattr(cls, name):
                raise TypeError(f"{cls.__name__}: has no setting {name}")
            setattr(contract, name, value)
        return contract

    def check(self) -> None:
        """Run every check.

        Raises:
            AssertionError: one sentence that names what fails.
        """
        names = dict.fromkeys(name for kind in reversed(type(self).__mro__) for name in vars(kind) if name.startswith("test_"))
        for name in names:
            getattr(self, name)()

    def part(self) -> Any:
        """A new part, whose random numbers at the start are always the same ones."""
        with global_noise(0, torch.device("cpu")):
            return self.make()


class BreachError(AssertionError):
    """A contract is not borne out; apart from assertions of a part's own code."""


def claim(holds: object, sentence: str) -> None:
    """Raise a BreachError with `sentence` unless `holds`; `python -O` leaves out an `assert`, but not this."""
    if not holds:
        raise BreachError(sentence)


@contextmanager
def reports(what: str) -> Iterator[None]:
    """Within, an error of a part's own code becomes an AssertionError that says what the part failed to do."""
    try:
        yield
    except BreachError:
        raise
    except Exception as error:
        raise BreachError(f"{what} fails: {type(error).__name__}: {one_line(error)}") from error


def shaped(value: object, shape: Iterable[int], what: str) -> Tensor:
    """`value` as a tensor, of floating point and of that shape."""
    wanted = tuple(shape)
    if not isinstance(value, Tensor):
        raise BreachError(f"{what} is {kind_of(value)}, not a tensor of shape {wanted}")
    claim(value.shape == wanted, f"{what} has shape {tuple(value.shape)}, not {wanted}")
    claim(value.is_floating_point(), f"{what} is {value.dtype}, not floating point")
    return value


def finite(value: Tensor, what: str) -> Tensor:
    """`value`, all of whose numbers are finite."""
    lost = int((~value.isfinite()).sum())
    claim(lost == 0, f"{what}: {lost} of {value.numel()} numbers are not finite")
    return value


def agree(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors are the same but for rounding in float32."""
    scale = 1 + torch.maximum(one.detach().abs(), other.detach().abs())
    return one.shape == other.shape and bool(((one - other).detach().abs() <= tolerance * scale).all())


def images_of(shape: Iterable[int], count: int, seed: int = 0, binary: bool = True) -> Tensor:
    """Random images `(count, *shape)`, of zeros and ones or of the 256 grey levels in [0, 1]."""
    uniform = torch.rand(count, *shape, generator=generator("contract", seed))
    return (uniform < 0.4).float() if binary else (255 * uniform).round() / 255


def require_repeatability(compute: Callable[[], Tensor], what: str) -> None:
    """Claim that a second computation gives the numbers of the first, whatever torch's global generator has drawn in between."""
    results = []
    for seed in (1, 2):
        with global_noise(seed, torch.device("cpu")):
            results.append(compute())
    claim(
        agree(results[0], results[1], 1e-6),
        f"{what} differs by {_apart(*results):.3g} when it is computed a second time: noise must be given, not drawn on the way "
        "(of layers, see nets.layers.Dropout)",
    )


def require_independence(compute: Callable[[Tensor], Tensor], values: Tensor, others: Tensor, what: str) -> None:
    """Claim that what is computed of the first row of `values` does not change where all other rows are those of `others`.

    Args:
        compute: rows `(B, *)` to their results, `(B, *)`.
    """
    alone, among_others = compute(values)[0], compute(torch.cat([values[:1], others[1:]]))[0]
    apart = _apart(alone, among_others)
    claim(
        agree(alone, among_others),
        f"{what} of one image changes by {apart:.3g} with the other images of its batch: is there a BatchNorm in "
        "training mode, or a mean over the batch?",
    )


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max()) if one.shape == other.shape else float("nan")


def parameters_without_gradient(part: nn.Module, gradients: Mapping[str, Tensor | None]) -> list[str]:
    """Names of the parameters of `part` that want a gradient and have none, or one that is zero throughout."""
    wanting = [name for name, parameter in part.named_parameters() if parameter.requires_grad]
    return [name for name in wanting if (gradient := gradients.get(name)) is None or not bool(gradient.any())]


def require_gradients(part: nn.Module, value: Tensor, unused: Iterable[str], what: str) -> None:
    """Claim that the gradient of `value` `()` is finite and reaches every parameter of `part` but those that are `unused`."""
    parameters = {name: p for name, p in part.named_parameters() if p.requires_grad}
    if not parameters:
        return
    claim(value.requires_grad, f"{what} does not depend on any parameter: is there a detach or a no_grad on the way?")
    found = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
    gradients = dict(zip(parameters, found, strict=True))
    lost = [name for name in parameters_without_gradient(part, gradients) if name not in set(unused)]
    claim(not lost, f"no gradient of {what} reaches {', '.join(lost)}; name them in `unused` if that is meant")
    for name, gradient in gradients.items():
        if gradient is not None:
            finite(gradient, f"the gradient of {what} with respect to {name}")
