"""Every part of this project's own bears out its contract, alone and with every other; the other files here have parts that do not."""

import ast
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_nets import LaplaceLikelihood, LinearDecoder, LinearEncoder
from torch import nn
from toys import Painter

from vae_lightning import testing
from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.distributions.posteriors import POSTERIORS
from vae_lightning.distributions.priors import PRIORS
from vae_lightning.models import CVAE, IWAE, M1, M2, VAE, BetaVAE, CapacityVAE, Classifier
from vae_lightning.nets import CLASSIFIERS, NETS
from vae_lightning.objectives.goals import OBJECTIVES
from vae_lightning.testing.contract import (
    EncoderContract,
    check_decoder,
    check_encoder,
    check_likelihood,
    check_model,
    check_module,
    check_objective,
    check_posterior,
    check_prior,
)

C = 3
SIZES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "mlp": ((3, 8, 12), {"hidden": [8], "dropout": 0.2}),
    "gated_mlp": ((1, 8, 8), {"hidden": [8]}),
    "cnn2": ((3, 8, 12), {"kernel": 2}),
    "cnn3": ((1, 27, 27), {}),
    "resnet": ((3, 8, 12), {"channels": [2, 3, 4]}),
}
"""For each net, images that are as small as it takes them, and arguments that make it small."""
OF_LIKELIHOODS: dict[str, dict[str, Any]] = {"logistic_mixture": {"components": 2}}
OF_PRIORS: dict[str, dict[str, Any]] = {"mog": {"components": 3}, "vamp": {"components": 3}}
OF_POSTERIORS: dict[str, dict[str, Any]] = {"iaf": {"hidden": [8], "context": 3}}
OF_OBJECTIVES: dict[str, dict[str, Any]] = {"miwae": {"bounds": 2}, "piwae": {"bounds": 2}}
SAMPLES = {"miwae": 4, "piwae": 4, "ciwae": 4}
"""Instead of 64, which are slow."""
CLASSIFIER = {"name": "classifier_mlp", "hidden": [8]}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vae": (VAE, {"kl_warmup_steps": 10}),
    "cvae": (CVAE, {"num_classes": C}),
    "m1": (M1, {"classes": C, "classifier": CLASSIFIER}),
    "m2": (M2, {"num_classes": C, "classifier": CLASSIFIER}),
}
PARTS = {
    "kind": list(KINDS),
    "net": list(NETS),
    "likelihood": list(LIKELIHOODS),
    "prior": list(PRIORS),
    "posterior": list(POSTERIORS),
    "objective": list(OBJECTIVES),
}

Parts = dict[str, str]


def compose(parts: Parts) -> bool:
    """Whether the parts can be combined: what is left out here is refused by the constructors, as the last test holds."""
    labels = parts["kind"] in ("cvae", "m2")
    if parts["prior"] == "class" and not labels:
        return False
    if parts["prior"] == "vamp" and (labels or parts["posterior"] != "diagonal"):
        return False
    return parts["objective"] not in ("dreg", "piwae") or parts["posterior"] == "diagonal"


def every() -> list[Parts]:
    return [dict(zip(PARTS, names, strict=True)) for names in itertools.product(*PARTS.values())]


def pairs_of(parts: Parts) -> set[Any]:
    return set(itertools.combinations(parts.items(), 2))


def combinations() -> list[Parts]:
    """So many that every two parts that go together come together in one of them."""
    candidates = [(parts, pairs_of(parts)) for parts in every() if compose(parts)]
    missing, chosen = set().union(*(pairs for _, pairs in candidates)), []
    while missing:
        parts, pairs = max(candidates, key=lambda candidate: len(candidate[1] & missing))
        chosen.append(parts)
        missing -= pairs
    return chosen


def build(parts: Parts, **arguments: Any) -> VAE:
    kind, own = KINDS[parts["kind"]]
    shape, of_net = SIZES[parts["net"]]
    model: VAE = kind(
        latent_dim=2,
        net={"name": parts["net"], **of_net},
        image_shape=shape,
        likelihood={"name": parts["likelihood"], **OF_LIKELIHOODS.get(parts["likelihood"], {})},
        prior={"name": parts["prior"], **OF_PRIORS.get(parts["prior"], {})},
        posterior={"name": parts["posterior"], **OF_POSTERIORS.get(parts["posterior"], {})},
        objective={"name": parts["objective"], **OF_OBJECTIVES.get(parts["objective"], {})},
        **{"num_samples": SAMPLES.get(parts["objective"]), **own, **arguments},
    )
    return model


# ---- parts together


@pytest.mark.parametrize("parts", combinations(), ids=lambda parts: "-".join(parts.values()))
def test_every_two_parts_make_a_model_that_bears_out_the_contract(parts: Parts) -> None:
    model = build(parts)
    check_model(model, binary=model.likelihood_of.binary)


@pytest.mark.parametrize("kind", ["m1", "m2"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_semi_supervised_models_bear_out_the_contract_with_every_objective(kind: str, objective: str) -> None:
    standard = {"net": "mlp", "likelihood": "bernoulli", "prior": "standard", "posterior": "diagonal"}
    check_model(build({"kind": kind, **standard, "objective": objective}))


@pytest.mark.parametrize(
    "model",
    [
        BetaVAE(beta=2.0, latent_dim=2, net=CLASSIFIER | {"name": "mlp"}, image_shape=(1, 4, 4)),
        CapacityVAE(latent_dim=2, net=CLASSIFIER | {"name": "mlp"}, image_shape=(1, 4, 4)),
        IWAE(doubly_reparameterised=True, latent_dim=2, net=CLASSIFIER | {"name": "mlp"}, image_shape=(1, 4, 4)),
        VAE(latent_dim=2, net="foreign_nets.LINEAR", likelihood="foreign_nets.LaplaceLikelihood", image_shape=(3, 4, 5)),
        VAE(latent_dim=2, net="foreign_nets.LINEAR", image_shape=(1, 4, 4), num_classes=C),
    ],
    ids=["beta_vae", "capacity_vae", "dreg", "foreign", "foreign conditional"],
)
def test_names_and_foreign_nets_bear_out_the_contract(model: VAE) -> None:
    check_model(model, binary=model.likelihood_of.binary)


@pytest.mark.parametrize("net", CLASSIFIERS)
def test_classifiers_bear_out_the_contract(net: str) -> None:
    check_module(Classifier(net=net, num_classes=C, image_shape=(1, 8, 8)))


def test_models_that_only_speak_the_protocol_bear_it_out() -> None:
    check_model(Painter(num_classes=C), image_shape=(1, 28, 28))


def test_what_is_left_out_of_the_combinations_is_refused() -> None:
    standard = {
        "kind": "vae",
        "net": "mlp",
        "likelihood": "bernoulli",
        "prior": "standard",
        "posterior": "diagonal",
        "objective": "elbo",
    }
    for parts in every():
        others = sum(parts[name] != standard[name] for name in parts)
        if others <= 2 and not compose(parts):
            with pytest.raises(ValueError, match="must be"):
                build(parts)


# ---- parts alone


@pytest.mark.parametrize("num_classes", [0, C])
@pytest.mark.parametrize("net", NETS)
def test_nets(net: str, num_classes: int) -> None:
    shape, own = SIZES[net]
    offered = {"latent_dim": 2, "num_classes": num_classes, "image_shape": shape}
    check_encoder(NETS[net].encoder(**offered, **own), **offered)
    check_decoder(NETS[net].decoder(**offered, outputs=2, **own), **offered, outputs=2)


@pytest.mark.parametrize("net", NETS)
def test_nets_of_mnist(net: str) -> None:
    own = {} if "hidden" not in SIZES[net][1] else {"hidden": [8]}
    check_encoder(NETS[net].encoder(latent_dim=2, num_classes=0, **own))
    check_decoder(NETS[net].decoder(latent_dim=2, num_classes=0, **own))


@pytest.mark.parametrize("image_shape", [(1, 3, 4), (3, 2, 3)])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods(name: str, image_shape: tuple[int, int, int]) -> None:
    check_likelihood(LIKELIHOODS[name](), image_shape=image_shape)


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("name", PRIORS)
def test_priors(name: str, latent_dim: int) -> None:
    num_classes, shape = C if name == "class" else 0, (1, 4, 4)
    offered = {"latent_dim": latent_dim, "num_classes": num_classes}
    shaped = {"image_shape": shape} if name == "vamp" else {}
    check_prior(PRIORS[name](**offered, **shaped, **OF_PRIORS.get(name, {})), **offered, image_shape=shape)


@pytest.mark.parametrize("name", POSTERIORS)
def test_posteriors(name: str) -> None:
    check_posterior(POSTERIORS[name](latent_dim=2, **OF_POSTERIORS.get(name, {})))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str) -> None:
    offered = {"latent_dim": 2, "image_shape": (1, 3, 4)} if name == "beta" else {}
    check_objective(OBJECTIVES[name](**offered))


def test_foreign_parts() -> None:
    for num_classes in (0, C):
        offered = {"latent_dim": 2, "num_classes": num_classes, "image_shape": (3, 4, 5)}
        check_encoder(LinearEncoder(**offered), **offered)
        check_decoder(LinearDecoder(**offered, outputs=2), **offered, outputs=2)
    check_likelihood(LaplaceLikelihood())


# ---- the ways to use a contract


class TestLinearEncoder(EncoderContract):
    """As a user writes it: pytest finds the inherited checks by the class's name."""

    image_shape = (1, 4, 4)

    def make(self) -> nn.Module:
        return LinearEncoder(latent_dim=2, num_classes=0, image_shape=(1, 4, 4))


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="EncoderContract: has no setting latent_dmi"):
        check_encoder(nn.Identity(), latent_dmi=2)


def test_what_is_checked_is_left_as_it_was() -> None:
    model = BetaVAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, image_shape=(1, 4, 4), likelihood="gaussian").eval()
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    check_model(model, binary=False)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_none_of_it_imports_pytest() -> None:
    for path in Path(*testing.__path__).glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", None) for node in imports}
        assert not any("pytest" in (module or "") for module in modules), path
