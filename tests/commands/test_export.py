"""The command `vae-export`: real runs to folders for others, which evaluate alike; wrong words in one line, nothing lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from omegaconf import DictConfig
from PIL import Image

from vae_lightning import CVAE, VAE, runs
from vae_lightning.commands.export import HELP, KEYS, SHOWN, export, main
from vae_lightning.commands.train import train
from vae_lightning.errors import VAELightningError
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.reports.folder import owned

SMALL = ("model.net.hidden=[16]", "model.latent_dim=2")


@pytest.fixture(scope="module")
def trained(compose_into: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a conditional VAE, trained for a few steps on real MNIST."""
    folder = tmp_path_factory.mktemp("outputs") / "cvae"
    train(compose_into(folder, "model=cvae_mlp", *SMALL))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run folder that a test may change."""
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_figures_of_a_card_are_those_of_an_evaluation() -> None:
    assert set(SHOWN) <= set(CATALOG)


def exported(run: Path, to: Path, **settings: str) -> Path:
    return export({"run": str(run), "to": str(to), **settings}).folder


def test_export_holds_graphs_weights_and_a_card(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = exported(run, tmp_path / "e", format="[onnx,safetensors,torch_export]", licence="mit")
    graphs = {f"{name}.{suffix}" for name in ("encoder", "decoder") for suffix in ("onnx", "pt2")}
    assert {path.name for path in folder.iterdir()} == graphs | {"README.md", "config.json", "model.safetensors", "metrics.json"}
    card = (folder / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "`CVAE`" in card
    assert json.loads((run / "metrics.json").read_text())["provenance"]["command"] in card
    model = runs.load(*runs.find(str(run), None)).model
    again = CVAE.from_pretrained(folder)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


def test_exported_model_evaluates_as_its_run(run: Path, tmp_path: Path, mnist_root: Path) -> None:
    folder = exported(run, tmp_path / "e", format="safetensors")
    ours, theirs = (runs.load(*runs.find(str(path), None), {"root": str(mnist_root)}) for path in (run, folder))
    assert theirs.digest == ours.digest
    assert (theirs.epoch, theirs.step) == (ours.epoch, ours.step)
    assert dict(theirs.trained_on) == dict(ours.trained_on)
    for loaded in (ours, theirs):
        loaded.data.prepare_data()
        loaded.data.setup("test")
    images = [loaded.data.evaluation_images("test", 20)[0] for loaded in (ours, theirs)]  # type: ignore[attr-defined]
    assert torch.equal(*images)


def test_no_place_of_this_machine_goes_along(run: Path, tmp_path: Path, mnist_root: Path) -> None:
    folder = exported(run, tmp_path / "e", format="safetensors")
    config = json.loads((folder / "config.json").read_text())
    assert config["data"]["root"] == "data"
    assert str(mnist_root) not in (folder / "config.json").read_text()


def test_numbers_of_half_the_size_make_a_file_of_half_the_size(run: Path, tmp_path: Path) -> None:
    sizes = []
    for dtype in ("float32", "float16"):
        folder = exported(run, tmp_path / dtype, format="safetensors", dtype=dtype)
        sizes.append((folder / "model.safetensors").stat().st_size)
        assert CVAE.from_pretrained(folder).origin.dtype == torch.float32
    assert sizes[1] < 0.6 * sizes[0]


def test_card_states_the_evaluation_of_these_weights_alone(run: Path, tmp_path: Path) -> None:
    loaded = runs.load(*runs.find(str(run), None))
    nll = {"value": 123.456, "standard_error": 0.5, "num_images": 100, "num_samples": 10, "binarization": "dynamic"}
    nll |= {"estimator": "importance sampling", "settings": {}, "seconds": 1.0, "section": ""}
    figures = {"samples": {"file": "figures/samples.png", "caption": "Draws.", "settings": {}}}
    report = {"format": 2, "checkpoint": "x", "splits": {"test": {"nll": nll}}, "figures": figures}
    for sha256, stated in (("0" * 64, False), (loaded.digest, True)):
        with owned(run / "evaluation", {"file": "x", "sha256": sha256, "step": 1}) as place:
            assert place.before == {}  # which puts aside what is of other weights
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(place.figures / "samples.png")
            place.write(report, lambda _: [])
        folder = exported(run, tmp_path / f"e{stated}", format="safetensors")
        assert ("| nll | 123.46 | 0.50 | 100 |" in (folder / "README.md").read_text()) is stated
        assert (folder / "figures" / "samples.png").is_file() is stated


def test_metrics_are_stated_of_the_weights_that_were_tested_alone(run: Path, tmp_path: Path) -> None:
    elbo = f"{json.loads((run / 'metrics.json').read_text())['metrics']['test/elbo']:.2f}"
    for name, stated in (("best.ckpt", True), ("last.ckpt", False)):
        folder = export({"ckpt_path": str(run / "checkpoints" / name), "to": str(tmp_path / name), "format": "safetensors"}).folder
        assert (f"| elbo | {elbo} |" in (folder / "README.md").read_text()) is stated
        record = json.loads((folder / "metrics.json").read_text())
        assert bool(record["metrics"]) is stated
        assert record["provenance"]
    (run / "checkpoints" / "best.ckpt").unlink()
    folder = exported(run, tmp_path / "without validation", format="safetensors")
    assert f"| elbo | {elbo} |" in (folder / "README.md").read_text()


def test_later_export_leaves_nothing_of_an_earlier_model(run: Path, tmp_path: Path) -> None:
    folder = exported(run, tmp_path / "e", format="torch_export")
    (folder / "mine.txt").write_text("kept")
    exported(run, tmp_path / "e", format="safetensors")
    assert not list(folder.glob("*.pt2"))
    assert (folder / "mine.txt").read_text() == "kept"


def test_default_place_is_in_the_run_folder(run: Path) -> None:
    assert export({"run": str(run), "format": "safetensors"}).folder == run / "export"
    # an export in a run folder is not taken for the run
    assert runs.find(str(run), None)[0] == run


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "onx"}, "format=onx: there is no such format; give some of onnx, safetensors, torch_export"),
        ({"tolerance": "x"}, "tolerance=x: must be a number between 0 and 1"),
        ({"tolerance": "nan"}, "tolerance=nan: must be"),
        ({"tolerance": "0"}, "tolerance=0: must be"),
        ({"dtype": "int8"}, "dtype=int8: must be one of float32"),
        ({"licence": "a b"}, "licence=a b: must be an identifier"),
        ({"trust": "os"}, "os"),
        ({"run": "nowhere"}, "run=nowhere: there is no such folder"),
        ({"ckpt_path": "x"}, "run: give either"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_written(run: Path, tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(VAELightningError, match=said):
        export({"run": str(run), "to": str(tmp_path / "e"), **settings})
    assert not (tmp_path / "e").exists()


def test_folder_of_other_files_is_left_alone(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "project"
    other.mkdir()
    (other / "README.md").write_text("# my project")
    with pytest.raises(VAELightningError, match=f"to={other}: holds other files"):
        exported(run, other)
    assert (other / "README.md").read_text() == "# my project"
    (tmp_path / "file").write_text("x")
    with pytest.raises(VAELightningError, match="is no folder"):
        exported(run, tmp_path / "file")


def test_nothing_is_written_or_removed_through_a_link_in_an_earlier_export(run: Path, tmp_path: Path) -> None:
    folder = exported(run, tmp_path / "e", format="safetensors")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "samples.png").write_bytes(b"mine")
    (folder / "figures").symlink_to(pictures, target_is_directory=True)
    with pytest.raises(VAELightningError, match="figures is a link, which is not written through"):
        exported(run, folder, format="safetensors")
    assert (pictures / "samples.png").read_bytes() == b"mine"


def test_picture_behind_a_link_in_a_strangers_evaluation_is_not_published(run: Path, tmp_path: Path) -> None:
    loaded = runs.load(*runs.find(str(run), None))
    figures = {"samples": {"file": "figures/samples.png", "caption": "Draws.", "settings": {}}}
    with owned(run / "evaluation", {"file": "x", "sha256": loaded.digest, "step": 1}) as place:
        assert place.before == {}
        (place.figures / "samples.png").write_bytes(b"x")
        place.write({"format": 2, "checkpoint": "x", "splits": {}, "figures": figures}, lambda _: [])
    (run / "evaluation" / "figures").rename(tmp_path / "private")
    (run / "evaluation" / "figures").symlink_to(tmp_path / "private", target_is_directory=True)
    folder = exported(run, tmp_path / "e", format="safetensors")
    assert not (folder / "figures").exists()


def test_two_exports_into_one_folder_at_once_are_refused(run: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".e.lock"), pytest.raises(VAELightningError, match=r"e: another command exports there; wait until"):
        exported(run, tmp_path / "e", format="safetensors")
    assert not (tmp_path / "e").exists()
    exported(run, tmp_path / "e", format="safetensors")
    assert sorted(path.name for path in tmp_path.iterdir() if path != run) == ["e"]


def test_own_files_beside_an_export_are_kept(run: Path, tmp_path: Path) -> None:
    folder = exported(run, tmp_path / "e", format="safetensors")
    (folder / "figures").mkdir()
    own = [folder / "quantized.onnx", folder / "figures" / "mine.png"]
    for path in own:
        path.write_bytes(b"mine")
    exported(run, folder, format="safetensors")
    assert [path.read_bytes() for path in own] == [b"mine", b"mine"]


def test_exported_weights_are_found_by_their_file_too(run: Path) -> None:
    folder = export({"run": str(run), "format": "safetensors"}).folder
    weights = folder / "model.safetensors"
    assert runs.find(str(weights), None) == runs.find(None, str(weights)) == runs.find(str(folder), None) == (folder, weights)


@pytest.mark.parametrize("metrics", [{"test/elbo": None, "test/kl": "x"}, [1], "x", {"test/accuracy": 0.9912}])
def test_metrics_of_a_strangers_record_are_numbers_or_left_out(run: Path, tmp_path: Path, metrics: object) -> None:
    (run / "metrics.json").write_text(json.dumps({"format": 2, "metrics": metrics, "provenance": {}}))
    card = (exported(run, tmp_path / "e", format="safetensors") / "README.md").read_text()
    assert "| elbo |" not in card
    assert ("| accuracy | 0.9912 |" in card) == (metrics == {"test/accuracy": 0.9912})


def test_empty_place_is_refused(run: Path) -> None:
    with pytest.raises(VAELightningError, match=r"^to: give a folder"):
        export({"run": str(run), "to": ""})
    assert not (run / "export").exists()


@pytest.mark.slow
def test_graph_that_differs_leaves_an_earlier_export_whole(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = exported(run, tmp_path / "e", format="onnx")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(VAELightningError, match=r"differs from the model by .*, more than tolerance=1e-15"):
        exported(run, tmp_path / "e", format="onnx", tolerance="1e-15")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert capsys.readouterr().out.strip() == HELP.strip()
    assert all(f"{key}=" in HELP for key in KEYS)


def test_help_waits_for_no_torch() -> None:
    code = "import sys; from vae_lightning.commands.export import main; main(['-h']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.slow
def test_command_ends_with_status_2_and_one_line() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vae_lightning.commands.export", "run=nowhere"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == "error: run=nowhere: there is no such folder\n"


def test_vae_of_ones_own_folder_is_not_evaluated_without_data(tmp_path: Path) -> None:
    VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).save_pretrained(tmp_path)
    with pytest.raises(VAELightningError, match="says of no data what it was trained on"):
        runs.load(*runs.find(str(tmp_path), None))
