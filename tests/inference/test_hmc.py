"""Hamiltonian Monte Carlo on Gaussians, whose moments and mechanics are known."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vae_lightning.inference.hmc import JITTER, Point, adapted, leapfrog, noise_size, transition
from vae_lightning.noise import generator

SCALE = torch.tensor([1.0, 0.3, 3.0], dtype=torch.float64)
LOC = torch.tensor([[0.0], [5.0]], dtype=torch.float64)


def terms(z: Tensor) -> Sequence[Tensor]:
    """Of two images: N(0, diag SCALE^2) and N(5, diag SCALE^2)."""
    return (-0.5 * ((z - LOC) / SCALE).square().sum(-1),)


def quartic(z: Tensor) -> Sequence[Tensor]:
    return -0.5 * z.square().sum(-1), -(z.square() * z.roll(1, -1).square()).sum(-1)


def normal(*shape: int, key: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(key, "hmc"), dtype=torch.float64)


def chains(step: Tensor, count: int = 400, trajectories: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Where chains that started elsewhere are after each trajectory, acceptances of the later half, and the last step size."""
    source = generator(0)
    point, step_size, places, acceptances = Point.at(normal(count, 2, 3) + 2, terms), torch.ones(2).double(), [], []
    for _ in range(trajectories):
        noise = torch.randn(count, 2, noise_size(3), generator=source, dtype=torch.float64)
        point, acceptance = transition(point, terms, [1.0], step_size.unsqueeze(-1) * step, 5, noise)
        step_size = adapted(step_size, acceptance, 0.65)
        places.append(point.z)
        acceptances.append(acceptance)
    late = trajectories // 2
    return torch.stack(places[late:]), torch.stack(acceptances[late:]), step_size


@pytest.mark.parametrize("step", [torch.ones(3).double(), SCALE], ids=["equal", "by_width"])
def test_chains_come_to_the_density_and_step_sizes_to_the_target(step: Tensor) -> None:
    z, acceptance, _ = chains(step, trajectories=60)
    torch.testing.assert_close((z.mean((0, 1)) - LOC) / SCALE, torch.zeros(2, 3).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(z.std((0, 1)), SCALE.expand(2, 3), atol=0, rtol=0.05)
    torch.testing.assert_close(acceptance.mean((0, 1)), torch.full((2,), 0.65).double(), atol=0.05, rtol=0)


def test_leapfrog_run_backwards_ends_where_it_began() -> None:
    start, momentum = Point.at(normal(4, 2, 3), quartic), normal(4, 2, 3, key=1)
    step, weights = torch.tensor([0.1, 0.2, 0.05]).double(), (1.0, 0.3)
    end, turned = leapfrog(start, quartic, weights, momentum, step, 7)
    assert (end.z - start.z).norm(dim=-1).min() > 0.1
    back, restored = leapfrog(end, quartic, weights, -turned, step, 7)
    torch.testing.assert_close(back.z, start.z, atol=1e-12, rtol=0)
    torch.testing.assert_close(-restored, momentum, atol=1e-12, rtol=0)


def test_leapfrog_keeps_volumes() -> None:
    def phase(state: Tensor) -> Tensor:
        point = Point.at(state[:3].view(1, 1, 3), quartic)
        end, momentum = leapfrog(point, quartic, (1.0, 0.3), state[3:].view(1, 1, 3), torch.tensor(0.2), 3)
        return torch.cat([end.z.flatten(), momentum.flatten()])

    state, small = normal(6), 1e-5 * torch.eye(6, dtype=torch.float64)
    columns = [(phase(state + change) - phase(state - change)) / 2e-5 for change in small]
    assert torch.stack(columns, dim=-1).det().abs().item() == pytest.approx(1, abs=1e-6)


def test_energy_error_falls_with_the_square_of_the_step() -> None:
    point, momentum = Point.at(normal(50, 1, 3), quartic), normal(50, 1, 3, key=1)

    def error(step: float, count: int) -> Tensor:
        end, last = leapfrog(point, quartic, (1.0, 0.3), momentum, torch.tensor(step), count)
        change = end.log_density((1.0, 0.3)) - point.log_density((1.0, 0.3))
        return (change - 0.5 * (last.square() - momentum.square()).sum(-1)).abs().mean()

    assert error(0.01, 40) / error(0.005, 80) == pytest.approx(4, rel=0.05)


def test_each_leapfrog_step_evaluates_the_terms_once() -> None:
    calls = []

    def counted(z: Tensor) -> Sequence[Tensor]:
        calls.append(z.shape)
        return quartic(z)

    point = Point.at(normal(4, 2, 3), counted)
    for weights in ((1.0, 0.1), (1.0, 0.2)):
        point, _ = transition(point, counted, weights, torch.tensor(0.1), 6, normal(4, 2, 5))
    assert calls == [(4, 2, 3)] * 13


def test_kept_values_and_gradients_are_those_of_where_the_chains_are() -> None:
    point, acceptance = transition(Point.at(normal(50, 2, 3), quartic), quartic, (1.0, 0.5), torch.tensor(0.5), 3, normal(50, 2, 5))
    assert acceptance.min() < 0.5 < acceptance.max()
    fresh = Point.at(point.z, quartic)
    for kept, new in zip(point.values + point.gradients, fresh.values + fresh.gradients, strict=True):
        torch.testing.assert_close(kept, new)


def test_trajectories_that_run_away_are_rejected() -> None:
    point = Point.at(normal(4, 2, 3), quartic)
    after, acceptance = transition(point, quartic, (1.0, 1.0), torch.tensor(1e5), 20, normal(4, 2, 5))
    assert torch.equal(after.z, point.z)
    assert not acceptance.any()


def test_images_go_by_their_own_noise_and_step() -> None:
    point, noise, step = Point.at(normal(4, 2, 3), quartic), normal(4, 2, 5, key=1), torch.tensor([[0.1], [0.3]])
    together = transition(point, quartic, (1.0, 0.5), step, 4, noise).point.z
    for i in range(2):
        alone = transition(Point.at(point.z[:, [i]], quartic), quartic, (1.0, 0.5), step[[i]], 4, noise[:, [i]]).point.z
        torch.testing.assert_close(alone, together[:, [i]])


def test_steps_are_jittered_within_bounds() -> None:
    """On a flat density z moves by the length of all steps times the momentum."""

    def flat(z: Tensor) -> Sequence[Tensor]:
        return (0 * z.sum(-1),)

    noise = normal(1000, 1, 3)
    moved = transition(Point.at(torch.zeros(1000, 1, 1).double(), flat), flat, (1.0,), torch.tensor(0.5), 2, noise).point.z
    factors = moved / noise[..., :1]
    assert factors.min() >= 1 - JITTER
    assert factors.max() <= 1 + JITTER
    assert factors.std().item() == pytest.approx(JITTER / 3**0.5, rel=0.1)
