r"""Hamiltonian Monte Carlo for many chains of many images at once.

To sample from a density $f(z)$, z gets a momentum $v \sim N(0, I)$ and moves as a particle in the potential $-\log f$ would,
in L leapfrog steps of size s:

$v \leftarrow v + \frac{s}{2} \nabla \log f(z), \quad z \leftarrow z + s\, v, \quad v \leftarrow v + \frac{s}{2} \nabla \log f(z)$

which keep volumes and can be run backwards. So accepting where they lead with probability
$\min\left(1, \exp(\log f(z') - \frac12 |v'|^2 - \log f(z) + \frac12 |v|^2)\right)$ leaves f as it is ("MCMC using Hamiltonian
dynamics", Neal, 2011, https://arxiv.org/abs/1206.1901). A step of its own for each dimension is a diagonal mass matrix.

The density is given as a weighted sum of terms, $\log f(z) = \sum_t c_t \log f_t(z)$, whose values and gradients are kept apart:
when the weights $c_t$ change between trajectories, as those of a tempered density do, nothing is computed again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import ndtr

__all__ = ["GAIN", "JITTER", "Point", "Terms", "Transition", "Weights", "adapted", "leapfrog", "noise_size", "transition"]

GAIN = 0.3
"""How far the log of a step size moves per unit of acceptance that is too high or too low."""
JITTER = 0.2
"""Each trajectory's steps are longer or shorter by up to this fraction, or those of one period would end where they began."""

Terms = Callable[[Tensor], Sequence[Tensor]]
"""log f_t at latents `(C, B, D)`: `(C, B)` nats for each."""
Weights = Sequence[float]
"""c_t, one for each term."""


class Point(NamedTuple):
    """The places of C chains for each of B images, with the log densities and gradients there.

    >>> point = Point.at(torch.ones(1, 1, 2), lambda z: [-z.square().sum(-1) / 2])
    >>> point.log_density([1.0]), point.gradient([1.0])
    (tensor([[-1.]]), tensor([[[-1., -1.]]]))
    """

    z: Tensor
    """`(C, B, D)`."""
    values: tuple[Tensor, ...]
    """log f_t there, `(C, B)` nats each."""
    gradients: tuple[Tensor, ...]
    """Gradients of log f_t, `(C, B, D)` each."""

    @classmethod
    def at(cls, z: Tensor, terms: Terms) -> "Point":
        """One evaluation of the terms and their gradients, with respect to `z` `(C, B, D)` only."""
        with torch.inference_mode(False), torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            values = terms(z)
            gradients = tuple(torch.autograd.grad(value.sum(), z, retain_graph=True)[0] for value in values)
        return cls(z.detach(), tuple(value.detach() for value in values), gradients)

    def log_density(self, weights: Weights) -> Tensor:
        """`(C, B)` nats."""
        return _weighted(weights, self.values)

    def gradient(self, weights: Weights) -> Tensor:
        """Gradient of the log density, `(C, B, D)`."""
        return _weighted(weights, self.gradients)

    def where(self, chosen: Tensor, other: "Point") -> "Point":
        """A point with the chains that are `chosen`, bool `(C, B)`, from this point and the rest from `other`."""
        values = tuple(torch.where(chosen, *both) for both in zip(self.values, other.values, strict=True))
        rows = chosen.unsqueeze(-1)
        gradients = tuple(torch.where(rows, *both) for both in zip(self.gradients, other.gradients, strict=True))
        return Point(torch.where(rows, self.z, other.z), values, gradients)


def _weighted(weights: Weights, parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(0)


class Transition(NamedTuple):
    """What one trajectory came to.

    >>> start = Point.at(torch.zeros(1, 1, 2), lambda z: [-z.square().sum(-1) / 2])
    >>> Transition(start, torch.ones(1, 1)).acceptance
    tensor([[1.]])
    """

    point: Point
    acceptance: Tensor
    """The probability with which the trajectory was accepted, `(C, B)`."""


def noise_size(latent_dim: int) -> int:
    """How many standard normal numbers a transition of one chain needs."""
    return latent_dim + 2


def transition(point: Point, terms: Terms, weights: Weights, step: Tensor, leapfrog_steps: int, noise: Tensor) -> Transition:
    """One trajectory of each chain, at one evaluation of the terms a leapfrog step; leaves the density as it is.

    Args:
        weights: c_t, one for each term.
        step: step size in each dimension, broadcastable to `(C, B, D)`.
        noise: standard normal, `(C, B, noise_size(D))`.
    """
    momentum, (for_length, for_acceptance) = noise[..., :-2], ndtr(noise[..., -2:]).unbind(-1)
    step = step * (1 + JITTER * (2 * for_length - 1)).unsqueeze(-1)
    end, end_momentum = leapfrog(point, terms, weights, momentum, step, leapfrog_steps)
    energy_lost = _log_joint(end, end_momentum, weights) - _log_joint(point, momentum, weights)
    # a trajectory that ran away is rejected
    acceptance = energy_lost.clamp(max=0).exp().nan_to_num(0)
    return Transition(end.where(for_acceptance < acceptance, point), acceptance)


def leapfrog(
    point: Point, terms: Terms, weights: Weights, momentum: Tensor, step: Tensor, leapfrog_steps: int
) -> tuple[Point, Tensor]:
    """The chains and their momenta `(C, B, D)` after `leapfrog_steps`; see `transition` for the arguments."""
    momentum = momentum + 0.5 * step * point.gradient(weights)
    for remaining in reversed(range(leapfrog_steps)):
        # what ran away has lost all its energy, so it is rejected wherever it is now; distributions refuse to be asked at NaN
        point = Point.at((point.z + step * momentum).nan_to_num(0, 0, 0), terms)
        momentum = momentum + (1.0 if remaining else 0.5) * step * point.gradient(weights)
    return point, momentum


def adapted(step_size: Tensor, acceptance: Tensor, target: float) -> Tensor:
    """Step sizes `(B,)`, longer where chains accepted more than `target`, shorter where less, by acceptances `(C, B)`.

    A step that depends on where the chains were does not quite leave the density as it is; shared by many chains, it nearly does.
    """
    return step_size * (GAIN * (acceptance.mean(0) - target)).exp()


def _log_joint(point: Point, momentum: Tensor, weights: Weights) -> Tensor:
    """log f(z) - |v|^2 / 2, `(C, B)` nats."""
    return point.log_density(weights) - 0.5 * momentum.square().sum(-1)
