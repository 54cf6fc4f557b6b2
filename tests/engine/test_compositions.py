"""Compiled steps are the plain ones, whatever a model is made of: over every combination of parts that composes.

Compiling takes many seconds a model, and tracing one. So only so many combinations are compiled that every part is in one of them,
and so many traced as they are in training that every two parts come together; all are traced by a tracer of the tests' own.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_fits import Fit, assert_same_fit, fitted, graphs
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning import models
from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.distributions.posteriors import POSTERIORS
from vae_lightning.distributions.priors import PRIORS
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import VAE, Classifier
from vae_lightning.models.base import Module
from vae_lightning.nets import CLASSIFIERS, NETS
from vae_lightning.noise import Source
from vae_lightning.objectives.goals import OBJECTIVES
from vae_lightning.types import UNLABELLED, Noise

C = 3
ADAM: dict[str, Any] = {"name": "adam", "lr": 1e-4, "eps": 1e-4}
"""With an eps at which Adam does not turn the rounding of gradients that are nearly 0 into whole steps."""
SIZES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "mlp": ((3, 4, 6), {"hidden": [8], "dropout": 0.2}),
    "gated_mlp": ((1, 4, 4), {"hidden": [8]}),
    "cnn2": ((3, 4, 6), {"kernel": 2}),
    "cnn3": ((1, 27, 27), {}),
    "resnet": ((3, 4, 8), {"channels": [2, 3, 4]}),
}
"""For each net, images that are as small as it takes them, and arguments that make it small; a new net needs none."""
SMALL: dict[str, dict[str, Any]] = {
    "logistic_mixture": {"components": 2},
    "mog": {"components": 3},
    "vamp": {"components": 3},
    "iaf": {"hidden": [8], "context": 3},
    "miwae": {"bounds": 2},
    "piwae": {"bounds": 2},
}
"""Arguments that make a part small."""
CLASSIFIER: dict[str, Any] = {"name": "classifier_mlp", "hidden": [8], "dropout": 0.2}
NUMBERS: dict[str, dict[str, Any]] = {
    "BetaVAE": {"beta": 3.3},
    "CapacityVAE": {"gamma": 7.0, "capacity_steps": 10},
    "CVAE": {"num_classes": C},
    "IWAE": {"num_samples": 3},
    "M1": {"classes": C, "classifier": CLASSIFIER},
    "M2": {"num_classes": C, "classifier": CLASSIFIER, "alpha": 0.7},
    "VAE": {"kl_warmup_steps": 5},
}
KINDS = [name for name in models.__all__ if issubclass(getattr(models, name), VAE)]
OWN = "own"
"""Of a model whose name stands for an objective."""
PARTS: dict[str, list[str]] = {
    "kind": KINDS,
    "net": list(NETS),
    "likelihood": list(LIKELIHOODS),
    "prior": list(PRIORS),
    "posterior": list(POSTERIORS),
    "objective": [*OBJECTIVES, OWN],
}
Parts = dict[str, str]


def refusal(parts: Parts) -> str | None:
    """The setting that a constructor must complain of, by the rules that the documentation gives; None: the parts compose."""
    named = parts["kind"] in ("BetaVAE", "CapacityVAE", "IWAE")
    labels = parts["kind"] in ("CVAE", "M2")
    if named and parts["objective"] != OWN:
        return "objective"
    if (parts["prior"] == "class" and not labels) or (parts["prior"] == "vamp" and labels):
        return "num_classes"
    if parts["posterior"] != "diagonal" and parts["prior"] == "vamp":
        return "prior.name"
    if parts["posterior"] != "diagonal" and parts["objective"] in ("dreg", "piwae"):
        return "objective.name"
    return None


def product(**fixed: str) -> Iterator[Parts]:
    """Every combination in which the parts `fixed` are those; the objective of a model's own goes with named models only."""
    for names in itertools.product(*({**PARTS, **{role: [name] for role, name in fixed.items()}}).values()):
        parts = dict(zip(PARTS, names, strict=True))
        if parts["objective"] != OWN or parts["kind"] in ("BetaVAE", "CapacityVAE", "IWAE"):
            yield parts


@functools.cache
def covering() -> tuple[Parts, ...]:
    """So many of the combinations that compose that every two parts that go together come together in one of them."""
    every = [(parts, set(itertools.combinations(parts.items(), 2))) for parts in product() if not refusal(parts)]
    missing, chosen = set().union(*(pairs for _, pairs in every)), []
    while missing:
        parts, pairs = max(every, key=lambda candidate: len(candidate[1] & missing))
        chosen.append(parts)
        missing -= pairs
    return tuple(chosen)


def named(parts: Parts) -> str:
    return "-".join(parts.values())


def build(parts: Parts, **arguments: Any) -> VAE:
    shape, of_net = SIZES.get(parts["net"], ((1, 28, 28), {}))
    specs = {role: {"name": parts[role], **SMALL.get(parts[role], {})} for role in ("likelihood", "prior", "posterior")}
    if parts["objective"] != OWN:
        specs["objective"] = {"name": parts["objective"], **SMALL.get(parts["objective"], {})}
        if parts["objective"] in ("miwae", "piwae", "ciwae") and "num_samples" not in NUMBERS.get(parts["kind"], {}):
            arguments.setdefault("num_samples", 4)  # 64 are slow
    net = {"name": parts["net"], **of_net}
    model: VAE = getattr(models, parts["kind"])(
        latent_dim=2, net=net, image_shape=shape, optimizer=ADAM, **specs, **NUMBERS.get(parts["kind"], {}), **arguments
    )
    return model


def images(shape: tuple[int, ...], few_labels: bool) -> DataLoader[Any]:
    """Three batches of four binary images; two of four have a label if `few_labels`, as all models take but those of labels."""
    x = (torch.rand(12, *shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    y = torch.arange(12) % C
    return DataLoader(TensorDataset(x, torch.where(torch.arange(12) % 4 < 2, y, UNLABELLED) if few_labels else y), batch_size=4)


def both(make: Callable[[], Module], data: DataLoader[Any], folder: Path, **arguments: Any) -> Fit:
    """The fast fit of one graph, when it has been found the same as the plain one."""
    plain, fast = (fitted(make, data, folder, fast=way, max_epochs=1, **arguments) for way in (False, True))
    assert graphs(fast.trainer) == 1
    assert any(not torch.equal(value, fast.weights[name]) for name, value in make().state_dict().items())
    assert_same_fit(plain, fast)
    return fast


# ---- what composes


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_compose_is_refused_by_the_name_of_a_setting(kind: str) -> None:
    for parts in product(kind=kind, net="mlp"):
        key = refusal(parts)
        if key is None:
            build(parts)
        else:
            with pytest.raises(ConfigurationError, match=rf"^{key}\b[^\n]*$"):
                build(parts)


def test_a_net_and_a_likelihood_compose_with_any_other_part() -> None:
    for parts in covering():
        for net, likelihood in itertools.product(NETS, LIKELIHOODS):
            assert refusal({**parts, "net": net, "likelihood": likelihood}) is None


# ---- one combination a training


def few_labels(parts: Parts) -> bool:
    return parts["kind"] in ("M1", "M2")


def hold(parts: Parts, folder: Path) -> None:
    both(lambda: build(parts), images(build(parts).image_shape, few_labels(parts)), folder)


def once_each() -> list[Parts]:
    """So few combinations that every part comes in one of them."""
    missing, chosen = {(role, name) for role, names in PARTS.items() for name in names}, []
    while missing:
        chosen.append(max(covering(), key=lambda parts: len(set(parts.items()) & missing)))
        missing -= set(chosen[-1].items())
    return chosen


@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("parts", covering(), ids=named)
def test_traced_steps_are_the_plain_ones_whatever_two_parts_come_together(parts: Parts, tmp_path: Path) -> None:
    hold(parts, tmp_path)


@pytest.mark.usefixtures("graphs_as_traced")
@pytest.mark.parametrize("net", CLASSIFIERS)
def test_traced_steps_of_a_classifier_are_the_plain_ones(net: str, tmp_path: Path) -> None:
    both(lambda: Classifier(net=net, num_classes=C, optimizer=ADAM), images((1, 28, 28), few_labels=False), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_as_traced")
@pytest.mark.parametrize("parts", once_each(), ids=named)
def test_graphs_that_torch_traces_compute_the_plain_steps_of_every_part(parts: Parts, tmp_path: Path) -> None:
    hold(parts, tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.usefixtures("graphs_as_traced")
@pytest.mark.parametrize("parts", covering(), ids=named)
def test_graphs_that_torch_traces_compute_the_plain_steps_of_any_two_parts(parts: Parts, tmp_path: Path) -> None:
    hold(parts, tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("parts", once_each(), ids=named)
def test_compiled_steps_are_the_plain_ones_of_every_part(parts: Parts, tmp_path: Path) -> None:
    hold(parts, tmp_path)


# ---- every combination, many in a training


class Several(Module):
    """Models that have no part in common and are trained together, by the sum of their losses: a Trainer for each takes longer."""

    def __init__(self, members: dict[str, VAE]) -> None:
        super().__init__(optimizer=ADAM)
        self.members = nn.ModuleDict(members)
        self.image_shape = next(iter(members.values())).image_shape
        # models whose noise has the same shapes share it, as each would draw the same
        x = torch.zeros(1, *self.image_shape)
        noises = [model.draw_noise(x, Source.of(x, "shapes")) for model in members.values()]
        self.shapes = [tuple(tensor.shape for tensor in (noise.posterior, *noise.dropout)) for noise in noises]

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        drawing = dict(zip(self.shapes, self.members.values(), strict=True))
        noises = [model.draw_noise(x, source, training) for model in drawing.values()]
        return Noise(x.new_empty(0), tuple(tensor for noise in noises for tensor in (noise.posterior, *noise.dropout)))

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> list[Any]:
        assert noise is not None
        tensors, shared = iter(noise.dropout), dict.fromkeys(self.shapes)
        shared = {shapes: Noise(next(tensors), tuple(itertools.islice(tensors, len(shapes) - 1))) for shapes in shared}
        return [model(x, y, shared[shapes]) for shapes, model in zip(self.shapes, self.members.values(), strict=True)]

    def terms(self, output: list[Any], x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        each = {name: model.terms(draw, x, y, step) for (name, model), draw in zip(self.members.items(), output, strict=True)}
        shown = {f"{name}/{term}": value for name, terms in each.items() for term, value in terms.items()}
        return {"loss": torch.stack([terms["loss"] for terms in each.values()]).sum(0), **shown}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("net", NETS)
def test_traced_steps_are_the_plain_ones_of_every_combination(net: str, likelihood: str, kind: str, tmp_path: Path) -> None:
    every = [parts for parts in product(kind=kind, net=net, likelihood=likelihood) if not refusal(parts)]

    def make() -> Several:
        return Several({named(parts): build(parts) for parts in every})

    both(make, images(make().image_shape, few_labels(every[0])), tmp_path)
