"""Evaluating a run gives the metrics that its training ended with, and a report in the fixed form."""

import dataclasses
import json
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.evaluate import Evaluation, evaluate
from vae_lightning.commands.stacked import train_stacked
from vae_lightning.commands.train import Result, train
from vae_lightning.data import MNISTDataModule, sources
from vae_lightning.errors import CheckpointError, ConfigurationError, DataError, StorageError
from vae_lightning.evaluation.parts import PARTS
from vae_lightning.evaluation.verification import part
from vae_lightning.evaluation.verification.verdict import Check, Finding, NotApplicableError
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.machine.signals import Interruption, handled
from vae_lightning.reports.table import print_report
from vae_lightning.treatment import Treatment
from vae_lightning.types import Estimate

CONF = Path(__file__).resolve().parents[2] / "conf"
ESTIMATE = {"value", "standard_error", "num_images", "num_samples", "binarization", "estimator", "settings", "seconds", "section"}
ESTIMATE |= {"seed", "measured"}
REPORT = {"format", "checkpoint", "warnings", "not_measured", "splits", "treatment"}
BESIDE = {"weights", "evaluated", "parts", "figures", "not_drawn", "other_settings"}


def evaluation(*overrides: str) -> DictConfig:
    quick = ["gpus=0", "evaluation.num_samples=3", "evaluation.train_images=100", "evaluation.marginal_images=20"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("evaluate", [*quick, "evaluation.marginal_samples=2", *overrides])


def saved(cfg: DictConfig, run: Path, trained_in: str | None = None) -> Path:
    """The run folder `run` with what Hydra writes into it for the command."""
    (run / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(cfg, run / ".hydra" / "config.yaml")
    if trained_in is not None:
        OmegaConf.save({"hydra": {"runtime": {"cwd": trained_in}}}, run / ".hydra" / "hydra.yaml")
    return run


@pytest.fixture
def run(compose: Callable[..., DictConfig], tmp_path: Path) -> Path:
    """A VAE of four steps."""
    cfg = compose("model=vae", "model.net.hidden=[16]", "model.latent_dim=2", "logger=csv")
    train(cfg)
    return saved(cfg, tmp_path / "run")


def quick(run: Path, *overrides: str) -> Evaluation:
    return evaluate(evaluation(f"run={run}", "evaluation.num_images=30", "evaluation.train_images=10", *overrides))


@pytest.mark.parametrize("model", ["vae", "iwae", "cvae_cnn3", "beta_vae", "m1", "cnn"])
def test_report_equals_the_trainings_own_test_metrics(compose: Callable[..., DictConfig], tmp_path: Path, model: str) -> None:
    small = [] if model in ("cnn", "cvae_cnn3") else ["model.net.hidden=[16]", "model.latent_dim=2"]
    cfg = compose(f"model={model}", *small, "trainer.limit_test_batches=1.0", "data.eval_batch_size=500")
    metrics = train(cfg).metrics
    run = saved(cfg, tmp_path / "run")
    if model != "cnn":
        with pytest.raises(ConfigurationError, match=r"evaluation\.classifier=.*: is a run of an? .*, not of a classifier"):
            evaluate(evaluation(f"run={run}", f"evaluation.classifier={run}"))
    more = {"vae": ["evaluation.parts=[rate_distortion]", "evaluation.convergence=[1]"], "cnn": ["evaluation=full"]}.get(model, [])
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
        assert f"{report['splits']['test'][names[0]]['value']:.{4 if model == 'cnn' else 2}f}" in text
        assert found.gallery.skipped.get(other, "") in text
        assert "best.ckpt, epoch 1, optimizer step 4" in text
    assert set(report) == REPORT | BESIDE
    binarization = report["splits"]["test"][names[0]]["binarization"]
    treatment = Treatment("mnist", binarization, conditional=model == "cvae_cnn3", binary=model != "cnn", pixels=784)
    assert Treatment.read(report["treatment"]) == treatment
    assert ("Burda et al., 2016" in (found.folder / "report.html").read_text()) == (model != "cnn")
    for name in names:
        estimate = report["splits"]["test"][name]
        assert set(estimate) == ESTIMATE
        assert estimate["num_images"] == 10_000
        assert estimate["value"] == pytest.approx(metrics[f"test/{name}"], abs=1e-9)
    if model != "cnn":
        assert report["splits"]["test"]["nll"]["num_samples"] == 3
        assert -report["splits"]["test"]["nll"]["value"] > report["splits"]["test"]["elbo"]["value"]
    assert ("nll_marginal" in report["splits"]["test"]) == ("bayes_accuracy" in report["splits"]["test"]) == (model == "cvae_cnn3")
    assert ("accuracy" in report["splits"]["test"]) == (model in ("cnn", "m1"))
    assert ("rate" in report["splits"]["test"]) == ("nll/k_1" in report["splits"]["test"]) == (model == "vae")
    if model == "cnn":
        assert set(report["not_measured"].values()) == {"the model has no latent"}
        assert {"importance", "verification"} <= set(report["not_measured"])
    # after four steps no digit costs less than 76 nats, and no bound is above the likelihood
    assert report["warnings"] == []


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_as_traced")
def test_a_run_of_a_stack_is_evaluated_as_one_alone(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    whole = [
        "model.net.hidden=[16]",
        "model.latent_dim=2",
        "logger=csv",
        "trainer.limit_test_batches=1.0",
        "data.eval_batch_size=500",
    ]
    cfgs = [compose(*whole, f"seed={seed}", folder=f"run_{seed}") for seed in (1, 2)]
    for cfg, result in zip(cfgs, train_stacked(cfgs), strict=True):
        assert isinstance(result, Result), result
        found = evaluate(evaluation(f"run={saved(cfg, result.folder)}", "evaluation.figures=[samples]"))
        assert found.report["splits"]["test"]["elbo"]["value"] == pytest.approx(result.metrics["test/elbo"], abs=1e-9)


def test_part_of_ones_own_is_in_the_report_under_its_heading(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_my_own.py").write_text(
        "def darkness(material):\n"
        "    x, _ = material.images('test', 10)\n"
        "    return {'darkness': material.estimate(x.flatten(1).mean(1), 'mean of all pixels')}\n\n\n"
        "def fails(material):\n"
        "    raise RuntimeError('no way')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    asked = "evaluation.parts=[of_my_own.darkness,of_my_own.fails,rate_distortion]"
    result = quick(run, "evaluation.figures=[]", asked)
    test = result.report["splits"]["test"]
    assert test["darkness"]["section"] == "darkness"
    assert {"rate", "distortion"} <= set(test)
    assert result.report["not_measured"] == {"of_my_own.fails": "failed (RuntimeError: no way)"}
    assert result.report["parts"] == ["of_my_own.darkness", "rate_distortion"]
    page = (result.folder / "report.md").read_text()
    assert page.index("### likelihood") < page.index("### rate and distortion") < page.index("### darkness")
    assert "- of_my_own.fails: failed" in page
    with pytest.raises(ConfigurationError, match=r"^evaluation\.parts=of_my_own\.dark: of_my_own has no dark$"):
        quick(run, "evaluation.parts=[of_my_own.dark]")


def test_what_was_verified_is_stamped_into_the_report_and_its_pages_and_can_be_required(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def well(subject: object) -> Finding:
        return Finding(0.1, 0.2, "rounding")

    def badly(subject: object) -> Finding:
        return Finding(0.3, 0.2, "rounding", "image 3")

    def not_here(subject: object) -> Finding:
        raise NotApplicableError("there are no labels")

    checks = {"order/well": well, "order/badly": badly, "mass/not_here": not_here}
    monkeypatch.setattr(part, "CHECKS", {name: Check(name, "all is well", "nats", examine) for name, examine in checks.items()})
    asked = ["evaluation.parts=[verification]", "evaluation.figures=[]", "evaluation.images.verification=4"]
    failed = quick(run, *asked, "evaluation.require_verified=true")
    line = "not so that all is well: 0.3 nats, image 3, more than 0.2 (rounding)"
    assert failed.unverified == (f"not verified: order/badly: {line}",)
    stamp = failed.report["verification"]
    assert (stamp["verified"], stamp["passed"], stamp["failed"]) == (False, ["order/well"], {"order/badly": line})
    assert stamp["not_applicable"] == {"mass/not_here": "there are no labels"}
    assert failed.report["splits"]["test"]["verified"]["value"] == 0.5
    assert failed.report["splits"]["test"]["verification/order/badly"]["settings"] == {"tolerance": 0.2, "verdict": "failed"}
    print_report(failed.report, failed.folder)
    said = capsys.readouterr().out
    assert "not verified: order/badly failed (1 of 2 checks, of 4 images)" in said
    for page in ("report.html", "report.md"):
        text = (failed.folder / page).read_text()
        assert "not verified: order/badly failed" in text
        assert line in text
    monkeypatch.delitem(part.CHECKS, "order/badly")
    passed = quick(run, *asked, "evaluation.require_verified=true")
    assert (passed.unverified, passed.report["verification"]["verified"]) == ((), True)
    assert quick(run, "evaluation.figures=[]").report["verification"]["verified"], "an earlier one holds for the same weights"

    def breaks(material: object) -> dict[str, Estimate]:
        raise RuntimeError("no way")

    monkeypatch.setitem(PARTS, "verification", dataclasses.replace(PARTS["verification"], measure=breaks))
    broken = quick(run, *asked, "evaluation.require_verified=true")
    assert broken.unverified == ("not verified: failed (RuntimeError: no way)",), "and an earlier one is none of this"


def test_each_part_is_in_the_report_as_soon_as_it_is_measured(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_mine.py").write_text("def halts(material):\n    raise KeyboardInterrupt\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        quick(run, "evaluation.figures=[]", "evaluation.parts=[rate_distortion,of_mine.halts]")
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert {"elbo", "nll", "rate", "distortion"} <= set(report["splits"]["test"])


def test_reasons_and_refusals_name_the_option_where_it_stands(run: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^evaluation\.parts=samples: evaluation\.classifier=null: must be the run"):
        quick(run, "evaluation.parts=[samples]")
    with pytest.raises(ConfigurationError, match=r"^evaluation\.ais\.num_chains=0: must be at least 1"):
        quick(run, "evaluation.ais.num_chains=0")
    with pytest.raises(ConfigurationError, match=r"^evaluation\.max_batch=0: must be at least 1"):
        quick(run, "evaluation.max_batch=0")


def test_evaluation_goes_on_with_a_report_of_format_1(run: Path) -> None:
    first = quick(run, "evaluation.figures=[samples]", "evaluation.num_samples=9")
    old = {key: value for key, value in first.report.items() if key not in ("format", "splits")} | first.report["splits"]
    (first.folder / "report.json").write_text(json.dumps(old))
    second = quick(run, "evaluation.figures=[]")
    assert second.report["format"] == 2
    assert second.report["splits"]["test"]["nll"] == first.report["splits"]["test"]["nll"]
    assert set(second.report["figures"]) == {"samples"}
    assert not {"test", "train"} & set(second.report)


def test_second_smaller_evaluation_goes_on_to_hold_what_the_first_found(run: Path) -> None:
    first = quick(
        run,
        "evaluation.num_samples=9",
        "evaluation.figures=[samples,reconstructions]",
        "evaluation.parts=[rate_distortion,dimensions]",
    )
    drawn = {name: (run / "evaluation" / "figures" / f"{name}.png").read_bytes() for name in ("samples", "reconstructions")}
    second = quick(run, "evaluation.num_samples=4", "evaluation.figures=[samples,traversals]", "evaluation.seed=0")
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert report == second.report
    assert list(second.gallery.skipped) == ["traversals"]
    assert set(first.report["splits"]["test"]) == set(report["splits"]["test"])
    assert {"rate", "active_units"} <= set(report["splits"]["test"])
    assert report["splits"]["test"]["nll"] == first.report["splits"]["test"]["nll"]
    (other,) = report["other_settings"]["test"]["nll"]
    assert (other["num_samples"], other["num_images"], other["seed"]) == (4, 30, 0)
    assert report["splits"]["test"]["elbo"]["measured"] == report["evaluated"] != first.report["evaluated"], (
        "asked for again, it is replaced"
    )
    assert report["splits"]["test"]["elbo"]["value"] == first.report["splits"]["test"]["elbo"]["value"]
    assert set(report["figures"]) == {"samples", "reconstructions"}
    assert {name: (run / "evaluation" / "figures" / f"{name}.png").read_bytes() for name in drawn} == drawn
    for page in ("report.html", "report.md"):
        text = (run / "evaluation" / page).read_text()
        for expected in (
            f"{other['value']:.2f}",
            f"{report['splits']['test']['nll']['value']:.2f}",
            "active_units",
            "reconstructions",
            "no more than",
        ):
            assert expected in text, (page, expected)


def test_estimates_of_other_weights_are_never_mixed(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    quick(run, "evaluation.figures=[samples]")
    before = (run / "evaluation" / "report.json").read_bytes()
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"]["decoder.body.0.bias"] += 1
    torch.save(content, run / "checkpoints" / "other.ckpt")
    cfg = evaluation(f"ckpt_path={run}/checkpoints/other.ckpt", "evaluation.num_images=20", "evaluation.figures=[]")
    report = evaluate(cfg).report
    assert report["other_settings"] == report["figures"] == {}
    (kept,) = (run / "evaluation" / "earlier").iterdir()
    assert (kept / "report.json").read_bytes() == before
    assert (kept / "figures" / "samples.png").is_file()
    (line,) = caplog.messages
    assert "is of other weights (best.ckpt, optimizer step 4); it is kept" in line


def test_evaluation_that_is_killed_keeps_what_was_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(run, "evaluation.figures=[samples,posterior_means]", "evaluation.parts=[dimensions]")
    pages = {path.name: path.read_bytes() for path in (run / "evaluation").glob("report.*")}

    def killed(subject: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(CATALOG, "posterior_means", dataclasses.replace(CATALOG["posterior_means"], draw=killed))
    with pytest.raises(KeyboardInterrupt):
        quick(run, "evaluation.num_samples=2", "evaluation.figures=[samples,posterior_means]")
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert "active_units" in report["splits"]["test"]
    assert report["splits"]["test"]["nll"]["num_samples"] == 3
    assert [e["num_samples"] for e in report["other_settings"]["test"]["nll"]] == [2]
    assert (
        {path.stem for path in (run / "evaluation" / "figures").iterdir()}
        == set(report["figures"])
        == {"samples", "posterior_means"}
    )
    for page in ("report.html", "report.md"):
        assert (run / "evaluation" / page).read_bytes() == pages[page]


def test_interruption_that_a_figure_swallows_ends_the_evaluation_with_all_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CATALOG["posterior_means"].draw

    def swallowing(subject: Any) -> Any:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        return whole(subject)

    monkeypatch.setitem(CATALOG, "posterior_means", dataclasses.replace(CATALOG["posterior_means"], draw=swallowing))
    with handled(), pytest.raises(Interruption):
        quick(run, "evaluation.figures=[posterior_means,samples]")
    assert set(json.loads((run / "evaluation" / "report.json").read_text())["figures"]) == {"posterior_means"}


def test_data_are_where_the_training_had_them(run: Path, tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run / ".hydra" / "config.yaml"
    cfg = OmegaConf.load(config)
    cfg.data.root = "data"
    OmegaConf.save(cfg, config)
    (tmp_path / "project" / "data").mkdir(parents=True)
    OmegaConf.save({"hydra": {"runtime": {"cwd": str(tmp_path / "project")}}}, run / ".hydra" / "hydra.yaml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    raw = tmp_path / "project" / "data" / "MNIST" / "raw"
    with pytest.raises(DataError, match=rf"{raw}.* is missing; give root=<folder with MNIST/raw>, as nothing is fetched here"):
        quick(run, "evaluation.figures=[]")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not list((tmp_path / "project" / "data").iterdir())
    assert not (run / "evaluation").exists()
    # where nothing can be fetched, what is advised is what this command takes
    monkeypatch.setattr(sources, "fetchers", lambda dataset: iter(()))
    with pytest.raises(DataError, match=r"or give a folder that has MNIST/raw: root=<folder>") as refusal:
        quick(run, "evaluation.figures=[]", f"root={tmp_path}/nothing")
    assert "data.root" not in str(refusal.value)
    (tmp_path / "project" / "data" / "MNIST").symlink_to((mnist_root / "MNIST").resolve(), target_is_directory=True)
    assert quick(run, "evaluation.figures=[]").report["splits"]["test"]["elbo"]["num_images"] == 30


def test_evaluation_goes_elsewhere_where_the_run_may_not_be_written_to(run: Path, tmp_path: Path) -> None:
    (run / "evaluation").write_text("somebody's file")
    with pytest.raises(StorageError, match=r"evaluation: cannot be written to .*: to=<folder>"):
        quick(run, "evaluation.figures=[]")
    with pytest.raises(ConfigurationError, match="to=: must be a folder"):
        quick(run, "evaluation.figures=[]", "to=")
    found = quick(run, "evaluation.figures=[samples]", f"to={tmp_path}/elsewhere")
    assert found.folder == tmp_path / "elsewhere"
    names = {path.relative_to(found.folder).as_posix() for path in found.folder.rglob("*") if path.is_file()}
    assert names == {"report.json", "report.html", "report.md", "figures/samples.png", ".lock"}
    assert (run / "evaluation").read_text() == "somebody's file"
    assert quick(run, "evaluation.figures=[samples]", f"to={tmp_path}/elsewhere").folder == tmp_path / "elsewhere", "a second time"
    with pytest.raises(
        ConfigurationError, match=rf"^to={run}/checkpoints: holds other files \(best\.ckpt\); give a new or an empty"
    ):
        quick(run, "evaluation.figures=[]", f"to={run}/checkpoints")


def test_damaged_files_beside_the_weights_cost_only_what_is_in_them(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("metrics.json", "csv/metrics.csv", ".hydra/overrides.yaml", ".hydra/hydra.yaml", "animation/step_0.npz"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"\xff[")
    (run / "animation" / "step_1.npz").write_bytes(b"")
    found = quick(run, "evaluation.figures=[learning_curves,training_latents,samples]")
    assert [drawn.name for drawn in found.gallery.drawn] == ["samples"]
    assert "no metric" in found.gallery.skipped["learning_curves"]
    assert "step_0.npz: is damaged" in found.gallery.skipped["training_latents"]
    for line, name in zip(caplog.messages, ("metrics.csv", "metrics.json", "overrides.yaml"), strict=True):
        assert f"{name}: cannot be read" in line
        assert "\n" not in line


def test_images_that_models_cannot_take_are_named_before_anything_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MNISTDataModule.evaluation_images

    def unscaled(self: Any, split: str, num_images: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = whole(self, split, num_images)
        return (255 * x if split == "train" else x), y

    monkeypatch.setattr(MNISTDataModule, "evaluation_images", unscaled)
    said = r"^data: what MNISTDataModule\.evaluation_images\('train'\) gives has x from 0 to 255 \(divide by 255\); "
    with pytest.raises(DataError, match=said):
        quick(run)
    assert not (run / "evaluation").exists()


def test_more_images_than_there_are_is_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = quick(run, "evaluation.figures=[]", "evaluation.num_samples=2", "evaluation.num_images=20000")
    assert found.report["splits"]["test"]["elbo"]["num_images"] == 10_000
    assert "evaluation.num_images=20000: there are 10000 test images, all of which were measured" in caplog.messages


def test_classifier_is_looked_for_as_a_run_is(run: Path, tmp_path: Path) -> None:
    for given, message in ((f"{tmp_path}/nix", "there is no such folder"), (f"{run}/animation", "there is no such folder")):
        with pytest.raises(CheckpointError, match=rf"evaluation\.classifier={given}: {message}"):
            quick(run, f"evaluation.classifier={given}")


def test_evaluation_that_a_run_folder_links_elsewhere_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run / "evaluation").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=rf"evaluation: is a link; .* to={tmp_path / 'elsewhere'}$"):
        quick(run)
    assert not [*(tmp_path / "elsewhere").iterdir()]
    quick(run, f"to={tmp_path / 'elsewhere'}", "evaluation.figures=[]")
    assert (tmp_path / "elsewhere" / "report.json").is_file()


def test_files_that_have_changed_since_the_training_are_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), np.uint8)
    np.save(tmp_path / "x.npy", images)
    own = ["data=array", f"data.path={tmp_path}/x.npy", "model.net.hidden=[4]", "logger=csv", f"run_dir={tmp_path}/run"]
    few = ["trainer.max_epochs=1", "trainer.gpus=0", "trainer.enable_progress_bar=false"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", [*own, *few, "name=test"])
    train(cfg)
    run = saved(cfg, tmp_path / "run")
    (tmp_path / "x.npy").rename(tmp_path / "moved.npy")
    assert quick(run, "evaluation.figures=[]", f"path={tmp_path}/moved.npy").report["splits"]
    before = (run / "evaluation" / "report.json").read_bytes()
    # its test images are no longer those that training left out
    np.save(tmp_path / "x.npy", np.concatenate([images, images[:1]]))
    with pytest.raises(
        DataError, match=rf"^path={tmp_path}/x\.npy: holds images of MD5 \w+, and .*run was trained on images of MD5"
    ):
        quick(run, "evaluation.figures=[]")
    assert (run / "evaluation" / "report.json").read_bytes() == before
