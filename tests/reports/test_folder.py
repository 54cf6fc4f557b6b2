"""The folder of an evaluation has one owner at a time, and what was in it is never lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError
from vae_lightning.reports.document import plain, to_json
from vae_lightning.reports.folder import ReportFolder, owned
from vae_lightning.types import Estimate

BEST = {"file": "best.ckpt", "sha256": "ab" * 32, "epoch": 3, "step": 1290}
LAST = {"file": "last.ckpt", "sha256": "cd" * 32, "epoch": 5, "step": 2150}


def write(folder: ReportFolder, value: float, **names: int) -> dict[str, Any]:
    estimates = {name: Estimate(value, 0.1, 10, samples, "none", "") for name, samples in names.items()}
    return folder.write(to_json("best.ckpt", {"test": estimates}), lambda report: [])


def evaluated(path: Path, weights: dict[str, Any], value: float, **names: int) -> dict[str, Any]:
    """An evaluation that measures estimates of some K and draws a figure."""
    with owned(path, weights) as folder:
        report = write(folder, value, **names)
        (folder.figures / "samples.png").write_bytes(str(value).encode())
        for page in ("report.html", "report.md"):
            (path / page).write_text(str(value))
    return report


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "report.json").read_text())
    return content


def test_evaluations_of_the_same_weights_are_one_report(tmp_path: Path) -> None:
    evaluated(tmp_path, BEST, 90.0, nll=100, ais=16)
    report = evaluated(tmp_path, {**BEST, "file": "last.ckpt"}, 91.0, nll=3)
    assert report == read(tmp_path)
    assert {name: e["value"] for name, e in report["splits"]["test"].items()} == {"nll": 90.0, "ais": 90.0}
    assert [e["value"] for e in report["other_settings"]["test"]["nll"]] == [91.0]
    assert report["weights"]["file"] == "last.ckpt"


def test_report_of_other_weights_is_put_aside_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluated(tmp_path, BEST, 90.0, nll=100)
    report = evaluated(tmp_path, LAST, 80.0, kl=1)
    assert set(report["splits"]["test"]) == {"kl"}
    kept = tmp_path / "earlier" / "step_1290_abababab"
    assert set(read(kept)["splits"]["test"]) == {"nll"}
    assert (kept / "figures" / "samples.png").read_text() == (kept / "report.html").read_text() == "90.0"
    assert (tmp_path / "figures" / "samples.png").read_text() == "80.0"
    assert "is of other weights (best.ckpt, optimizer step 1,290); it is kept" in caplog.text
    report = evaluated(tmp_path, BEST, 70.0, rate=1)
    assert set(report["splits"]["test"]) == {"nll", "rate"}
    assert set(read(tmp_path / "earlier" / "step_2150_cdcdcdcd")["splits"]["test"]) == {"kl"}
    assert not kept.exists()
    assert "is back in" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b'{"test": ', "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "is not a report of this project"),
        (b'{"checkpoint": "best.ckpt", "test": {}}', "does not say of which weights"),
        (b'{"format": 2, "checkpoint": "best.ckpt", "splits": {}}', "does not say of which weights"),
        (b'{"format": 2, "checkpoint": "best.ckpt", "weights": {}, "splits": []}', "is not a report of this project"),
        (b'{"format": 2, "checkpoint": "best.ckpt", "weights": {}, "splits": {"test": 3}}', "is not a report of this project"),
        (None, "is missing"),
    ],
)
def test_file_that_is_no_report_is_kept_under_another_name(
    tmp_path: Path, content: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "samples.png").write_text("somebody's")
    (tmp_path / "report.html").write_text("somebody's")
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    evaluated(tmp_path, BEST, 90.0, nll=1)
    kept = tmp_path / "earlier" / "unknown"
    assert (kept / "report.html").read_text() == (kept / "figures" / "samples.png").read_text() == "somebody's"
    assert content is None or (kept / "report.json").read_bytes() == content
    (line,) = caplog.messages
    assert reason in line
    assert "\n" not in line
    # and a second such does not take the place of the first
    (tmp_path / "report.json").write_text("again")
    evaluated(tmp_path, BEST, 90.0, nll=1)
    assert (tmp_path / "earlier" / "unknown_2" / "report.json").read_text() == "again"
    assert (kept / "report.html").read_text() == "somebody's"


def test_report_of_format_1_is_gone_on_with(tmp_path: Path) -> None:
    nll = plain(Estimate(90.0, 0.1, 10, 100, "none", "", section="likelihood"))
    old = {
        "checkpoint": "best.ckpt",
        "warnings": [],
        "weights": BEST,
        "other_settings": {"test": {"nll": [nll | {"value": 95.0, "num_samples": 7}]}},
    }
    (tmp_path / "report.json").write_text(json.dumps({**old, "test": {"nll": nll}, "train": {"nll": nll}}))
    report = evaluated(tmp_path, BEST, 91.0, nll=3)
    assert report == read(tmp_path)
    assert report["format"] == 2
    assert {split: [*report["splits"][split]] for split in ("test", "train")} == {"test": ["nll"], "train": ["nll"]}
    assert not {"test", "train"} & set(report)
    assert report["splits"]["test"]["nll"] == nll
    assert [e["value"] for e in report["other_settings"]["test"]["nll"]] == [91.0, 95.0]


def test_report_of_a_later_version_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"format": 3, "estimates": []}')
    with pytest.raises(CheckpointError, match=r"report\.json: is of format 3, .*to=<folder>") as refused, owned(tmp_path, BEST):
        pytest.fail("it went on")
    assert "\n" not in str(refused.value)
    assert (tmp_path / "report.json").read_text() == '{"format": 3, "estimates": []}'


@pytest.mark.parametrize("weights", [BEST, LAST])
def test_evaluation_that_is_killed_loses_nothing(tmp_path: Path, weights: dict[str, Any]) -> None:
    evaluated(tmp_path, BEST, 90.0, nll=100, ais=16)

    def killed() -> None:
        with owned(tmp_path, weights) as folder:
            if weights is BEST:
                write(folder, 91.0, nll=3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    # what is of other weights goes only when something is there to take its place
    assert {name: e["value"] for name, e in read(tmp_path)["splits"]["test"].items()} == {"nll": 90.0, "ais": 90.0}
    assert (tmp_path / "figures" / "samples.png").read_text() == "90.0"


def test_second_evaluation_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with owned(tmp_path, BEST) as folder:
        write(folder, 90.0, nll=1)
        with pytest.raises(ConfigurationError, match=r"another evaluation is writing there.*to=<folder>"), owned(tmp_path, BEST):
            pass
        write(folder, 90.0, nll=1, kl=1)
    assert set(read(tmp_path)["splits"]["test"]) == {"nll", "kl"}
    evaluated(tmp_path, BEST, 91.0, rate=1)


def test_refused_evaluation_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), owned(tmp_path / "evaluation", BEST):
        raise KeyError
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize("name", ["evaluation", "evaluation/figures"])
def test_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("a file")
    with (
        pytest.raises(StorageError, match=r"cannot be written to .*: to=<folder>") as refusal,
        owned(tmp_path / "evaluation", BEST),
    ):
        pass
    assert "\n" not in str(refusal.value)
    assert file.read_text() == "a file"


def test_folder_without_the_right_to_write_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *, exist_ok: bool) -> None:
        raise PermissionError(13, "Permission denied")

    evaluated(tmp_path, BEST, 90.0, nll=1)
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(StorageError, match=r"cannot be written to \(Permission denied\)"), owned(tmp_path, BEST):
        pass


def test_picture_that_is_gone_is_not_listed(tmp_path: Path) -> None:
    with owned(tmp_path, BEST) as folder:
        figures = {name: {"file": f"figures/{name}.png", "caption": "", "settings": {}} for name in ("samples", "walk")}
        folder.write({**to_json("best.ckpt", {}), "figures": figures}, lambda report: [])
        (folder.figures / "walk.png").write_bytes(b"")
    assert set(evaluated(tmp_path, BEST, 1.0)["figures"]) == {"walk"}


@pytest.mark.parametrize(
    "name", [".lock", "figures", "earlier", "earlier/step_1290_abababab", "earlier/step_1290_abababab/figures"]
)
def test_nothing_is_written_or_moved_through_a_link(tmp_path: Path, name: str) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "evaluation"
    (elsewhere / "figures").mkdir(parents=True)
    (elsewhere / "figures" / "holiday.png").write_text("mine")
    (path / name).parent.mkdir(parents=True)
    (path / name).symlink_to(elsewhere / "notes.txt" if name == ".lock" else elsewhere)
    (elsewhere / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=f"{name}: is a link, which is not written through; .*to=<folder>"):
        evaluated(path, BEST, 90.0, nll=1)
    held = {file.relative_to(elsewhere).as_posix(): file.read_text() for file in elsewhere.rglob("*") if file.is_file()}
    assert held == {"notes.txt": "mine", "figures/holiday.png": "mine"}


def test_figure_that_is_a_link_to_another_file_is_not_of_the_report(tmp_path: Path) -> None:
    evaluated(tmp_path, BEST, 90.0, nll=1)
    report = read(tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("mine")
    (tmp_path / "figures" / "loot.png").symlink_to(secret)
    figure = {"caption": "", "settings": {}}
    report["figures"] = {name: {**figure, "file": f"figures/{name}.png"} for name in ("loot", "samples")}
    (tmp_path / "report.json").write_text(json.dumps(report))
    with owned(tmp_path, BEST) as folder:
        assert set(folder.before["figures"]) == {"samples"}


def test_figure_of_an_import_path_is_of_the_report_the_next_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluated(tmp_path, BEST, 90.0, nll=1)
    report = read(tmp_path)
    (tmp_path / "figures" / "mypkg.variance.png").write_text("")
    report["figures"] = {"mypkg.variance": {"file": "figures/mypkg.variance.png", "caption": "", "settings": {}}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert set(evaluated(tmp_path, BEST, 90.0, nll=1)["figures"]) == {"mypkg.variance"}
    assert not caplog.text
