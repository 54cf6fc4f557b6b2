"""Evaluating a run gives the figures that its training ended with, and a report in the fixed form."""

import json
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluating import evaluate
from vae_lightning.training import train

CONF = Path(__file__).resolve().parent.parent / "conf"
ESTIMATE = {"value", "standard_error", "num_images", "num_samples", "binarization", "estimator", "settings", "seconds", "section"}


def evaluation(*overrides: str) -> DictConfig:
    quick = ["gpus=0", "evaluation.num_samples=3", "evaluation.train_images=100", "evaluation.marginal_images=20"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("evaluate", [*quick, "evaluation.marginal_samples=2", *overrides])


@pytest.mark.parametrize("model", ["vae", "iwae", "cvae_cnn3", "beta_vae", "cnn"])
def test_report_equals_the_trainings_own_test_figures(compose: Callable[..., DictConfig], tmp_path: Path, model: str) -> None:
    small = [] if model in ("cnn", "cvae_cnn3") else ["model.net.hidden=[16]", "model.latent_dim=2"]
    cfg = compose(f"model={model}", *small, "trainer.limit_test_batches=1.0", "data.eval_batch_size=500")
    metrics = train(cfg).metrics
    (tmp_path / "run" / ".hydra").mkdir()
    OmegaConf.save(cfg, tmp_path / "run" / ".hydra" / "config.yaml")
    found = evaluate(evaluation(f"run={tmp_path / 'run'}", "evaluation.figures=[samples,confusion_matrix]"))
    report = found.report
    assert json.loads((found.folder / "report.json").read_text()) == report
    names = ["accuracy"] if model == "cnn" else ["elbo", "log_likelihood", "kl"]
    fits, other = ("confusion_matrix", "samples") if model == "cnn" else ("samples", "confusion_matrix")
    assert [drawn.name for drawn in found.gallery.drawn] == [fits]
    assert list(found.gallery.skipped) == [other]
    for page in ("report.html", "report.md"):
        text = (found.folder / page).read_text()
        assert f"{report['test'][names[0]]['value']:.2f}" in text
        assert found.gallery.skipped[other] in text
        assert "best.ckpt, epoch 1, optimizer step 4" in text
    assert set(report) == {"checkpoint", "warnings", "not_measured", "test", "train"}
    for name in names:
        figure = report["test"][name]
        assert set(figure) == ESTIMATE
        assert figure["num_images"] == 10_000
        assert figure["value"] == pytest.approx(metrics[f"test/{name}"], abs=1e-9)
    if model != "cnn":
        assert report["test"]["nll"]["num_samples"] == 3
        assert -report["test"]["nll"]["value"] > report["test"]["elbo"]["value"]
    assert ("nll_marginal" in report["test"]) == (model == "cvae_cnn3")


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.num_samples=0",
        "evaluation.num_images=0",
        "evaluation.max_batch=0",
        "evaluation.figures=[sample]",
        "evaluation.figures=some",
        "evaluation.extent=0",
        "evaluation.mask=topp",
        "evaluation.svi=adam",
        "evaluation.digit=10",
        "gpus=2",
        "evaluation.parts=[aiss]",
        "evaluation.convergence=[0]",
        "evaluation.images.estimators=0",
        "evaluation.ais.num_chains=0",
        "evaluation.ais.schedule=quadratic",
        "evaluation.disentanglement.num_trees=0",
    ],
)
def test_impossible_setting_is_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigurationError, match=override.split("=")[0]):
        evaluate(evaluation("run=x", override))
