r"""Causality: an autoregressive net gives each number by those before it alone, as gradients tell.

Of a step $z' = f(z)$ whose numbers come one after the other, the Jacobian $\partial z' / \partial z$ is triangular in the net's
order, so that its determinant is the product of its diagonal. A mask that leaks puts a number where a zero must be.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.evaluation.verification.subject import Subject
from vae_lightning.evaluation.verification.verdict import Finding, NotApplicableError, check
from vae_lightning.noise import standard_normal

__all__ = ["autoregressive_steps", "jacobian", "order_of", "steps_of"]

POINTS = 8
"""Latents an image at which gradients are taken."""
IMAGES = 3
"""Images whose posteriors are looked at."""


@check("causality/steps", "no number of an autoregressive step depends on a later one, by gradients", "of |dz'/dz|")
def autoregressive_steps(subject: Subject) -> Finding:
    """Steps of the posterior and of the prior have triangular Jacobians."""
    x, y = subject.x[:IMAGES], None if subject.y is None else subject.y[:IMAGES]
    densities = (("q(z | x)", subject.model.posterior(x, y)), ("p(z)", subject.model.prior(y)))
    found = [
        _of_step(subject, density, step, f"step {number} of {name}")
        for name, density in densities
        for number, step in enumerate(steps_of(density), 1)
    ]
    if not found:
        raise NotApplicableError("the model has no autoregressive net: neither prior nor posterior has steps")
    return replace(max(found, key=lambda finding: finding.size), images=len(x))


def steps_of(density: Distribution) -> list[Any]:
    """The autoregressive steps of a distribution: its `steps`, or those of its `transforms` whose class is named so."""
    transforms = [step for step in getattr(density, "transforms", None) or [] if "autoregressive" in type(step).__name__.lower()]
    return [step for step in getattr(density, "steps", None) or transforms if callable(step)]


def jacobian(step: Any, z: Tensor) -> Tensor:
    """The Jacobian `(*, D, D)` of a step at points `(*, D)`: what number of the result depends on what number of the point."""
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        result = step(z)
        rows = [torch.autograd.grad(result[..., d].sum(), z, retain_graph=True)[0] for d in range(z.shape[-1])]
    return torch.stack(rows, -2)


def order_of(depends: Tensor) -> list[int]:
    """The order of D numbers in which none depends on a later one, if there is one, by what depends on what, bool `(D, D)`.

    >>> order_of(torch.tensor([[True, True, True], [False, True, False], [False, True, True]]))
    [1, 2, 0]
    """
    left, order = list(range(len(depends))), []
    while left:
        order.append(min(left, key=lambda number: int(depends[number, left].sum() - int(depends[number, number]))))
        left.remove(order[-1])
    return order


def _of_step(subject: Subject, density: Distribution, step: Any, name: str) -> Finding:
    shape = (POINTS, *density.batch_shape, subject.model.latent_dim)
    z = standard_normal(shape, density.mean, subject.material.settings.seed, "verification", "causality")
    size = jacobian(step, z).abs().flatten(0, -3).nan_to_num(nan=torch.inf).amax(0)
    order = order_of(size > 0)
    sorted_size = size[order][:, order]
    later = sorted_size.triu(1)
    row, column = divmod(int(later.argmax()), len(order))
    where = f"{name}: number {order[row]} depends on {order[column]}, which comes later" if bool(later.any()) else name
    return Finding(float(later.max()), 0.0, "masked weights are exactly 0", where)
