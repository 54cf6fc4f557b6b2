"""Every file in conf composes, builds and runs two steps, and says what the code says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from vae_lightning.arguments import parameters
from vae_lightning.commands.commandline import register_resolvers
from vae_lightning.commands.config import OURS, SET_HERE, check_config
from vae_lightning.commands.train import train
from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.distributions.posteriors import POSTERIORS
from vae_lightning.distributions.priors import PRIORS
from vae_lightning.errors import ConfigurationError
from vae_lightning.nets.building import CLASSIFIERS, ENCODERS
from vae_lightning.objectives.goals import OBJECTIVES

CONF = Path(__file__).resolve().parent.parent / "conf"
TWO_STEPS = ("trainer.limit_train_batches=2", "logger=none")
Compose = Callable[..., DictConfig]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def runs_two_steps(cfg: DictConfig) -> None:
    result = train(cfg)
    assert result.trainer.global_step == 2
    assert all(value == value for value in result.metrics.values()), "a metric is NaN"


@pytest.mark.parametrize("model", options("model"))
def test_model_runs_two_steps(compose: Compose, model: str) -> None:
    runs_two_steps(compose(f"model={model}", *TWO_STEPS))


@pytest.mark.parametrize("model", ["vae", "cvae_mlp", "iwae"])
@pytest.mark.parametrize("net", ["cnn2", "cnn3", "mlp", "gated_mlp", "resnet"])
def test_net_composes_with_models(compose: Compose, model: str, net: str) -> None:
    runs_two_steps(compose(f"model={model}", f"model/net={net}", *TWO_STEPS))


@pytest.mark.parametrize("likelihood", options("model/likelihood"))
def test_likelihood_runs_two_steps(compose: Compose, likelihood: str) -> None:
    binarization = "dynamic" if likelihood == "bernoulli" else "none"
    runs_two_steps(compose(f"model/likelihood={likelihood}", f"data.binarization={binarization}", *TWO_STEPS))


@pytest.mark.parametrize("prior", sorted({*options("model/prior")} - {"standard"}))
def test_prior_runs_two_steps(compose: Compose, prior: str) -> None:
    runs_two_steps(compose(f"model/prior={prior}", f"model.num_classes={10 * (prior == 'class')}", *TWO_STEPS))


def test_posterior_of_a_flow_runs_two_steps(compose: Compose) -> None:
    runs_two_steps(compose("model/posterior=iaf", "callbacks.histograms.every_n_epochs=1", "trainer.limit_train_batches=2"))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_experiment_runs_two_steps(compose: Compose, request: pytest.FixtureRequest, experiment: str) -> None:
    cfg = compose(f"experiment={experiment}", *TWO_STEPS)
    if cfg.data.get("binarization") == "static":
        cfg.data.root = str(request.getfixturevalue("static_root"))
    runs_two_steps(cfg)


def of_data(data: str, *overrides: str) -> DictConfig:
    """A config with some data, which may have no `root`."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose_config("train", ["run_dir=run", "name=test", f"data={data}", *overrides])


@pytest.mark.parametrize("data", options("data"))
def test_data_builds(data: str, tmp_path: Path) -> None:
    array = tmp_path / "images.npy"
    np.save(array, np.zeros((30, 8, 8), np.uint8))
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("L", (8, 8)).save(folder / f"{number}.png")
    paths = {"array": [f"data.path={array}"], "folder": [f"data.path={folder}"]}
    check_config(of_data(data, *paths.get(data, [])))


@pytest.mark.parametrize("data", options("data"))
def test_data_configs_hold_the_defaults_of_the_code(data: str) -> None:
    node = OmegaConf.to_container(of_data(data).data, resolve=True)
    assert isinstance(node, dict)
    named = parameters(get_class(node.pop("_target_")))[0]
    assert node == {key: parameter.default for key, parameter in named.items()}


@pytest.mark.parametrize("data", ["folder", "array"])
def test_images_of_ones_own_need_a_path(data: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^data\.path: where do the images lie\? data\.path=<"):
        check_config(of_data(data))


@pytest.mark.parametrize("callbacks", options("callbacks"))
def test_callbacks_run(compose: Compose, callbacks: str) -> None:
    runs_two_steps(compose(f"callbacks={callbacks}", *TWO_STEPS))


@pytest.mark.parametrize("logger", options("logger"))
def test_logger_runs(compose: Compose, logger: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if logger in ("mlflow", "wandb"):
        pytest.importorskip(logger)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    runs_two_steps(compose(f"logger={logger}", "trainer.limit_train_batches=2"))


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["model=vae"], 1_316_824),
        (["model=cvae_cnn3"], 47_057),
        (["model=cvae_cnn2"], 51_729),
        (["model=cnn"], 45_826),
        (["experiment=fairuschin"], 222_612),
        (["experiment=xwinxu"], 788_788),
        (["experiment=mingyukim"], 654_188),
    ],
)
def test_parameter_counts_are_those_of_the_originals(compose: Compose, overrides: list[str], count: int) -> None:
    import hydra

    cfg = compose(*overrides)
    model = hydra.utils.instantiate(cfg.model, _convert_="all")
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("model", options("model"))
def test_configs_hold_the_defaults_of_the_code(compose: Compose, model: str) -> None:
    import hydra

    node = OmegaConf.to_container(compose(f"model={model}").model, resolve=True)
    assert isinstance(node, dict)
    named = parameters(hydra.utils.get_class(node.pop("_target_")))[0]
    # a class that stands for an objective takes no other
    assert set(named) - set(node) == ({"objective"} if model in ("beta_vae", "capacity_vae", "iwae") else set())
    assert set(node) <= set(named)
    for key, value in node.items():
        if not isinstance(value, dict):
            assert value == named[key].default, key


PARTS: dict[str, dict[str, Any]] = {
    "likelihood": LIKELIHOODS,
    "net": ENCODERS | CLASSIFIERS,
    "objective": OBJECTIVES,
    "posterior": POSTERIORS,
    "prior": PRIORS,
}


@pytest.mark.parametrize(("group", "part"), [(group, part) for group in PARTS for part in options(f"model/{group}")])
def test_configs_of_parts_hold_the_defaults_of_the_code(group: str, part: str) -> None:
    node = yaml.safe_load((CONF / "model" / group / f"{part}.yaml").read_text())
    named = parameters(PARTS[group][node.pop("name")])[0]
    for key, value in node.items():
        default = named[key].default
        assert value == (list(default) if isinstance(default, tuple) else default), key


def test_trainer_reaches_every_argument_of_lightnings(compose: Compose) -> None:
    import pytorch_lightning as L

    known = set(parameters(L.Trainer)[0])
    assert known - SET_HERE == set(compose().trainer) - OURS
