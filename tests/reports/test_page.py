"""The page holds everything it shows, and shows every metric and figure."""

import base64
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vae_lightning.reports.page import Page, Picture, to_html, to_markdown
from vae_lightning.reports.reading import COVERS
from vae_lightning.treatment import Treatment


@pytest.fixture
def page(tmp_path: Path) -> Page:
    estimate: dict[str, Any] = {
        "standard_error": 0.123,
        "num_images": 10_000,
        "num_samples": 50,
        "estimator": "-log p(x | y) < it",
        "settings": {"schedule": "sigmoid", "step_size": 0.123456},
        "seconds": 12.34,
        "section": "likelihood",
    }
    (tmp_path / "figures").mkdir()
    pictures = []
    for name in ("samples.png", "walk.gif"):
        path = tmp_path / "figures" / name
        path.write_bytes(name.encode())
        pictures.append(Picture(path.stem, path, f"Caption of {path.stem}: p(x | z) & more."))
    return Page(
        title="outputs/vae/1",
        checkpoint="best.ckpt, epoch 3, optimizer step 1,290",
        model="VAE, 1,234 parameters",
        binarization="dynamic",
        estimates={
            "test": {
                "nll": [{"value": 88.934, **estimate}, {"value": 91.5, **estimate, "num_samples": 3, "seed": 7}],
                "accuracy": [{"value": 0.98765, **estimate, "standard_error": None, "seconds": None}],
            }
        },
        warnings=["test/nll is too good to be true"],
        not_measured={"quadrature": "needs a latent of at most two dimensions"},
        command="python train.py model.latent_dim=2",
        provenance={"seed": 0, "versions": {"torch": "2.13.0"}},
        pictures=pictures,
        skipped={"mistakes": "the model is no classifier"},
    )


def test_html_needs_no_other_file(page: Page) -> None:
    html = to_html(page)
    sources = re.findall(r'src="([^"]*)"', html)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert all(link.startswith(("#", "https://")) for link in re.findall(r'href="([^"]*)"', html))
    assert not re.search(r"<(?:link|script|iframe)|url\(|@import", html)
    held = [base64.b64decode(source.partition(",")[2]) for source in sources if source.startswith("data:")]
    assert held == [b"samples.png", b"walk.gif"]


@pytest.mark.parametrize("markdown", [False, True])
def test_page_tells_everything(page: Page, tmp_path: Path, markdown: bool) -> None:
    text = to_markdown(page, tmp_path) if markdown else to_html(page)
    for expected in (page.checkpoint, page.command, page.model, "dynamic", "88.93", "0.12", "0.9877", "10,000", "no classifier"):
        assert str(expected) in text
    for expected in ("schedule: sigmoid; step size: 0.1235", "12.3", "too good to be true", "quadrature: needs a latent"):
        assert str(expected) in text
    assert "nan" not in text
    assert "None" not in text
    caption = "Caption of walk: p(x | z) & more."
    assert (caption if markdown else caption.replace("&", "&amp;")) in text
    assert ("(figures/walk.gif)" in text) == markdown
    assert ("-log p(x \\| y) &lt; it |" if markdown else "-log p(x | y) &lt; it<") in text


@pytest.mark.parametrize("markdown", [False, True])
def test_estimates_of_several_settings_have_a_row_each(page: Page, tmp_path: Path, markdown: bool) -> None:
    whole = to_markdown(page, tmp_path) if markdown else to_html(page)
    text = whole.rpartition("All estimates")[2]
    assert text.index("88.93") < text.index("91.50") < text.index("0.9877")
    assert "seed: 7" in text
    assert "seed: 0" not in text


def test_picture_says_what_it_was_drawn_with(page: Page, tmp_path: Path) -> None:
    drawn = dataclasses.replace(page.pictures[0], settings={"mask": "left", "digit": 7})
    for text in (
        to_html(dataclasses.replace(page, pictures=[drawn])),
        to_markdown(dataclasses.replace(page, pictures=[drawn]), tmp_path),
    ):
        assert "(mask: left; digit: 7)" in text.replace('<span class="muted">', "")


def test_markdown_shows_names_as_they_are(page: Page, tmp_path: Path) -> None:
    """`<run>` is no tag, `[v2]` no link, `*` no emphasis."""
    odd = dataclasses.replace(page, title="a[v2]*b*", not_measured={"samples": "needs evaluation.classifier=<run of one>"})
    text = to_markdown(odd, tmp_path)
    assert text.startswith("# a\\[v2\\]\\*b\\*\n")
    assert "evaluation.classifier=&lt;run of one>" in text
    assert "<h1>a[v2]*b*</h1>" in to_html(odd)


def test_page_says_where_a_training_went_on_by_other_settings(page: Page, tmp_path: Path) -> None:
    before = {"checkpoint": "last.ckpt", "steps": 20, "changed": {"model.optimizer.lr": {"was": 0.1, "is": 0.01}}}
    page = dataclasses.replace(page, provenance={"continued_from": before})
    for text in (to_html(page), to_markdown(page, tmp_path)):
        assert "Until step 20 it was trained with model.optimizer.lr=0.1." in text
    for nothing in ({**before, "changed": {}}, {"changed": 3}, "last.ckpt"):
        assert dataclasses.replace(page, provenance={"continued_from": nothing}).went_on is None


def test_page_of_a_killed_training_does_without_what_is_not_known(page: Page) -> None:
    bare = Page(page.title, page.checkpoint, page.model, page.binarization, {})
    assert "<pre>" not in to_html(bare)


def test_section_is_folded_for_many_metrics_and_not_for_many_settings_of_few(page: Page) -> None:
    (first, *_) = page.estimates["test"]["nll"]
    few, many = {"nll": [first] * 20}, {f"kl_per_dimension/{d:02d}": [first] for d in range(13)}
    assert "<details open>" in to_html(dataclasses.replace(page, estimates={"test": few}))
    assert "<details open>" not in to_html(dataclasses.replace(page, estimates={"test": many}))


def test_page_of_somebodys_report_holds_no_tag_of_theirs(page: Page, tmp_path: Path) -> None:
    tag = "<script>alert(1)</script>"
    picture = dataclasses.replace(page.pictures[0], name=tag, caption=tag, settings={tag: tag})
    (estimate,) = page.estimates["test"]["nll"][:1]
    row = {**estimate, "section": tag, "estimator": tag, "settings": {tag: tag}}
    texts = dict.fromkeys(("title", "checkpoint", "model", "binarization", "command"), tag)
    texts |= {"provenance": {tag: {tag: tag}}, "warnings": [tag], "not_measured": {tag: tag}, "skipped": {tag: tag}}
    hostile = dataclasses.replace(page, **texts, estimates={tag: {tag: [row]}}, pictures=[picture])
    assert "<script" not in to_html(hostile)
    shown = to_markdown(hostile, tmp_path).replace(f"    {tag}", "")  # a command stands in a block of code
    assert "<script" not in shown.replace(r"\<script", "")


@pytest.mark.parametrize("markdown", [False, True])
def test_a_number_stands_among_the_figures_that_compare_with_it(page: Page, tmp_path: Path, markdown: bool) -> None:
    compared = dataclasses.replace(page, treatment=Treatment("mnist", "dynamic"))
    text = to_markdown(compared, tmp_path) if markdown else to_html(compared)
    listed = text.rpartition("nll, lower is better")[2].partition("</p>")[2] or text.rpartition("nll, lower is better")[2]
    assert listed.index("86.76") < listed.index("this run") < listed.index("127.22")
    assert "Burda et al., 2016" in listed
    assert "https://arxiv.org/abs/1509.00519" in listed
    assert "experiment=burda_vae" in listed
    assert "89.05" not in text, "the static one"
    assert "83.81" not in text, "of p(x | y)"


@pytest.mark.parametrize("markdown", [False, True])
@pytest.mark.parametrize("treatment", [None, Treatment("mnist", "threshold")])
def test_a_page_without_figures_that_compare_says_so(
    page: Page, tmp_path: Path, markdown: bool, treatment: Treatment | None
) -> None:
    alone = dataclasses.replace(page, treatment=treatment)
    text = to_markdown(alone, tmp_path) if markdown else to_html(alone)
    assert "There is no number, published or of this project, of the same data treatment" in text
    assert "86.76" not in text
    assert ("binarization threshold" in text) == (treatment is not None)


@pytest.mark.parametrize("markdown", [False, True])
def test_page_says_what_errors_cover_and_what_names_mean_without_a_mouse(page: Page, tmp_path: Path, markdown: bool) -> None:
    text = to_markdown(page, tmp_path) if markdown else to_html(page)
    assert COVERS in text
    meant = text.rpartition("What the names mean")[2]
    assert "an upper bound in expectation" in meant
    assert "Share of images whose class is right" in meant
    assert "1 nat is 1.44 bits" in meant
    assert "mutual_information" not in meant, "which was not measured"
    assert "title=" not in text


def test_every_name_leads_to_what_it_means(page: Page) -> None:
    html = to_html(page)
    links = set(re.findall(r'href="#([^"]*)"', html))
    assert {"about-nll", "about-accuracy"} <= links <= set(re.findall(r'id="([^"]*)"', html))


@pytest.mark.parametrize("markdown", [False, True])
def test_remarks_on_the_numbers_are_shown(page: Page, tmp_path: Path, markdown: bool) -> None:
    (nll, *_) = page.estimates["test"]["nll"]
    few = dataclasses.replace(page, estimates={"test": {"nll": [nll], "effective_sample_size": [{**nll, "value": 3.5}]}})
    text = to_markdown(few, tmp_path) if markdown else to_html(few)
    assert "is 3.5 of 50, below 10" in text.replace("\\", "")


def test_settings_are_spoken_of_only_where_there_are_some(page: Page) -> None:
    assert "In grey the settings" in to_html(page)
    bare = [{**page.estimates["test"]["nll"][0], "settings": {}}]
    assert "In grey the settings" not in to_html(dataclasses.replace(page, estimates={"test": {"nll": bare}}))


@pytest.mark.parametrize(("file", "format"), [("a.png", "PNG"), ("a.gif", "GIF")])
def test_width_of_a_picture_is_that_of_its_file(tmp_path: Path, file: str, format: str) -> None:
    Image.new("L", (321, 12)).save(tmp_path / file, format)
    picture = Picture("a", tmp_path / file, "")
    assert picture.width == 321
    (tmp_path / file).write_bytes(b"no picture")
    assert picture.width == 0


def test_page_is_dark_where_the_reader_wants_it_and_figures_stay_on_white(page: Page) -> None:
    html = to_html(page)
    assert "prefers-color-scheme: dark" in html
    assert re.search(r"\.picture \{[^}]*background: #fff", html)


@pytest.mark.parametrize("markdown", [False, True])
def test_a_classifier_is_held_against_no_likelihood(page: Page, tmp_path: Path, markdown: bool) -> None:
    only = dataclasses.replace(page, estimates={"test": {"accuracy": page.estimates["test"]["accuracy"]}})
    text = to_markdown(only, tmp_path) if markdown else to_html(only)
    assert "Is it good?" not in text
    assert "0.9877" in text


def test_page_leads_to_the_explorer_where_there_is_one(page: Page) -> None:
    assert "explorer" not in to_html(page)
    assert '<a href="explorer.html">Explorer</a>' in to_html(dataclasses.replace(page, explorer="explorer.html"))
