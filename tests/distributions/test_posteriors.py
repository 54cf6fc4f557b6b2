"""Flows against the change of variables, and models whose posterior is one wherever a posterior is asked for something."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import Normal, kl_divergence

from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.posteriors import POSTERIORS, FlowDistribution, Posterior
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.importance import importance_sampling
from vae_lightning.inference.svi import SVISettings, stochastic_variational_inference
from vae_lightning.models import IWAE, VAE
from vae_lightning.noise import Source, generator
from vae_lightning.objectives.bounds import kl_per_dimension

B, D = 3, 4
MLP = {"name": "mlp", "hidden": [12], "activation": "tanh"}
IAF = {"name": "iaf", "hidden": [9, 8], "context": 2}


def model_of(kind: type[VAE] = VAE, trained: bool = True, **arguments: Any) -> Any:
    """With steps that do something, as after training, or as they start."""
    torch.manual_seed(0)
    model = kind(**{"latent_dim": D, "net": MLP, "posterior": IAF, **arguments}).double()
    for step in model.posterior_of.steps if trained else ():
        torch.nn.init.normal_(step.hyper[-1].weight, std=0.5)
    return model


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, 1, 28, 28, dtype=torch.float64)


def noise(samples: int) -> Tensor:
    return torch.randn(samples, B, D, dtype=torch.float64, generator=generator(1))


# ---- the density


def test_density_of_samples_is_the_change_of_variables(x: Tensor) -> None:
    model, epsilon = model_of(), noise(2)
    q = model.posterior(x)
    found = q.log_prob(q.from_noise(epsilon))
    for image in range(B):
        own = model.posterior(x[image : image + 1])
        for sample in range(2):
            change = jacobian(lambda e, own=own: own.from_noise(e[None])[0], epsilon[sample, image])
            expected = Normal(0.0, 1.0).log_prob(epsilon[sample, image]).sum() - torch.linalg.slogdet(change).logabsdet
            torch.testing.assert_close(found[sample, image], expected)


def test_density_of_any_point_is_that_of_the_sample_it_is(x: Tensor) -> None:
    q = model_of().posterior(x)
    z = q.from_noise(noise(5))
    remembered, inverted = q.log_prob(z), q.log_prob(z.clone())
    assert remembered is q.log_prob(z)
    assert inverted is not remembered
    torch.testing.assert_close(inverted, remembered)


def test_gradients_of_a_samples_density_are_the_same_both_ways(x: Tensor) -> None:
    model = model_of()
    q = model.posterior(x)
    z = q.from_noise(noise(2))
    parameters = [*model.encoder.parameters(), *model.posterior_of.parameters()]
    ways = [torch.autograd.grad(q.log_prob(at).sum(), parameters, retain_graph=True) for at in (z, z * 1)]
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_density_of_a_sample_that_was_drawn_without_gradients_has_them_if_wanted(x: Tensor) -> None:
    q = model_of().posterior(x)
    with torch.no_grad():
        z = q.from_noise(noise(2))
        assert q.log_prob(z) is q.log_prob(z)
    assert q.log_prob(z).requires_grad


def test_dimensions_depend_on_each_other_and_on_the_image(x: Tensor) -> None:
    model = model_of()
    change = jacobian(lambda e: model.posterior(x[:1]).from_noise(e[None])[0], noise(1)[0, 0])
    change = change - change.diag().diag()
    assert (change.abs() > 1e-6).any(0).any()
    assert (change.abs() > 1e-6).any(1).any()
    q = model.posterior(x)
    same = q.from_noise(noise(1)[:, :1].expand(1, B, D))
    rescaled = (same - q.base.mean) / q.base.stddev
    assert not torch.allclose(rescaled[0, 0], rescaled[0, 1])


@pytest.mark.parametrize("steps", [1, 2])
def test_one_step_goes_through_the_dimensions_in_one_order_and_two_in_both(x: Tensor, steps: int) -> None:
    model = model_of(posterior={**IAF, "steps": steps})
    change = jacobian(lambda e: model.posterior(x[:1]).from_noise(e[None])[0], noise(1)[0, 0]) != 0
    both = torch.ones(D, D, dtype=torch.bool)
    assert torch.equal(change, both if steps == 2 else both.triu())


def test_a_flow_is_not_drawn_into_mixed_precision(x: Tensor) -> None:
    model, epsilon = model_of().float(), noise(2).float()
    q = model.posterior(x.float())
    expected = q.from_noise(epsilon)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(q.from_noise(epsilon), expected)


# ---- moments and shapes


def test_it_starts_close_to_the_encoders_gaussian(x: Tensor) -> None:
    q = model_of(trained=False).posterior(x)
    assert isinstance(q, FlowDistribution)
    assert (q.batch_shape, q.event_shape) == ((B,), (D,))
    z = q.from_noise(noise(1000))
    assert (q.log_prob(z) - q.base.log_prob(z)).abs().max() < 0.3
    for found, expected in ((q.mean, q.base.mean), (q.stddev, q.base.stddev)):
        torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)


def test_moments_are_those_of_many_samples_and_always_the_same(x: Tensor) -> None:
    model = model_of()
    q, again = model.posterior(x), model.posterior(x)
    assert torch.equal(q.mean, again.mean)
    assert torch.equal(q.stddev, again.stddev)
    z = q.rsample((10_000,))
    assert z.shape == (10_000, B, D)
    # about 128 samples' worth of error
    torch.testing.assert_close(q.mean / q.stddev, z.mean(0) / q.stddev, rtol=0, atol=0.3)
    torch.testing.assert_close(q.stddev, z.std(0), rtol=0.3, atol=0)


def test_moments_of_an_image_do_not_depend_on_those_beside_it(x: Tensor) -> None:
    model = model_of()
    torch.testing.assert_close(model.posterior(x).stddev[1], model.posterior(x[1:2]).stddev[0])


# ---- what uses a posterior


def test_terms_are_estimated_from_the_samples_at_hand(x: Tensor) -> None:
    model = model_of(num_samples=3)
    output = model(x, None, model.draw_noise(x, Source.of(x, 0)))
    terms = model.terms(output, x, None, torch.tensor(0.0))
    kl = (output.posterior.log_prob(output.z.clone()) - output.prior.log_prob(output.z)).mean(0)
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(terms["elbo"], output.likelihood.log_prob(x).mean(0) - kl)
    with pytest.raises(NotImplementedError):
        kl_per_dimension(output.posterior, output.prior)


def test_a_training_step_never_takes_the_slow_way(x: Tensor) -> None:
    model = model_of(IWAE, num_samples=3)
    output = model(x, None, model.draw_noise(x, Source.of(x, 0)))
    output.posterior.steps = None
    model.terms(output, x, None, torch.tensor(0.0))["loss"].sum().backward()


def test_importance_sampling_weighs_with_the_flows_density(x: Tensor) -> None:
    """Both estimates are of the same log p(x), one with the flow and one with the Gaussian that it starts from."""
    model = model_of(trained=False)
    for step in model.posterior_of.steps:
        torch.nn.init.normal_(step.hyper[-1].weight, std=0.02)
    other = VAE(D, MLP).double()
    other.decoder = model.decoder
    other.posterior = lambda x, y=None: model.posterior(x).base  # type: ignore[method-assign]
    estimates = [importance_sampling(m, x, None, 1500, Source.of(x, 0)).log_marginal for m in (model, other)]
    torch.testing.assert_close(*estimates, rtol=0, atol=0.2)


@pytest.mark.parametrize("start", ["draws", "encoder"])
def test_stochastic_variational_inference_starts_from_its_moments(x: Tensor, start: Any) -> None:
    fit = stochastic_variational_inference(model_of(), x, settings=SVISettings(max_steps=2, start=start))
    assert fit.elbo.isfinite().all()


def test_a_flow_fits_a_posterior_with_correlations_better_than_any_diagonal_gaussian() -> None:
    """The closest diagonal Gaussian, by KL(q || p), has the conditional variances of the target."""
    torch.manual_seed(0)
    model = model_of(trained=False)
    x = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    covariance = torch.full((D, D), 0.9, dtype=torch.float64).fill_diagonal_(1.0)
    target = torch.distributions.MultivariateNormal(torch.zeros(D, dtype=torch.float64), covariance)
    diagonal = torch.distributions.MultivariateNormal(target.loc, (1 / target.precision_matrix.diag()).diag())
    optimizer = torch.optim.Adam([*model.encoder.parameters(), *model.posterior_of.parameters()], lr=0.02)
    for key in range(120):
        q = model.posterior(x)
        z = from_noise(q, torch.randn(32, 1, D, dtype=torch.float64, generator=generator(key)))
        kl = (q.log_prob(z) - target.log_prob(z)).mean()
        optimizer.zero_grad()
        kl.backward()
        optimizer.step()
    assert kl < 0.25 * kl_divergence(diagonal, target)


# ---- models from before, and refused arguments


def test_a_diagonal_posterior_leaves_no_trace_in_a_checkpoint() -> None:
    model = VAE(D, MLP)
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoder", "decoder"}
    older = {key: value for key, value in model.hparams.items() if key not in ("prior", "posterior")}
    VAE(**older).load_state_dict(model.state_dict(), strict=True)


def test_a_posterior_says_what_it_is() -> None:
    with pytest.raises(NotImplementedError):
        Posterior()(torch.zeros(1), torch.zeros(1))


def test_a_posterior_is_asked_whether_it_is_gaussian() -> None:
    for name, posterior in POSTERIORS.items():
        q = posterior(latent_dim=2)
        head = torch.zeros(3, 2 + q.extra)
        assert q.gaussian == isinstance(factors(q(head, head)), Normal), name


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VAE(posterior="iav"), "posterior.name=iav: unknown; did you mean iaf?"),
        (lambda: VAE(posterior={"name": "iaf", "steps": 0}), "posterior.steps=0: must be at least 1"),
        (lambda: VAE(posterior={"name": "iaf", "hidden": []}), "posterior.hidden=[]: must be one or more sizes"),
        (lambda: VAE(posterior={"name": "iaf", "hidden": [19]}), "posterior.hidden=[19]: must be one or more sizes"),
        (lambda: VAE(posterior={"name": "iaf", "context": 0}), "posterior.context=0: must be at least 1"),
        (lambda: VAE(posterior={"name": "diagonal", "steps": 2}), "posterior.steps: no such key"),
        (lambda: VAE(latent_dim=1, posterior="iaf"), "latent_dim=1: must be at least 2 with the iaf posterior"),
        (
            lambda: VAE(posterior="iaf", prior="vamp"),
            "prior.name=vamp: must be another unless posterior.name=diagonal",
        ),
        (
            lambda: IWAE(posterior="iaf", doubly_reparameterised=True),
            "objective.name=dreg: must be another unless posterior.name=diagonal",
        ),
    ],
)
def test_impossible_posteriors_are_refused(build: Callable[[], VAE], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert str(caught.value).startswith(message)
