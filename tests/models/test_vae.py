"""The four objectives' models: sizes, losses against their formulas, what one does with them, and refused arguments."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning.distributions.sampling import diagonal_gaussian
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import CVAE, IWAE, VAE, BetaVAE, CapacityVAE, Classifier
from vae_lightning.models.base import Module
from vae_lightning.noise import Source

B, D = 6, 3
MLP = {"name": "mlp", "hidden": [12, 8]}
NETS = [MLP, "cnn2", "cnn3"]
START = torch.tensor(0.0)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, 1, 28, 28, dtype=torch.float64).round()


@pytest.fixture
def y() -> Tensor:
    return torch.arange(B)


def terms_of(model: Module, x: Tensor, y: Tensor, step: Tensor = START) -> dict[str, Tensor]:
    return model.terms(model(x, y, model.draw_noise(x, Source.of(x, 0))), x, y, step)


def alike(model: VAE, like: VAE) -> VAE:
    """`model` with the weights of `like`, in float64."""
    model.double().load_state_dict(like.state_dict())
    return model


# ---- sizes


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (VAE, 1_316_824),
        (lambda: CVAE(net="cnn3"), 47_057),
        (lambda: CVAE(net="cnn3").encoder, 35_672),
        (lambda: CVAE(net="cnn3").decoder, 11_385),
        (lambda: CVAE(net="cnn2"), 51_729),
        (Classifier, 45_826),
        (lambda: VAE(latent_dim=2, net={"name": "mlp", "hidden": [128, 64, 32]}), 222_612),
        (lambda: VAE(latent_dim=2, net={"name": "mlp", "hidden": [500]}), 788_788),
        (lambda: VAE(latent_dim=2, net={"name": "mlp", "hidden": [300, 300], "dropout": 0.1}), 654_188),
    ],
)
def test_number_of_parameters(build: Callable[[], torch.nn.Module], count: int) -> None:
    assert sum(p.numel() for p in build().parameters()) == count


@pytest.mark.parametrize(
    ("likelihood", "extra"),
    [("bernoulli", 0), ("continuous_bernoulli", 0), ("gaussian", 1), ({"name": "gaussian", "learn_scale": False}, 0)],
)
def test_only_a_learned_scale_adds_a_parameter(likelihood: str | Mapping[str, Any], extra: int) -> None:
    assert sum(p.numel() for p in VAE(likelihood=likelihood).parameters()) == 1_316_824 + extra


# ---- the latent-variable model


def test_diagonal_gaussian_takes_log_variances() -> None:
    loc, log_variance, z = torch.randn(3, B, D, dtype=torch.float64)
    density = diagonal_gaussian(loc, log_variance)
    expected = -0.5 * ((z - loc) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(density.log_prob(z), expected)


def test_prior_is_the_standard_normal_in_the_type_of_the_model() -> None:
    prior = VAE(D, MLP).double().prior()
    z = torch.randn(5, D, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
    assert prior.mean.dtype == torch.float64


def test_samples_are_the_posterior_mean_and_scaled_noise(x: Tensor, y: Tensor) -> None:
    model = VAE(D, MLP, num_samples=4).double()
    noise = model.draw_noise(x, Source.of(x, 0))
    output = model(x, y, noise)
    torch.testing.assert_close(output.z, output.posterior.mean + output.posterior.stddev * noise.posterior)


def test_fresh_noise_is_drawn_where_none_is_given(x: Tensor) -> None:
    model = VAE(D, MLP, num_samples=4).double()
    first, second = model(x), model(x)
    assert first.z.shape == (1, B, D)
    assert not torch.equal(first.z, second.z)


@pytest.mark.parametrize("net", NETS, ids=str)
def test_likelihood_of_several_samples_is_that_of_each(net: str | dict[str, Any]) -> None:
    model, z = VAE(D, net).double(), torch.randn(2, 4, B, D, dtype=torch.float64)
    together = model.likelihood(z)
    assert together.batch_shape == (2, 4, B)
    torch.testing.assert_close(together.mean[1, 3], model.likelihood(z[1, 3]).mean)


def test_unconditional_model_ignores_labels(x: Tensor, y: Tensor) -> None:
    model = VAE(D, MLP).double()
    assert torch.equal(terms_of(model, x, y)["loss"], terms_of(model, x, (y + 5) % 10)["loss"])
    assert torch.equal(model.encode(x), model.encode(x, y))


# ---- the losses


def test_terms_of_a_vae_are_the_two_of_the_elbo(x: Tensor, y: Tensor) -> None:
    model = VAE(D, MLP, num_samples=2).double()
    output, terms = model(x, y, model.draw_noise(x, Source.of(x, 0))), terms_of(model, x, y)
    logits = model.decoder(output.z.flatten(0, 1)).unflatten(0, (2, B))
    torch.testing.assert_close(terms["log_likelihood"], Bernoulli(logits=logits).log_prob(x).flatten(2).sum(-1).mean(0))
    loc, log_variance = model.encoder(x)
    torch.testing.assert_close(terms["kl"], 0.5 * (log_variance.exp() + loc**2 - 1 - log_variance).sum(-1))
    torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])
    torch.testing.assert_close(terms["loss"], -terms["elbo"])


def test_kl_is_what_monte_carlo_finds(x: Tensor) -> None:
    model = VAE(D, MLP).double()
    posterior, prior = model.posterior(x), model.prior()
    z = posterior.sample((50_000,))
    log_ratio = posterior.log_prob(z) - prior.log_prob(z)
    error = log_ratio.std(0) / 50_000**0.5
    assert ((log_ratio.mean(0) - kl_divergence(posterior, prior)).abs() < 4 * error).all()


def test_warmup_weighs_the_kl_in_the_loss_but_not_in_the_elbo(x: Tensor, y: Tensor) -> None:
    model = VAE(D, MLP, kl_warmup_steps=10).double()
    for step, weight in ((0, 0), (5, 0.5), (10, 1), (1000, 1)):
        terms = terms_of(model, x, y, torch.tensor(float(step)))
        torch.testing.assert_close(terms["loss"], weight * terms["kl"] - terms["log_likelihood"])
        torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])


def test_beta_of_one_is_the_vae(x: Tensor, y: Tensor) -> None:
    vae = VAE(D, MLP).double()
    beta = alike(BetaVAE(beta=1.0, latent_dim=D, net=MLP), vae)
    for name, term in terms_of(vae, x, y).items():
        assert torch.equal(terms_of(beta, x, y)[name], term)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_kl(beta: float, x: Tensor, y: Tensor) -> None:
    terms = terms_of(BetaVAE(beta=beta, latent_dim=D, net=MLP).double(), x, y)
    torch.testing.assert_close(terms["loss"], beta * terms["kl"] - terms["log_likelihood"])
    torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])


def test_beta_warms_up(x: Tensor, y: Tensor) -> None:
    terms = terms_of(BetaVAE(beta=4.0, latent_dim=D, net=MLP, kl_warmup_steps=10).double(), x, y, torch.tensor(5.0))
    torch.testing.assert_close(terms["loss"], 2 * terms["kl"] - terms["log_likelihood"])


@pytest.mark.parametrize("latent_dim", [2, 20])
def test_normalized_beta_is_the_papers(latent_dim: int) -> None:
    """beta_norm = beta D / 784 in "beta-VAE", so a weight of beta_norm 784 / D."""
    model = BetaVAE(beta=0.5, normalized=True, latent_dim=latent_dim, net=MLP)
    assert model.beta * latent_dim / 784 == pytest.approx(0.5)
    assert BetaVAE(beta=0.5, latent_dim=latent_dim, net=MLP).beta == 0.5
    assert model.hparams["beta"] == 0.5


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (5, 12.5), (10, 25.0), (1000, 25.0)])
def test_capacity_draws_the_kl_to_it(step: int, capacity: float, x: Tensor, y: Tensor) -> None:
    model = CapacityVAE(gamma=7.0, capacity_max=25.0, capacity_steps=10, latent_dim=D, net=MLP).double()
    terms = terms_of(model, x, y, torch.tensor(float(step)))
    torch.testing.assert_close(terms["loss"], 7 * (terms["kl"] - capacity).abs() - terms["log_likelihood"])


@pytest.mark.parametrize("doubly", [False, True])
def test_iwae_minimises_minus_the_bound(doubly: bool, x: Tensor, y: Tensor) -> None:
    model = IWAE(num_samples=4, doubly_reparameterised=doubly, latent_dim=D, net=MLP).double()
    output, terms = model(x, y, model.draw_noise(x, Source.of(x, 0))), terms_of(model, x, y)
    log_weights = output.likelihood.log_prob(x) + output.prior.log_prob(output.z) - output.posterior.log_prob(output.z)
    torch.testing.assert_close(
        terms["iwae_bound"], torch.log((log_weights - log_weights.amax(0)).exp().mean(0)) + log_weights.amax(0)
    )
    torch.testing.assert_close(terms["loss"], -terms["iwae_bound"])
    torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])
    assert terms["iwae_bound"].mean() > terms["elbo"].mean()


def test_iwae_of_one_sample_has_the_elbo_as_its_bound_in_expectation(x: Tensor, y: Tensor) -> None:
    model = IWAE(num_samples=1, latent_dim=D, net=MLP).double()
    images = x[:1].expand(4000, -1, -1, -1)
    with torch.no_grad():
        terms = terms_of(model, images, y)
    difference = terms["iwae_bound"] - terms["elbo"]
    assert difference.mean().abs() < 4 * difference.std() / 4000**0.5


def test_iwae_warms_up_in_its_loss_but_not_in_its_bound(x: Tensor, y: Tensor) -> None:
    model = IWAE(num_samples=4, latent_dim=D, net=MLP, kl_warmup_steps=10).double()
    start, end = (terms_of(model, x, y, torch.tensor(step)) for step in (0.0, 10.0))
    log_likelihood = model(x, y, model.draw_noise(x, Source.of(x, 0))).likelihood.log_prob(x)
    torch.testing.assert_close(start["loss"], math.log(4) - log_likelihood.logsumexp(0))
    torch.testing.assert_close(end["loss"], -end["iwae_bound"])
    torch.testing.assert_close(start["iwae_bound"], end["iwae_bound"])


def test_doubly_reparameterised_gradient_is_the_plain_one_for_the_decoder_only(x: Tensor, y: Tensor) -> None:
    plain = IWAE(num_samples=4, latent_dim=D, net=MLP).double()
    doubly = alike(IWAE(num_samples=4, latent_dim=D, net=MLP, doubly_reparameterised=True), plain)
    for model in (plain, doubly):
        terms_of(model, x, y)["loss"].mean().backward()
    for one, other in zip(plain.decoder.parameters(), doubly.decoder.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(plain.encoder.parameters(), doubly.encoder.parameters(), strict=True):
        assert not torch.allclose(one.grad, other.grad)


def test_evaluation_uses_one_sample_for_the_elbo_and_all_for_the_bound(x: Tensor) -> None:
    assert VAE(D, MLP, num_samples=4).draw_noise(x, Source.of(x, 0), training=False).posterior.shape == (1, B, D)
    assert IWAE(num_samples=4, latent_dim=D, net=MLP).draw_noise(x, Source.of(x, 0), training=False).posterior.shape == (4, B, D)


def test_each_model_is_judged_by_the_bound_it_maximises() -> None:
    assert (VAE(D, MLP).monitor, VAE.monitor_mode) == ("val/elbo", "max")
    assert (IWAE(latent_dim=D, net=MLP).monitor, IWAE.monitor_mode) == ("val/iwae_bound", "max")


# ---- what one does with a trained model


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous_bernoulli"])
def test_verbs_give_images_between_black_and_white(likelihood: str, net: str | dict[str, Any]) -> None:
    model, x = VAE(D, net, likelihood), torch.rand(B, 1, 28, 28)
    z = model.encode(x)
    assert z.shape == (B, D)
    assert torch.equal(z, model.posterior(x).mean)
    many = model.decode(30 * torch.randn(2, 4, D))
    assert many.shape == (2, 4, 1, 28, 28)
    shown = [model.decode(z), model.reconstruct(x), model.sample(5), model.interpolate(z[0], z[1], steps=7), many]
    assert [tuple(images.shape[:-3]) for images in shown] == [(B,), (B,), (5,), (7,), (2, 4)]
    for images in shown:
        assert not images.requires_grad
        assert images.min() >= 0
        assert images.max() <= 1
    torch.testing.assert_close(model.reconstruct(x), model.decode(z))


def test_interpolation_goes_from_start_to_end_in_equal_steps() -> None:
    model, (start, end) = VAE(D, MLP), torch.randn(2, D)
    images = model.interpolate(start, end, steps=5)
    for number, image in enumerate(images):
        torch.testing.assert_close(image, model.decode((start + (end - start) * number / 4).unsqueeze(0))[0])


def test_samples_come_from_the_generator_given() -> None:
    model = VAE(D, MLP)
    one, again, other = (model.sample(4, source=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_samples_are_decoded_from_the_prior() -> None:
    model, z = VAE(D, MLP), torch.randn(5, D, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.sample(5, source=torch.Generator().manual_seed(1)), model.decode(z))


# ---- starting from the mean image


class Images(L.LightningDataModule):
    """Random images with a known mean image."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)), 4)

    def mean_image(self) -> Tensor:
        return torch.linspace(0.01, 0.99, 784).view(1, 28, 28)


def fit(model: VAE, **data: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, **quiet)
    trainer.fit(model, **data)
    return trainer


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*", "ignore:.*number of training batches.*")
def test_output_bias_starts_from_the_logits_of_the_mean_image_if_asked() -> None:
    slow = {"name": "sgd", "lr": 1e-30}
    expected = Images().mean_image().logit().flatten()
    model, other = (VAE(D, MLP, start_from_mean=asked, optimizer=slow) for asked in (True, False))
    for each in (model, other):
        fit(each, datamodule=Images())
    torch.testing.assert_close(model.decoder.output_bias, expected)
    assert not torch.allclose(other.decoder.output_bias, expected)


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*", "ignore:.*number of training batches.*")
def test_second_fit_goes_on_with_what_was_learned_or_loaded() -> None:
    slow, init = {"name": "sgd", "lr": 1e-30}, {"name": "vamp", "components": 2, "init": "images"}

    class Some(Images):
        def evaluation_images(self, split: str, count: int) -> tuple[Tensor, Tensor]:
            return torch.full((count, 1, 28, 28), 0.5), torch.zeros(count)

    model = VAE(D, MLP, start_from_mean=True, optimizer=slow, prior=init)
    fit(model, datamodule=Some())
    loaded = VAE(D, MLP, start_from_mean=True, optimizer=slow, prior=init)
    loaded.load_state_dict(model.state_dict())
    for again in (model, loaded):
        with torch.no_grad():
            again.decoder.output_bias.fill_(0.25)
            again.prior_of.pseudo_inputs.fill_(0.125)
        fit(again, datamodule=Some())  # of a Trainer of its own, whose steps are counted from 0
        assert (again.decoder.output_bias == 0.25).all()
        assert (again.prior_of.pseudo_inputs == 0.125).all()


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*", "ignore:.*number of training batches.*")
def test_start_from_mean_needs_data_that_know_their_mean() -> None:
    with pytest.raises(ConfigurationError, match=r"start_from_mean=True: must be false with a data module"):
        fit(VAE(D, MLP, start_from_mean=True), train_dataloaders=Images().train_dataloader())


# ---- refused arguments


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: VAE(latent_dim=0), "latent_dim=0"),
        (lambda: VAE(num_samples=0), "num_samples=0"),
        (lambda: VAE(num_classes=-1), "num_classes=-1"),
        (lambda: VAE(kl_warmup_steps=-1), "kl_warmup_steps=-1"),
        (lambda: VAE(net={"name": "mlp", "hidden": []}), "net.hidden=[]"),
        (lambda: VAE(net={"name": "mlp", "hidden": 5}), "net.hidden=5"),
        (lambda: VAE(net={"name": "mlp", "dropout": 1.0}), "net.dropout=1.0"),
        (lambda: VAE(net={"name": "mlp", "dropout": -0.5}), "net.dropout=-0.5"),
        (lambda: VAE(net={"name": "mlp", "init": "zero"}), "net.init=zero"),
        (lambda: VAE(net={"name": "mlp", "hiden": [5]}), "net.hiden: no such key; did you mean net.hidden?"),
        (lambda: VAE(net={"name": "cnn2", "kernel": 0}), "net.kernel=0"),
        (lambda: VAE(net={"name": "cnn3", "kernel": 5}), "net.kernel: no such key"),
        (lambda: VAE(net="cnn4"), "net.name=cnn4: unknown; did you mean cnn3?"),
        (lambda: VAE(likelihood="bernouli"), "likelihood.name=bernouli: unknown; did you mean bernoulli?"),
        (lambda: VAE(likelihood={"name": "gaussian", "scale": 0.0}), "likelihood.scale=0.0"),
        (lambda: VAE(likelihood={"name": "bernoulli", "scale": 0.1}), "likelihood.scale: no such key"),
        (lambda: BetaVAE(beta=-1), "beta=-1"),
        (lambda: BetaVAE(beta=math.nan), "beta=nan"),
        (lambda: BetaVAE(normalized=True, latent_dim=0), "latent_dim=0"),
        (lambda: CapacityVAE(gamma=-1.0), "gamma=-1.0"),
        (lambda: CapacityVAE(gamma=math.nan), "gamma=nan"),
        (lambda: CapacityVAE(capacity_max=-1.0), "capacity_max=-1.0"),
        (lambda: CapacityVAE(capacity_steps=0), "capacity_steps=0"),
        (lambda: IWAE(num_samples=0), "num_samples=0"),
    ],
)
def test_argument_out_of_range_is_refused_by_name(build: Callable[[], VAE], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert str(caught.value).startswith(key)
    assert isinstance(caught.value, ValueError)


def test_images_of_another_shape_are_refused() -> None:
    model = VAE(2, {"name": "mlp", "hidden": [4]}, image_shape=(1, 4, 8))
    for shape in ((3, 4, 8), (3, 1, 8, 4), (3, 32)):
        with pytest.raises(ConfigurationError, match=r"^x: must be images \(B, 1, 4, 8\), as the model's image_shape says; it is"):
            model.encode(torch.zeros(shape))


def test_no_image_of_a_class_is_no_error() -> None:
    model = CVAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, num_classes=3, image_shape=(1, 4, 8))
    assert model.sample(0, torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 4, 8)
    for y in (3, torch.zeros(2, dtype=torch.int64), torch.zeros(4, 3)):
        with pytest.raises(ConfigurationError, match=r"^y: labels must be from 0 to 2, a tensor \(4,\)"):
            model.sample(4, y)  # type: ignore[arg-type]
