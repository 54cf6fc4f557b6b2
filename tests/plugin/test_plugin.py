"""A foreign package with a part of its own for every part: it trains, goes on, sweeps, and is evaluated, drawn and reported."""

import json
import logging
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from plugin.conftest import PROJECT, QUIET, TINY, Compose, compose_evaluation, forget
from torch import Tensor

from vae_lightning import VAE
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.export import export
from vae_lightning.commands.gallery import SVI
from vae_lightning.commands.train import Result, train
from vae_lightning.commands.typed import to_trust
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.errors import CheckpointError
from vae_lightning.evaluation.registry import PARTS
from vae_lightning.inference.svi import SVISettings
from vae_lightning.testing.contract import (
    check_data,
    check_decoder,
    check_encoder,
    check_likelihood,
    check_model,
    check_objective,
    check_prior,
)
from vae_lightning.types import ImageData, LatentVariableModel

EXPERIMENT = "experiment=foreign"
OWN_FIGURE, OWN_PART = "foreign_vae.figures.colours", "foreign_vae.estimates.colourfulness"
FULL = [
    "evaluation=full",
    "evaluation.num_samples=3",
    "evaluation.convergence=[1,2]",
    "evaluation.images={estimators: 2, information: 16, structured: 2, samples: 24, probes: 40}",
    "evaluation.ais={num_chains: 2, num_distributions: 3, leapfrog_steps: 2}",
]


@pytest.fixture(scope="module")
def run(compose_foreign: Compose, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of every foreign part at once but the model's class."""
    return train(compose_foreign(tmp_path_factory.mktemp("foreign") / "run", EXPERIMENT))


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_every_part_is_the_foreign_one(run: Result) -> None:
    model, (optimizer,) = run.model, run.trainer.optimizers
    parts = [model.encoder, model.decoder, model.likelihood_of, model.prior_of, model.objective_of, optimizer, run.data]
    assert {type(part).__module__.partition(".")[0] for part in parts} == {"foreign_vae"}
    assert model.image_shape == (3, 32, 32), "the data's"
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001, 0.01]), "the groups' own, as an epoch begins"
    assert weights(run.folder)["objective_of.log_weight"] != 0, "the objective's own parameter is trained"
    assert run.metrics["test/weight"] > 1, "and shown"
    assert run.metrics["test/elbo"] < 0


def test_foreign_parts_take_the_fast_path(compose_foreign: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train(compose_foreign(tmp_path, EXPERIMENT, "data.train_size=640", "trainer.max_epochs=1"))
    assert "fast path" not in caplog.text
    assert isinstance(result.trainer.fit_loop.epoch_loop, ChunkLoop)
    (diary,) = (c for c in result.trainer.callbacks if type(c).__name__ == "Diary")
    assert result.trainer.global_step == 20
    assert diary.turns < 5, "Lightning has seen few of the batches"
    assert (tmp_path / "diary.txt").read_text().startswith("step 20\n")


@pytest.mark.usefixtures("graphs_quickly_traced")
def test_compiled_steps_are_lightnings_own_but_for_rounding(compose_foreign: Compose, tmp_path: Path) -> None:
    plain, fast, compiled = (
        train(compose_foreign(tmp_path / path, EXPERIMENT, f"trainer.compile={path}", "trainer.max_epochs=1"))
        for path in ("false", "auto", "true")
    )
    assert not isinstance(plain.trainer.fit_loop.epoch_loop, ChunkLoop)
    assert plain.metrics == fast.metrics
    assert_equal(weights(plain.folder), weights(fast.folder))
    assert compiled.metrics == pytest.approx(plain.metrics, rel=1e-5)


def test_training_goes_on_to_the_bit(compose_foreign: Compose, run: Result, tmp_path: Path) -> None:
    whole = train(compose_foreign(tmp_path / "whole", EXPERIMENT, "trainer.max_epochs=3"))
    checkpoint = run.folder / "checkpoints" / "last.ckpt"
    later = train(compose_foreign(tmp_path / "later", EXPERIMENT, "trainer.max_epochs=3", f"ckpt_path={checkpoint}"))
    assert_equal(weights(whole.folder), weights(later.folder))
    assert whole.metrics == later.metrics


def test_checkpoint_of_other_foreign_parts_is_not_gone_on_from(compose_foreign: Compose, run: Result, tmp_path: Path) -> None:
    checkpoint = run.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"is of another model: model\.prior\.name: the checkpoint has foreign_vae"):
        train(compose_foreign(tmp_path, EXPERIMENT, "model/prior=standard", f"ckpt_path={checkpoint}"))


@pytest.fixture
def few_svi_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Posteriors are fitted in three steps, which takes no time."""
    monkeypatch.setitem(SVI, "default", SVISettings(max_steps=3))


@pytest.mark.slow
@pytest.mark.usefixtures("few_svi_steps")
def test_run_is_evaluated_in_full_drawn_and_reported(run: Result, tmp_path: Path) -> None:
    fit = [name for name in PARTS if name not in ("quadrature", "bits", "compression", "samples", "disentanglement")]
    asked = [f"evaluation.parts=[{','.join([*fit, OWN_PART])}]", f"evaluation.figures=[reconstructions,samples,{OWN_FIGURE}]"]
    done = evaluate(compose_evaluation(run.folder, *FULL, *asked, "trust=[foreign_vae]", f"to={tmp_path}"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == json.loads(json.dumps(done.report))
    estimates = report["splits"]["test"]
    assert 0 < estimates["colourfulness"]["value"] < 1
    assert {"elbo", "nll", "nll/ais", "bdmc/gap", "gap/elbo", "rate", "active_units", "knn_accuracy"} <= set(estimates)
    assert report["not_measured"] == {}
    assert set(report["figures"]) == {"reconstructions", "samples", OWN_FIGURE}
    page = (tmp_path / "report.html").read_text()
    assert "The mean colour of the test images of each class." in page
    assert "colourfulness" in page
    assert (tmp_path / "figures" / f"{OWN_FIGURE}.png").is_file()
    assert not report["warnings"]


@pytest.mark.slow
def test_every_figure_that_fits_is_drawn(run: Result, tmp_path: Path) -> None:
    done = evaluate(compose_evaluation(run.folder, "trust=[foreign_vae]", f"to={tmp_path}"))
    assert not {name: why for name, why in done.gallery.skipped.items() if "failed" in why}
    assert {"reconstructions", "samples", "traversals", "completion"} <= {drawn.name for drawn in done.gallery.drawn}


def test_class_is_asked_for_by_the_name_that_the_data_give_it(run: Result, tmp_path: Path) -> None:
    settings = ["evaluation.figures=[samples]", "trust=[foreign_vae]", f"to={tmp_path}"]
    evaluate(compose_evaluation(run.folder, *settings, "evaluation.label=rings"))
    with pytest.raises(ValueError, match=r"evaluation\.label=squares: must be one of rows, columns, rings, checks, plain"):
        evaluate(compose_evaluation(run.folder, *settings, "evaluation.label=squares"))


def test_foreign_classes_condition_a_model_and_its_figures(compose_foreign: Compose, tmp_path: Path) -> None:
    result = train(compose_foreign(tmp_path, EXPERIMENT, "model.num_classes=null", "model/prior=class", "trainer.max_epochs=1"))
    assert result.model.num_classes == 5
    settings = ["evaluation.figures=[class_style_grid,samples]", "evaluation.marginal_images=4", "evaluation.marginal_samples=2"]
    done = evaluate(compose_evaluation(tmp_path, *settings, "trust=[foreign_vae]"))
    assert [drawn.name for drawn in done.gallery.drawn] == ["class_style_grid", "samples"]
    assert {"nll_marginal", "bayes_accuracy"} <= set(done.report["splits"]["test"])


def test_package_that_is_not_trusted_is_refused_in_a_line_and_not_imported(run: Result, tmp_path: Path) -> None:
    forget("foreign_vae")
    with pytest.raises(CheckpointError, match=r"trust=\[foreign_vae\], or install the package with the entry point") as refusal:
        evaluate(compose_evaluation(run.folder, f"to={tmp_path / 'report'}"))
    assert "\n" not in str(refusal.value)
    assert not [name for name in sys.modules if name.startswith("foreign_vae")]
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_package_that_is_trusted_vouches_for_itself_alone(run: Result) -> None:
    with pytest.raises(CheckpointError, match=r"is of package foreign_vae"):
        evaluate(compose_evaluation(run.folder, "trust=[foreign]"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed packages: the metadata of the foreign one lies there, as pip writes it."""
    info = tmp_path / "site" / "foreign_vae-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign_vae\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vae_lightning.plugins]\nforeign_vae = foreign_vae.registered\n")
    monkeypatch.syspath_prepend(str(info.parent))
    return info.parent


@pytest.mark.slow
@pytest.mark.usefixtures("few_svi_steps", "installed")
def test_package_that_declares_the_entry_point_is_trusted(compose_foreign: Compose, run: Result, tmp_path: Path) -> None:
    before = dict(PARTS)
    try:
        forget("foreign_vae.registered")
        report = evaluate(compose_evaluation(run.folder, *FULL, "evaluation.figures=[]", f"to={tmp_path / 'report'}")).report
    finally:
        PARTS.clear()
        PARTS.update(before)
    assert "registered_colourfulness" in report["splits"]["test"], "parts=all has the parts that the package declares"
    assert to_trust(compose_foreign(tmp_path, EXPERIMENT)) == []


def test_what_an_evaluation_has_to_trust_is_known_when_a_training_ends(compose_foreign: Compose, tmp_path: Path) -> None:
    assert to_trust(compose_foreign(tmp_path, EXPERIMENT)) == ["foreign_vae"]
    assert to_trust(compose_foreign(tmp_path)) == []


def test_foreign_parts_fulfil_their_contracts(run: Result, protocol_run: Result) -> None:
    model, shape = run.model, run.data.image_shape
    check_encoder(model.encoder, latent_dim=4, image_shape=shape)
    check_decoder(model.decoder, latent_dim=4, image_shape=shape, outputs=2)
    check_likelihood(model.likelihood_of, image_shape=(3, 4, 4))
    check_prior(type(model.prior_of)(latent_dim=2), latent_dim=2)
    check_objective(model.objective_of)
    check_data(run.data)
    check_model(protocol_run.model, image_shape=shape)


# ---- a model by the protocol


@pytest.fixture(scope="module")
def protocol_run(compose_foreign: Compose, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of a model and data that have no base class of ours."""
    folder = tmp_path_factory.mktemp("protocol") / "run"
    return train(compose_foreign(folder, "model=foreign", "data=foreign", "trainer.max_epochs=1"))


def test_model_that_only_speaks_the_protocol_trains(protocol_run: Result) -> None:
    ours = [
        kind
        for part in (protocol_run.model, protocol_run.data)
        for kind in type(part).__mro__
        if "vae_lightning" in kind.__module__
    ]
    assert not ours
    assert isinstance(protocol_run.model, LatentVariableModel)
    assert isinstance(protocol_run.data, ImageData)
    assert protocol_run.model.image_shape == (3, 32, 32), "the data's"
    assert set(protocol_run.metrics) == {"train/loss", "val/loss", "test/loss"}


def test_model_that_only_speaks_the_protocol_is_evaluated_drawn_and_reported(protocol_run: Result, tmp_path: Path) -> None:
    asked = ["evaluation.parts=[rate_distortion,dimensions,probes]", f"evaluation.figures=[samples,traversals,{OWN_FIGURE}]"]
    with pytest.raises(CheckpointError, match=r"trust=\[foreign_vae\]"):
        evaluate(compose_evaluation(protocol_run.folder, *asked))
    done = evaluate(compose_evaluation(protocol_run.folder, *asked, "trust=[foreign_vae]", f"to={tmp_path}"))
    estimates = done.report["splits"]["test"]
    assert estimates["elbo"]["value"] < 0 < estimates["nll"]["value"]
    assert done.report["not_measured"] == {}
    assert [drawn.name for drawn in done.gallery.drawn] == ["samples", "traversals", OWN_FIGURE]
    assert (tmp_path / "report.html").is_file()


def test_model_that_only_speaks_the_protocol_goes_on(compose_foreign: Compose, protocol_run: Result, tmp_path: Path) -> None:
    checkpoint = protocol_run.folder / "checkpoints" / "last.ckpt"
    model = ["model=foreign", "data=foreign", "trainer.max_epochs=2"]
    later = train(compose_foreign(tmp_path, *model, f"ckpt_path={checkpoint}"))
    assert later.trainer.global_step == 2 * protocol_run.trainer.global_step


# ---- real commands


def command(cwd: Path, script: str, *arguments: str, path: Path = PROJECT / "src") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    words = [sys.executable, str(REPOSITORY / script), *arguments]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_commands_from_a_foreign_directory(tmp_path: Path) -> None:
    with_own = ["--config-dir", str(PROJECT / "conf"), EXPERIMENT, "trainer.max_epochs=1", "logger=none", *QUIET]
    over = ["model.objective.target=2,16", "model/prior=standard,foreign", "hydra.sweep.dir=sweep"]
    swept = command(tmp_path, "train.py", "-m", *with_own, *over)
    assert swept.returncode == 0, swept.stderr
    assert "fast path" not in swept.stderr
    assert "'trust=[foreign_vae]'" in swept.stdout, "the command that evaluates says whom to trust"
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "sweep").glob("*/metrics.json"))]
    assert len({record["metrics"]["val/loss"] for record in records}) == 4
    assert all(f"--config-dir {PROJECT / 'conf'}" in record["provenance"]["command"] for record in records)
    (first, *_) = sorted((tmp_path / "sweep").glob("target=2,*"))
    few = ["evaluation.parts=[]", f"evaluation.figures=[{OWN_FIGURE}]", *TINY]
    refused = command(tmp_path, "evaluate.py", f"run={first}", *few)
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1), refused.stderr
    assert "trust=[foreign_vae]" in refused.stderr
    assert not (first / "evaluation").exists()


@pytest.mark.slow
def test_package_that_pip_installed_needs_no_word_of_trust(run: Result, tmp_path: Path) -> None:
    project = tmp_path / "project"
    subprocess.run(["cp", "-r", str(PROJECT), str(project)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(project)], check=True)
    assert Path(sysconfig.get_paths()["purelib"]) not in (tmp_path / "site").parents
    few = ["evaluation.parts=[]", f"evaluation.figures=[{OWN_FIGURE}]", f"to={tmp_path / 'report'}", *TINY]
    done = command(tmp_path, "evaluate.py", f"run={run.folder}", *few, path=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert OWN_FIGURE in json.loads((tmp_path / "report" / "report.json").read_text())["figures"]


# ---- taken elsewhere


@pytest.mark.slow
def test_foreign_parts_are_exported_and_come_back_where_they_are_trusted(run: Result, tmp_path: Path) -> None:
    settings = {"run": str(run.folder), "to": str(tmp_path / "export")}
    with pytest.raises(CheckpointError, match=r"foreign_vae.*trust"):
        export({**settings, "format": "safetensors"})
    found = export({**settings, "format": "[onnx,safetensors,torch_export]", "trust": "foreign_vae"})
    assert {line.partition(":")[0] for line in found.lines} == {"encoder.onnx", "decoder.onnx", "encoder.pt2", "decoder.pt2"}
    with pytest.raises(CheckpointError, match="foreign_vae"):
        VAE.from_pretrained(found.folder)
    again = VAE.from_pretrained(found.folder, trust=["foreign_vae"])
    best = torch.load(run.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert_equal(again.state_dict(), best)
    evaluated = evaluate(compose_evaluation(found.folder, "trust=[foreign_vae]", "evaluation.figures=[]"))
    assert evaluated.report["splits"]["test"]["elbo"]["num_images"] == 16


@pytest.mark.slow
def test_model_of_a_foreign_class_is_exported_and_evaluated(compose_foreign: Compose, tmp_path: Path) -> None:
    train(compose_foreign(tmp_path / "run", "model=foreign", "data=foreign", "trainer.max_epochs=1"))
    found = export({"run": str(tmp_path / "run"), "to": str(tmp_path / "export"), "trust": "[foreign_vae]"})
    assert {line.partition(":")[0] for line in found.lines} == {"encoder.onnx", "decoder.onnx"}
    evaluated = evaluate(compose_evaluation(found.folder, "trust=[foreign_vae]", "evaluation.figures=[]"))
    own = evaluate(compose_evaluation(tmp_path / "run", "trust=[foreign_vae]", "evaluation.figures=[]"))
    estimates = [found.report["splits"]["test"]["elbo"]["value"] for found in (evaluated, own)]
    assert estimates[0] == estimates[1]
