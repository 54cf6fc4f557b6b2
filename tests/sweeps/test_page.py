"""The page of a sweep: it opens from a file, needs no network, and nothing in it is what a name wanted it to be."""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hand_made_sweeps import evaluated, fail, make_sweep
from PIL import Image

from vae_lightning.sweeps import page
from vae_lightning.sweeps.files import write_table
from vae_lightning.sweeps.page import errors_in_words, number, thumbnail
from vae_lightning.sweeps.table import table_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "<script>document.title='taken'</script>"


def values(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
    if settings.get("seed") == 2:
        return None
    shift = float(len(str(settings)) % 7) + 0.25 * settings.get("seed", 0)
    return {"elbo": [-90.0 - shift, -100.0 - shift], "kl": [20.0, 22.0]}


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page_of(folder: Path, *names: str) -> str:
    record = make_sweep(folder, {"name": list(names), "seed": [0, 1, 2]}, values)
    for job in record.jobs:
        if job.settings["seed"] == 2:
            fail(folder, job, f"was not finite {EVIL}")
    return write_table(table_of(folder, record)).read_text()


def test_settings_and_reasons_are_text_whatever_they_hold(tmp_path: Path) -> None:
    text = page_of(tmp_path, EVIL, '" onclick="alert(1)', "{{ 7 * 7 }}")
    tags = Tags(text).found
    assert len([tag for tag, _ in tags if tag == "script"]) == 1
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert "&lt;script&gt;document.title=" in text
    assert "{{ 7 * 7 }}" in text
    markdown = (tmp_path / "sweep.md").read_text()
    assert "<script>" not in markdown.replace("    python train.py -m", "", 1).split("## Results")[1]
    assert "&lt;script>" in markdown


def test_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    tags = Tags(page_of(tmp_path, "a", "b")).found
    addresses = [value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    for address in addresses:
        assert re.match(r"data:image/png;base64,|\./|#", str(address)), address
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "base")]
    (policy,) = (attributes["content"] for tag, attributes in tags if attributes.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; img-src data:;")


def test_links_lead_to_the_runs_and_their_reports(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"name": ["a b", "ü"], "seed": [0]}, values)
    evaluated(tmp_path / record.jobs[0].folder, nll=90.0)
    text = write_table(table_of(tmp_path, record)).read_text()
    hrefs = [str(attributes["href"]) for tag, attributes in Tags(text).found if tag == "a"]
    from urllib.parse import unquote

    leads_to = {(tmp_path / unquote(href)).resolve() for href in hrefs if href.startswith("./")}
    assert leads_to == {
        tmp_path / record.jobs[0].folder,
        tmp_path / record.jobs[1].folder,
        tmp_path / record.jobs[0].folder / "evaluation" / "report.html",
    }
    assert all(path.exists() for path in leads_to)


def test_failures_and_what_is_missing_are_listed(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4, 9], "seed": [0]}, lambda s: values(s) if s["model.beta"] == 1 else None)
    fail(tmp_path, record.jobs[1], "the loss of step 7 is not finite")
    (tmp_path / ".sweep" / "logs").mkdir()
    (tmp_path / ".sweep" / "logs" / f"{record.jobs[1].folder}.log").write_text("Epoch 0")
    text = write_table(table_of(tmp_path, record)).read_text()
    assert '<h2 id="failed">Failed (1)</h2>' in text
    assert "beta=4 seed=0: the loss of step 7 is not finite" in text
    assert f'href="./.sweep/logs/{record.jobs[1].folder}.log"' in text
    assert '<h2 id="missing">Missing (1)</h2>' in text
    assert f"python train.py -m sweep={tmp_path}" in text
    assert f"<code>python evaluate.py sweep={tmp_path}</code> draws them" in text


def test_stopped_trials_are_listed(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0]}, values)
    path = tmp_path / record.jobs[1].folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pruned": True}))
    text = write_table(table_of(tmp_path, record)).read_text()
    assert '<h2 id="pruned">Pruned (1)</h2>' in text
    assert "2 jobs of 2 settings: 1 finished, 1 pruned" in text


def with_figures(run: Path, **pictures: Image.Image) -> None:
    evaluated(run, nll=90.0)
    path = run / "evaluation" / "report.json"
    figures = {name: {"file": f"figures/{name}.png", "caption": "", "settings": {}} for name in pictures}
    path.write_text(json.dumps({**json.loads(path.read_text()), "figures": figures}))
    for name, picture in pictures.items():
        picture.save(run / "evaluation" / "figures" / f"{name}.png")


def test_wall_shows_samples_and_traversals_of_each_setting(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.latent_dim": [2, 4], "seed": [0, 1]}, values)
    picture = Image.new("L", (900, 600))
    with_figures(tmp_path / record.jobs[1].folder, samples=picture, latent_grid_20x20=picture)
    with_figures(tmp_path / record.jobs[2].folder, samples=picture, traversals=picture)
    text = write_table(table_of(tmp_path, record)).read_text()
    wall = text.partition("<h2>Samples and traversals</h2>")[2].partition("<h2")[0]
    assert re.findall(r'alt="(.*?)"', wall) == [
        "samples of latent_dim=2 seed=1",
        "traversals of latent_dim=2 seed=1",
        "samples of latent_dim=4 seed=0",
        "traversals of latent_dim=4 seed=0",
    ]
    assert "latent_grid_20x20.png" in wall, "in the place of traversals, which two dimensions have none of"


def test_picture_is_made_small_and_what_is_none_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PIXELS", 1_000_000)
    Image.new("L", (900, 600)).save(tmp_path / "a.png")
    data = thumbnail(tmp_path / "a.png", tmp_path)
    assert data is not None
    import base64

    small = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
    assert small.size == (360, 240)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Image.new("L", (1001, 1000)).save(tmp_path / "c.png")
    Image.new("L", (9, 9)).save(tmp_path / "d.png", format="BMP")
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "e.png").symlink_to(tmp_path / "a.png")
    for name in "bcd":
        assert thumbnail(tmp_path / f"{name}.png", tmp_path) is None, name
    assert thumbnail(tmp_path / "within" / "e.png", tmp_path / "within") is None
    assert len(caplog.messages) == 4


def test_errors_are_said_in_words(tmp_path: Path) -> None:
    several = make_sweep(tmp_path / "a", {"model.beta": [1], "seed": [0, 1, 2]}, values)
    assert (
        errors_in_words(table_of(tmp_path / "a", several))
        == "mean over 2 seeds ± half of the 95 % interval over seeds (Student's t)"
    )
    one = make_sweep(tmp_path / "b", {"model.beta": [1, 4]}, values, {"seed": 0})
    assert errors_in_words(table_of(tmp_path / "b", one)).startswith("one seed a setting: other seeds would give other values")


@pytest.mark.parametrize(("value", "scale", "text"), [(-98.1234, None, "-98.12"), (0.5, None, "0.5000"), (0.5, -98.0, "0.50")])
def test_numbers_have_the_digits_of_what_they_belong_to(value: float, scale: float | None, text: str) -> None:
    assert number(value, scale) == text


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_page_sorts_and_filters_in_a_browser_and_runs_no_script_of_a_name(tmp_path: Path) -> None:
    text = page_of(tmp_path, "a", "bb", EVIL)
    clicks = """
      document.querySelectorAll("table.sortable")[0].tHead.rows[0].cells[3].querySelector("button").click();
      const box = document.getElementById("filter"); box.value = "name=bb"; box.dispatchEvent(new Event("input"));
    """
    (tmp_path / "clicked.html").write_text(_clicked(text, clicks))
    dom = {name: _dom(tmp_path / f"{name}.html", tmp_path / "profile") for name in ("clicked", "sweep")}
    assert "taken" not in dom["sweep"].partition("</title>")[0]
    assert 'id="controls" hidden' not in dom["sweep"], "the page's own script ran"
    assert 'aria-sort="ascending"' in dom["clicked"]
    rows = re.findall(r'<tr data-label="(.*?)"(.*?)>', dom["clicked"].partition("<h2>Differences")[0])
    assert [label for label, rest in rows if "hidden" not in rest] == ["name=bb"]
    means = [
        float(value) for value in re.findall(r'data-of="test/elbo" data-value="(.*?)"', dom["clicked"].partition("<h2>Diff")[0])
    ]
    assert means == sorted(means)
    assert len(means) == 3


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("beta=1", [(2, 1), (20, 1)]),
        ("beta=1 dim=2", [(2, 1)]),
        ("model.beta=10", [(2, 10), (20, 10)]),
        ("BETA=10", [(2, 10), (20, 10)]),
        ("dim", [(2, 1), (2, 10), (20, 1), (20, 10)]),
        ("beta=", [(2, 1), (2, 10), (20, 1), (20, 10)]),
    ],
)
def test_filter_shows_the_settings_that_were_typed_and_no_others(tmp_path: Path, typed: str, shown: list[tuple[int, int]]) -> None:
    record = make_sweep(tmp_path, {"model.latent_dim": [2, 20], "model.beta": [1, 10], "seed": [0, 1]}, values)
    text = write_table(table_of(tmp_path, record)).read_text()
    clicks = f'const box = document.getElementById("filter"); box.value = "{typed}"; box.dispatchEvent(new Event("input"));'
    (tmp_path / "typed.html").write_text(_clicked(text, clicks))
    table = _dom(tmp_path / "typed.html", tmp_path / "profile").partition("<h2>Differences")[0]
    rows = re.findall(r'<tr data-label="latent_dim=(\d+) beta=(\d+)"(.*?)>', table)
    assert len(rows) == 4
    assert sorted((int(dim), int(beta)) for dim, beta, rest in rows if "hidden" not in rest) == shown


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_lists_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.net.hidden": [[100], [16, 16], [400, 16], [16], [5]], "seed": [0]}, values)
    text = write_table(table_of(tmp_path, record)).read_text()
    clicks = 'document.querySelectorAll("table.sortable")[0].tHead.rows[0].cells[1].querySelector("button").click();'
    (tmp_path / "clicked.html").write_text(_clicked(text, clicks))
    table = _dom(tmp_path / "clicked.html", tmp_path / "profile").partition("<h2>Differences")[0]
    assert re.findall(r'<tr data-label="hidden=\[(.*?)\]"', table) == ["5", "16", "16,16", "100", "400,16"]


def _clicked(text: str, clicks: str) -> str:
    """A page whose own script, the only one that it lets run, clicks something."""
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    return re.sub(r"<meta http-equiv=.*?>", "", text).replace(script[0], f"<script>{script[1]}{clicks}</script>")


def _dom(page: Path, profile: Path) -> str:
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--dump-dom"]
    command = [BROWSER, *flags, f"--user-data-dir={profile}", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_page_says_what_its_columns_mean_without_a_mouse(tmp_path: Path) -> None:
    text = page_of(tmp_path, "one", "two")
    meant = text.partition("What the names mean")[2].partition("</details>")[0]
    assert "<dt>test/elbo</dt>" in meant
    assert "Lower bound of log p(x)" in meant


def test_plots_keep_letters_that_a_phone_shows(tmp_path: Path) -> None:
    text = page_of(tmp_path, "one", "two")
    with Image.open(tmp_path / "figures" / "seeds.png") as plot:
        assert f"--width: {plot.width}px" in text
    assert "calc(.52 * var(--width" in text


def test_page_is_dark_where_the_reader_wants_it(tmp_path: Path) -> None:
    text = page_of(tmp_path, "one")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"(?:td:first-child|body) \{[^}]*background: #fff", text), (
        "a white of its own would stay white in the dark"
    )
