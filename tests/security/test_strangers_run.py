"""A run folder that somebody else made on purpose: nothing in it is run, nothing outside of it is read, and nothing floods."""

import csv
import html.parser
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import markdown
import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import vae_lightning
from vae_lightning import VAE, runs
from vae_lightning.commands.evaluate import Evaluation, evaluate
from vae_lightning.commands.hyperparameters import code
from vae_lightning.commands.train import train
from vae_lightning.errors import CheckpointError, VAELightningError
from vae_lightning.machine.checkpoints import read_any
from vae_lightning.runs.history import history, record

EVIL = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of a small VAE on small images in two classes, whose names are markup."""
    folder, images = tmp_path / f"vae{SCRIPT.replace('/', '')}" / "now", tmp_path / "images"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    for name in (EVIL, "$\\frac$ a_b | *c*"):
        (images / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), 40 * number).save(images / name / f"{number}.png")
    model = {"_target_": "vae_lightning.models.VAE", "latent_dim": 2}
    data = {"_target_": "vae_lightning.data.FolderDataModule", "path": str(images), "val_size": 2, "test_size": 4}
    write_config(folder, {"seed": 3, "model": model, "data": data})
    write_checkpoint(folder)
    return folder


def write_config(folder: Path, config: Any) -> None:
    (folder / ".hydra" / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    return config


def write_checkpoint(folder: Path, **changes: object) -> Path:
    path = folder / "checkpoints" / "best.ckpt"
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, image_shape=[1, 8, 8])
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content["vae_lightning"] = {"format": 1, "version": "0.1.0"}
    torch.save({**content, **changes}, path)
    return path


def load(folder: Path) -> runs.LoadedRun:
    return runs.load(*runs.find(str(folder), None))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        load(folder)
    said = str(refused.value)
    assert said.isprintable()
    assert len(said) < 2000
    return said


def evaluated(folder: Path, compose: Callable[..., Any], *overrides: str) -> Evaluation:
    few = ["gpus=0", "evaluation.num_samples=2", "evaluation.num_images=4", "evaluation.train_images=4"]
    few += ["evaluation.marginal_samples=2", "evaluation.marginal_images=2", "evaluation.figures=[samples]"]
    return evaluate(compose(*few, *overrides, run=str(folder)))


@pytest.fixture
def evaluation() -> Callable[..., Any]:
    import hydra

    conf = Path(__file__).resolve().parents[2] / "conf"

    def of(*overrides: str, run: str) -> Any:
        with hydra.initialize_config_dir(str(conf), version_base="1.3"):
            cfg = hydra.compose("evaluate", list(overrides))
        cfg.run = run
        return cfg

    return of


# ---- values that ask for more than another key


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:STRANGERS_SECRET}",
        "${oc.env:NOT_SET,${oc.env:STRANGERS_SECRET}}",
        "/images/${oc.env:STRANGERS_SECRET}",
        "${oc.decode:${oc.env:STRANGERS_SECRET}}",
        "${${ask}:STRANGERS_SECRET}",
        "${asked}",
        "${oc.create:{a: 1}}",
        "${oc.dict.keys:data}",
        "${spy:1}",
        "${now:%Y}",
        "\\\\${oc.env:STRANGERS_SECRET}",
    ],
)
def test_config_cannot_ask_the_environment_or_a_resolver(run: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STRANGERS_SECRET", "the_secret_value")
    called: list[object] = []
    OmegaConf.register_new_resolver("spy", called.append, replace=True)
    asked = {"ask": "oc.env", "asked": "${oc.env:STRANGERS_SECRET}"}
    for group, key in (("data", "path"), ("data", "splits"), ("model", "latent_dim")):
        config = config_of(run)
        write_config(run, {**config, **asked, group: {**config[group], key: value}})
        write_checkpoint(run, hyper_parameters={})  # so that the model's arguments are the config's
        said = refusal(run)
        assert "the_secret_value" not in said
        assert f"{group}.{key} cannot be resolved" in said
        assert ("where the data lie now: path=<folder>" in said) == (key == "path")
        write_config(run, config)
    write_config(run, {**config_of(run), **asked, "run_dir": value})
    write_checkpoint(run)
    loaded = load(run)  # a key that nobody asks for may hold anything
    assert "the_secret_value" not in OmegaConf.to_yaml(loaded.config)
    assert "the_secret_value" not in str(OmegaConf.to_container(loaded.config, resolve=True))
    assert not called


def test_where_the_run_was_trained_is_not_asked_of_the_environment(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANGERS_SECRET", "/the_secret_place")
    config = config_of(run)
    write_config(run, {**config, "data": {**config["data"], "path": "images"}})
    (run / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {cwd: '${oc.env:STRANGERS_SECRET}'}}")
    assert load(run).data.path == "images"  # type: ignore[attr-defined]


# ---- what multiplies itself, or is larger than it seems

ALIASES = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGED = "a0: &a0 {b: 1}\n" + "".join(f"a{i}: &a{i} {{c: *a{i - 1}, d: *a{i - 1}}}\n" for i in range(1, 40))
TEXTS = "t0: aaaaaaaaaa\n" + "".join(f"t{i}: '${{t{i - 1}}}${{t{i - 1}}}'\n" for i in range(1, 60))
TREES = "t0: [1]\n" + "".join(f"t{i}: ['${{t{i - 1}}}', '${{t{i - 1}}}']\n" for i in range(1, 60))


@pytest.mark.parametrize(
    "bomb", [ALIASES, MERGED, "a: &a [*a]\n", "a: " + "[" * 3000 + "]" * 3000 + "\n", "a: [" + "1," * 50_000 + "]\n"]
)
def test_config_that_multiplies_itself_is_refused_before_it_does(run: Path, bomb: str) -> None:
    write_config(run, bomb + (run / ".hydra" / "config.yaml").read_text())
    assert "config.yaml: cannot be read (" in refusal(run)
    (run / ".hydra" / "overrides.yaml").write_text(bomb)
    assert runs.asked_with(run) is None


@pytest.mark.parametrize(
    "bomb",
    [TEXTS, TREES, "t59: ${t59}\n", "t59: ${t58}\nt58: ${t59}\n", "t59: {a: '${t59}'}\n", "t59: '${t58}'\nt58: ['${t59}']\n"],
)
def test_references_that_multiply_are_refused_before_they_do(run: Path, bomb: str) -> None:
    config = config_of(run)
    write_config(run, bomb + yaml.safe_dump({**config, "data": {**config["data"], "path": "${t59}"}}))
    assert "refers to itself, or to too much" in refusal(run)


@pytest.mark.parametrize("name", [".hydra/config.yaml", "checkpoints/best.ckpt"])
def test_file_of_a_terabyte_is_refused_at_once(run: Path, name: str) -> None:
    with (run / name).open("wb") as file:
        file.truncate(1 << 40)
    assert name in refusal(run)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
@pytest.mark.parametrize("name", [".hydra/config.yaml", "metrics.json", "csv/metrics.csv", "tensorboard/events.out.tfevents.1"])
def test_pipe_does_not_keep_anyone_waiting(run: Path, name: str) -> None:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    if name.startswith(".hydra"):
        with pytest.raises(CheckpointError):
            load(run)
    else:
        assert record(run) == history(run) == {}


def test_logs_larger_than_any_are_left_out_with_a_line(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("metrics.json", "csv/metrics.csv", "tensorboard/events.out.tfevents.1.host", ".hydra/overrides.yaml"):
        (run / name).parent.mkdir(exist_ok=True)
        with (run / name).open("wb") as file:
            file.truncate(1 << 40)
    assert record(run) == history(run) == {}
    assert runs.asked_with(run) is None
    assert len(caplog.messages) == 4
    assert all("\n" not in line for line in caplog.messages)


def test_steps_that_no_training_reaches_are_no_points_of_a_curve(run: Path) -> None:
    (run / "csv").mkdir()
    with (run / "csv" / "metrics.csv").open("w", newline="") as file:
        rows = [("step", "train/elbo"), (3, -90.0), (10**30, -1.0), (-4, -1.0), (float("inf"), 3), ("9" * 5000, 1)]
        csv.writer(file).writerows(rows)
    assert history(run)["train/elbo"][0].tolist() == [3]


# ---- checkpoints that claim more than they hold


def test_model_that_its_weights_give_no_reason_for_is_not_built(run: Path) -> None:
    hidden = {"name": "mlp", "hidden": [10**6, 10**6]}
    write_checkpoint(run, hyper_parameters={"latent_dim": 2, "net": hidden, "image_shape": [1, 8, 8]})
    assert "best.ckpt: asks for a model of far more numbers than the" in refusal(run)


@pytest.mark.parametrize("claim", [2**30, 2**16])
def test_tensor_that_claims_more_than_its_record_reads_no_other_memory(run: Path, claim: int) -> None:
    path = write_checkpoint(run)
    torch.save({"state_dict": {"x": torch.zeros(8)}, "hyper_parameters": {}, "vae_lightning": {}}, path)
    content, pickled = path.read_bytes(), _record(path, "data.pkl")
    # as the pickle of 8 elements says 8: once of the storage, and once of the shape
    assert pickled.count(b"K\x08") == 2
    _rewrite(path, content, pickled.replace(b"K\x08", b"J" + claim.to_bytes(4, "little")))
    with pytest.raises(CheckpointError, match=r"best\.ckpt: is damaged"):
        read_any(path)
    _rewrite(path, content, pickled.replace(b"K\x08", b"J" + claim.to_bytes(4, "little"), 1))  # of the storage alone
    assert read_any(path)["state_dict"]["x"].tolist() == [0.0] * 8


def _record(path: Path, name: str) -> bytes:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        member = next(entry for entry in archive.namelist() if entry.endswith(name))
        return archive.read(member)


def _rewrite(path: Path, content: bytes, pickled: bytes) -> None:
    """The zip file `content` with another pickle, written to `path` as torch would."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.namelist():
            new.writestr(entry, pickled if entry.endswith("data.pkl") else old.read(entry))


@pytest.mark.parametrize("key", ["hyper_parameters", "callbacks", "state_dict"])
def test_containers_that_hold_each_other_many_times_are_refused(run: Path, key: str) -> None:
    node: Any = {"a": 1}
    for _ in range(60):
        node = {"a": node, "b": node}
    write_checkpoint(run, **{key: node})
    assert "holds itself, or more values than a checkpoint has" in refusal(run)


# ---- links out of the folder


@pytest.mark.parametrize("name", [".hydra/config.yaml", "checkpoints/best.ckpt", "checkpoints"])
def test_link_out_of_the_folder_is_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run / name).rename(elsewhere)
    (run / name).symlink_to(elsewhere)
    said = refusal(run)
    assert "is a link that leads out of its folder" in said
    if name == "checkpoints/best.ckpt":
        assert "if that is meant: ckpt_path=" in said
        folder, checkpoint = runs.find(None, str(run / name))  # a user's own link, which the user names
        assert folder.samefile(run)
        assert runs.load(folder, checkpoint).step == 0


def test_records_behind_links_are_left_out(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = {"provenance": {"command": "secret"}}
    files = {"metrics.json": json.dumps(secret), ".hydra/overrides.yaml": "[secret=1]", "csv/metrics.csv": "step,train/elbo\n1,2\n"}
    for name, content in files.items():
        (tmp_path / Path(name).name).write_text(content)
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).symlink_to(tmp_path / Path(name).name)
    assert record(run) == history(run) == {}
    assert runs.asked_with(run) is None
    assert sum("is a link that leads out of its folder" in line for line in caplog.messages) == 3


# ---- pages


class Tags(html.parser.HTMLParser):
    """All tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


ADDRESSES = {
    address.rstrip(".,;)")
    for path in Path(vae_lightning.__file__).parent.rglob("*.py")
    for address in re.findall(r"https://[^\s\"'>]+", path.read_text())
}
"""The sources that this project's own texts name, which a page may lead to."""


def require_harmless(page: Tags) -> None:
    assert not {tag for tag, _ in page.found} & {"script", "iframe", "object", "embed", "svg", "link", "base", "form", "input"}
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        source = attributes.get("src") or attributes.get("href") or "#"
        assert source.startswith(("data:image/", "#", "figures/")) or (tag == "a" and source in ADDRESSES), source


ESTIMATE = {"value": 1.0, "standard_error": 0.1, "seconds": 1.0, "binarization": EVIL, "estimator": SCRIPT, "section": SCRIPT}
ESTIMATE |= {"settings": {EVIL: SCRIPT}, "num_images": 10, "num_samples": 3}


def test_no_name_in_a_run_folder_is_markup_in_its_report(run: Path, evaluation: Callable[..., Any]) -> None:
    lone = "\ud800"
    provenance = {"command": f"train.py\n\n{SCRIPT} {lone}", EVIL: SCRIPT, "versions": {EVIL: SCRIPT}}
    (run / "metrics.json").write_text(json.dumps({"provenance": provenance}))
    digest = load(run).digest
    (run / "evaluation" / "figures").mkdir(parents=True)
    (run / "evaluation" / "figures" / "x.png").write_bytes(b"<script>")
    figure = {"file": "figures/x.png", "caption": f"{SCRIPT} [x](javascript:alert(1)) {lone}", "settings": {EVIL: SCRIPT}}
    report = {"format": 2, "checkpoint": EVIL, "weights": {"sha256": digest}, "splits": {SCRIPT: {EVIL: ESTIMATE}}}
    report |= {"figures": {EVIL: figure}, "not_drawn": {SCRIPT: EVIL}, "not_measured": {SCRIPT: f"{EVIL}{lone}"}, "parts": [EVIL]}
    (run / "evaluation" / "report.json").write_text(json.dumps(report))
    found = evaluated(run, evaluation)
    assert EVIL in found.report["figures"], "the earlier report was gone on with"
    page = tags((found.folder / "report.html").read_text())
    require_harmless(page)
    assert page.text.count(SCRIPT) > 5
    shown = tags(markdown.markdown((found.folder / "report.md").read_text(), extensions=["tables"]))
    require_harmless(shown)
    assert SCRIPT in shown.text
    assert json.loads((found.folder / "report.json").read_text())["weights"]["sha256"] == digest


@pytest.mark.parametrize("text", [f"a: |\n  ```\n  {SCRIPT}\n", f"````\n{SCRIPT}\n````", SCRIPT])
def test_text_for_tensorboard_is_shown_as_it_is(text: str) -> None:
    require_harmless(tags(markdown.markdown(code(text), extensions=["tables", "fenced_code"])))


@pytest.mark.parametrize(
    "change",
    [
        {"standard_error": "x"},
        {"seconds": [1]},
        {"section": ["a"]},
        {"section": None},
        {"binarization": {"a": 1}},
        {"estimator": 3},
        {"value": 10**400},
        {"num_images": 10**400},
        {"seed": [1]},
        {"value": "<script>"},
        {"measured": {}},
    ],
)
def test_estimate_of_another_form_is_put_aside(run: Path, evaluation: Callable[..., Any], change: dict[str, Any]) -> None:
    from vae_lightning.reports.merging import is_report

    report = {"format": 2, "checkpoint": "a", "weights": {"sha256": "ab"}, "splits": {"test": {"nll": ESTIMATE | change}}}
    assert not is_report(report)
    assert is_report({**report, "splits": {"test": {"nll": ESTIMATE}}})


def test_figure_larger_than_any_is_not_taken_into_the_page(run: Path, evaluation: Callable[..., Any]) -> None:
    digest = load(run).digest
    (run / "evaluation" / "figures").mkdir(parents=True)
    with (run / "evaluation" / "figures" / "x.png").open("wb") as file:
        file.truncate(1 << 40)
    report = {"format": 2, "checkpoint": "a", "weights": {"sha256": digest}, "splits": {}}
    report["figures"] = {"x": {"file": "figures/x.png", "caption": "", "settings": {}}}
    (run / "evaluation" / "report.json").write_text(json.dumps(report))
    assert "x" not in evaluated(run, evaluation).report["figures"]


def test_report_of_a_terabyte_or_a_pipe_is_put_aside(run: Path, evaluation: Callable[..., Any]) -> None:
    (run / "evaluation").mkdir()
    with (run / "evaluation" / "report.json").open("wb") as file:
        file.truncate(1 << 40)
    evaluated(run, evaluation)
    assert (run / "evaluation" / "earlier" / "unknown" / "report.json").stat().st_size == 1 << 40


def test_every_refusal_here_is_an_error_of_ours() -> None:
    assert issubclass(CheckpointError, VAELightningError)


# ---- no waiting door


_bound: list[object] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _bound is not None and event == "socket.bind":
        _bound.append(arguments[1])


@pytest.fixture
def ports() -> Iterator[list[object]]:
    """The ports that this process binds during a test."""
    global _bound
    if _note not in _hooked:  # a hook cannot be taken back
        sys.addaudithook(_note)
        _hooked.append(_note)
    _bound = []
    yield _bound
    _bound = None


_hooked: list[object] = []


def test_opening_a_run_and_training_in_one_process_wait_at_no_port(
    run: Path, compose: Callable[..., DictConfig], evaluation: Callable[..., Any], ports: list[object]
) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
    assert ports == [("127.0.0.1", 0)], "a port that is bound is seen"
    ports.clear()
    small = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100", "model.net.hidden=[8]")
    train(compose(*small, "logger=tensorboard"))
    evaluated(run, evaluation)
    assert ports == []
