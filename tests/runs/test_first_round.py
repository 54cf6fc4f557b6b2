"""Runs of the first round go on loading, and what is measured and drawn of them is what was then.

`first_round` holds runs that commit 1581003 trained and evaluated, by the names that its classes had: a config, weights, the record
of the training, the report of an evaluation with the settings below, and its figures as a few grey levels each. They are never
made anew by later code: what they are for is that later code finds the same.
"""

import json
from pathlib import Path

import hydra
import pytest
from PIL import Image

from vae_lightning import runs
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.reports.document import splits_of

CONF = Path(__file__).resolve().parents[2] / "conf"
RUNS = Path(__file__).parent / "first_round"
NAMES = ("vae", "beta_vae", "conditional_prior")
FIGURES = (
    "rate_distortion,nll_convergence,kl_per_dimension,reconstructions,reproductions,samples,latent_grid_10x10,posterior_means,"
    "interpolations,class_means,class_style_grid"
)
SETTINGS = (
    "gpus=0",
    "evaluation.num_samples=20",
    "evaluation.num_images=200",
    "evaluation.train_images=100",
    "evaluation.marginal_samples=5",
    "evaluation.marginal_images=50",
    "evaluation.parts=[rate_distortion]",
    "evaluation.convergence=[1]",
    f"evaluation.figures=[{FIGURES}]",
)
GRID = (16, 16)
SAMPLED = {"elbo", "log_likelihood", "distortion", "nll", "nll_of_class", "nll_marginal", "bayes_accuracy", "variational_gap"}
"""Estimates that depend on noise, which is drawn otherwise since 2026-11-28: by each image's place, and not batch by batch."""
OF_SAMPLED = ("rate_distortion", "nll_convergence")
"""Figures of such estimates, whose axes move with them."""
EXACT = ("num_images", "num_samples", "binarization", "seed")


def grey_levels(path: Path) -> list[int]:
    """A figure as the mean grey levels of a few fields, in which the rounding of another machine does not show."""
    return list(Image.open(path).convert("L").resize(GRID, Image.Resampling.BOX).tobytes())


@pytest.mark.parametrize("name", NAMES)
def test_run_is_found_and_its_records_are_read(name: str) -> None:
    folder, checkpoint = runs.find(str(RUNS / name), None)
    loaded = runs.load(folder, checkpoint)
    assert (loaded.step, loaded.epoch) == (860, 1)
    record = runs.record(folder)
    assert record["provenance"]["git_commit"].startswith("1581003")
    assert record["provenance"]["command"] == runs.asked_with(folder)
    assert record["model"]["parameters"] == sum(weights.numel() for weights in loaded.model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_report_and_figures_are_what_they_were(name: str, mnist_root: Path, tmp_path: Path) -> None:
    kept = json.loads((RUNS / name / "evaluation" / "report.json").read_text())
    figures = json.loads((RUNS / name / "evaluation" / "figures.json").read_text())
    before = sorted((RUNS / name).rglob("*"))
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("evaluate", [f"run={RUNS / name}", f"to={tmp_path}", f"root={mnist_root}", *SETTINGS])
    found = evaluate(cfg)
    for split, metric, then in [(split, *item) for split, estimates in splits_of(kept).items() for item in estimates.items()]:
        estimate = splits_of(found.report)[split][metric]
        if metric.startswith("effective_sample_size"):
            assert estimate["value"] == pytest.approx(then["value"], rel=0.2), (split, metric)
            continue
        sampled = metric.partition("/")[0] in SAMPLED
        for key in ("value", "standard_error"):
            # of 200 images: one latent sample an image moves a mean by a tenth of the error over images, rarely by three
            within = 0.5 * then["standard_error"] if sampled else 1e-9
            assert estimate[key] == pytest.approx(then[key], rel=0.0 if sampled else 1e-6, abs=within), (split, metric, key)
        assert {key: estimate[key] for key in EXACT if key in then} == {key: then[key] for key in EXACT if key in then}, metric
    assert [drawn.name for drawn in found.gallery.drawn] == list(figures)
    for drawn in found.gallery.drawn:
        if drawn.name in OF_SAMPLED:
            continue
        then = figures[drawn.name]
        assert grey_levels(drawn.path) == pytest.approx(then, abs=2), drawn.name
    assert sorted((RUNS / name).rglob("*")) == before, "an evaluation that writes elsewhere leaves the run as it is"
