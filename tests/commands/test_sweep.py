"""The plugins of a sweep, and what the checks of its jobs have in common: a user's files are read once for all of them."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.config import check_config
from vae_lightning.commands.processes import Processes
from vae_lightning.commands.sweep import Sweep, _refuse_ranks, register
from vae_lightning.data import ArrayDataModule
from vae_lightning.errors import ConfigurationError


def test_ours_are_what_hydra_calls_basic() -> None:
    register()
    for group, plugin in (("sweeper", Sweep), ("launcher", Processes)):
        target = ConfigStore.instance().load(f"hydra/{group}/basic.yaml").node["_target_"]
        assert Plugins.instance().class_name_to_class[target] is plugin
    with pytest.raises(ConfigurationError, match="hydra/launcher=basic: is of hydra/sweeper=basic"):
        Processes().launch([[]], 0)


def test_settings_of_the_command_line_win_over_those_of_a_config() -> None:
    sweep, parser = Sweep({"model.beta": "1,4", "seed": "0,1"}), OverridesParser.create()
    assert sweep._with_params(["seed=5", "model=beta_vae"], parser) == ["model.beta=1,4", "seed=5", "model=beta_vae"]
    assert Sweep()._with_params(["seed=5"], parser) == ["seed=5"]


def test_files_of_a_users_own_are_read_once_for_all_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (20, 6, 6), np.uint8))
    read, read_parts = [], ArrayDataModule.read_parts

    def counted(self: ArrayDataModule, path: Path) -> object:
        read.append(path)
        return read_parts(self, path)

    monkeypatch.setattr(ArrayDataModule, "read_parts", counted)
    seen: dict[str, object] = {}

    def check(*overrides: str) -> None:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            own = ["data=array", f"data.path={tmp_path}/x.npy", "model.net.hidden=[4]", "run_dir=run", "name=test"]
            check_config(compose("train", [*own, *overrides]), seen)  # type: ignore[arg-type]

    for job in (["seed=0"], ["seed=1"], ["model.latent_dim=3"], ["model/prior=mog"]):
        check(*job)
    assert len(read) == 1
    check("data.channels=3")
    assert len(read) == 2, "other settings may give other images"
    with pytest.raises(ConfigurationError, match=r"model\.latent_dim=0"):
        check("model.latent_dim=0")
    with pytest.raises(ConfigurationError, match=r"data\.batch_size=0"):
        check("data.batch_size=0")


def test_sweep_that_each_of_several_processes_would_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_ranks()
    monkeypatch.setenv("WORLD_SIZE", "2")
    _refuse_ranks()  # what a shell may hold, and no launcher has set
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    with pytest.raises(ConfigurationError, match=r"^-m: torchrun started 2 processes, .* trainer\.devices=2$"):
        _refuse_ranks()
