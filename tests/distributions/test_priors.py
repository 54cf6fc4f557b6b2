"""Learned priors against their definitions; what they start from; what is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning.distributions.priors import PRIORS, Prior
from vae_lightning.distributions.sampling import diagonal_gaussian, from_noise
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import CVAE, IWAE, VAE, BetaVAE
from vae_lightning.noise import Source, generator
from vae_lightning.objectives.bounds import log_weights
from vae_lightning.types import Draw

D, K = 3, 7
MLP = {"name": "mlp", "hidden": [12, 8], "activation": "tanh"}
STEP = torch.tensor(0.0)


def vamp(kind: type[VAE] = VAE, **arguments: Any) -> Any:
    return kind(latent_dim=D, net=MLP, prior={"name": "vamp", "components": K, "std": 0.3}, **arguments).double()


def no_encoder(images: Tensor) -> Any:
    raise AssertionError("this prior has nothing to encode")


# ---- the densities


def test_vampprior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs() -> None:
    model, z = vamp(), torch.randn(4, 5, D, dtype=torch.float64)
    each = [model.posterior(u.clamp(0, 1)[None]).log_prob(z) for u in model.prior_of.pseudo_inputs]
    expected = torch.stack(each).logsumexp(0) - math.log(K)
    torch.testing.assert_close(model.prior().log_prob(z), expected)


def test_vampprior_encodes_all_pseudo_inputs_at_once() -> None:
    model, seen = vamp(), []
    model.encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    model.terms(model(x, None, model.draw_noise(x, Source.of(x, 0))), x, None, STEP)
    assert seen == [2, K]


def test_mixture_prior_is_the_mixture_and_starts_near_the_standard_normal() -> None:
    torch.manual_seed(0)
    prior = PRIORS["mog"](D, 0, components=4000).double()
    mixture = prior(None, no_encoder)
    z = from_noise(mixture, torch.randn(9, D, dtype=torch.float64))
    each = diagonal_gaussian(prior.loc, prior.log_variance).log_prob(z[:, None])
    torch.testing.assert_close(mixture.log_prob(z), (prior.logits.softmax(0) * each.exp()).sum(-1).log())
    torch.testing.assert_close(mixture.mean, torch.zeros(D, dtype=torch.float64), rtol=0, atol=0.05)
    torch.testing.assert_close(mixture.stddev, torch.ones(D, dtype=torch.float64), rtol=0, atol=0.05)


def test_class_prior_is_that_of_conditional_models_and_goes_with_every_objective() -> None:
    y = torch.tensor([3, 9])
    model, older = IWAE(latent_dim=D, net=MLP, num_classes=10, prior="class"), CVAE(latent_dim=D, net=MLP, prior="class")
    table = torch.randn(10, 2 * D)
    for weight in (model.prior_of.weight, older.prior_of.weight):  # type: ignore[union-attr]
        weight.data.copy_(table)
    for found, expected in ((model.prior(y).mean, table[y, :D]), (model.prior(y).variance, table[y, D:].exp())):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("prior", ["mog", "vamp"])
def test_samples_are_decoded_from_the_prior(prior: str) -> None:
    model = VAE(D, MLP, prior={"name": prior, "components": K})
    z = from_noise(model.prior(), torch.randn(5, D, generator=generator(1)))
    torch.testing.assert_close(model.sample(5, source=generator(1)), model.decode(z))


# ---- the objectives


def draw_of(model: VAE, x: Tensor) -> Any:
    return model(x, None, model.draw_noise(x, Source.of(x, 0)))


def test_terms_are_estimated_from_the_samples_at_hand() -> None:
    model, x = vamp(BetaVAE, beta=3.0, num_samples=4), torch.rand(5, 1, 28, 28, dtype=torch.float64)
    output = draw_of(model, x)
    terms = model.terms(output, x, None, STEP)
    kl = (output.posterior.log_prob(output.z) - output.prior.log_prob(output.z)).mean(0)
    log_likelihood = output.likelihood.log_prob(x).mean(0)
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(terms["elbo"], log_likelihood - kl)
    torch.testing.assert_close(terms["loss"], 3 * kl - log_likelihood)


def gradients(model: VAE, x: Tensor, key: int) -> dict[str, Tensor]:
    loss = model.terms(model(x, None, model.draw_noise(x, Source.of(x, key))), x, None, STEP)["loss"].mean()
    return dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, list(model.parameters())), strict=True))


def test_doubly_reparameterised_gradient_of_a_vampprior_is_the_plain_one_where_it_is_generative() -> None:
    """For pseudo-inputs in every draw; for the encoder, which is prior and posterior in one, in expectation."""
    torch.manual_seed(0)
    plain, doubly = vamp(IWAE, num_samples=3), vamp(IWAE, num_samples=3, doubly_reparameterised=True)
    doubly.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64).expand(50, -1, -1, -1)
    differences = []
    for key in range(20):
        one, other = gradients(plain, x, key), gradients(doubly, x, key)
        torch.testing.assert_close(one["prior_of.pseudo_inputs"], other["prior_of.pseudo_inputs"])
        differences.append(one["encoder.loc.weight"] - other["encoder.loc.weight"])
    spread = torch.stack(differences)
    assert spread.any()
    assert (spread.mean(0).abs() < 5 * spread.std(0) / 20**0.5).all()


def test_encoder_learns_from_the_prior_too() -> None:
    """Under the doubly reparameterised gradient as well, which holds the posterior's density fixed but not the prior's."""
    model, z = vamp(IWAE, doubly_reparameterised=True), torch.randn(2, D, dtype=torch.float64)
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad():
        fixed = model.posterior(x)
    draw = Draw(fixed, model.prior(), z[None], model.likelihood(z[None]))
    log_weights(draw, x, fixed_density=True).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


# ---- where it starts


class Images(L.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)), 4)

    def evaluation_images(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        assert split == "train"
        return torch.ones(count, 1, 28, 28), torch.zeros(count)


def fit(model: VAE, **data: Any) -> VAE:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    L.Trainer(accelerator="cpu", max_epochs=1, logger=False, **quiet).fit(model, **data)
    return model


def from_images() -> VAE:
    prior = {"name": "vamp", "components": K, "init": "images"}
    return VAE(D, MLP, prior=prior, optimizer={"name": "sgd", "lr": 1e-30})


pytestmark = pytest.mark.filterwarnings("ignore:.*val_dataloader.*", "ignore:.*number of training batches.*")


def test_pseudo_inputs_start_from_numbers_around_a_grey_level_or_from_training_images() -> None:
    start = VAE(D, MLP, prior="vamp").prior_of.pseudo_inputs
    assert start.shape == (500, 1, 28, 28)
    assert abs(start.mean() - 0.05) < 1e-3
    assert abs(start.std() - 0.01) < 1e-3
    started = fit(from_images(), datamodule=Images()).prior_of.pseudo_inputs
    assert abs(started.mean() - 1) < 1e-2
    # half of the pixels are within reach of gradients
    assert 0.4 < (started < 1).double().mean() < 0.6


def test_images_are_wanted_of_data_that_have_them() -> None:
    with pytest.raises(ConfigurationError, match=r"^prior\.init=images: must be normal with a data module that has no"):
        fit(from_images(), train_dataloaders=Images().train_dataloader())


# ---- models from before, and refused arguments


def test_a_standard_prior_leaves_no_trace_in_a_checkpoint() -> None:
    torch.manual_seed(0)
    model = VAE(D, MLP)
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoder", "decoder"}
    assert set(CVAE(latent_dim=D, net=MLP, prior="class").state_dict()) - set(model.state_dict()) == {"prior_of.weight"}
    older = {key: value for key, value in model.hparams.items() if key != "prior"}
    VAE(**older).load_state_dict(model.state_dict(), strict=True)


def test_a_learned_prior_starts_all_else_from_the_same_weights() -> None:
    weights = []
    for prior in ("standard", "vamp", "mog"):
        torch.manual_seed(0)
        weights.append(VAE(D, MLP, prior=prior).encoder.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], value) for name, value in other.items())


def test_a_prior_says_what_it_is() -> None:
    with pytest.raises(NotImplementedError):
        Prior()(None, no_encoder)
    with pytest.raises(NotImplementedError):
        Prior().start_from(torch.zeros(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VAE(prior="vamb"), "prior.name=vamb: unknown; did you mean vamp?"),
        (lambda: VAE(prior={"name": "vamp", "components": 0}), "prior.components=0: must be at least 1"),
        (lambda: VAE(prior={"name": "mog", "components": 0}), "prior.components=0: must be at least 1"),
        (lambda: VAE(prior={"name": "vamp", "std": 0.0}), "prior.std=0.0: must be positive"),
        (lambda: VAE(prior={"name": "vamp", "init": "zeros"}), "prior.init='zeros': input should be 'normal' or 'images'"),
        (lambda: VAE(prior={"name": "standard", "components": 5}), "prior.components: no such key"),
        (lambda: VAE(prior="vamp", num_classes=10), "num_classes=10: must be 0 with the vamp prior"),
        (lambda: VAE(prior="class"), "num_classes=0: must be at least 1 with the class prior"),
    ],
)
def test_impossible_priors_are_refused(build: Callable[[], VAE], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert str(caught.value).startswith(message)
