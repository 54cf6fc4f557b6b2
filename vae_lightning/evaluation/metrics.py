"""What a trained model is worth: estimates over a data set, each with its standard error.

Everything here is written against the protocol in `vae_lightning.types`, so it evaluates any latent-variable model.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vae_lightning.inference.importance import ImportanceSampler
from vae_lightning.noise import Source, key_of
from vae_lightning.types import Estimate

__all__ = ["PerImage", "estimate", "importance_nll", "marginal_nll", "per_image", "standard_error", "timed"]

T = TypeVar("T")

PerImage = Mapping[str, Tensor]
"""Values by name, each `(N,)`, one number an image."""


def per_image(batches: Iterable[tuple[Tensor, Tensor]], compute: Callable[[Tensor, Tensor, Tensor], PerImage]) -> dict[str, Tensor]:
    """`compute(x, y, places)` of every batch, put together: `(N,)` each, on the CPU; `places` int32 `(B,)` count all images."""
    parts: list[PerImage] = []
    first = 0
    for x, y in batches:
        parts.append(compute(x, y, torch.arange(first, first + len(x), dtype=torch.int32, device=x.device)))
        first += len(x)
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def estimate(values: Tensor, *, num_samples: int, binarization: str, estimator: str, **rest: Any) -> Estimate:
    """Mean over images `(N,)` and its standard error; `rest` are further fields of `Estimate`.

    The mean is that of one float64 sum a batch of training's own evaluation to within rounding.

    >>> bits = estimate(torch.tensor([1.0, 3.0]), num_samples=0, binarization="none", estimator="bits of two images")
    >>> bits.value, bits.standard_error
    (2.0, 1.0)
    """
    values = values.double()
    return Estimate(values.mean().item(), standard_error(values), len(values), num_samples, binarization, estimator, **rest)


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of `(N,)`; NaN for one value."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def timed(compute: Callable[[], T]) -> tuple[T, float]:
    """`compute()`, and the seconds it took."""
    started = time.perf_counter()
    return compute(), time.perf_counter() - started


def importance_nll(
    sampler: ImportanceSampler,
    x: Tensor,
    y: Tensor,
    places: Tensor,
    num_samples: int,
    max_batch: int,
    *key: int | str,
    also: Sequence[int] = (),
) -> dict[str, Tensor]:
    """-log p(x), or -log p(x | y) of a conditional model, by importance sampling: `nll` and `effective_sample_size`, `(B,)`.

    Args:
        places: what tells the images' noise apart, int32 `(B,)`.
        also: smaller K, below `num_samples`, after which both are given too, as `nll/k_<K>` and `effective_sample_size/k_<K>`.
    """
    source = Source(key_of(*key, "importance", device=x.device), places)
    counts = [*sorted({count for count in also if count < num_samples}), num_samples]
    curve = sampler(x, y, counts, source, max_batch)
    names = [*(f"/k_{count}" for count in counts[:-1]), ""]
    return {
        f"{metric}{name}": values
        for name, estimate in zip(names, curve, strict=True)
        for metric, values in (("nll", -estimate.log_marginal), ("effective_sample_size", estimate.effective_sample_size))
    }


def marginal_nll(
    sampler: ImportanceSampler,
    x: Tensor,
    places: Tensor,
    num_classes: int,
    num_samples: int,
    max_batch: int,
    *key: int | str,
) -> dict[str, Tensor]:
    """-log p(x) of a conditional model, its labels equally likely and summed over: `nll_marginal` `(B,)`.

    And `label` `(B,)`, which Bayes' rule finds the likeliest.
    """
    joint = []
    for label in range(num_classes):
        y = torch.full((len(x),), label, device=x.device)
        nll = importance_nll(sampler, x, y, places, num_samples, max_batch, *key, label)["nll"]
        joint.append(-nll - math.log(num_classes))
    over_labels = torch.stack(joint)
    return {"nll_marginal": -over_labels.logsumexp(0), "label": over_labels.argmax(0)}
