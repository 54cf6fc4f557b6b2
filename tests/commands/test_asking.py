"""The jobs that a command asks for, each with the config that Hydra would compose for it alone."""

import re
from collections.abc import Iterator

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from vae_lightning.commands.asking import CHECKED, Configs, checked_places, expanded
from vae_lightning.commands.commandline import CONF, register_resolvers
from vae_lightning.errors import ConfigurationError


@pytest.fixture
def configs() -> Iterator[Configs]:
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        master = hydra.compose("train", ["run_dir=."], return_hydra_config=True)
        yield Configs("train", [], parser(), master.hydra.runtime.choices)


def parser() -> OverridesParser:
    if GlobalHydra.instance().is_initialized():
        return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return OverridesParser.create()


def test_jobs_are_the_product_in_the_order_of_the_words() -> None:
    jobs, axes = expanded(["model=vae", "seed=0,1", "+model.x=range(1,3)", "~callbacks.images", "seed=2,3"], parser())
    assert axes == ["seed", "model.x"]
    fixed = ["model=vae", "~callbacks.images"]
    assert jobs == [["model=vae", f"seed={s}", f"+model.x={x}", "~callbacks.images"] for s in (2, 3) for x in (1, 2)]
    assert all({*fixed} < {*job} for job in jobs)


def test_a_value_that_is_given_twice_makes_one_job() -> None:
    assert expanded(["seed=0,0,1"], parser())[0] == [["seed=0"], ["seed=1"]]


def test_without_a_sweep_there_is_one_job() -> None:
    assert expanded(["seed=1"], parser()) == ([["seed=1"]], [])
    assert expanded([], parser()) == ([[]], [])


def test_groups_are_chosen_by_glob(configs: Configs) -> None:
    jobs, axes = expanded(["model/prior=glob(*mp*)"], configs.parser)
    assert (jobs, axes) == ([["model/prior=vamp"]], ["model/prior"])


def test_interval_has_no_end() -> None:
    with pytest.raises(ConfigurationError, match=r"^model\.beta=interval\(0,1\): has no end of values; choose some of them"):
        expanded(["model.beta=interval(0,1)"], parser())


def test_setting_without_any_value_is_named(configs: Configs) -> None:
    with pytest.raises(ConfigurationError, match=r"^model/prior=glob\(zz\*\): has no value; model/prior is one of class, mog, "):
        expanded(["model/prior=glob(zz*)"], configs.parser)
    with pytest.raises(ConfigurationError, match=r"^seed=range\(3,3\): has no value$"):
        expanded(["seed=range(3,3)"], configs.parser)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.optimizer={lr:0.01},{lr:0.1}", "varies several settings as one; vary each by its name: model.optimizer.lr=..."),
        (
            "+model.optimizer=choice({lr:1,name:sgd},{lr:2})",
            "one; vary each by its name: model.optimizer.lr=..., model.optimizer.name",
        ),
        ("model.net.hidden.0=10,20", r"varies a part of a list; vary the list: model.net.hidden=\[...\],\[...\]"),
    ],
)
def test_what_is_not_one_setting_is_not_varied(word: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(word)}: .*{said}"):
        expanded([word], parser())
    assert expanded(["model.optimizer={lr:0.01}", "model.net.hidden.0=10"], parser())[1] == []


@pytest.mark.parametrize(
    "words",
    [
        ["seed=3"],
        ["model=beta_vae", "model.beta=0.5", "model.net.hidden=[3,4]"],
        ["experiment=burda_iwae5", "model.num_samples=7", "data.batch_size=10"],
        ["model.lr_schedule.name=cosine", "name='a b'", "data.root='${seed}/x'"],
        ["+model.optimizer.eps=1e-6", "seed=1", "~callbacks.images"],
        ["+logger.other={_target_:vae_lightning.runs.loggers.CSVLogger}", "+logger.other.save_dir=${run_dir}", "name=of_${seed}"],
        ["model/net=resnet", "model.optimizer.lr=null", "trainer.max_time=00:00:01:00"],
    ],
)
def test_config_of_a_job_is_what_hydra_composes(configs: Configs, words: list[str]) -> None:
    configs.with_hydra([f"{word.partition('=')[0]}=5" if word.startswith("seed") else word for word in words])  # kept for the next
    config, asked = configs.of(words)
    alone = hydra.compose("train", [*words, "run_dir=."], return_hydra_config=True)
    choices = {group: option for group, option in alone.hydra.runtime.choices.items() if not group.startswith("hydra/")}
    with open_dict(alone):
        del alone["hydra"]
    assert OmegaConf.to_container(config, resolve=False) == OmegaConf.to_container(alone, resolve=False)
    assert asked.flat.items() >= choices.items()


def test_configs_of_jobs_do_not_share_values(configs: Configs) -> None:
    first, _ = configs.of(["model.net.hidden=[3]", "seed=0"])
    second, _ = configs.of(["model.net.hidden=[4]", "seed=1"])
    assert (list(first.model.net.hidden), first.data.seed, list(second.model.net.hidden), second.data.seed) == ([3], 0, [4], 1)


def test_jobs_are_told_apart_by_their_configs(configs: Configs) -> None:
    def digest(*words: str) -> str:
        return configs.of(words)[1].digest

    assert digest("seed=0") == digest() == digest("model=vae") == digest("trainer.enable_progress_bar=false")
    assert digest("data.root=a") == digest("logger=csv") == digest()
    assert len({digest(), digest("seed=1"), digest("model.latent_dim=2"), digest("data.binarization=static")}) == 4


def test_jobs_of_a_small_sweep_are_all_checked_and_of_a_large_one_each_value() -> None:
    assert list(checked_places([2, 2, 1])) == [0, 1, 2, 3]
    places = list(checked_places([CHECKED, 2, 3]))
    assert len(places) == len({*places}) == CHECKED + 1 + 2
    assert {place // 6 for place in places} == {*range(CHECKED)}
    assert {place // 3 % 2 for place in places} == {0, 1}
    assert {place % 3 for place in places} == {0, 1, 2}
