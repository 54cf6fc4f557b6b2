"""Every command of the pages trains, or evaluates: its models, data and settings, on a few images and for a step or two."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf
from page_commands import given, texts

from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.overrides import prepared
from vae_lightning.commands.own_parts import with_own_parts
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.train import train

WHERE = ("trainer.gpus", "trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.strategy", "ckpt_path", "hydra.")
"""What says where a command computes, what it goes on from and how Hydra runs it, which other tests are about."""
WHICH = ("run=", "root=", "ckpt_path=", "to=")
"""What says which run a command evaluates, and where to."""
SHORT = [
    *("trainer.gpus=0", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"),
    *("trainer.limit_test_batches=1", "trainer.check_val_every_n_epoch=1", "trainer.compile=false"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "data.batch_size=16", "data.eval_batch_size=16"),
]
FULL = "evaluation=full"
FEW = [
    *("gpus=0", "evaluation.num_samples=2", "evaluation.num_images=8", "evaluation.train_images=8", "evaluation.marginal_images=4"),
    *("evaluation.marginal_samples=2", "evaluation.images.estimators=2", "evaluation.images.structured=2"),
    *("evaluation.images.samples=40", "evaluation.images.probes=40", "evaluation.images.verification=4"),
    *("evaluation.ais.num_distributions=3", "evaluation.ais.num_chains=2"),
]


def distinct(script: str) -> list[tuple[str, ...]]:
    """The settings of the commands of `script` in the pages, each once, but for those that say which run, where and how long."""
    others = {word.partition("=")[0] for word in (*SHORT, *FEW)}

    def kept(words: str) -> tuple[str, ...]:
        return tuple(
            word for word in given(words) if not word.startswith((*WHERE, *WHICH)) and word.partition("=")[0] not in others
        )

    return sorted({kept(words) for _, of, words in texts() if of == script})


def catalogue(script: str, settings: tuple[str, ...]) -> list[str]:
    known = Catalogue(CONF, script)
    return with_own_parts(prepared(settings, known.groups, known.meant), CONF)


@pytest.mark.slow
@pytest.mark.parametrize("settings", distinct("train"), ids=" ".join)
def test_command_of_a_page_trains(
    compose_into: Callable[..., DictConfig], static_root: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    if "logger=wandb" in settings and importlib.util.find_spec("wandb") is None:
        pytest.skip("needs the package wandb")
    words = [*catalogue("train", settings), *SHORT, f"data.root={static_root}"]
    result = train(compose_into(tmp_path / "run", *words, quick=False))
    assert result.trainer.global_step > 0
    assert any(name.startswith("test/") for name in result.metrics) or result.trainer.fast_dev_run


@pytest.fixture(scope="module")
def runs(compose_into: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a VAE and of a classifier, of two steps each."""
    folders = {}
    for model, settings in {"vae": ["model.net.hidden=[16]", "model.latent_dim=2"], "classifier": ["model=cnn"]}.items():
        folders[model] = tmp_path_factory.mktemp(model)
        cfg = compose_into(folders[model], *settings, *SHORT, quick=False)
        train(cfg)
        (folders[model] / ".hydra").mkdir(exist_ok=True)
        OmegaConf.save(cfg, folders[model] / ".hydra" / "config.yaml")
    return folders


EVALUATES = [pytest.param(settings, marks=pytest.mark.exhaustive if FULL in settings else ()) for settings in distinct("evaluate")]


@pytest.mark.slow
@pytest.mark.parametrize("settings", EVALUATES, ids=" ".join)
def test_command_of_a_page_evaluates(runs: dict[str, Path], tmp_path: Path, settings: tuple[str, ...]) -> None:
    words = [re.sub("^(evaluation.classifier)=.*", rf"\1={runs['classifier']}", word) for word in settings]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        found = evaluate(
            hydra.compose("evaluate", [*catalogue("evaluate", tuple(words)), *FEW, f"run={runs['vae']}", f"to={tmp_path}"])
        )
    assert "elbo" in found.report["splits"]["test"]
    assert not [why for why in found.report["not_measured"].values() if "failed" in why]
    assert (found.folder / "report.html").is_file()
