"""Importance sampling against a linear-Gaussian model, whose log p(x) is known."""

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from toys import LinearGaussian

from vae_lightning import VAE
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference import importance
from vae_lightning.inference.importance import PRECISIONS, ImportanceSampler, importance_curve, importance_sampling
from vae_lightning.inference.weights import ImportanceEstimate
from vae_lightning.machine.loops import compiled_loop
from vae_lightning.noise import Source


def images(model: LinearGaussian, count: int, y: Tensor | None = None) -> Tensor:
    torch.manual_seed(1)
    return model.marginal(y).sample((count,) if y is None else ()).detach()


def test_bound_grows_with_samples_towards_the_exact_value_and_never_above_it() -> None:
    model, repeats = LinearGaussian(shift=0.3, stretch=1.4), 4000
    x = images(model, 1).expand(repeats, -1)
    exact = model.marginal().log_prob(x[0]).item()
    means, errors = [], []
    for samples in (1, 4, 16, 64):
        bound = importance_sampling(model, x, None, samples, Source.of(x, samples)).log_marginal
        means.append(bound.mean().item())
        errors.append(bound.std().item() / math.sqrt(repeats))
    assert all(after - before > 4 * error for before, after, error in zip(means, means[1:], errors, strict=False))
    assert all(mean < exact + 4 * error for mean, error in zip(means, errors, strict=True))
    assert means[-1] == pytest.approx(exact, abs=0.02)


def test_bound_of_one_sample_is_the_elbo() -> None:
    model, repeats = LinearGaussian(shift=0.3, stretch=1.4), 40_000
    x = images(model, 1).expand(repeats, -1)
    gap = torch.distributions.kl_divergence(model.posterior(x[:1]), model.exact_posterior(x[:1])).item()
    bound = importance_sampling(model, x, None, 1, Source.of(x, 0)).log_marginal
    exact = model.marginal().log_prob(x[0]).item() - gap
    assert bound.mean().item() == pytest.approx(exact, abs=4 * bound.std().item() / math.sqrt(repeats))


@pytest.mark.parametrize("at_once", [1, 7, 10, 1000])
def test_estimate_of_p_x_is_unbiased_however_the_samples_are_split(at_once: int) -> None:
    """10 samples in parts of 7 end in a part of 3, which must not count for more than it holds."""
    model, repeats = LinearGaussian(shift=0.3, stretch=1.4), 20_000
    x = images(model, 1).expand(repeats, -1)
    result = importance_sampling(model, x, None, 10, Source.of(x, at_once), max_batch=at_once * repeats)
    ratio = (result.log_marginal - model.marginal().log_prob(x)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=4 * ratio.std().item() / math.sqrt(repeats))
    assert ratio.std().item() < 0.5


def test_batch_smaller_than_the_number_of_images_is_no_obstacle() -> None:
    model = LinearGaussian(shift=0.1)
    x = images(model, 50)
    result = importance_sampling(model, x, None, 200, Source.of(x, 0), max_batch=3)
    torch.testing.assert_close(result.log_marginal, model.marginal().log_prob(x), atol=0.1, rtol=0)


@pytest.mark.parametrize("max_batch", [1, 40, 50_000])
def test_exact_posterior_leaves_no_variance_and_every_sample_counts(max_batch: int) -> None:
    model = LinearGaussian()
    x = images(model, 10)
    result = importance_sampling(model, x, None, 9, Source.of(x, 0), max_batch)
    torch.testing.assert_close(result.log_marginal, model.marginal().log_prob(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(result.effective_sample_size, torch.full((10,), 9.0, dtype=torch.float64))


def test_curve_is_the_estimate_of_each_number_of_samples() -> None:
    model = LinearGaussian(shift=0.3, stretch=1.4)
    x = images(model, 6)
    whole = importance_curve(model, x, None, [1, 4, 12], Source.of(x, 0), max_batch=6)
    for estimate, count in zip(whole, [1, 4, 12], strict=True):
        torch.testing.assert_close(estimate, importance_sampling(model, x, None, count, Source.of(x, 0), max_batch=6))


@pytest.mark.parametrize("counts", [[], [0, 5], [5, 5], [9, 3], [2.5]])
def test_curve_wants_ascending_whole_numbers(counts: list[int]) -> None:
    model = LinearGaussian()
    with pytest.raises(ConfigurationError, match="num_samples"):
        importance_curve(model, images(model, 2), None, counts, Source.of(torch.zeros(2), 0))


def test_effective_sample_size_is_one_over_the_squared_relative_error() -> None:
    """In the limit, K / ESS = 1 + Var(w) / E(w)^2, so Var(estimate of p(x)) / p(x)^2 = 1 / ESS - 1 / K."""
    model, samples = LinearGaussian(shift=0.2, stretch=1.2), 400
    x = images(model, 1).expand(3000, -1)
    result = importance_sampling(model, x, None, samples, Source.of(x, 0), 10**6)
    expected = (1 / result.effective_sample_size.mean() - 1 / samples).sqrt().item()
    observed = (result.log_marginal - model.marginal().log_prob(x)).exp().std().item()
    assert observed == pytest.approx(expected, rel=0.07)


def test_effective_sample_size_of_one_sample_is_one() -> None:
    model = LinearGaussian(shift=1.0, stretch=0.5)
    result = importance_sampling(model, images(model, 10), None, 1, Source.of(torch.zeros(10), 0))
    torch.testing.assert_close(result.effective_sample_size, torch.ones(10, dtype=torch.float64))


def test_labels_reach_prior_posterior_and_likelihood() -> None:
    model = LinearGaussian(num_classes=3)
    y = torch.arange(30) % 3
    x = images(model, 30, y)
    result = importance_sampling(model, x, y, 4, Source.of(x, 0))
    torch.testing.assert_close(result.log_marginal, model.marginal(y).log_prob(x), atol=1e-10, rtol=0)


def test_images_far_from_the_model_get_a_finite_estimate() -> None:
    model = LinearGaussian(stretch=1.1)
    x = 1000 * images(model, 10)
    exact = model.marginal().log_prob(x)
    assert exact.max() < -1e4
    result = importance_sampling(model, x, None, 2000, Source.of(x, 0))
    torch.testing.assert_close(result.log_marginal, exact, atol=0.1, rtol=0)


def test_generator_alone_decides_the_estimate() -> None:
    model = LinearGaussian(shift=0.5)
    x = images(model, 5)
    first, again, other = (importance_sampling(model, x, None, 5, Source.of(x, key)).log_marginal for key in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_estimate_holds_no_graph() -> None:
    model = LinearGaussian()
    assert not importance_sampling(model, images(model, 2), None, 2, Source.of(torch.zeros(2), 0)).log_marginal.requires_grad


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused(samples: int) -> None:
    model = LinearGaussian()
    with pytest.raises(ConfigurationError, match=f"num_samples={samples}: must be at least 1"):
        importance_sampling(model, images(model, 2), None, samples, Source.of(torch.zeros(2), 0))


# ---- what must make no difference


def estimates(model: Any, x: Tensor, y: Tensor | None = None, **rest: Any) -> list[ImportanceEstimate]:
    return importance_curve(model, x, y, [1, 7, 60], Source.of(x, 3), **rest)


def test_estimate_depends_on_neither_the_batch_nor_what_is_decoded_at_once() -> None:
    model = LinearGaussian(shift=0.3, stretch=1.4)
    x = images(model, 7)
    whole, sampler = estimates(model, x), ImportanceSampler(model)
    for at_once in (1, 3, 20, 10**6):
        torch.testing.assert_close(estimates(model, x, max_batch=at_once), whole)
    source = Source.of(x, 3)
    for rows in ([4], [6, 0], [1, 2, 3, 5]):
        alone = sampler(x[rows], None, [1, 7, 60], source._replace(places=source.places[rows]))
        for part, estimate in zip(alone, whole, strict=True):
            torch.testing.assert_close(part, ImportanceEstimate(*(values[rows] for values in estimate)))


@pytest.fixture
def eager_to_compile(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every sampler compiles at once; a list of what was compiled."""
    loops = list[Any]()

    def counted(*arguments: Any) -> Any:
        loops.append(compiled_loop(*arguments))
        return loops[-1]

    monkeypatch.setattr(importance, "COMPILE_FROM", 0)
    monkeypatch.setattr(importance, "compiled_loop", counted)
    return loops


def test_compiled_gives_the_same_estimates(monkeypatch: pytest.MonkeyPatch, eager_to_compile: list[Any]) -> None:
    """Of 7 images in groups of 2, the last of which is filled up, and after each number of samples."""
    model = LinearGaussian(shift=0.3, stretch=1.4, num_classes=3)
    y = torch.arange(7) % 3
    x = images(model, 7, y)
    with monkeypatch.context() as patch:
        patch.setattr(importance, "COMPILE_FROM", 10**9)
        plain = estimates(model, x, y, max_batch=100)
    assert not eager_to_compile
    torch.testing.assert_close(estimates(model, x, y, max_batch=100), plain)
    assert len(eager_to_compile) == 1
    assert eager_to_compile[0] is not None


@pytest.mark.parametrize(("length", "samples", "most"), [(4, 1, 4), (8, 1, 4), (7, 60, 100), (4, 60, 120), (3, 5, 1)])
def test_no_more_is_decoded_at_once_than_asked(length: int, samples: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In groups and chunks as they are made for a compiled graph, in whose place stands the function itself."""
    decoded = list[int]()
    monkeypatch.setattr(importance, "COMPILE_FROM", 0)
    monkeypatch.setattr(importance, "compiled_loop", lambda function, *_: lambda *constants: partial(function, *constants))

    class Counting(LinearGaussian):
        def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
            decoded.append(z.shape[:-1].numel())
            return super().likelihood(z, y)

    model = Counting()
    x = images(model, length)
    ImportanceSampler(model)(x, None, [samples], Source.of(x, 0), max_batch=most)
    assert 0 < max(decoded) <= most


class Whimsical(LinearGaussian):
    """A likelihood that is another each time, `draw` saying how."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        super().__init__()
        self.draw = draw

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(super().likelihood(z, y).mean + self.draw(), self.noise), 1)


def test_a_likelihood_that_draws_is_not_compiled(eager_to_compile: list[Any]) -> None:
    model = Whimsical(lambda: torch.randn(()))
    x = images(model, 4)
    torch.manual_seed(5)
    with pytest.warns(UserWarning, match="draws random numbers"):
        fast = estimates(model, x)
    assert eager_to_compile == [None]
    assert all(estimate.log_marginal.isfinite().all() for estimate in fast)


def test_a_likelihood_that_reads_what_changes_gives_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A graph keeps the shift as it was when the graph was traced."""
    state = SimpleNamespace(shift=0.0)
    model, x = Whimsical(lambda: state.shift), images(LinearGaussian(), 4)
    frozen = ImportanceSampler(Whimsical(lambda: 0.0))
    monkeypatch.setattr(importance, "compiled_loop", lambda *_: frozen._bind(60))
    monkeypatch.setattr(importance, "COMPILE_FROM", 0)
    sampler, source = ImportanceSampler(model), Source.of(x, 0)
    (still,) = sampler(x, None, [60], source)
    assert not caplog.text
    state.shift = 1.0
    (moved,) = sampler(x, None, [60], source)
    assert "goes on without compiling" in caplog.text
    monkeypatch.setattr(importance, "COMPILE_FROM", 10**9)
    (plain,) = ImportanceSampler(model)(x, None, [60], source)
    assert torch.equal(moved.log_marginal, plain.log_marginal)
    assert not torch.allclose(moved.log_marginal, still.log_marginal)


def test_few_latents_wait_for_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled = LinearGaussian(), []
    x = images(model, 10)
    monkeypatch.setattr(importance, "compiled_loop", lambda *arguments: compiled.append(arguments))
    monkeypatch.setattr(importance, "COMPILE_FROM", 1000)
    sampler = ImportanceSampler(model)
    sampler(x, None, [60], Source.of(x, 0))
    assert not compiled
    sampler(x, None, [60], Source.of(x, 0))
    assert compiled


def test_bfloat16_rounds_the_decoder_alone() -> None:
    torch.manual_seed(0)
    model, x = VAE(latent_dim=2, net={"name": "mlp", "hidden": [32]}).eval(), torch.rand(5, 1, 28, 28).round()
    exact, coarse = (ImportanceSampler(model, precision)(x, None, [50], Source.of(x, 0))[0] for precision in PRECISIONS)
    difference = (exact.log_marginal - coarse.log_marginal).abs()
    assert 0 < difference.max() < 0.2


def test_a_likelihood_that_sums_in_half_precision_is_refused() -> None:
    class Half(VAE):
        def likelihood(self, z: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
            logits = self.decoder(z.flatten(0, -2)).view(*z.shape[:-1], 1, 28, 28)
            return Independent(Bernoulli(logits=logits, validate_args=False), 3)

    model, x = Half(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval(), torch.zeros(2, 1, 28, 28, dtype=torch.bfloat16)
    with pytest.raises(ConfigurationError, match=r"precision=bfloat16: .* half precision"):
        ImportanceSampler(model, "bfloat16")(x, None, [2], Source.of(x, 0))
