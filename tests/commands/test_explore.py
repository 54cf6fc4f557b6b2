"""The command `vae-explore`: pages of real runs, opened in a browser, say what torch says; wrong words in one line."""

import configparser
import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import numpy
import pytest
import torch
from browser import MISSING, Browser, browser, program
from conftest import QUICK, REPOSITORY
from omegaconf import DictConfig

from vae_lightning import commands, runs
from vae_lightning.abilities import classes_of
from vae_lightning.commands.explore import KEYS, explore, main
from vae_lightning.commands.train import train
from vae_lightning.data.array import ArrayDataModule
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError, StorageError, VAELightningError
from vae_lightning.explorer.explored import Explored
from vae_lightning.explorer.material import Rounding
from vae_lightning.explorer.page import weights_of_page
from vae_lightning.runs.layout import CONFIG

SMALL = ("model.net.hidden=[32]", "model.latent_dim=3")
LONGER = ("trainer.limit_train_batches=100", "trainer.compile=false")
OTHERS = ("gated_mlp", "cnn2", "resnet", "flow", "m1")
"""Kinds of models whose pages are tried by `make test-exhaustive` alone."""
KINDS = {
    "mlp": ("model=vae", "model.latent_dim=5", *LONGER),
    "gated_mlp": ("model=vae", "model/net=gated_mlp", "model.latent_dim=5", *LONGER),
    "cnn2": ("model=cvae_cnn2", *LONGER),
    "cnn3": ("model=vae_cnn3", *LONGER),
    "conditional": ("model=cvae_cnn3", *LONGER),
    "resnet": ("model=vae", "model/net=resnet", "model.latent_dim=5", "trainer.limit_train_batches=10", "trainer.compile=false"),
    "vamp": ("model=vae", "model/prior=vamp", "model.prior.components=50", "model.latent_dim=5", *LONGER),
    "flow": ("model=vae", "model/posterior=iaf", "model.latent_dim=5", *LONGER),
    "m1": ("model=m1", *LONGER),
    "m2": ("model=m2", "trainer.limit_train_batches=20", "trainer.compile=false"),
}


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    if program() is None:
        pytest.skip(MISSING)
    with browser() as tab:
        yield tab


@pytest.fixture(scope="module")
def conditional(compose_into: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a conditional VAE, trained for a few steps on real MNIST."""
    folder = tmp_path_factory.mktemp("outputs") / "cvae"
    train(compose_into(folder, "model=cvae_mlp", *SMALL))
    return folder


@pytest.fixture(scope="module")
def page(conditional: Path, mnist_root: Path) -> Path:
    """The page of that run."""
    lines = explore({"run": str(conditional), "root": str(mnist_root)})
    assert "weights as float16 move a pixel's mean by at most" in lines[0]
    return conditional / "evaluation" / "explorer.html"


def drawn(tab: Browser) -> None:
    """Draw a stroke like a seven with the mouse."""
    tab.do(
        "explorer.page.paper.clear(); explorer.page.paper.tool = 'draw'; explorer.page.paper.canvas.scrollIntoView({block: 'center'})"
    )
    box = tab.do("(({x, y, width}) => ({x, y, width}))(explorer.page.paper.canvas.getBoundingClientRect())")
    points = [(0.3, 0.25), (0.5, 0.24), (0.7, 0.27), (0.6, 0.45), (0.5, 0.6), (0.45, 0.8)]
    tab.drag([(box["x"] + x * box["width"], box["y"] + y * box["width"]) for x, y in points])
    tab.settle(400)


def tensor_of(tab: Browser, expression: str, *shape: int) -> torch.Tensor:
    return torch.tensor(tab.do(f"Array.from({expression})"), dtype=torch.float32).view(*shape)


def check_page(tab: Browser, page: Path, run: Any) -> None:
    """Hold what a page computes to what the model of its run computes."""
    model, count = run.model, 100
    tab.open(page)
    assert (tab.requests(), tab.errors()) == ([page.as_uri()], [])
    labels = [i % max(1, classes_of(model)) for i in range(count)]
    y = torch.tensor(labels) if classes_of(model) else None
    with torch.no_grad():
        z = from_noise(model.prior(y), torch.randn(count, model.latent_dim, generator=torch.Generator().manual_seed(0)))
        expected = model.likelihood(z, y).mean
    first = "explorer.models[0]"
    latents = f"explorer.tensor([{count}, {model.latent_dim}], Float64Array.from({z.flatten().tolist()}))"
    means = tensor_of(tab, f"{first}.decode({latents}, {labels}).data", *expected.shape)
    assert float((means - expected).abs().max()) < 1e-3
    noise = torch.randn(count, model.latent_dim, generator=torch.Generator().manual_seed(1))
    numbers = f"explorer.tensor([{count}, {model.latent_dim}], Float64Array.from({noise.flatten().tolist()}))"
    with torch.no_grad():
        expected = from_noise(model.prior(y), noise)
    assert torch.allclose(tensor_of(tab, f"{first}.priorSamples({numbers}, {labels}).data", count, -1), expected, atol=5e-3)
    drawn(tab)
    check_drawing(tab, model, first)


def check_drawing(tab: Browser, model: Any, first: str) -> None:
    """Hold what a page says of the image that was drawn to what the model says."""
    x = tensor_of(tab, "explorer.page.paper.image.data", 1, 1, 28, 28)
    assert 20 < float(x.sum()) < 300
    label = tab.do(f"{first}.likeliest(explorer.page.paper.image)")
    found = tab.do(f"{first}.elbo(explorer.page.paper.image, {label})")
    count = found["samples"]
    noise = tensor_of(tab, f"new Chance(7).normals({count}, {model.latent_dim}).data", count, -1)
    y = torch.full((count,), label) if classes_of(model) else None
    from vae_lightning.objectives.bounds import kl, mean_log_likelihood
    from vae_lightning.types import Draw

    with torch.no_grad():
        images = x.expand(count, -1, -1, -1)
        posterior = model.posterior(images, y)
        z = from_noise(posterior, noise.unsqueeze(0))
        draw = Draw(posterior, model.prior(y), z, model.likelihood(z, y))
        log_likelihood, divergence = mean_log_likelihood(draw, images).mean(), kl(draw).mean()
    assert found["logLikelihood"] == pytest.approx(float(log_likelihood), abs=0.1)
    assert found["kl"] == pytest.approx(float(divergence), abs=0.1)
    assert found["elbo"] == pytest.approx(float(log_likelihood - divergence), abs=0.1)
    said = tab.do("document.querySelector('#drawing .status').textContent")
    assert f"ELBO \u2212{-found['elbo']:.1f}" in said
    if hasattr(model, "predict"):
        shares = tensor_of(tab, f"{first}.predict(explorer.page.paper.image)", -1)
        with torch.no_grad():
            assert torch.allclose(shares, model.predict(x)[0], atol=2e-3)
        assert "The classifier says" in said
    assert ("Bayes" in said) == bool(classes_of(model))


def test_page_computes_what_torch_computes(tab: Browser, page: Path, conditional: Path) -> None:
    run = runs.load(*runs.find(str(conditional), None))
    check_page(tab, page, run)
    assert weights_of_page(page.read_bytes()[:2048]) == run.digest


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.exhaustive] * (kind in OTHERS)) for kind in KINDS])
def test_pages_of_trained_runs_compute_what_torch_computes(
    tab: Browser, compose_into: Callable[..., DictConfig], tmp_path: Path, mnist_root: Path, kind: str
) -> None:
    train(compose_into(tmp_path / "run", *KINDS[kind]))
    explore({"run": str(tmp_path / "run"), "root": str(mnist_root), "to": str(tmp_path / "page.html")})
    run = runs.load(*runs.find(str(tmp_path / "run"), None))
    check_page(tab, tmp_path / "page.html", run)
    halves = sum(p.numel() for p in run.model.parameters()) * 2 * 4 / 3
    assert (tmp_path / "page.html").stat().st_size < halves + 150_000


# ---- controls

STATE = """(section => [...section.querySelectorAll('.status')].map(said => said.textContent).join() +
  [...section.querySelectorAll('canvas')].map(canvas => canvas.toDataURL()).join())(document.querySelector('%s'))"""
CONTROLS = "[...document.querySelectorAll('%s input, %s select, %s button')]"
CHANGE = """(box => {
  const change = name => box.dispatchEvent(new Event(name));
  if (box.tagName === 'BUTTON') box.click();
  else if (box.tagName === 'SELECT') { box.selectedIndex = (box.selectedIndex + 1) %% box.options.length; change('change'); }
  else if (box.type === 'range') { box.value = Number(box.value) === Number(box.max) ? box.min : box.max; change('input'); }
  else if (!box.checked) box.click();
})(%s[%d])"""
WITH_A_STROKE = {"Draw", "Erase to black", "Rub out (unknown)", "Brush"}
"""Controls that say how the pencil draws; what they change is seen when it does."""


def names(tab: Browser, section: str) -> list[str]:
    """What the controls of a section are called."""
    given = "box => box.labels?.length ? box.labels[0].textContent : box.textContent"
    return list(tab.do(f"{CONTROLS % ((section,) * 3)}.map({given})"))


@pytest.mark.slow
@pytest.mark.parametrize("section", ["#latents", "#drawing", "#completing", "#walking", "#sampling"])
def test_every_control_changes_what_the_page_says(tab: Browser, page: Path, section: str) -> None:
    tab.open(page)
    tab.settle(500)
    idle = []
    controls = CONTROLS % ((section,) * 3)
    for i, name in enumerate(names(tab, section)):
        if name == "Centre":  # of which there is something to see where the image is not in the middle
            tab.do("explorer.page.paper.tool = 'draw'; explorer.page.paper.dab(6, 6); explorer.page.paper.after()")
            tab.settle(300)
        before = tab.do(STATE % section)
        checked = tab.do(f"{controls}[{i}].checked && {controls}[{i}].type === 'radio'")
        tab.do(CHANGE % (controls, i))
        tab.settle(300)
        if name in WITH_A_STROKE:
            tab.do("explorer.page.paper.canvas.focus()")
            tab.press(["ArrowLeft", "ArrowUp", "ArrowRight"][i % 3], 5, shift=True)
            tab.settle(300)
        if tab.do(STATE % section) == before and not checked:
            idle.append(name)
    assert idle == []
    assert tab.errors() == []


def test_pencil_draws_by_keys_as_its_tool_says(tab: Browser, page: Path) -> None:
    tab.open(page)
    paper = "explorer.page.paper"
    tab.do(f"{paper}.clear(); {paper}.brush = 1; {paper}.canvas.focus()")
    tab.press(" ")
    tab.press("ArrowRight", 3)
    tab.press("ArrowDown", 2, shift=True)
    inked = [i for i, value in enumerate(tab.do(f"Array.from({paper}.image.data)")) if value]
    assert inked == [14 * 28 + 14, 15 * 28 + 17, 16 * 28 + 17]
    tab.do(f"{paper}.tool = 'erase'")
    tab.press(" ")
    assert sum(tab.do(f"Array.from({paper}.image.data)")) == 2
    tab.do(f"{paper}.tool = 'rub'")
    tab.press("ArrowUp", 1, shift=True)
    assert tab.do(f"{paper}.known.indexOf(0)") == 15 * 28 + 17


def test_pad_moves_z_by_mouse_and_keys(tab: Browser, page: Path) -> None:
    tab.open(page)
    said = "document.querySelector('#latents .status').textContent"
    tab.do("document.querySelector('.pad').scrollIntoView({block: 'center'})")
    box = tab.do("(({x, y, width}) => ({x, y, width}))(document.querySelector('.pad').getBoundingClientRect())")
    middle = (box["x"] + box["width"] / 2, box["y"] + box["width"] / 2)
    tab.drag([(middle[0] + 40, middle[1]), middle])
    tab.settle()
    across, up = tab.do("explorer.models[0].order.slice(0, 2)")
    assert f"z{across} = 0.0" in tab.do(said)
    tab.do("document.querySelector('.pad').focus()")
    tab.press("ArrowRight", 5)
    tab.press("ArrowDown", 10)
    tab.settle()
    moved = tab.do(said)
    assert float(moved.partition(f"z{across} = ")[2].partition(",")[0]) == pytest.approx(0.5, abs=0.02)
    assert float(moved.partition(f"z{up} = \u2212")[2].partition(",")[0]) == pytest.approx(1.0, abs=0.02)


def test_completions_keep_what_is_known(tab: Browser, page: Path) -> None:
    tab.open(page)
    drawn(tab)
    image = tensor_of(tab, "explorer.page.paper.image.data", 784)
    mask = torch.arange(784) < 392
    known = f"explorer.tensor([1, 1, 28, 28], Float64Array.from({mask.int().tolist()}))"
    completed = tensor_of(tab, f"explorer.models[0].complete(explorer.page.paper.image, {known}, 7, 5, 6, 1).data", 6, 784)
    assert torch.equal(completed[:, mask], image[mask].expand(6, -1))
    assert float((completed[0] - completed[1])[~mask].abs().max()) > 0
    assert float(completed.min()) >= 0
    assert float(completed.max()) <= 1


def test_every_control_has_a_name_and_is_reached_by_tab(tab: Browser, page: Path) -> None:
    tab.open(page)
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        node for node in nodes if any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))
    ]
    nameless = [
        node["role"]["value"]
        for node in focusable
        if not node.get("name", {}).get("value") and node["role"]["value"] != "RootWebArea"
    ]
    assert len(focusable) > 40
    assert nameless == []
    tab.do("reached = new Set(); addEventListener('focusin', event => reached.add(event.target)); 0")
    tab.press("Tab", 70)
    missed = """[...document.querySelectorAll('input, select, button, canvas[tabindex]')]
      .filter(box => !reached.has(box) && box.checkVisibility() && !(box.type === 'radio' && !box.checked)).length"""
    assert tab.do(missed) == 0


@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_a_phone_in_light_and_dark(tab: Browser, page: Path, dark: bool) -> None:
    tab.open(page, width=400, height=800, dark=dark)
    assert tab.do("document.documentElement.scrollWidth") <= 400
    ground = tab.do("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


@pytest.mark.slow
def test_two_runs_are_beside_each_other(
    tab: Browser, compose: Callable[..., DictConfig], conditional: Path, mnist_root: Path, tmp_path: Path
) -> None:
    train(compose("model=vae", *SMALL, folder="other"))
    shutil.copytree(tmp_path / "other", tmp_path / "<b>other")
    target = tmp_path / "both.html"
    explore({"run": str(conditional), "with": str(tmp_path / "<b>other"), "root": str(mnist_root), "to": str(target)})
    tab.open(target)
    drawn(tab)
    said = tab.do("document.querySelector('#drawing .status').textContent")
    assert said.count("ELBO") == 2
    assert "<b>other: ELBO" in said
    assert tab.do("document.querySelectorAll('#latents canvas.large').length") == 2
    assert tab.errors() == []
    z = "explorer.tensor([1, 3], new Float64Array(3))"
    other = runs.load(*runs.find(str(tmp_path / "<b>other"), None)).model
    with torch.no_grad():
        expected = other.likelihood(torch.zeros(1, 3)).mean
    assert torch.allclose(tensor_of(tab, f"explorer.models[1].decode({z}, 0).data", 1, 1, 28, 28), expected, atol=1e-3)


# ---- what is wrong


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"run": "nowhere"}, "run=nowhere: there is no such folder"),
        ({"dtype": "int8"}, "dtype=int8: must be one of float16, float32"),
        ({"to": " "}, "to: give a file"),
        ({"to": "."}, "to=.: is a folder; give a file, to=explorer.html"),
        ({"with": "nowhere"}, "^with=nowhere: there is no such folder"),
        ({"path": "x"}, "path=x"),
    ],
)
def test_wrong_settings_are_named(conditional: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(VAELightningError, match=said):
        explore({"run": str(conditional), **settings})


@pytest.mark.slow
def test_file_that_is_no_page_is_kept(conditional: Path, page: Path, mnist_root: Path, tmp_path: Path) -> None:
    settings = {"run": str(conditional), "root": str(mnist_root)}
    thesis = tmp_path / "thesis.html"
    thesis.write_text("years of work")
    with pytest.raises(StorageError, match=r"^to=.*thesis\.html: is there and is no explorer's page"):
        explore({**settings, "to": str(thesis)})
    assert thesis.read_text() == "years of work"
    older = Path(shutil.copy(page, tmp_path / "older.html"))
    older.write_bytes(older.read_bytes()[:4096])
    explore({**settings, "to": str(older)})
    assert older.read_bytes() == page.read_bytes()


def test_released_model_is_no_place_for_a_page() -> None:
    with pytest.raises(ConfigurationError, match=r"^run=pretrained:vae: .*to=<file>$"):
        explore({"run": "pretrained:vae"})


@pytest.mark.slow
def test_run_is_called_by_its_folder_wherever_one_is(
    conditional: Path, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(conditional, tmp_path / "a\x1b[31mb"))
    monkeypatch.chdir(folder)
    main(["run=.", f"root={mnist_root}"])
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path.name}/a\\x1b[31mb: weights as float16")
    assert "\x1b" not in said


# ---- two runs, whose data lie in different places


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A run of images of one's own, of the shape of MNIST's, and these images."""
    images, folder = tmp_path / "images.npz", tmp_path / "own"
    numpy.savez(images, x=numpy.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=numpy.uint8), y=numpy.arange(60) % 2)
    given = [
        "data=array",
        f"data.path={images}",
        "data.val_size=10",
        "data.test_size=10",
        f"run_dir={folder}",
        "name=test",
        "model=vae",
    ]
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        train(hydra.compose("train", [*(word for word in QUICK if not word.startswith("data.")), *SMALL, *given]))
    return folder, images


@pytest.mark.slow
def test_each_of_two_runs_is_told_the_places_that_its_data_have(
    conditional: Path, own: tuple[Path, Path], mnist_root: Path, tmp_path: Path
) -> None:
    folder, images = own
    settings = {"run": str(conditional), "with": str(folder), "root": str(mnist_root), "path": str(images)}
    lines = explore({**settings, "to": str(tmp_path / "page.html")})
    assert len(lines) == 3
    with pytest.raises(ConfigurationError, match=r"^path=.*: both runs are of files of your own, and one path"):
        explore({**settings, "run": str(folder)})
    with pytest.raises(VAELightningError, match=r"^root=x: the run's data are a ArrayDataModule, which has no root"):
        explore({"run": str(folder), "with": str(folder), "root": "x"})


@pytest.mark.slow
def test_second_run_is_named_by_its_key(
    conditional: Path, compose: Callable[..., DictConfig], tmp_path: Path, mnist_root: Path
) -> None:
    train(compose("model=cnn", folder="classifier"))
    target = tmp_path / "page.html"
    with pytest.raises(ConfigurationError, match=r"^with=.*classifier: a Classifier has no latent"):
        explore({"run": str(conditional), "with": str(tmp_path / "classifier"), "root": str(mnist_root), "to": str(target)})
    assert not target.exists()


def test_images_of_all_classes_are_looked_at_where_they_are_sorted(tmp_path: Path) -> None:
    count = 3 * commands.explore.IMAGES
    images, labels = numpy.zeros((count, 2, 2), dtype=numpy.uint8), numpy.arange(count) * 5 // count
    numpy.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = ArrayDataModule(path=str(tmp_path / "own.npz"), binarization="none")
    x, y = commands.explore._test_images(SimpleNamespace(data=data, folder=tmp_path, trained_on={}), "run=here")
    assert data.sorted_by_class
    assert len(x) == commands.explore.IMAGES
    assert y.bincount().tolist() == [commands.explore.IMAGES // 5] * 5


def test_unknown_key_is_one_line_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rum=latest"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "rum=latest: no such key; did you mean run=?" in error
    assert error.count("\n") == 1


def test_classifier_has_nothing_to_explore(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    train(compose("model=cnn", folder="classifier"))
    with pytest.raises(
        ConfigurationError, match=r"classifier: Classifier|a Classifier has no latent to explore; give the run of a VAE"
    ):
        explore({"run": str(tmp_path / "classifier")})
    assert not (tmp_path / "classifier" / "evaluation").exists()


def test_code_of_a_package_that_is_not_trusted_is_not_run(conditional: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(conditional, tmp_path / "run"))
    config = (run / CONFIG).read_text()
    assert "_target_: vae_lightning.models.CVAE" in config
    (run / CONFIG).write_text(config.replace("_target_: vae_lightning.models.CVAE", "_target_: theirs.Model"))
    with pytest.raises(VAELightningError, match=r"theirs\.Model.*trust=\[theirs\]"):
        explore({"run": str(run)})


def test_page_is_not_written_through_a_link(conditional: Path, tmp_path: Path, mnist_root: Path) -> None:
    run = Path(shutil.copytree(conditional, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation")))
    (run / "evaluation").symlink_to(tmp_path)
    with pytest.raises(VAELightningError, match="is a link, which is not written through"):
        explore({"run": str(run), "root": str(mnist_root)})


def test_help_says_every_key_and_comes_at_once() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "vae_lightning.commands.explore", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert [key for key in KEYS if f"{key}=" not in done.stdout and key not in ("static_root", "path")] == []
    assert "static_root= and path=" in done.stdout
    assert "| torch\n" not in done.stderr


def test_installed_command_is_this_one() -> None:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    commands = dict(line.split(" = ") for line in parser["options.entry_points"]["console_scripts"].split("\n")[1:])
    module, _, function = commands["vae-explore"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


@pytest.mark.slow
def test_weights_that_float16_would_move_too_far_stay_as_they_were(
    conditional: Path, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands.explore, "FAR", 1e-12)
    settings = {"run": str(conditional), "root": str(mnist_root)}
    (line, _) = explore({**settings, "to": str(tmp_path / "wide.html")})
    assert "weights as float32 move" in line
    assert "; as float16, by " in line
    (line, _) = explore({**settings, "to": str(tmp_path / "asked.html"), "dtype": "float16"})
    assert "weights as float16 move" in line, "as asked for"
    sizes = [(tmp_path / name).stat().st_size for name in ("wide.html", "asked.html")]
    assert sizes[0] > sizes[1]


def test_weights_that_are_finite_as_trained_alone_stay_so() -> None:
    def in_width(width: str) -> Explored:
        return Explored({"title": "vae"}, Rounding(float("nan") if width == "float16" else 0.0, 0.0), (1, 28, 28))

    found, line = commands.explore._small_enough(in_width, None, "run=here")
    assert found.rounding.mean == 0
    assert "weights as float32" in line
    with pytest.raises(ConfigurationError, match=r"^run=here: with weights as float16 the model gives values that are not finite$"):
        commands.explore._small_enough(in_width, "float16", "run=here")
