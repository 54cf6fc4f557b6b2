"""What is read of a job's run folder, and what is left out as it is of another test or of other weights."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made_sweeps import evaluated, make_sweep, record_of, write_run

from vae_lightning.sweeps.results import Result
from vae_lightning.sweeps.status import statuses

VALUES = {"elbo": [-1.0, -3.0], "kl": [1.0, 2.0]}


def results(folder: Path, **more: Any) -> list[Result]:
    record = make_sweep(folder, {"seed": [0, 1]}, lambda settings: VALUES if settings["seed"] == 0 else None)
    return [Result(folder, status, {"model.beta": 1}) for status in statuses(folder, record)]


def test_metrics_and_values_of_the_images_are_those_of_the_run(tmp_path: Path) -> None:
    done, missing = results(tmp_path)
    assert done.finished
    assert done.metrics == {"test/elbo": -2.0, "test/kl": 1.5, "val/elbo": -3.0, "val/kl": 0.5}
    assert {key: values.tolist() for key, values in done.images.items()} == {"test/elbo": [-1.0, -3.0], "test/kl": [1.0, 2.0]}
    assert (done.seed, missing.seed) == (0, 1)
    assert not missing.finished
    assert missing.images == missing.metrics == missing.report == {}


def test_seed_that_does_not_vary_is_that_of_all(tmp_path: Path) -> None:
    record = record_of({"model.beta": [1, 4]}, {"seed": 7})
    assert [Result(tmp_path, status, record.shared).seed for status in statuses(tmp_path, record)] == [7, 7]


def test_values_of_another_test_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done, _ = results(tmp_path)
    np.savez(done.run / "test_per_image.npz", elbo=np.array([-1.0, -3.1]), kl=np.array([1.0, 2.0]), _images=np.arange(2.0))
    assert done.images == {}
    assert "are of another test than metrics.json" in caplog.text


def test_values_without_marks_of_the_images_are_left_out(tmp_path: Path) -> None:
    done, _ = results(tmp_path)
    np.savez(done.run / "test_per_image.npz", elbo=np.array([-1.0, -3.0]))
    assert done.images == {}
    assert not done.of_the_same_images(done), "nobody knows"


@pytest.mark.parametrize(
    ("marks", "same"), [([0.0, 1.0], True), ([1.0, 0.0], False), ([0.0, 1.0, 2.0], False), ([0.0, 1.5], False)]
)
def test_images_are_the_same_where_their_marks_are(tmp_path: Path, marks: list[float], same: bool) -> None:
    done, other = results(tmp_path)
    write_run(other.run, {"elbo": [float(number) for number in range(len(marks))]}, marks)
    (_, other) = (Result(tmp_path, status) for status in statuses(tmp_path, record_of({"seed": [0, 1]})))
    assert done.of_the_same_images(other) is same


def test_estimates_are_those_that_the_test_has_not_measured(tmp_path: Path) -> None:
    done, _ = results(tmp_path)
    evaluated(done.run, nll=90.0, elbo=-95.0, **{"nll/k_10": 91.0})
    assert set(done.estimates) == {"nll"}
    assert [row["value"] for row in done.estimates["nll"].values()] == [90.0]
    assert done.page == done.run / "evaluation" / "report.html"


def change_weights(run: Path, report: dict[str, Any]) -> None:
    report["weights"]["file"] = "checkpoints/last.ckpt"


def train_on(run: Path, report: dict[str, Any]) -> None:
    later = (run / "evaluation" / "report.json").stat().st_mtime + 100
    os.utime(run / "checkpoints" / "best.ckpt", (later, later))


def damage(run: Path, report: dict[str, Any]) -> None:
    report["splits"]["test"]["nll"]["value"] = "ninety"


@pytest.mark.parametrize("change", [change_weights, train_on, damage])
def test_evaluation_of_other_weights_is_left_out_with_a_line(tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture) -> None:
    done, _ = results(tmp_path)
    evaluated(done.run, nll=90.0)
    path = done.run / "evaluation" / "report.json"
    report: dict[str, Any] = json.loads(path.read_text())
    change(done.run, report)
    if change is not train_on:
        path.write_text(json.dumps(report))
    assert done.report == {}
    assert done.estimates == {}
    assert len(caplog.messages) == 1


def test_evaluation_of_a_run_without_validation_is_of_its_last_weights(tmp_path: Path) -> None:
    done, _ = results(tmp_path)
    evaluated(done.run, nll=90.0)
    (done.run / "checkpoints" / "best.ckpt").rename(done.run / "checkpoints" / "last.ckpt")
    path = done.run / "evaluation" / "report.json"
    report: dict[str, Any] = json.loads(path.read_text())
    change_weights(done.run, report)
    path.write_text(json.dumps(report))
    assert set(done.estimates) == {"nll"}


def test_picture_is_one_that_the_evaluation_has_drawn(tmp_path: Path) -> None:
    done, _ = results(tmp_path)
    evaluated(done.run, nll=90.0)
    path = done.run / "evaluation" / "report.json"
    figures: Mapping[str, Any] = {
        name: {"file": f"figures/{name}.png", "caption": "", "settings": {}} for name in ("samples", "traversals")
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), "figures": figures}))
    (done.run / "evaluation" / "figures" / "samples.png").write_bytes(b"png")
    assert done.picture("samples") == done.run / "evaluation" / "figures" / "samples.png"
    assert done.picture("traversals") is None, "its file is not there"
    assert done.picture("posterior_means") is None


def test_number_that_no_metric_reaches_is_left_out(tmp_path: Path) -> None:
    done, _ = results(tmp_path)
    path = done.run / "metrics.json"
    path.write_text(path.read_text().replace('"test/kl": 1.5', '"test/kl": 1e308'))
    (done, _) = (Result(tmp_path, status) for status in statuses(tmp_path, record_of({"seed": [0, 1]})))
    assert done.metrics.keys() == {"test/elbo", "val/elbo", "val/kl"}
