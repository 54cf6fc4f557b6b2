"""Objectives as parts: each is its formula, alone, in any model, on the fast path, and by any of its names."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from engine_fits import assert_same, fit, graphs
from foreign_objectives import LearnedWeight
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from toys import LinearGaussian

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import CVAE, IWAE, M1, M2, VAE, BetaVAE, CapacityVAE
from vae_lightning.models.base import Module, numbers_of
from vae_lightning.noise import Source
from vae_lightning.objectives.bounds import LinearWarmup, kl, mean_log_likelihood, partially_weighted
from vae_lightning.objectives.goals import (
    CIWAE,
    ELBO,
    MIWAE,
    OBJECTIVES,
    PIWAE,
    BetaELBO,
    CapacityELBO,
    DRegIWAE,
    ImportanceWeighted,
    Objective,
)
from vae_lightning.types import UNLABELLED, Draw, Terms

B, D, K, C = 5, 2, 4, 3
SHAPE = (1, 4, 4)
SMALL: dict[str, Any] = {"latent_dim": D, "net": {"name": "mlp", "hidden": [8]}, "image_shape": SHAPE}
CLASSIFIER = {"name": "classifier_mlp", "hidden": [4]}
WEIGHT, STEP = 0.7, 3.0
NAMES = list(OBJECTIVES)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return (torch.rand(B, *SHAPE) < 0.4).float()


@pytest.fixture
def y() -> Tensor:
    return torch.arange(B) % C


def toy_terms(weight: float = WEIGHT) -> Terms:
    """Of a linear-Gaussian model whose posterior is not the exact one, with K samples."""
    model = LinearGaussian(shift=0.3, stretch=1.4)
    x = model.marginal().sample(torch.Size([B])).detach()
    posterior = model.posterior(x)
    z = posterior.mean + posterior.stddev * torch.randn(K, B, D, dtype=torch.float64)
    draw = Draw(posterior, model.prior(), z, model.likelihood(z))
    return Terms(draw, x, mean_log_likelihood(draw, x), kl(draw), torch.tensor(weight), torch.tensor(STEP))


def log_ratio(terms: Terms) -> Tensor:
    return terms.draw.prior.log_prob(terms.draw.z) - terms.draw.posterior.log_prob(terms.draw.z)


def weights(terms: Terms) -> Tensor:
    return (terms.draw.likelihood.log_prob(terms.x) + WEIGHT * log_ratio(terms)).exp()


def step_of(model: Module, x: Tensor, y: Tensor, step: float = STEP) -> tuple[dict[str, Tensor], list[Tensor]]:
    """All terms of a training step, and the gradients of its loss."""
    terms = model.terms(model(x, y, model.draw_noise(x, Source.of(x, "step"))), x, y, torch.tensor(step))
    return terms, list(torch.autograd.grad(terms["loss"].mean(), [p for p in model.parameters() if p.requires_grad]))


def assert_same_steps(model: Module, other: Module, x: Tensor, y: Tensor) -> None:
    """Of two models of different classes that are one: losses and gradients are the same to the bit."""
    other.load_state_dict(model.state_dict())
    (terms, gradients), (others, other_gradients) = step_of(model, x, y), step_of(other, x, y)
    assert terms.keys() == others.keys()
    assert all(torch.equal(term, others[name]) for name, term in terms.items())
    assert all(map(torch.equal, gradients, other_gradients))


# ---- formulas


FORMULAS: dict[str, tuple[Objective, Callable[[Terms, Tensor], Tensor]]] = {
    "elbo": (ELBO(), lambda t, exact: t.log_likelihood - WEIGHT * exact),
    "elbo, sticking the landing": (ELBO(sticking_the_landing=True), lambda t, exact: t.log_likelihood - WEIGHT * exact),
    "beta": (BetaELBO(D, SHAPE, beta=3.0), lambda t, exact: t.log_likelihood - 3 * WEIGHT * exact),
    # of 16 pixels and 2 dimensions
    "beta, normalised": (
        BetaELBO(D, SHAPE, beta=0.5, normalized=True),
        lambda t, exact: t.log_likelihood - 0.5 * 16 / 2 * WEIGHT * exact,
    ),
    "capacity": (
        CapacityELBO(gamma=7.0, capacity_max=2.0, capacity_steps=12),
        lambda t, exact: t.log_likelihood - 7 * WEIGHT * (exact - 2.0 * STEP / 12).abs(),
    ),
    "iwae": (
        ImportanceWeighted(),
        lambda t, _: weights(t).mean(0).log(),
    ),
    "dreg": (DRegIWAE(), lambda t, _: weights(t).mean(0).log()),
    "miwae": (MIWAE(bounds=2), lambda t, _: (weights(t)[:2].mean(0).log() + weights(t)[2:].mean(0).log()) / 2),
    "piwae": (PIWAE(bounds=2), lambda t, _: weights(t).mean(0).log()),
    "ciwae": (CIWAE(mix=0.3), lambda t, _: 0.3 * weights(t).log().mean(0) + 0.7 * weights(t).mean(0).log()),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_each_is_its_formula(name: str) -> None:
    objective, formula = FORMULAS[name]
    terms = toy_terms()
    exact = kl_divergence(terms.draw.posterior, terms.draw.prior)
    torch.testing.assert_close(objective(terms), formula(terms, exact), check_dtype=False)


def test_every_objective_has_a_formula_here() -> None:
    assert {type(objective) for objective, _ in FORMULAS.values()} == set(OBJECTIVES.values())


def test_defaults_are_the_papers() -> None:
    """Higgins et al. take beta = 4 for most data; Burgess et al. gamma = 1,000 and a capacity of 25 nats after 100,000 steps."""
    assert BetaELBO(D, SHAPE).beta == 4
    objective = CapacityELBO()
    assert (objective.gamma, *vars(objective.capacity).values()) == (1000, 25, 100_000, 0)


def test_capacity_of_nothing_is_a_weighted_kl() -> None:
    terms = toy_terms()
    torch.testing.assert_close(CapacityELBO(gamma=3.0, capacity_max=0.0)(terms), BetaELBO(D, SHAPE, beta=3.0)(terms))
    assert torch.equal(CapacityELBO(gamma=0.0)(terms), terms.log_likelihood)


def test_gradients_that_hold_the_density_fixed_need_a_gaussian_posterior() -> None:
    assert [name for name in NAMES if OBJECTIVES[name].needs_gaussian_posterior] == ["dreg", "piwae"]


def test_piwae_teaches_the_decoder_by_iwae_and_the_encoder_by_miwae(x: Tensor, y: Tensor) -> None:
    """Rainforth et al. (2018), equation 9: of each other's gradients, which differ, neither gets any."""
    settings = {"num_samples": K, "prior": "mog", **SMALL}
    models = {name: VAE(objective=name, **settings) for name in ("iwae",)}
    models |= {name: VAE(objective={"name": name, "bounds": 2}, **settings) for name in ("miwae", "piwae")}
    for model in models.values():
        model.load_state_dict(models["iwae"].state_dict())
    names = [name for name, _ in models["iwae"].named_parameters()]
    gradients = {name: dict(zip(names, step_of(model, x, y)[1], strict=True)) for name, model in models.items()}
    assert any(name.startswith("prior_of") for name in names)
    for name in names:
        mine, other = ("miwae", "iwae") if name.startswith("encoder") else ("iwae", "miwae")
        torch.testing.assert_close(gradients["piwae"][name], gradients[mine][name], rtol=1e-4, atol=1e-6)
        assert (gradients[mine][name] - gradients[other][name]).norm() > 1e-3 * gradients[mine][name].norm()


def test_piwae_keeps_the_encoders_gradient_where_another_group_has_all_the_weight() -> None:
    """Weights apart by e^{-300} are 0 in float32; within its own group a sample's weight is 1."""
    loc = torch.zeros(1, 1, requires_grad=True)
    posterior = Independent(Normal(loc, torch.ones(1, 1)), 1)
    z = posterior.rsample(torch.Size([2]))
    slopes = torch.tensor([[300.0], [0.0]])

    class Likelihood:
        def log_prob(self, x: Tensor) -> Tensor:
            return slopes + 2.0 * z.squeeze(-1)

    draw = Draw(posterior, Independent(Normal(torch.zeros(1), torch.ones(1)), 1), z, Likelihood())  # type: ignore[arg-type]
    surrogate = partially_weighted(draw, torch.zeros(1, 1), bounds=2)
    (gradient,) = torch.autograd.grad(surrogate.sum(), loc)
    torch.testing.assert_close(gradient, 2.0 - z.mean(0))


def test_bounds_that_are_no_equal_shares_of_the_samples_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^objective\.bounds=3: must be a divisor of num_samples, which is 4$"):
        VAE(objective={"name": "miwae", "bounds": 3}, num_samples=4, **SMALL)


@pytest.mark.parametrize("objective", ["miwae", "piwae"])
def test_samples_at_hand_that_are_no_equal_shares_are_refused(objective: str, x: Tensor, y: Tensor) -> None:
    model = VAE(objective=objective, **SMALL)
    with pytest.raises(ConfigurationError, match=r"^objective\.bounds=8: the number of samples, here 1, must be a multiple of it$"):
        model.terms(model(x), x, y, torch.tensor(0.0))


def test_mixes_end_in_the_elbo_and_in_the_bound() -> None:
    terms = toy_terms(weight=1.0)
    torch.testing.assert_close(CIWAE(mix=0.0)(terms), ImportanceWeighted()(terms))
    torch.testing.assert_close(CIWAE(mix=1.0)(terms), MIWAE(bounds=K)(terms))
    torch.testing.assert_close(MIWAE(bounds=1)(terms), ImportanceWeighted()(terms))


def landing_gradients(model: LinearGaussian, repeats: int, *, sticking: bool, weight: float = 1.0) -> Tensor:
    """The ELBO's gradient by the posterior's mean and log standard deviation of each of `repeats` draws, `(repeats, 2 D)`."""
    torch.manual_seed(1)
    x = model.marginal().sample(torch.Size([1])).detach().expand(repeats, -1)
    with torch.no_grad():
        posterior = model.posterior(x)
    loc, log_scale = posterior.mean.clone().requires_grad_(), posterior.stddev.log().clone().requires_grad_()
    posterior = Independent(Normal(loc, log_scale.exp()), 1)
    z = loc + log_scale.exp() * torch.randn(1, repeats, D, dtype=torch.float64)
    draw = Draw(posterior, model.prior(), z, model.likelihood(z))
    terms = Terms(draw, x, mean_log_likelihood(draw, x), kl(draw), torch.tensor(weight), torch.tensor(STEP))
    return torch.cat(torch.autograd.grad(ELBO(sticking_the_landing=sticking)(terms).sum(), (loc, log_scale)), -1)


def test_gradient_that_sticks_the_landing_vanishes_at_the_exact_posterior() -> None:
    plain, sticking = (landing_gradients(LinearGaussian(), 1000, sticking=s) for s in (False, True))
    assert sticking.abs().max() < 1e-10
    assert plain.std(0).min() > 0.1


@pytest.mark.parametrize("weight", [1.0, WEIGHT])
def test_gradient_that_sticks_the_landing_is_the_plain_one_in_expectation(weight: float) -> None:
    model = LinearGaussian(shift=0.4, stretch=1.3)
    plain, sticking = (landing_gradients(model, 100_000, sticking=s, weight=weight) for s in (False, True))
    difference = sticking - plain
    error = difference.std(0) / math.sqrt(len(difference))
    assert (difference.mean(0).abs() < 4.5 * error + 1e-12).all()
    assert (plain.mean(0).abs() > 20 * error).any()


def test_sticking_the_landing_wants_a_gaussian_posterior() -> None:
    sticking = {"name": "elbo", "sticking_the_landing": True}
    VAE(**SMALL, objective=sticking)
    with pytest.raises(
        ConfigurationError, match=r"objective\.sticking_the_landing=True: must be false unless posterior\.name=diagonal"
    ):
        VAE(**SMALL, objective=sticking, posterior="iaf")


@pytest.mark.parametrize("weight", [1.0, WEIGHT])
def test_gradient_of_dreg_is_the_doubly_reparameterised_one(weight: float) -> None:
    """By autograd of sum v (1 - w + w v) log w, in whose density the posterior is fixed and whose factors are constants."""
    terms = toy_terms(weight)
    loc, scale = (part.detach().requires_grad_() for part in (terms.draw.posterior.mean, terms.draw.posterior.stddev))
    noise = ((terms.draw.z - loc) / scale).detach()

    def drawn() -> Draw:
        z = loc + scale * noise
        return terms.draw._replace(posterior=Independent(Normal(loc, scale), 1), z=z, likelihood=LinearGaussian().likelihood(z))

    (found,) = torch.autograd.grad(DRegIWAE()(terms._replace(draw=drawn())).sum(), loc)
    draw, fixed = drawn(), Independent(Normal(loc.detach(), scale.detach()), 1)
    log_w = draw.likelihood.log_prob(terms.x) + weight * (draw.prior.log_prob(draw.z) - fixed.log_prob(draw.z))
    v = log_w.detach().softmax(0)
    (expected,) = torch.autograd.grad((v * (1 - weight + weight * v) * log_w).sum(), loc)
    torch.testing.assert_close(found, expected)


def test_figures_of_the_bound_are_without_warmup() -> None:
    terms = toy_terms()
    (bound,) = ImportanceWeighted().metrics(terms).values()
    torch.testing.assert_close(bound, (terms.draw.likelihood.log_prob(terms.x) + log_ratio(terms)).exp().mean(0).log())


def test_bounds_are_in_order_on_average() -> None:
    """ELBO <= the bound on K samples <= log p(x), which the toy knows."""
    model = LinearGaussian(shift=0.3, stretch=1.4)
    x = model.marginal().sample(torch.Size([1])).detach().expand(20_000, -1)
    posterior = model.posterior(x)
    z = posterior.mean + posterior.stddev * torch.randn(K, len(x), D, dtype=torch.float64)
    draw = Draw(posterior, model.prior(), z, model.likelihood(z))
    terms = Terms(draw, x, mean_log_likelihood(draw, x), kl(draw), torch.tensor(1.0), torch.tensor(0.0))
    below, bound = ELBO()(terms), ImportanceWeighted()(terms)
    for smaller, larger in ((below, bound), (bound, model.marginal().log_prob(x))):
        gap = larger - smaller
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(x))


@pytest.mark.parametrize("name", ["iwae", "dreg"])
def test_the_bound_on_one_sample_is_the_elbo(name: str, x: Tensor, y: Tensor) -> None:
    """Of a prior to which the KL has no closed form, so that both take it from the sample at hand."""
    prior = {"name": "mog", "components": 3}
    one, other = (VAE(**SMALL, prior=prior, num_samples=1, objective=objective) for objective in (name, "elbo"))
    other.load_state_dict(one.state_dict())
    (terms, gradients), (others, other_gradients) = step_of(one, x, y), step_of(other, x, y)
    torch.testing.assert_close(terms["loss"], others["loss"])
    torch.testing.assert_close(terms["iwae_bound"], others["elbo"])
    if name == "iwae":  # the gradient of dreg is another one of the same mean
        for gradient, expected in zip(gradients, other_gradients, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


# ---- gradients of resampled samples


RESAMPLED: dict[str, Callable[..., VAE]] = {
    "standard": VAE,
    "vamp": lambda **of: VAE(prior="vamp", **of),
    "learned scale": lambda **of: VAE(likelihood="gaussian", **of),
    "labels": lambda **of: CVAE(num_classes=C, **of),
    "m1": lambda **of: M1(classes=C, classifier=CLASSIFIER, **of),
    "m2": lambda **of: M2(num_classes=C, classifier=CLASSIFIER, **of),
}


@pytest.mark.parametrize("kl_weight", [1.0, WEIGHT])
@pytest.mark.parametrize("kind", RESAMPLED)
@pytest.mark.parametrize("name", ["iwae", "dreg"])
def test_gradients_of_resampled_samples_are_those_of_all_on_average_and_the_values_are_those_of_all(
    name: str, kind: str, kl_weight: float, x: Tensor, y: Tensor
) -> None:
    """Over all places of the points, on a fine grid, and by the same noise, so that nothing else differs; for two images."""
    count, chances = 3, 1500
    options: dict[str, Any] = {**SMALL, "num_samples": 7}
    of_all, of_some = (RESAMPLED[kind](**options, objective={"name": name, "gradient_samples": n}) for n in (0, count))
    of_some.load_state_dict(of_all.state_dict())
    noise = of_some.draw_noise(x[:2], Source.of(x[:2], "chances"))
    assert noise.resampling is not None
    assert noise.resampling.shape == (2,)
    points = ((torch.arange(chances) + 0.5) / chances).repeat_interleave(2)
    noise = noise._replace(posterior=noise.posterior.repeat(1, chances, 1), resampling=points)
    x, y = x[:2].repeat(chances, 1, 1, 1), y[:2].repeat(chances)
    found = []
    for model, given in ((of_all, noise._replace(resampling=None)), (of_some, noise)):
        model.kl_weight = LinearWarmup(end=kl_weight)
        terms = model.terms(model(x, y, given), x, y, torch.tensor(STEP))
        found.append((terms, torch.autograd.grad(terms["loss"].mean(), list(model.parameters()), allow_unused=True)))
    (terms, gradients), (other_terms, other_gradients) = found
    torch.testing.assert_close(other_terms, terms)
    for gradient, other in zip(gradients, other_gradients, strict=True):
        if gradient is None:
            assert other is None
        else:
            torch.testing.assert_close(other, gradient, rtol=0.01, atol=0.01 * float(gradient.abs().max()))


def test_an_objective_that_does_not_know_of_resampled_samples_learns_from_all(x: Tensor, y: Tensor) -> None:
    class Own(ImportanceWeighted):
        def forward(self, terms: Terms) -> Tensor:
            return terms.log_likelihood - terms.kl

    model = VAE(**SMALL, num_samples=6)
    model.objective_of = Own(gradient_samples=2)
    _, gradients = step_of(model, x, y)
    plain = VAE(**SMALL, num_samples=6)
    plain.load_state_dict(model.state_dict())
    for gradient, expected in zip(gradients, step_of(plain, x, y)[1], strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.Dropout(0.1)])
def test_resampling_wants_a_decoder_that_computes_alike_in_both_passes(layer: nn.Module) -> None:
    decoder = nn.Sequential(layer, nn.Linear(D, 16), nn.Unflatten(1, SHAPE))
    VAE(latent_dim=D, image_shape=SHAPE, decoder=decoder, objective="iwae", net=SMALL["net"])
    with pytest.raises(ConfigurationError, match=r"^objective\.gradient_samples=2: must be 0 with dropout or batch norm"):
        VAE(latent_dim=D, image_shape=SHAPE, decoder=decoder, objective={"name": "iwae", "gradient_samples": 2}, net=SMALL["net"])


@pytest.mark.slow
def test_gradients_of_resampled_samples_are_compiled_as_they_are_written(tmp_path: Path) -> None:
    def build() -> Module:
        return VAE(**{**SMALL, "image_shape": (1, 28, 28)}, num_samples=6, objective={"name": "dreg", "gradient_samples": 2})

    plain, _ = fit(build, tmp_path, fast=False)
    fast, trainer = fit(build, tmp_path, fast=True)
    assert graphs(trainer) == 1
    assert_same(plain, fast)


# ---- names


PAIRS: dict[str, tuple[Callable[[], Module], dict[str, Any]]] = {
    "beta": (lambda: BetaVAE(beta=2.5, **SMALL), {"objective": {"name": "beta", "beta": 2.5}}),
    "normalised": (
        lambda: BetaVAE(beta=0.1, normalized=True, **SMALL),
        {"objective": {"name": "beta", "beta": 0.1, "normalized": True}},
    ),
    "capacity": (
        lambda: CapacityVAE(gamma=3.0, capacity_max=4.0, capacity_steps=9, **SMALL),
        {"objective": {"name": "capacity", "gamma": 3.0, "capacity_max": 4.0, "capacity_steps": 9}},
    ),
    "iwae": (lambda: IWAE(num_samples=3, **SMALL), {"objective": "iwae", "num_samples": 3}),
    "iwae of five": (lambda: IWAE(**SMALL), {"objective": "iwae"}),
    "iwae resampled": (lambda: IWAE(gradient_samples=2, **SMALL), {"objective": {"name": "iwae", "gradient_samples": 2}}),
    "dreg": (lambda: IWAE(num_samples=3, doubly_reparameterised=True, **SMALL), {"objective": "dreg", "num_samples": 3}),
    "beta of 1": (lambda: BetaVAE(beta=1.0, **SMALL), {}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_name_for_a_model_is_its_objective_to_the_bit(name: str, x: Tensor, y: Tensor) -> None:
    build, arguments = PAIRS[name]
    assert_same_steps(build(), VAE(**SMALL, **arguments), x, y)


def test_elbo_is_beta_of_one_to_the_bit_in_any_model(x: Tensor, y: Tensor) -> None:
    one: dict[str, Any] = {"objective": {"name": "beta", "beta": 1.0}}
    assert_same_steps(CVAE(num_classes=C, **SMALL), CVAE(num_classes=C, **SMALL, **one), x, y)
    for kind, classes in ((M1, {"classes": C}), (M2, {"num_classes": C})):
        models = [kind(**classes, classifier=CLASSIFIER, **SMALL, **arguments) for arguments in ({}, one)]
        assert_same_steps(*models, x, y)


@pytest.mark.parametrize("spec", NAMES)
def test_a_spec_survives_in_hyperparameters(spec: str) -> None:
    model = VAE(**SMALL, objective=spec)
    again = VAE(**model.hparams)
    assert type(again.objective_of) is type(model.objective_of) is OBJECTIVES[spec]
    assert numbers_of(again) == numbers_of(model)
    assert (again.num_samples, again.bound_samples, again.monitor) == (model.num_samples, model.bound_samples, model.monitor)


def test_samples_are_the_objectives_unless_they_are_given() -> None:
    found = {name: VAE(**SMALL, objective=name).num_samples for name in NAMES}
    assert found == {"elbo": 1, "beta": 1, "capacity": 1, "iwae": 5, "dreg": 5, "miwae": 64, "piwae": 64, "ciwae": 64}
    model = VAE(**SMALL, objective="iwae", num_samples=7)
    assert (model.num_samples, model.bound_samples) == (7, 7)
    assert (VAE(**SMALL, num_samples=7).num_samples, VAE(**SMALL, num_samples=7).bound_samples) == (7, 1)


# ---- in models that classify


def m2(**arguments: Any) -> M2:
    return M2(num_classes=C, classifier=CLASSIFIER, **SMALL, **arguments).double()


def bounds_by_class(model: M2, x: Tensor) -> Tensor:
    """The importance-weighted bounds of log p(x | y) that a conditional model of the same weights finds, `(C, B)`."""
    cvae = CVAE(num_classes=C, **SMALL, objective="iwae", num_samples=model.num_samples).double()
    cvae.load_state_dict(model.state_dict(), strict=False)
    labels = [torch.full((len(x),), c) for c in range(C)]
    noise = model.draw_noise(x, Source.of(x, 0))
    return torch.stack([cvae.terms(cvae(x, y, noise), x, y, torch.tensor(0.0))["iwae_bound"] for y in labels])


def test_m2_sums_the_bound_over_labels(x: Tensor, y: Tensor) -> None:
    model, x = m2(objective="iwae", num_samples=K), x.double()
    output, q, bounds = model(x, None, model.draw_noise(x, Source.of(x, 0))), model.predict(x).mT, bounds_by_class(model, x)
    expected = (q * (bounds - math.log(C) - q.log())).sum(0)
    unlabelled = model.terms(output, x, torch.full((B,), UNLABELLED), torch.tensor(0.0))
    torch.testing.assert_close(unlabelled["iwae_bound_marginal"], expected)
    torch.testing.assert_close(unlabelled["loss"], -expected)
    labelled = model.terms(output, x, y, torch.tensor(0.0))
    torch.testing.assert_close(labelled["iwae_bound"], bounds[y, torch.arange(B)])
    torch.testing.assert_close(labelled["iwae_bound_marginal"], expected)
    cross_entropy = -q.log()[y, torch.arange(B)]
    torch.testing.assert_close(labelled["loss"], math.log(C) - labelled["iwae_bound"] + model.alpha * cross_entropy)


@torch.no_grad()
def test_m2_with_the_bound_is_below_log_p_of_x(x: Tensor) -> None:
    """log p(x) by 2,000 importance samples of every class; the bound by the mean of 200 on 5 samples each, which is above the ELBO."""
    model, x = m2(objective="iwae", num_samples=5), x.double()
    nothing = torch.full((B,), UNLABELLED)
    runs = [model.terms(model(x, None, model.draw_noise(x, Source.of(x, n))), x, nothing, torch.tensor(0.0)) for n in range(200)]
    bound, below = (torch.stack([terms[name] for terms in runs]).mean(0) for name in ("iwae_bound_marginal", "elbo_marginal"))
    joint = []
    for c in range(C):
        y = torch.full((B,), c)
        posterior = model.posterior(x, y)
        z = posterior.sample((2000,))
        weights = model.likelihood(z, y).log_prob(x) + model.prior(y).log_prob(z) - posterior.log_prob(z)
        joint.append(weights.logsumexp(0) - math.log(2000 * C))
    assert (below < bound).all()
    assert (bound < torch.stack(joint).logsumexp(0)).all()


@pytest.mark.parametrize("objective", NAMES)
def test_m1_adds_its_classifier_to_any_objective(objective: str, x: Tensor, y: Tensor) -> None:
    model = M1(classes=C, classifier=CLASSIFIER, **SMALL, objective=objective)
    vae = VAE(**SMALL, objective=objective)
    vae.load_state_dict(model.state_dict(), strict=False)
    noise = model.draw_noise(x, Source.of(x, 0))
    terms, expected = (
        model.terms(model(x, y, noise), x, y, torch.tensor(STEP)),
        vae.terms(vae(x, y, noise), x, y, torch.tensor(STEP)),
    )
    cross_entropy, _ = model.classification(model(x, y, noise), y)
    torch.testing.assert_close(terms["loss"], expected["loss"] + cross_entropy)
    for name in expected.keys() - {"loss"}:
        torch.testing.assert_close(terms[name], expected[name])


def test_monitor_is_the_objectives() -> None:
    kinds: dict[str, Callable[[str], VAE]] = {
        "": lambda name: VAE(**SMALL, objective=name),
        "m1": lambda name: M1(classes=C, **SMALL, objective=name),
        "_marginal": lambda name: M2(num_classes=C, classifier=CLASSIFIER, **SMALL, objective=name),
    }
    for suffix, build in kinds.items():
        for name in NAMES:
            metric = "elbo" if name in ("elbo", "beta", "capacity") else "iwae_bound"
            assert build(name).monitor == f"val/{metric}{suffix if suffix == '_marginal' else ''}"
    assert IWAE(**SMALL).monitor == "val/iwae_bound"
    assert (BetaVAE(**SMALL).monitor, CapacityVAE(**SMALL).monitor) == ("val/elbo", "val/elbo")
    assert VAE(**SMALL, objective="foreign_objectives.FreeBits").monitor == "val/free_elbo"


# ---- numbers


def test_numbers_of_an_objective_are_those_of_the_model() -> None:
    warmup = {"kl_weight.start": 0.0, "kl_weight.end": 1.0, "kl_weight.steps": 0}
    assert numbers_of(VAE(**SMALL)) == warmup
    assert numbers_of(BetaVAE(beta=2.0, **SMALL)) == {**warmup, "objective_of.beta": 2.0}
    capacity = {"gamma": 3.0, "capacity.start": 0.0, "capacity.end": 4.0, "capacity.steps": 9}
    model = CapacityVAE(gamma=3.0, capacity_max=4.0, capacity_steps=9, **SMALL)
    assert numbers_of(model) == {**warmup, **{f"objective_of.{name}": value for name, value in capacity.items()}}
    assert numbers_of(VAE(**SMALL, objective="foreign_objectives.FreeBits"))["objective_of.bits"] == 1.0


class Anneals(L.Callback):
    """Sets the weight of the KL anew each epoch, by either of its names."""

    sees_every_batch = False

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        owner = pl_module if self.path == "beta" else pl_module.objective_of
        owner.beta = 1.0 + 2.0 * trainer.current_epoch  # type: ignore[union-attr]


@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("path", ["beta", "objective_of.beta"])
def test_a_number_that_a_callback_changes_is_followed_without_a_new_graph(path: str, tmp_path: Path) -> None:
    def build() -> Module:
        return BetaVAE(beta=9.0, latent_dim=2, net={"name": "mlp", "hidden": [8]}, optimizer={"name": "adam", "lr": 1e-3})

    callbacks = [lambda: Anneals(path)]
    (plain, _), (fast, trainer) = (fit(build, tmp_path, fast=fast, callbacks=callbacks, max_epochs=3) for fast in (False, True))
    assert graphs(trainer) == 1
    assert_same(plain, fast)
    constant, _ = fit(build, tmp_path, fast=True, max_epochs=3)
    assert any(not torch.allclose(value, constant[name], atol=1e-4) for name, value in fast.items())


# ---- one's own


@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("kind", [VAE, M2])
def test_an_objective_that_learns_does_so_on_the_fast_path(kind: Any, tmp_path: Path) -> None:
    own = {"classifier": CLASSIFIER} if kind is M2 else {}

    def build() -> Module:
        objective = {"name": "foreign_objectives.LearnedWeight", "target": 20.0}
        model: Module = kind(
            latent_dim=2, net={"name": "mlp", "hidden": [8]}, objective=objective, optimizer={"name": "sgd", "lr": 1e-3}, **own
        )
        return model

    (plain, _), (fast, trainer) = (fit(build, tmp_path, fast=fast) for fast in (False, True))
    assert graphs(trainer) == 1
    assert_same(plain, fast)
    # the KL is below its target, so less of it is to count
    assert fast["objective_of.log_weight"] < 0


def test_an_objective_of_ones_own_goes_with_any_model(x: Tensor, y: Tensor) -> None:
    spec = {"name": "foreign_objectives.FreeBits", "bits": 1000.0}
    for model in (VAE(**SMALL, objective=spec), CVAE(num_classes=C, **SMALL, objective=spec)):
        terms, _ = step_of(model, x, y)
        torch.testing.assert_close(terms["loss"], 1000.0 - terms["log_likelihood"])
        torch.testing.assert_close(terms["free_elbo"], -terms["loss"])
        assert model.num_samples == 2
    weighted = VAE(**SMALL, objective="foreign_objectives.LearnedWeight")
    assert isinstance(weighted.objective_of, LearnedWeight)
    _, gradients = step_of(weighted, x, y)
    assert len(gradients) == len(list(weighted.parameters()))
    assert all(gradient.any() for gradient in gradients)


# ---- what is refused


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VAE(**SMALL, objective="dreg", posterior="iaf"), r"^objective\.name=dreg: must be another unless posterior"),
        (lambda: IWAE(**SMALL, doubly_reparameterised=True, posterior="iaf"), r"^objective\.name=dreg: must be another unless"),
        (lambda: VAE(**SMALL, objective="iwea"), r"^objective\.name=iwea: unknown; did you mean iwae\?"),
        (lambda: VAE(**SMALL, objective={}), r"^objective\.name=null: unknown"),
        (lambda: VAE(**SMALL, objective={"name": "beta", "beta": -1.0}), r"^objective\.beta=-1.0: must be at least 0$"),
        (lambda: VAE(**SMALL, objective={"name": "beta", "beta": math.inf}), r"^objective\.beta=inf: must be at least 0"),
        (lambda: VAE(**SMALL, objective={"name": "beta", "beta": math.nan}), r"^objective\.beta=nan: must be at least 0"),
        (lambda: VAE(**SMALL, objective={"name": "beta", "gamma": 1.0}), r"^objective\.gamma: no such key; .*beta"),
        (lambda: VAE(**SMALL, objective={"name": "beta", "latent_dim": 5}), r"^objective\.latent_dim: no such key"),
        (
            lambda: VAE(**SMALL, objective={"name": "elbo", "beta": 1.0}),
            r"^objective\.beta: no such key; objective has: sticking_the_landing$",
        ),
        (lambda: VAE(**SMALL, objective={"name": "capacity", "gamma": -1.0}), r"^objective\.gamma=-1.0: must be at least 0$"),
        (lambda: VAE(**SMALL, objective={"name": "capacity", "capacity_max": -1.0}), r"^objective\.capacity_max=-1.0: must be"),
        (lambda: VAE(**SMALL, objective={"name": "capacity", "capacity_steps": 0}), r"^objective\.capacity_steps=0: must be"),
        (lambda: BetaVAE(beta=-1.0, **SMALL), r"^beta=-1.0: must be at least 0$"),
        (lambda: CapacityVAE(gamma=math.inf, **SMALL), r"^gamma=inf: must be at least 0$"),
        (lambda: BetaVAE(**SMALL, objective="iwae"), r"^objective: this model's is beta; another goes with model=vae"),
        (lambda: IWAE(**SMALL, objective="iwae"), r"^objective: this model's is iwae"),
        (lambda: IWAE(num_samples=0, **SMALL), r"^num_samples=0: must be at least 1$"),
        (lambda: VAE(**SMALL, objective="foreign_objectives.Missing"), r"objective\.name"),
        (lambda: VAE(**SMALL, objective={"name": "foreign_objectives.FreeBits", "beta": 1.0}), r"^objective\.beta: no such key"),
        (
            lambda: VAE(**SMALL, objective="foreign_objectives.no_objective"),
            r"^objective\.name=foreign_objectives.no_objective: builds an object of str, which",
        ),
        (
            lambda: VAE(**SMALL, objective="torch.nn.Identity"),
            r"^objective\.name=torch.nn.Identity: builds an object of Identity, which has no numbers, metric",
        ),
        (lambda: M2(num_classes=C, classifier=CLASSIFIER, **SMALL, alpha=math.inf), r"^alpha=inf: must be"),
        (lambda: VAE(**SMALL, objective={"name": "iwae", "gradient_samples": -1}), r"^objective\.gradient_samples=-1: must be at"),
        (
            lambda: VAE(**SMALL, objective={"name": "dreg", "gradient_samples": 6}),
            r"^objective\.gradient_samples=6: must be at most num_samples, which is 5$",
        ),
        (
            lambda: VAE(**SMALL, objective={"name": "iwae", "gradient_samples": 2}, posterior="iaf"),
            r"^objective\.gradient_samples=2: must be 0 unless posterior\.name=diagonal$",
        ),
        (
            lambda: VAE(**SMALL, objective={"name": "dreg", "gradient_samples": 2}, kl_warmup_steps=3),
            r"^kl_warmup_steps=3: must be 0 with objective\.gradient_samples$",
        ),
        (lambda: IWAE(**SMALL, gradient_samples=9), r"^gradient_samples=9: must be at most num_samples, which is 5$"),
        (
            lambda: VAE(**{**SMALL, "net": {**SMALL["net"], "dropout": 0.1}}, objective={"name": "iwae", "gradient_samples": 2}),
            r"^objective\.gradient_samples=2: must be 0 with dropout or batch normalisation in the decoder$",
        ),
        (lambda: VAE(**SMALL, objective={"name": "miwae", "gradient_samples": 2}), r"^objective\.gradient_samples: no such key"),
    ],
)
def test_what_cannot_be_is_refused_by_name(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()
