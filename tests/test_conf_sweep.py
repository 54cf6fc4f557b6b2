"""The sweeps of `conf/sweep/` compose, ask for as many jobs as their comments say, and each of the jobs is right."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.asking import Configs, expanded
from vae_lightning.commands.commandline import CONF, register_resolvers
from vae_lightning.commands.config import check_config
from vae_lightning.commands.overrides import prepared
from vae_lightning.commands.search import register_search
from vae_lightning.commands.space import Space
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.sweep import Sweep, register
from vae_lightning.commands.sweeping import wanted, with_sweep

SWEEPS = sorted({path.stem for path in (CONF / "sweep").glob("*.yaml")} - {"none", "optuna"})


@pytest.fixture(autouse=True)
def composing() -> Iterator[None]:
    register_resolvers()
    register()
    register_search()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(sweep: str) -> DictConfig:
    return hydra.compose("train", [f"sweep={sweep}", "run_dir=."], return_hydra_config=True)


def words_of(config: DictConfig, *typed: str) -> tuple[list[str], OverridesParser]:
    parser = OverridesParser.create(config_loader=hydra.core.global_hydra.GlobalHydra.instance().config_loader())
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    assert isinstance(params, dict)
    return Sweep({str(key): value for key, value in params.items()})._with_params(list(typed), parser), parser


@pytest.mark.parametrize("sweep", SWEEPS)
def test_sweep_asks_for_the_jobs_that_its_comment_says(sweep: str) -> None:
    text = (CONF / "sweep" / f"{sweep}.yaml").read_text()
    (said,) = re.findall(r"(\d+) jobs", text)
    assert f"# python train.py sweep={sweep}\n" in text
    config = composed(sweep)
    words, parser = words_of(config)
    jobs, _ = expanded(words, parser)
    assert len(jobs) == int(said)
    configs = Configs("train", [], parser, config.hydra.runtime.choices)
    asked = [configs.of(job) for job in jobs]
    assert len({job.digest for _, job in asked}) == len(jobs)
    for place in (0, len(jobs) // 2, len(jobs) - 1):
        check_config(asked[place][0])


def test_rate_distortion_goes_over_four_decades_evenly() -> None:
    config = composed("rate_distortion")
    words, parser = words_of(config)
    jobs, _ = expanded(words, parser)
    betas = [float(word.partition("=")[2]) for job in jobs for word in job if word.startswith("model.beta=")]
    assert (betas[0], betas[-1]) == (0.01, 100)
    assert all(2.9 < later / earlier < 3.5 for earlier, later in itertools.pairwise(betas))


def test_the_command_line_wins_over_a_sweep_by_key() -> None:
    words, parser = words_of(composed("latent_beta"), "model.beta=2,3", "model=capacity_vae", "trainer.max_epochs=1")
    assert words == ["model.latent_dim=2,10,20", "seed=0,1,2", "model.beta=2,3", "model=capacity_vae", "trainer.max_epochs=1"]
    assert len(expanded(words, parser)[0]) == 18


def test_search_is_for_learning_rate_width_and_latent_size() -> None:
    config = composed("optuna")
    assert config.hydra.runtime.choices["hydra/sweeper"] == "optuna"
    words, parser = words_of(config)
    space = Space.of(words, parser)
    assert [(axis.key, axis.log, axis.whole) for axis in space.axes] == [
        ("model.optimizer.lr", True, False),
        ("model.net.hidden", False, False),
        ("model.latent_dim", True, True),
    ]
    configs = Configs("train", [], parser, config.hydra.runtime.choices)
    for run in space.ends():
        check_config(configs.of(run)[0])


@pytest.mark.parametrize("sweep", ["none", "null"])
def test_no_sweep_is_one_run(sweep: str) -> None:
    catalogue = Catalogue(CONF, "train")
    words = prepared([f"sweep={sweep}", "seed=1"], catalogue.groups, catalogue.meant)
    assert with_sweep(words, catalogue) == ["sweep=none", "seed=1"]
    assert wanted().words is None
    assert composed("none").hydra.sweeper.params == {}


def test_option_of_a_sweep_needs_no_flag() -> None:
    catalogue = Catalogue(CONF, "train")
    words = with_sweep(prepared(["sweep=latent_beta", "model.latent_dim=2,3"], catalogue.groups, catalogue.meant), catalogue)
    assert words == ["-m", "sweep=latent_beta"]
    assert wanted().words == ("model.latent_dim=2,3",)


@pytest.mark.parametrize(("sweep", "means"), [("seeds", "none,kzky"), ("latest", "none,kzky"), ("null", "null,kzky")])
def test_word_of_a_sweep_makes_commas_stand_between_values(sweep: str, means: str) -> None:
    catalogue = Catalogue(CONF, "train")
    words = prepared([f"sweep={sweep}", "experiment=null,kzky"], catalogue.groups, catalogue.meant)
    assert words[1] == f"experiment={means}"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("optuna", "sweep=optuna"),
        ("rate_distortion", "sweep=rate_distortion"),
        ("binarization", "data.binarization"),
        ("sweep", "sweep"),
        ("latent_dim", "model.latent_dim"),
    ],
)
def test_words_in_place_of_a_setting_are_understood(word: str, meant: str) -> None:
    assert Catalogue(CONF, "train").meant(word) == meant


def test_sweeps_are_files_of_this_project() -> None:
    assert {"latent_beta", "rate_distortion", "binarization", "seeds"} == set(SWEEPS)
    assert all("@package _global_" in Path(CONF, "sweep", f"{name}.yaml").read_text() for name in SWEEPS)
