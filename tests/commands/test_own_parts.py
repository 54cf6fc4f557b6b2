"""A net of one's own on the command line takes the place of the default one, arguments and all."""

from collections.abc import Callable

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.own_parts import with_own_parts


@pytest.mark.parametrize(
    ("words", "net"),
    [
        (["model.net.name=mynets.small"], {"name": "mynets.small"}),
        (["model.net=mynets.small", "model.net.width=8"], {"name": "mynets.small", "width": 8}),
        (["+model.net.width=8", "model.net.name=mynets.small"], {"name": "mynets.small", "width": 8}),
        (["model.net={name: mynets.small, width: 8}"], {"name": "mynets.small", "width": 8}),
        (["model=cvae_cnn3", "model.net.name=mynets.small"], {"name": "mynets.small"}),
        (["model=cnn", "model.net.name=mynets.Classifier"], {"name": "mynets.Classifier"}),
        (["model=m2", "model.net.name=mynets.small"], {"name": "mynets.small"}),
    ],
)
def test_arguments_of_the_default_net_go_with_it(
    compose: Callable[..., DictConfig], words: list[str], net: dict[str, object]
) -> None:
    assert compose(*with_own_parts(words, CONF)).model.net == net


@pytest.mark.parametrize(
    "words",
    [
        ["model.net.hidden=[8]"],
        ["model.net.name=mlp"],
        ["model/net=cnn3", "model.net.name=mynets.small"],
        ["experiment=mine", "model.net.name=mynets.small"],
        ["--config-name", "mine", "model.net.name=mynets.small"],
        ["-m", "model.net.name=mlp,mynets.small"],
        ["model=mine", "model.net.name=mynets.small"],
        ["model.latent_dim=2", "model.net={hidden: [8]}", "model.likelihood.name=mine.Own"],
        [],
    ],
)
def test_net_that_was_asked_for_keeps_its_arguments(words: list[str]) -> None:
    assert with_own_parts(words, CONF) == words


@pytest.mark.parametrize(
    ("words", "part", "wanted"),
    [
        (["model.prior.name=mypriors.Laplace", "model.prior.scale=2"], "prior", {"name": "mypriors.Laplace", "scale": 2}),
        (["model.prior.scale=2", "model.prior.name=mypriors.Laplace"], "prior", {"name": "mypriors.Laplace", "scale": 2}),
        (["+model.prior.scale=2", "model.prior.name=mypriors.Laplace"], "prior", {"name": "mypriors.Laplace", "scale": 2}),
        (["model.likelihood.name=mine.Own", "model.likelihood.of.a=1"], "likelihood", {"name": "mine.Own", "of": {"a": 1}}),
        (["model/net=cnn3", "model.net.name=mynets.small", "model.net.width=8"], "net.width", 8),
        (["model.prior=mypriors.Laplace", "model.prior.scale=2"], "prior", {"name": "mypriors.Laplace", "scale": 2}),
        (["model.prior={name: mypriors.Laplace, scale: 2}"], "prior", {"name": "mypriors.Laplace", "scale": 2}),
        (["model.prior=mypriors.Laplace"], "prior", "mypriors.Laplace"),
        (["model.encoder.name=mynets.Own", "model.encoder.width=9"], "encoder", {"name": "mynets.Own", "width": 9}),
        (["experiment=burda_vae", "model.net.name=mynets.small", "~model.net"], "net", {"name": "mynets.small"}),
        (["~model.net", "model.net.name=mynets.small", "model.net.width=9"], "net", {"name": "mynets.small", "width": 9}),
        (["recipe=soap", "model.optimizer.name=mine.Signs", "~model.optimizer"], "optimizer", {"name": "mine.Signs"}),
        (["recipe=soap", "model.optimizer.name=mine.Signs", "~model.optimizer.eps"], "optimizer.lr", 0.008),
        (["model.optimizer.weight_decay=0.1"], "optimizer", {"name": "adam", "lr": 0.001, "weight_decay": 0.1}),
        (["model.lr_schedule.name=cosine", "model.lr_schedule.warmup=0.3"], "lr_schedule", {"name": "cosine", "warmup": 0.3}),
        (["+model.optimizer.eps=0.1", "model.optimizer.lr=1"], "optimizer", {"name": "adam", "lr": 1, "eps": 0.1}),
        (["model.latent_dim=3", "model.lr_schedule.gamma=0.5", "model.lr_schedule.name=mine.half"], "lr_schedule.gamma", 0.5),
    ],
)
def test_arguments_of_ones_own_part_need_no_plus(
    compose: Callable[..., DictConfig], words: list[str], part: str, wanted: object
) -> None:
    assert OmegaConf.select(compose(*with_own_parts(words, CONF)).model, part) == wanted


def test_arguments_are_those_of_ones_own_part_where_both_kinds_are_swept_over() -> None:
    words = ["-m", "model.prior.name=standard,mypriors.Laplace", "model.prior.scale=1,2"]
    assert with_own_parts(words, CONF) == [*words[:2], "++model.prior.scale=1,2"]


def test_arguments_of_a_part_of_this_project_are_checked_where_they_are_written() -> None:
    words = ["model.prior.name=standard", "model.prior.scale=2", "model.latent_dim=3"]
    words += ["logger.tensorboard.name=run.1", "logger.tensorboard.verion=3", "name=a.b", "model.beta=1.5"]
    assert with_own_parts(words, CONF) == words


def test_every_model_with_a_default_net_can_be_given_another() -> None:
    for path in sorted((CONF / "model").glob("*.yaml")):
        words = with_own_parts([f"model={path.stem}", "model.net.name=mynets.small"], CONF)
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            assert hydra.compose("train", ["run_dir=x", *words]).model.net == {"name": "mynets.small"}


def test_nets_of_ones_own_are_swept_over() -> None:
    swept = with_own_parts(["-m", "model.net.name=mynets.small,mynets.large"], CONF)
    assert swept == ["-m", "++model.net.name=mynets.small,mynets.large", "~model/net"]


@pytest.mark.parametrize(
    ("words", "objective"),
    [
        (["model.objective.name=mygoals.FreeBits", "model.objective.floor=2"], {"name": "mygoals.FreeBits", "floor": 2}),
        (["model.objective=mygoals.FreeBits"], {"name": "mygoals.FreeBits"}),
        (["model.objective.name=iwae"], {"name": "iwae"}),
        (["model=beta_vae", "model.objective.name=elbo"], {"name": "elbo"}),
        (["model/objective=elbo", "model.objective.sticking_the_landing=true"], {"name": "elbo", "sticking_the_landing": True}),
        (["model.objective.sticking_the_landing=true"], {"name": "elbo", "sticking_the_landing": True}),
    ],
)
def test_arguments_of_the_default_objective_go_with_it(
    compose: Callable[..., DictConfig], words: list[str], objective: dict[str, object]
) -> None:
    assert compose(*with_own_parts(words, CONF)).model.objective == objective


def test_own_net_and_objective_go_together(compose: Callable[..., DictConfig]) -> None:
    model = compose(*with_own_parts(["model.net.name=mynets.small", "model.objective.name=mygoals.FreeBits"], CONF)).model
    assert (model.net, model.objective) == ({"name": "mynets.small"}, {"name": "mygoals.FreeBits"})
