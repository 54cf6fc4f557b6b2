"""What a command was given, such that it can be given again; `tests/plugin/` has real commands."""

from collections.abc import Callable

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.typed import to_trust, typed_words


@pytest.mark.parametrize(
    ("sources", "config", "own", "words"),
    [
        ([], "train", [], ["seed=3"]),
        (["/mine/conf"], "train", [], ["--config-dir", "/mine/conf", "seed=3"]),
        (["/mine/conf"], "mine", [], ["--config-dir", "/mine/conf", "--config-name", "mine", "seed=3"]),
        ([], "train", ["hydra.run.dir=x", "hydra.searchpath=[pkg://mine]"], ["hydra.searchpath=[pkg://mine]", "seed=3"]),
    ],
)
def test_words_tell_where_configs_lie(
    monkeypatch: pytest.MonkeyPatch, sources: list[str], config: str, own: list[str], words: list[str]
) -> None:
    found = [{"path": "hydra.conf", "schema": "pkg", "provider": "hydra"}]
    found += [{"path": path, "schema": "file", "provider": "command-line"} for path in sources]
    hydra = {
        "runtime": {"config_sources": found},
        "job": {"name": "train", "config_name": config},
        "overrides": {"task": ["seed=3", "name=${run_dir}"], "hydra": own},
        "run_dir": "of this run alone",
    }
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: OmegaConf.create(hydra)))
    assert typed_words() == [*words, "name=${run_dir}"], "what refers to another setting means another value in another run"


def test_packages_of_ones_own_are_to_be_trusted(compose: Callable[..., DictConfig]) -> None:
    assert to_trust(compose()) == []
    assert to_trust(compose("model.net.name=mypkg.nets.Pair", "model.lr_schedule.name=theirs.f")) == ["mypkg", "theirs"]
    assert to_trust(compose("data._target_=own.Data", "model.optimizer.name=torch.optim.RAdam")) == ["own"]
    assert to_trust(compose("recipe=muon")) == []
    assert to_trust(compose("++model.encoder={name: mypkg.E, parts: [{name: other.F}]}", "name=v1.2")) == ["mypkg", "other"]


def test_a_run_that_is_resumed_has_to_be_trusted_in_all_its_parts(compose: Callable[..., DictConfig]) -> None:
    cfg = compose("+callbacks.mine._target_=mypkg.C", "logger=csv", "model.net.name=nets.Pair", "+callbacks.mine.name=a.b")
    assert to_trust(cfg) == ["nets"]
    assert to_trust(cfg, all_parts=True) == ["mypkg", "nets"]
