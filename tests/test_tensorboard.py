"""The real TensorBoard server on loopback, asked for all that short runs and a small sweep should have given it."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import QUICK, REPOSITORY
from PIL import Image

from vae_lightning.callbacks.dashboard import CLASSIFIER_LAYOUT, LATENT_LAYOUT
from vae_lightning.commands.commandline import register_resolvers
from vae_lightning.commands.train import train
from vae_lightning.glossary import meaning

SMALL = ["model.net.hidden=[16]"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--window-size=1400,1000", "--virtual-time-budget=15000"]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Ask = Callable[..., Any]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logdir(mnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, a classifier, and a sweep over latent dimension and beta."""
    folder = tmp_path_factory.mktemp("tensorboard")
    register_resolvers()
    kinds = {"vae": [*SMALL, "model.latent_dim=3", "callbacks.histograms.every_n_epochs=1"], "cnn": []}
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        for model, settings in kinds.items():
            own = [f"data.root={mnist_root}", f"run_dir={folder / 'outputs' / model}", "name=test", f"model={model}"]
            train(hydra.compose("train", [*own, *QUICK, "trainer.log_every_n_steps=2", *settings]))
    swept = ["-m", "model=beta_vae", "model.latent_dim=2,3", "model.beta=1,4", f"data.root={mnist_root}", *QUICK, *SMALL]
    subprocess.run([sys.executable, str(REPOSITORY / "train.py"), *swept], cwd=folder, capture_output=True, check=True)
    return folder / "outputs"


@pytest.fixture(scope="module")
def url(logdir: Path) -> Iterator[str]:
    """Where the server that shows all of `logdir` is."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    log = logdir.parent / "server.log"
    with log.open("w") as output, subprocess.Popen([*command, "--load_fast=false"], stdout=output, stderr=output) as server:
        try:
            found = within(30, lambda: re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()))
            yield found[0]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def ask(url: str) -> Ask:
    """Ask the server's HTTP API: `ask("plugin/scalars/tags")`; with `post`, by POST."""

    def of(path: str, post: Any = None, raw: bool = False, **arguments: Any) -> Any:
        address = f"{url}data/{path}?{urllib.parse.urlencode(arguments)}"
        body = None if post is None else json.dumps(post).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return content if raw else json.loads(content)

    # it reads run by run; of the last thing that each run writes it knows last
    ends = {"status": "STATUS_SUCCESS"}
    within(60, lambda: sum(session.items() >= ends.items() for session in sessions(of)) == 6)
    return of


def within(seconds: float, found: Callable[[], Any]) -> Any:
    deadline = time.time() + seconds
    while time.time() < deadline:
        if result := found():
            return result
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def sessions(ask: Ask) -> list[dict[str, Any]]:
    return [session for group in session_groups(ask) for session in group["sessions"]]


def session_groups(ask: Ask) -> list[dict[str, Any]]:
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    request = {"experimentName": "", "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 100}
    groups: list[dict[str, Any]] = ask("plugin/hparams/session_groups", post=request).get("sessionGroups", [])
    return groups


def test_scalars_of_every_run_are_in_the_glossary(ask: Ask) -> None:
    tags = ask("plugin/scalars/tags")
    assert len(tags) == 6
    vae = {"train/elbo", "val/elbo", "test/elbo", "train/gradient_norm", "val/active_units", "time/images_per_second"}
    assert vae | {f"val/kl_per_dimension/{d:02d}" for d in range(3)} <= set(tags["vae/tensorboard"])
    assert {"val/accuracy", "test/accuracy", "train/gradient_norm"} <= set(tags["cnn/tensorboard"])
    for tag in {tag for run in tags.values() for tag in run}:
        assert meaning(tag)


def test_layout_groups_the_charts_of_all_runs_once(ask: Ask) -> None:
    categories = ask("plugin/custom_scalars/layout")["category"]
    expected = {**CLASSIFIER_LAYOUT, **LATENT_LAYOUT}
    assert {category["title"] for category in categories} == set(expected)
    for category in categories:
        assert [chart["title"] for chart in category["chart"]] == list(expected[category["title"]])
    pattern = LATENT_LAYOUT["latent-variable model"]["KL of each latent dimension (nats)"][1][0]
    lines = ask("plugin/custom_scalars/scalars", run="vae/tensorboard", tag=pattern)
    assert set(lines["tag_to_events"]) == {f"val/kl_per_dimension/{d:02d}" for d in range(3)}


def test_images_can_be_seen(ask: Ask) -> None:
    tags = ask("plugin/images/tags")
    assert {"val/reconstructions", "val/traversals", "prior/samples"} == set(tags["vae/tensorboard"])
    assert {"test/confusion"} == set(tags["cnn/tensorboard"])
    assert sum("prior/latent_grid" in run for run in tags.values()) == 2, "of the jobs with two latent dimensions"
    (shown,) = ask("plugin/images/images", run="vae/tensorboard", tag="val/reconstructions", sample=0)
    picture = Image.open(io.BytesIO(ask("plugin/images/individualImage?" + shown["query"], raw=True)))
    assert picture.size == (16 * 30 + 2, 3 * 30 + 2)


def test_texts_hold_config_provenance_and_glossary(ask: Ask) -> None:
    for run, tags in ask("plugin/text/tags").items():
        assert {"config/text_summary", "provenance/text_summary", "glossary/text_summary"} <= set(tags), run
    shown = {
        tag: ask("plugin/text/text", run="vae/tensorboard", tag=f"{tag}/text_summary")[0]["text"] for tag in ("config", "glossary")
    }
    assert "latent_dim: 3" in shown["config"]
    assert "<table>" in shown["glossary"]


def test_histograms_where_they_were_asked_for(ask: Ask) -> None:
    tags = ask("plugin/histograms/tags")
    assert list(tags) == ["vae/tensorboard"]
    assert {"latents/mean", "latents/stddev", "latents/sample"} <= set(tags["vae/tensorboard"])


def test_classifier_has_a_precision_recall_curve_a_class(ask: Ask) -> None:
    tags = ask("plugin/pr_curves/tags")
    assert list(tags) == ["cnn/tensorboard"]
    assert set(tags["cnn/tensorboard"]) == {f"test/precision_recall/{c}" for c in range(10)}
    curve = ask("plugin/pr_curves/pr_curves", run="cnn/tensorboard", tag="test/precision_recall/3")["cnn/tensorboard"][0]
    assert curve["recall"][0] == 1.0
    assert curve["true_positives"][0] + curve["false_positives"][0] == 100, "all images that were tested"


def test_hparams_has_a_row_a_job_with_what_was_swept_and_final_metrics(ask: Ask, logdir: Path) -> None:
    experiment = ask("plugin/hparams/experiment", post={"experimentName": "", "includeMetrics": True})
    columns = {info["name"]: info for info in experiment["hparamInfos"]}
    for swept, values in {"model.latent_dim": (2, 3), "model.beta": (1, 4)}.items():
        assert columns[swept]["type"] == "DATA_TYPE_FLOAT64"
        assert (columns[swept]["domainInterval"]["minValue"], columns[swept]["domainInterval"]["maxValue"]) == values
        assert columns[swept]["differs"]
    rows = [group for group in session_groups(ask) if "sweep_" in group["name"]]
    assert sorted((row["hparams"]["model.latent_dim"], row["hparams"]["model.beta"]) for row in rows) == [
        (2, 1),
        (2, 4),
        (3, 1),
        (3, 4),
    ]
    for row in rows:
        assert row["hparams"]["model"] == "BetaVAE"
        record = json.loads((logdir / row["name"]).parent.joinpath("metrics.json").read_text())
        shown = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
        for metric, value in record["metrics"].items():
            if not metric.startswith("train/"):
                assert shown[metric] == pytest.approx(value, rel=1e-5), metric


def test_hparams_has_the_elbo_of_the_test_as_its_first_metric_and_short_names(ask: Ask) -> None:
    experiment = ask("plugin/hparams/experiment", post={"experimentName": "", "includeMetrics": True})
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert next(tag for tag in metrics if tag != "test/accuracy") == "test/elbo", "a classifier, which has none, is among the runs"
    jobs = [group["name"].split("/")[-2] for group in session_groups(ask) if "sweep_" in group["name"]]
    assert sorted(jobs) == [f"latent_dim={d},beta={b}" for d in (2, 3) for b in (1, 4)]


def test_hparams_can_be_sorted_by_a_metric(ask: Ask) -> None:
    column = [{"metric": {"tag": "test/elbo", "group": ""}, "order": "ORDER_DESC", "missingValuesFirst": False}]
    request = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 100, "colParams": column}
    groups = ask("plugin/hparams/session_groups", post=request)["sessionGroups"]
    values = [value["value"] for group in groups for value in group["metricValues"] if value["name"]["tag"] == "test/elbo"]
    assert len(values) == 5, "all but the classifier's"
    assert values == sorted(values, reverse=True)


def test_projector_has_posteriors_labels_and_sprites(ask: Ask) -> None:
    runs = within(30, lambda: ask("plugin/projector/runs"))
    assert len(runs) == 5
    (embedding,) = ask("plugin/projector/info", run="vae/tensorboard")["embeddings"]
    assert embedding["tensorShape"] == [1000, 3]
    name = embedding["tensorName"]
    assert len(ask("plugin/projector/tensor", raw=True, run="vae/tensorboard", name=name, num_rows=1000)) == 1000 * 3 * 4
    metadata = ask("plugin/projector/metadata", raw=True, run="vae/tensorboard", name=name, num_rows=1001).decode()
    rows = list(csv.DictReader(io.StringIO(metadata), delimiter="\t"))
    assert {row["label"] for row in rows} == {str(digit) for digit in range(10)}
    assert all(float(row["kl"]) >= 0 for row in rows)
    sprite = Image.open(io.BytesIO(ask("plugin/projector/sprite_image", raw=True, run="vae/tensorboard", name=name)))
    assert sprite.size == (32 * 28, 32 * 28)


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_page_opens_in_a_browser(ask: Ask, url: str, tmp_path: Path) -> None:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", f"{url}#timeseries"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    for plugin in ("Scalars", "Custom Scalars", "Images", "Histograms", "Text", "PR Curves", "HParams", "Projector"):
        assert re.search(rf"\b{plugin}\b", page, re.IGNORECASE), plugin
    assert "vae/tensorboard" in page
    assert re.search(r'title="(prior|test)/\w+"', page), "its first charts are drawn"
