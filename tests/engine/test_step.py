"""Compiled steps are the plain ones, whatever a model is made of."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from engine_fits import assert_same, fit, graphs

from vae_lightning import CVAE, IWAE, VAE, BetaVAE, CapacityVAE
from vae_lightning.models import M1, M2
from vae_lightning.models.base import Module

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

MLP = {"name": "classifier_mlp", "hidden": [8]}
PARTS: dict[str, list[Any]] = {
    "model": [
        (VAE, {"kl_warmup_steps": 5}),
        (BetaVAE, {"beta": 3.3}),
        (CapacityVAE, {"capacity_steps": 10, "gamma": 7.0, "num_samples": 2}),
        (IWAE, {"num_samples": 3}),
        (IWAE, {"num_samples": 3, "doubly_reparameterised": True}),
        (CVAE, {}),
        (M1, {"classifier": {**MLP, "dropout": 0.2}}),
        (M2, {"classifier": MLP, "alpha": 0.7}),
    ],
    "net": [
        {"name": "mlp", "hidden": [12], "dropout": 0.2},
        {"name": "gated_mlp", "hidden": [12]},
        "cnn2",
        "cnn3",
        {"name": "resnet", "channels": [2, 3, 4]},
    ],
    "likelihood": ["bernoulli", "gaussian", {"name": "gaussian", "learn_scale": False}, "continuous_bernoulli"],
    "prior": ["standard", {"name": "mog", "components": 3}, {"name": "vamp", "components": 3}, "class"],
    "posterior": ["diagonal", {"name": "iaf", "hidden": [8], "context": 4}],
}


def composes(model: Any, prior: Any, posterior: Any) -> bool:
    """Whether the constructors take these together."""
    kind, arguments = model
    name = prior if isinstance(prior, str) else prior["name"]
    labels = kind in (CVAE, M2)
    if (name == "class") != labels and name == "class":
        return False
    if name == "vamp" and (labels or posterior != "diagonal"):
        return False
    return not (arguments.get("doubly_reparameterised") and posterior != "diagonal")


def combinations() -> list[dict[str, Any]]:
    """So many of the combinations that compose that every two parts that go together come together in one of them."""
    every = [dict(zip(PARTS, parts, strict=True)) for parts in itertools.product(*PARTS.values())]
    every = [parts for parts in every if composes(parts["model"], parts["prior"], parts["posterior"])]
    pairs = {id(parts): {(a, repr(parts[a]), b, repr(parts[b])) for a, b in itertools.combinations(PARTS, 2)} for parts in every}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(every, key=lambda parts: len(pairs[id(parts)] & missing)))
        missing -= pairs[id(chosen[-1])]
    return chosen


def named(parts: dict[str, Any]) -> str:
    return "-".join(str(v if isinstance(v, str) else v[0].__name__ if isinstance(v, tuple) else v["name"]) for v in parts.values())


@pytest.mark.parametrize("parts", combinations(), ids=named)
def test_compiled_steps_are_the_plain_ones_whatever_a_model_is_made_of(parts: dict[str, Any], tmp_path: Path) -> None:
    kind, arguments = parts["model"]

    def build() -> Module:
        rest = {name: part for name, part in parts.items() if name != "model"}
        return kind(latent_dim=3, optimizer={"name": "adam", "lr": 1e-4}, **rest, **arguments)

    labelled = kind not in (M1, M2)
    (plain, _), (compiled, trainer) = (fit(build, tmp_path, fast=fast, labelled=labelled, max_epochs=1) for fast in (False, True))
    assert graphs(trainer) == 1
    assert_same(plain, compiled)
