"""The jobs of a sweep are checked before the first one starts, and a user's files are read once for all of them."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.config import check_config
from vae_lightning.commands.sweep import CheckSweep
from vae_lightning.data import ArrayDataModule
from vae_lightning.errors import ConfigurationError


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


def test_jobs_are_checked_though_a_setting_refers_to_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["data=shapes2d", "model.net.hidden=[4]", "+logger.other={_target_:vae_lightning.runs.loggers.CSVLogger,name:x}"]
    words = [*small, "+logger.other.save_dir=${run_dir}", "name=of_${seed}"]
    for latents, refused in (("1,2", False), ("1,0", True)):
        overrides = {"task": [*words, f"model.latent_dim={latents}"]}
        config = OmegaConf.create({"hydra": {"overrides": overrides, "job": {"config_name": "train"}}})
        with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(SystemExit) if refused else nullcontext():
            CheckSweep().on_multirun_start(config)
        assert ("error: model.latent_dim=0" in capsys.readouterr().err) == refused
