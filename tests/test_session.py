"""What a session of tests does once gives each of them what it would have had otherwise."""

import hydra
import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["seed=3", "model.latent_dim=5", "model.net.hidden=[3,4]"],
        ["model.latent_dim=5", "model=iwae", "model.latent_dim=6", "+model.optimizer.eps=1e-6", "model.optimizer.eps=1e-7"],
        ["experiment=burda_vae", "recipe=soap", "model.optimizer.lr=null", "data.root='a=b'"],
        ["~callbacks.images", "callbacks.histograms.every_n_epochs=2", "trainer.max_epochs=3"],
        ["model/net@model.classifier=classifier_mlp", "model=m2", "model.classifier.hidden=[7]"],
        ["model.no_such_key=1"],
        ["callbacks=none", "callbacks.images.every_n_epochs=2"],
        ["model=no_such_model"],
        ["seed=1,2"],
        ["model.latent_dim=[", "seed=1"],
    ],
)
def test_configs_are_those_that_hydra_composes(words: list[str]) -> None:
    def composed(compose: object) -> object:
        try:
            return OmegaConf.to_container(compose("train", ["run_dir=x", *words]))  # type: ignore[operator]
        except Exception as error:
            return type(error), str(error)

    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        whole = composed(hydra.compose.__wrapped__)  # type: ignore[attr-defined]
        assert composed(hydra.compose) == whole
        assert composed(hydra.compose) == whole, "the second time too"
