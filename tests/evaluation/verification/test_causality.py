"""Masks that hold let nothing through, as gradients tell; one that leaks is caught, with what depends on what."""

from typing import Any

import pytest
import torch
from planted import Halves, finding, material_of, verdict
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, Transform, TransformedDistribution, constraints

from vae_lightning.distributions.posteriors import FlowDistribution, FlowPosterior
from vae_lightning.evaluation.verification.causality import jacobian, order_of


class Flow(Halves):
    """A posterior of a flow of two steps, one of whose masks lets a weight through."""

    def __init__(self, latent_dim: int = 4, leak: tuple[int, int] | None = None) -> None:
        super().__init__(latent_dim=latent_dim)
        torch.manual_seed(0)
        self.flow = FlowPosterior(latent_dim, steps=2, hidden=[16], context=1)
        for parameter in self.parameters():
            parameter.requires_grad_(False).add_(0.1 * torch.randn_like(parameter))
        if leak is not None:
            self._leak(*leak)

    def _leak(self, result: int, source: int) -> None:
        """Let number `result` of the second step depend on number `source`, through the first hidden unit."""
        first, last = [layer for layer in self.flow.steps[1].modules() if isinstance(layer, nn.Linear)]
        first.mask[0, source] = last.mask[2 * result, 0] = True  # type: ignore[index]

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        context = x.new_zeros(len(x), 2)
        base: Any = super().posterior(x)
        return FlowDistribution(base, [step(context) for step in self.flow.steps])


def test_masks_that_hold_let_nothing_through() -> None:
    found = finding("causality/steps", material_of(Flow(), Halves().images))
    assert (found.passed, found.size) == (True, 0)


def test_mask_that_leaks_is_caught_with_what_depends_on_what() -> None:
    found = finding("causality/steps", material_of(Flow(leak=(0, 3)), Halves().images))
    assert not found.passed
    assert found.size > 1e-4
    assert found.where.startswith("step 2 of q(z | x): number ")
    pair = {int(word.strip(",")) for word in found.where.replace(":", "").split() if word.strip(",").isdigit()} - {2}
    assert pair <= {0, 1, 2, 3}


def test_density_of_a_leaking_flow_is_wrong_too() -> None:
    whole = material_of(Flow(leak=(0, 3)), Halves().images)
    assert not finding("normalisation/log_determinant", whole).passed
    assert finding("normalisation/log_determinant", material_of(Flow(), Halves().images)).passed


def test_gradients_are_those_of_the_formula() -> None:
    weight = torch.tensor([[2.0, 0.0], [3.0, 1.0]])
    torch.testing.assert_close(jacobian(lambda z: z @ weight.mT, torch.ones(5, 2)), weight.expand(5, 2, 2))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_order_is_that_in_which_none_depends_on_a_later_one(order: list[int]) -> None:
    depends = torch.ones(3, 3).tril().bool()
    place = torch.tensor(order).argsort()
    assert order_of(depends[place][:, place]) == order


def test_order_is_found_where_counts_do_not_tell() -> None:
    depends = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1]]).bool()
    order = order_of(depends)
    assert not depends[order][:, order].triu(1).any()


class Rotated(Halves):
    """A prior that is a rotation of N(0, I), whose numbers need no order."""

    def prior(self, y: Tensor | None = None) -> Distribution:
        angle = torch.linalg.qr(torch.randn(self.latent_dim, self.latent_dim, generator=torch.Generator().manual_seed(0)))[0]
        return TransformedDistribution(Independent(Normal(torch.zeros(self.latent_dim), 1.0), 1), [Rotation(angle)])


class Rotation(Transform):
    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, angle: Tensor) -> None:
        super().__init__()
        self.angle = angle

    def _call(self, z: Tensor) -> Tensor:
        return z @ self.angle.mT

    def _inverse(self, z: Tensor) -> Tensor:
        return z @ self.angle

    def log_abs_det_jacobian(self, z: Tensor, result: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:-1])


def test_transform_that_is_not_autoregressive_is_left_out() -> None:
    assert "no autoregressive net" in verdict("causality/steps", material_of(Rotated(), Halves().images)).reason


def test_model_without_steps_is_left_out() -> None:
    assert "no autoregressive net" in verdict("causality/steps", material_of(Halves(), Halves().images)).reason
