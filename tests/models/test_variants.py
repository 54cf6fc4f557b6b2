"""Labels change what a conditional model says, must be given, and must exist."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn import functional as F

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import CVAE, VAE
from vae_lightning.noise import Source

B, D = 6, 3
MLP = {"name": "mlp", "hidden": [12, 8], "activation": "tanh"}
NETS = [MLP, "cnn2", "cnn3"]


@pytest.fixture(params=NETS, ids=str)
def net(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, 1, 28, 28)


@pytest.fixture
def y() -> Tensor:
    return torch.arange(B)


def with_learned_prior(net: Any = MLP) -> CVAE:
    model = CVAE(latent_dim=D, net=net, prior="class")
    assert model.prior_of is not None
    torch.nn.init.normal_(model.prior_of.weight)
    return model


def test_label_changes_posterior_and_likelihood(net: Any, x: Tensor, y: Tensor) -> None:
    model, z, other = CVAE(latent_dim=D, net=net), torch.randn(B, D), (y + 1) % 10
    assert (model.posterior(x, y).mean != model.posterior(x, other).mean).any(-1).all()
    assert (model.likelihood(z, y).mean != model.likelihood(z, other).mean).flatten(1).any(-1).all()


def test_each_image_has_its_own_label_in_every_sample(net: Any, x: Tensor, y: Tensor) -> None:
    model, z = CVAE(latent_dim=D, net=net).double(), torch.randn(2, 4, B, D, dtype=torch.float64)
    together = model.likelihood(z, y).mean
    for image in range(B):
        alone = model.likelihood(z[1, 3, image : image + 1], y[image : image + 1]).mean
        torch.testing.assert_close(together[1, 3, image], alone[0])


def test_label_is_one_hot(y: Tensor) -> None:
    model = CVAE(latent_dim=D, net=MLP)
    torch.testing.assert_close(model.one_hot(y), F.one_hot(y, 10).float())
    assert VAE(D, MLP).one_hot(y) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: model(x),
        lambda model, x: model.encode(x),
        lambda model, x: model.decode(torch.zeros(B, D)),
        lambda model, x: model.reconstruct(x),
        lambda model, x: model.sample(3),
        lambda model, x: model.interpolate(torch.zeros(D), torch.ones(D)),
    ],
    ids=["forward", "encode", "decode", "reconstruct", "sample", "interpolate"],
)
@pytest.mark.parametrize(
    "model",
    [CVAE(latent_dim=D, net=MLP), CVAE(latent_dim=D, net=MLP, prior="class"), VAE(D, MLP, num_classes=10)],
    ids=["cvae", "cvae with prior", "vae with classes"],
)
def test_missing_label_is_named(model: VAE, call: Callable[[VAE, Tensor], object], x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"y: .* needs a label from 0 to 9"):
        call(model, x)


@pytest.mark.parametrize("label", [12, 10, -1])
@pytest.mark.parametrize("prior", ["standard", "class"])
def test_sample_of_a_class_that_does_not_exist_is_refused(prior: str, label: int) -> None:
    model = CVAE(latent_dim=D, net=MLP, prior=prior)
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        model.sample(1, torch.tensor([label]))


@pytest.mark.parametrize("prior", ["standard", "class"])
def test_verbs_take_labels(net: Any, prior: str, x: Tensor, y: Tensor) -> None:
    model = CVAE(latent_dim=D, net=net, prior=prior)
    z = model.encode(x, y)
    assert z.shape == (B, D)
    assert model.decode(z, y).shape == model.reconstruct(x, y).shape == model.sample(B, y).shape == (B, 1, 28, 28)
    assert model.decode(z.expand(4, B, D), y).shape == (4, B, 1, 28, 28)
    assert model.interpolate(z[0], z[1], 5, torch.full((5,), 3)).shape == (5, 1, 28, 28)
    torch.testing.assert_close(model.reconstruct(x, y), model.decode(z, y))


# ---- the prior


def test_prior_is_the_standard_normal_unless_it_is_learned(y: Tensor) -> None:
    prior = CVAE(latent_dim=D, net=MLP).prior(y)
    assert prior.batch_shape == ()
    assert torch.equal(prior.mean, torch.zeros(D))
    assert torch.equal(prior.stddev, torch.ones(D))


def test_learned_prior_starts_at_the_standard_normal_for_every_class() -> None:
    model = CVAE(latent_dim=D, net=MLP, prior="class")
    prior = model.prior(torch.arange(10))
    assert prior.batch_shape == (10,)
    assert torch.equal(prior.mean, torch.zeros(10, D))
    assert torch.equal(prior.stddev, torch.ones(10, D))
    plain = CVAE(latent_dim=D, net=MLP)
    extra = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 10 * 2 * D


def test_learned_prior_is_that_of_the_label(y: Tensor) -> None:
    model = with_learned_prior()
    assert model.prior_of is not None
    loc, log_variance = model.prior_of.weight[y].chunk(2, -1)
    prior = model.prior(y)
    torch.testing.assert_close(prior.mean, loc)
    torch.testing.assert_close(prior.variance, log_variance.exp())


def test_kl_to_a_learned_prior_is_the_closed_form_and_what_monte_carlo_finds(x: Tensor, y: Tensor) -> None:
    model, x = with_learned_prior().double(), x.double()
    posterior, prior = model.posterior(x, y), model.prior(y)
    with torch.no_grad():
        found = model.terms(model(x, y, model.draw_noise(x, Source.of(x, 0))), x, y, torch.tensor(0.0))["kl"]
        torch.testing.assert_close(found, kl_divergence(posterior, prior))
        z = posterior.sample((50_000,))
        log_ratio = posterior.log_prob(z) - prior.log_prob(z)
        assert ((log_ratio.mean(0) - found).abs() < 4 * log_ratio.std(0) / 50_000**0.5).all()


def test_samples_come_from_the_prior_of_their_class() -> None:
    model, y = with_learned_prior(), torch.tensor([2, 2, 7])
    epsilon = torch.randn(3, D, generator=torch.Generator().manual_seed(1))
    expected = model.decode(model.prior(y).mean + model.prior(y).stddev * epsilon, y)
    torch.testing.assert_close(model.sample(3, y, torch.Generator().manual_seed(1)), expected)


def test_learned_prior_moves_to_where_its_class_is(x: Tensor) -> None:
    """The prior that maximises the ELBO is the mean posterior, so descent on the KL takes it there."""
    model = CVAE(latent_dim=D, net=MLP, prior="class")
    assert model.prior_of is not None
    y = torch.full((B,), 4)
    with torch.no_grad():
        posterior = model.posterior(x, y)
    optimizer = torch.optim.Adam(model.prior_of.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        kl_divergence(posterior, model.prior(y)).mean().backward()
        optimizer.step()
    torch.testing.assert_close(model.prior(y).mean[0], posterior.mean.mean(0), atol=0.02, rtol=0)
    assert not model.prior(torch.tensor([5])).mean.any()


@pytest.mark.parametrize("num_classes", [0, -1])
def test_a_conditional_model_needs_classes(num_classes: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"num_classes={num_classes}: must be at least 1"):
        CVAE(num_classes=num_classes)


def test_number_of_classes_is_free(x: Tensor) -> None:
    model = CVAE(num_classes=3, latent_dim=D, net=MLP)
    assert model.reconstruct(x, torch.arange(B) % 3).shape == (B, 1, 28, 28)
    with pytest.raises(ValueError, match="from 0 to 2"):
        model.sample(1, torch.tensor([3]))
