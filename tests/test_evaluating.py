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


@pytest.mark.parametrize("model", ["vae", "iwae", "cvae_cnn3", "beta_vae", "m1", "cnn"])
def test_report_equals_the_trainings_own_test_figures(compose: Callable[..., DictConfig], tmp_path: Path, model: str) -> None:
    small = [] if model in ("cnn", "cvae_cnn3") else ["model.net.hidden=[16]", "model.latent_dim=2"]
    cfg = compose(f"model={model}", *small, "trainer.limit_test_batches=1.0", "data.eval_batch_size=500")
    metrics = train(cfg).metrics
    (tmp_path / "run" / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(cfg, tmp_path / "run" / ".hydra" / "config.yaml")
    run = tmp_path / "run"
    if model != "cnn":
        with pytest.raises(ConfigurationError, match=r"evaluation\.classifier=.*: is a run of a .*, not of a classifier"):
            evaluate(evaluation(f"run={run}", f"evaluation.classifier={run}"))
    more = ["evaluation.parts=[rate_distortion]", "evaluation.convergence=[1]"] if model == "vae" else []
    found = evaluate(evaluation(f"run={run}", "evaluation.figures=[samples,confusion_matrix]", *more))
    report = found.report
    assert json.loads((found.folder / "report.json").read_text()) == report
    names = ["accuracy"] if model == "cnn" else ["elbo", "log_likelihood", "kl"]
    fits, other = ("confusion_matrix", "samples") if model == "cnn" else ("samples", "confusion_matrix")
    both = model == "m1"
    assert [drawn.name for drawn in found.gallery.drawn] == ([fits, other] if both else [fits])
    assert list(found.gallery.skipped) == ([] if both else [other])
    for page in ("report.html", "report.md"):
        text = (found.folder / page).read_text()
        assert f"{report['test'][names[0]]['value']:.2f}" in text
        assert found.gallery.skipped.get(other, "") in text
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
    assert ("nll_marginal" in report["test"]) == ("bayes_accuracy" in report["test"]) == (model == "cvae_cnn3")
    assert ("accuracy" in report["test"]) == (model in ("cnn", "m1"))
    assert ("rate" in report["test"]) == ("nll/k_1" in report["test"]) == (model == "vae")
    # after four steps no digit costs less than 76 nats, and no bound is above the likelihood
    assert report["warnings"] == []
