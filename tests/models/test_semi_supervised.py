"""Bounds with and without a label, against explicit sums over labels; what learns from which images; and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.models import CVAE, M1, M2, VAE
from vae_lightning.models.semi_supervised import ClassifiedDraw, SemiSupervised
from vae_lightning.noise import Source
from vae_lightning.types import UNLABELLED, LatentVariableModel

B, D, C = 6, 3, 4
MLP = {"name": "mlp", "hidden": [12]}
SMALL = {"name": "classifier_mlp", "hidden": [5]}
START = torch.tensor(0.0)
NONE = torch.full((B,), UNLABELLED)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, 1, 28, 28, dtype=torch.float64).round()


@pytest.fixture
def y() -> Tensor:
    return torch.arange(B) % C


def m1(**arguments: Any) -> M1:
    return M1(**{"classes": C, "classifier": SMALL, "latent_dim": D, "net": MLP, **arguments}).double()


def m2(**arguments: Any) -> M2:
    return M2(**{"num_classes": C, "classifier": SMALL, "latent_dim": D, "net": MLP, **arguments}).double()


def pass_of(model: SemiSupervised, x: Tensor) -> ClassifiedDraw:
    output: ClassifiedDraw = model(x, None, model.draw_noise(x, Source.of(x, 0)))
    return output


def terms_of(model: SemiSupervised, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return model.terms(pass_of(model, x), x, y, START)


def cvae_like(model: M2) -> CVAE:
    cvae = CVAE(num_classes=C, latent_dim=D, net=MLP).double()
    cvae.load_state_dict(model.state_dict(), strict=False)
    return cvae


def elbos_by_class(model: M2, x: Tensor) -> Tensor:
    """The ELBOs of log p(x | y) that a conditional VAE of the same weights finds, `(C, B)`."""
    cvae, noise = cvae_like(model), model.draw_noise(x, Source.of(x, 0))
    labels = [torch.full((len(x),), c) for c in range(C)]
    return torch.stack([cvae.terms(cvae(x, y, noise), x, y, START)["elbo"] for y in labels])


# ---- M2


def test_labelled_bound_is_that_of_a_conditional_vae(x: Tensor, y: Tensor) -> None:
    model = m2(alpha=0.0)
    cvae, terms = cvae_like(model), terms_of(model, x, y)
    expected = cvae.terms(cvae(x, y, model.draw_noise(x, Source.of(x, 0))), x, y, START)
    for name in ("elbo", "log_likelihood", "kl"):
        torch.testing.assert_close(terms[name], expected[name])
    torch.testing.assert_close(terms["loss"], -expected["elbo"] + math.log(C))


def test_unlabelled_bound_is_the_explicit_sum_over_labels(x: Tensor, y: Tensor) -> None:
    model = m2()
    q = model.predict(x).mT
    joint = elbos_by_class(model, x) - math.log(C)
    bound = (q * joint).sum(0) - (q * q.log()).sum(0)
    torch.testing.assert_close(terms_of(model, x, NONE)["elbo_marginal"], bound)
    torch.testing.assert_close(terms_of(model, x, NONE)["loss"], -bound)
    torch.testing.assert_close(terms_of(model, x, y)["elbo_marginal"], bound)


def test_unlabelled_bound_is_tight_in_the_label_where_q_is_its_posterior(x: Tensor) -> None:
    """U(x) <= log sum_y p(y) exp(ELBO(x | y)) <= log p(x), the first with equality where q(y | x) is proportional to p(y) exp ELBO."""
    model = m2()
    elbos, output = elbos_by_class(model, x), pass_of(model, x)
    best = elbos.logsumexp(0) - math.log(C)
    assert (model.terms(output, x, NONE, START)["elbo_marginal"] < best).all()
    matched = output._replace(logits=elbos.mT)
    torch.testing.assert_close(model.terms(matched, x, NONE, START)["elbo_marginal"], best)


def test_unlabelled_bound_is_below_log_p_of_x(x: Tensor) -> None:
    """log p(x) by 300 importance samples of every class; the bound by the mean over 50 samples."""
    model = m2(num_samples=50)
    with torch.no_grad():
        bound = terms_of(model, x, NONE)["elbo_marginal"]
        joint = []
        for c in range(C):
            y = torch.full((B,), c)
            posterior = model.posterior(x, y)
            z = posterior.sample((300,))
            weights = model.likelihood(z, y).log_prob(x) + model.prior(y).log_prob(z) - posterior.log_prob(z)
            joint.append(weights.logsumexp(0) - math.log(300 * C))
    assert (bound < torch.stack(joint).logsumexp(0)).all()


def test_labelled_images_do_not_change_what_is_asked_of_the_others(x: Tensor, y: Tensor) -> None:
    model, mixed = m2(), torch.where(torch.arange(B) < 4, UNLABELLED, y)
    terms, without, known = (terms_of(model, x, labels) for labels in (mixed, NONE, y))
    for name in ("loss", "elbo", "kl"):
        torch.testing.assert_close(terms[name][:4], without[name][:4])
    for name in ("elbo", "kl"):
        torch.testing.assert_close(terms[name][4:], known[name][4:])


@pytest.mark.parametrize("alpha", [0.5, 20.0])
def test_cross_entropy_is_the_mean_over_labelled_images_times_alpha(alpha: float, x: Tensor, y: Tensor) -> None:
    mixed = torch.where(torch.arange(B) < 4, UNLABELLED, y)
    model = m2(alpha=alpha)
    output = pass_of(model, x)
    loss = model.terms(output, x, mixed, START)["loss"].mean()
    model.alpha = 0.0
    expected = torch.nn.functional.cross_entropy(output.logits[4:], y[4:])
    torch.testing.assert_close(loss - model.terms(output, x, mixed, START)["loss"].mean(), alpha * expected)


def test_prior_of_each_class_may_be_learned(x: Tensor, y: Tensor) -> None:
    model = m2(prior="class")
    torch.nn.init.normal_(next(model.prior_of.parameters()))
    q, elbos = model.predict(x).mT, []
    for c in range(C):
        label = torch.full((B,), c)
        output = VAE.forward(model, x, label, model.draw_noise(x, Source.of(x, 0)))
        elbos.append(VAE.terms(model, output, x, label, START)["elbo"])
    bound = (q * (torch.stack(elbos) - math.log(C) - q.log())).sum(0)
    torch.testing.assert_close(terms_of(model, x, NONE)["elbo_marginal"], bound)


def test_warmup_weighs_the_kl_of_z_in_the_loss_alone(x: Tensor, y: Tensor) -> None:
    model = m2(kl_warmup_steps=10, alpha=0.0)
    terms = terms_of(model, x, y)
    torch.testing.assert_close(terms["loss"], math.log(C) - terms["log_likelihood"])
    torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])


def test_dropout_noise_is_what_the_nets_use(x: Tensor) -> None:
    model = m2(net={**MLP, "dropout": 0.5}, classifier={**SMALL, "dropout": 0.5}, num_samples=2)
    shapes = [tuple(noise.shape) for noise in model.draw_noise(x, Source.of(x, 0)).dropout]
    assert shapes == [(B, 5), (B * C, 12), (2 * B * C, 12)]
    assert pass_of(model, x).draw.z.shape == (2, C * B, D)
    assert model.draw_noise(x, Source.of(x, 0), training=False).dropout == ()


# ---- M1


def test_metrics_of_m1_are_those_of_its_vae(x: Tensor, y: Tensor) -> None:
    model = m1()
    noise = model.draw_noise(x, Source.of(x, 0))
    expected, terms = VAE.terms(model, VAE.forward(model, x, None, noise), x, y, START), terms_of(model, x, y)
    for name in ("elbo", "log_likelihood", "kl"):
        torch.testing.assert_close(terms[name], expected[name])
    classified = torch.nn.functional.cross_entropy(model.classifier(model(x, y, noise).draw.z[0]), y)
    torch.testing.assert_close(terms["loss"].mean(), classified - terms["elbo"].mean())
    torch.testing.assert_close(terms["accuracy"].mean(), (model.predict(x).argmax(-1) == y).double().mean())


def test_labelled_images_beside_others_teach_the_classifier_and_not_the_vae(x: Tensor, y: Tensor) -> None:
    model, mixed = m1(), torch.where(torch.arange(B) < 4, UNLABELLED, y)
    terms = terms_of(model, x, mixed)
    torch.testing.assert_close(terms["elbo"].mean(), terms_of(model, x, y)["elbo"][:4].mean())
    accuracy = (model.predict(x[4:]).argmax(-1) == y[4:]).double().mean()
    torch.testing.assert_close(terms["accuracy"].mean(), accuracy)
    encoder = torch.autograd.grad(terms["loss"].mean(), list(model.encoder.parameters()), retain_graph=True)
    alone = torch.autograd.grad(terms_of(model, x, NONE)["loss"][:4].mean(), list(model.encoder.parameters()))
    for mine, plain in zip(encoder, alone, strict=True):
        torch.testing.assert_close(mine, plain)


def test_classifier_of_m1_has_its_own_dropout_after_the_vaes(x: Tensor, y: Tensor) -> None:
    model = m1(net={**MLP, "dropout": 0.5}, classifier={**SMALL, "dropout": 0.5}, num_samples=2)
    noise = model.draw_noise(x, Source.of(x, 0))
    assert [tuple(u.shape) for u in noise.dropout] == [(B, 12), (2 * B, 12), (2 * B, 5)]
    nothing = noise._replace(dropout=(*noise.dropout[:2], torch.zeros(2 * B, 5, dtype=x.dtype)))
    logits = model(x, y, nothing).trained_logits
    torch.testing.assert_close(logits, model.classifier.body[-1].bias.expand_as(logits))


# ---- both

BOTH = pytest.mark.parametrize("build", [m1, m2])


@BOTH
def test_probabilities_sum_to_one(build: Any, x: Tensor) -> None:
    probabilities = build().predict(x)
    assert probabilities.shape == (B, C)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(B, dtype=x.dtype))


@BOTH
def test_gradients_reach_every_parameter(build: Any, x: Tensor, y: Tensor) -> None:
    model = build()
    terms_of(model, x, torch.where(torch.arange(B) < 4, UNLABELLED, y))["loss"].mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.any(), name


@BOTH
def test_is_a_latent_variable_model_and_refuses_labels_that_do_not_exist(build: Any, x: Tensor, y: Tensor) -> None:
    model = build()
    assert isinstance(model, LatentVariableModel)
    assert model._checked((x, NONE))[1] is NONE
    for wrong in (C, -2):
        with pytest.raises(DataError, match=r"labels: found .* but the model knows 0 to 3"):
            model._checked((x, torch.where(y == 0, wrong, y)))


@BOTH
def test_step_is_a_pure_function_that_can_be_traced(build: Any, x: Tensor, y: Tensor) -> None:
    model, mixed = build(), torch.where(torch.arange(B) < 4, UNLABELLED, y)
    noise, parameters = model.draw_noise(x, Source.of(x, 0)), dict(model.named_parameters())
    gradients, (loss, terms) = torch.func.grad_and_value(model.functional_loss, has_aux=True)(parameters, x, mixed, noise, START)
    torch.testing.assert_close(loss, terms_of(model, x, mixed)["loss"].mean())
    assert gradients.keys() == parameters.keys()
    assert all(term.shape == (B,) for term in terms.values())


@pytest.mark.parametrize(
    ("build", "arguments", "key"),
    [
        (m1, {"classes": 1}, "classes"),
        (m1, {"num_classes": 10}, "num_classes"),
        (m1, {"classifier": "classifier_cnn"}, r"classifier\.name"),
        (m2, {"num_classes": 1}, "num_classes"),
        (m2, {"alpha": -1.0}, "alpha"),
        (m2, {"classifier": "mlp"}, r"classifier\.name"),
    ],
)
def test_wrong_arguments_are_refused_by_name(build: Any, arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{key}="):
        build(**arguments)
