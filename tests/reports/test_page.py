"""The page holds everything it shows, and shows every metric and figure."""

import base64
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from vae_lightning.reports.page import Page, Picture, to_html, to_markdown


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
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
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
    text = to_markdown(page, tmp_path) if markdown else to_html(page)
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
