"""The page is one file that asks for nothing; what a run or a class is called is text in it, whatever it holds."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import MISSING, Browser, browser, program
from torch import Tensor, nn

from vae_lightning import VAE
from vae_lightning.abilities import Labels
from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.explored import Explored, Source, explored
from vae_lightning.explorer.page import SCRIPTS, explorer_page, page_in, weights_of_page

NASTY = "</script><script>window.taken = 1</script><img src=x onerror='window.taken = 1'>&amp;\u2028"
Y = torch.arange(12) % 3


class Data:
    """Images of 6 x 6 pixels."""

    binarization = "dynamic"
    num_classes = 3


def small(title: str = "vae", shape: tuple[int, int, int] = (1, 6, 6), labels: Labels | None = None, **arguments: Any) -> Explored:
    torch.manual_seed(0)
    model = VAE(**{"latent_dim": 2, "net": {"name": "mlp", "hidden": [8]}, "image_shape": shape, **arguments}).eval()
    x = torch.rand(12, *shape).round()
    source = Source(title, "VAE", "best.ckpt", "ab" * 32, "toys")
    return explored(model, Data(), x, Y, labels or Labels(("a", "b", "c"), "shape", 3), source)


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    if program() is None:
        pytest.skip(MISSING)
    with browser() as tab:
        yield tab


@pytest.fixture(scope="module")
def named_nastily() -> str:
    return explorer_page([small(NASTY, labels=Labels((NASTY, "b", "c"), NASTY, 3), num_classes=3)])


def test_names_are_text_whatever_they_hold(tab: Browser, tmp_path: Path, named_nastily: str) -> None:
    page = tmp_path / "a b#c.html"
    page.write_text(named_nastily)
    tab.open(page)
    assert tab.do("typeof window.taken") == "undefined"
    assert tab.do("document.querySelector('h1').textContent") == f"Explorer: {NASTY}"
    assert tab.do("document.querySelectorAll('img').length") == 0
    assert tab.do("document.querySelector('#latents legend').textContent") == NASTY
    assert tab.errors() == []


def test_page_asks_for_nothing_from_elsewhere(tab: Browser, tmp_path: Path, named_nastily: str) -> None:
    assert not re.search(
        r"(?:src|href)\s*=\s*[\"'](?!data:)|https?://|@import|fetch\(|XMLHttp|import\(", named_nastily.replace(NASTY, "")
    )
    page = tmp_path / "page.html"
    page.write_text(named_nastily)
    tab.open(page)
    assert tab.requests() == [page.as_uri()]
    # and could not, if something in it wanted to
    tab.do("(() => { const image = new Image(); image.src = 'http://localhost:9/x.png'; document.body.append(image); })()")
    tab.settle()
    assert any("Content Security Policy" in text for text in tab.errors())


def test_page_says_which_weights_it_is_of(named_nastily: str) -> None:
    assert weights_of_page(named_nastily.encode()) == "ab" * 32
    assert weights_of_page(b"<html>") is None


def test_page_beside_a_report_counts_if_it_is_of_the_same_weights(tmp_path: Path, named_nastily: str) -> None:
    assert page_in(tmp_path, "ab" * 32) is None
    (tmp_path / "explorer.html").write_text(named_nastily)
    assert page_in(tmp_path, "ab" * 32) == "explorer.html"
    assert page_in(tmp_path, "cd" * 32) is None
    (tmp_path / "explorer.html").rename(tmp_path / "elsewhere.html")
    (tmp_path / "explorer.html").symlink_to(tmp_path / "elsewhere.html")
    assert page_in(tmp_path, "ab" * 32) is None


def test_scripts_are_the_files_there_are() -> None:
    folder = Path(explorer_page.__code__.co_filename).parent / "templates"
    assert sorted(SCRIPTS) == sorted(path.name for path in folder.glob("*.js"))


def test_models_of_images_of_different_shapes_are_not_compared() -> None:
    both = [Explored({"title": "a", "digest": ""}, None, shape) for shape in ((1, 6, 6), (1, 8, 8))]  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="different shapes, 1x6x6 and 1x8x8"):
        explorer_page(both)


def test_colours_and_grey_levels_are_drawn(tab: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Data, "binarization", "none")
    page = tmp_path / "colour.html"
    page.write_text(explorer_page([small(shape=(3, 6, 6), likelihood="gaussian", labels=Labels(count=0))]))
    tab.open(page)
    tab.do("explorer.page.paper.clear()")
    tab.do("(box => { box.value = '#ff8000'; box.dispatchEvent(new Event('input')); })(document.querySelector('[type=color]'))")
    tab.do("explorer.page.paper.canvas.focus()")
    tab.press(" ")
    image = torch.tensor(tab.do("Array.from(explorer.page.paper.image.data)")).view(3, 6, 6)
    assert torch.allclose(image.amax((1, 2)), torch.tensor([1.0, 128 / 255, 0.0]))
    assert "test image" not in tab.do("document.querySelector('#latents .status').textContent")
    assert "the unknown pixels are the mean of p(x | z), without noise" in tab.do(
        "document.querySelector('#completing').textContent"
    )
    assert tab.errors() == []


class Flat(nn.Module):
    """A decoder that gives each pixel the same grey level, whatever z is."""

    def __init__(self, outputs: int, image_shape: tuple[int, int, int], **_: Any) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return (0 * z[:, :1] + self.level)[..., None, None].expand(-1, 1, 6, 6)


def test_net_of_ones_own_is_in_the_page(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "own.html"
    page.write_text(explorer_page([small(decoder=Flat(1, (1, 6, 6)))]))
    tab.open(page)
    assert "brightness of p(x | z): 50 %" in tab.do("document.querySelector('#latents .status').textContent")
    assert "the unknown pixels are drawn from p(x | z), while" in tab.do("document.querySelector('#completing').textContent")
    assert "On 12 test images and samples of the prior" in tab.do("document.querySelector('#about').textContent")
