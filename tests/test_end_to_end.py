"""The real commands: what a user types, sees and finds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
QUICK = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "trainer.max_epochs=1"]
SMALL = ["model.net.hidden=[16]", "model.latent_dim=2", "trainer.enable_progress_bar=false"]


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / script), *arguments]


def call(cwd: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(script, *arguments), cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_groups_and_overrides(tmp_path: Path) -> None:
    result = call(tmp_path, "train.py", "--help")
    assert result.returncode == 0
    assert "model: beta_vae, capacity_vae, cnn" in result.stdout
    assert "trainer.gpus" in result.stdout


@pytest.mark.exhaustive
@pytest.mark.slow
def test_sweep_writes_a_folder_a_job_and_evaluate_finds_the_latest(mnist_root: Path, tmp_path: Path) -> None:
    sweep = ["-m", "model=beta_vae", "model.beta=1,4", "trainer.gpus=0", f"data.root={mnist_root}", *QUICK, *SMALL]
    result = call(tmp_path, "train.py", *sweep)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "beta_vae").glob("sweep_*")
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*/metrics.json"))]
    assert len(records) == 2
    assert all(f"model.beta={beta}" in record["provenance"]["command"] for beta, record in zip((1, 4), records, strict=True))
    few = ["evaluation.num_samples=2", "evaluation.num_images=100", "evaluation.train_images=100", "gpus=0"]
    # what Hydra, TensorBoard and the figures look for, and must not find beside somebody's run
    for name in ("hydra_plugins/theirs.py", "tensorflow.py", "umap.py", "imageio_ffmpeg.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    result = call(tmp_path, "evaluate.py", "run=latest", *few)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "executed").exists()
    assert "nll" in result.stdout
    assert "not drawn:  class_samples, class_style_grid, style_transfer: the model ignores labels" in result.stdout
    (page,) = folder.glob("*/evaluation/report.html")
    assert page.read_text().count("data:image/") == 19


@pytest.mark.slow
def test_two_processes_train_one_model_and_report_the_metrics_of_one(mnist_root: Path, tmp_path: Path) -> None:
    two = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp_spawn"]
    run = [f"data.root={mnist_root}", "hydra.run.dir=run", "trainer.limit_val_batches=0"]
    # the whole test set in two halves
    result = call(tmp_path, "train.py", *run, *two, *SMALL, "trainer.limit_train_batches=3", "trainer.max_epochs=1")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    few = ["evaluation.num_samples=1", "evaluation.train_images=1", "evaluation.figures=[]", "gpus=0"]
    assert call(tmp_path, "evaluate.py", "run=run", *few).returncode == 0
    report = json.loads((tmp_path / "run" / "evaluation" / "report.json").read_text())
    for name in ("elbo", "log_likelihood", "kl"):
        assert report["splits"]["test"][name]["value"] == pytest.approx(metrics[f"test/{name}"], rel=1e-5)


@pytest.mark.slow
def test_interrupted_run_leaves_a_usable_folder_and_says_so(mnist_root: Path, tmp_path: Path) -> None:
    arguments = [f"data.root={mnist_root}", "trainer.gpus=0", "trainer.max_epochs=1000", "hydra.run.dir=run", *SMALL]
    process = subprocess.Popen(
        command("train.py", *arguments), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.time() + 120
    while not list(tmp_path.glob("run/checkpoints/last.ckpt")) and time.time() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in out
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert record["metrics"]
    assert (record["interrupted"], record["signal"]) == (True, "SIGINT")
    few = [
        "evaluation.num_samples=2",
        "evaluation.num_images=100",
        "evaluation.train_images=100",
        "evaluation.figures=[samples]",
        "gpus=0",
    ]
    assert call(tmp_path, "evaluate.py", "run=run", *few).returncode == 0


def started(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A long training in a process of its own."""
    long = command("train.py", "trainer.max_epochs=100000", *SMALL, *arguments)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(long, cwd=cwd, text=True, env={**os.environ, **environment}, **pipes)


def until_there_is(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    deadline = time.time() + 120
    while not list(folder.glob(pattern)) and time.time() < deadline and process.poll() is None:
        time.sleep(0.1)


def runs(pid: int) -> bool:
    """Whether there is such a process that has not ended; one that has may wait to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_signal_to_a_sweep_ends_its_job_and_the_sweep(mnist_root: Path, tmp_path: Path) -> None:
    process = started(tmp_path, "-m", "seed=0,1", f"data.root={mnist_root}", "trainer.gpus=0", "hydra.sweep.dir=sweep")
    until_there_is(process, tmp_path, "sweep/*/checkpoints/last.ckpt")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (job,) = (tmp_path / "sweep").glob("*/.hydra")
    assert json.loads((job.parent / "metrics.json").read_text())["signal"] == "SIGTERM"
    assert "train.py -m sweep=sweep\n" in out.replace("\\", "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs to know the processes of a process")
@pytest.mark.parametrize(("strategy", "to"), [("ddp", "other"), ("ddp_spawn", "first")])
def test_signal_to_one_of_two_processes_ends_both_in_good_order(mnist_root: Path, tmp_path: Path, strategy: str, to: str) -> None:
    two = ["trainer.accelerator=cpu", "trainer.devices=2", f"trainer.strategy={strategy}", "hydra.run.dir=run"]
    process = started(tmp_path, *two, f"data.root={mnist_root}", "trainer.limit_train_batches=100", "trainer.limit_val_batches=1")
    until_there_is(process, tmp_path, "run/checkpoints/last.ckpt")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    *_, other = (int(pid) for pid in children if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill({"first": process.pid, "other": other}[to], signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, err
    assert out.count("interrupted: run holds") == 1
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (record["interrupted"], record["signal"]) == (True, "SIGUSR1")
    deadline = time.time() + 20
    while runs(other) and time.time() < deadline:
        time.sleep(0.1)
    assert not runs(other)
    assert not list((tmp_path / "run").rglob("*.unfinished"))


def heeds(pid: int, signum: int) -> bool:
    """Whether a process has a handler of a signal; on systems that do not say, whether it may have."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        time.sleep(1)
        return True
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", status.read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signum - 1) & 1)


SLOW_NUMPY = """
import pathlib, sys, time
if not pathlib.Path("looking").exists():
    pathlib.Path("looking").touch()
    time.sleep(60)
sys.path.remove(str(pathlib.Path(__file__).parent))
del sys.modules["numpy"]
import numpy
"""


@pytest.mark.slow
@pytest.mark.parametrize("swallowed", [False, True])
def test_signal_while_libraries_are_imported_is_one_line(tmp_path: Path, swallowed: bool) -> None:
    """`swallowed`: while torch looks for numpy, as which this module passes itself off until the signal has come."""
    there = tmp_path / "path"
    there.mkdir()
    if swallowed:
        (there / "numpy.py").write_text(SLOW_NUMPY)
    process = started(tmp_path, "trainer.gpus=0", PYTHONPATH=str(there))
    while process.poll() is None and not (swallowed or heeds(process.pid, signal.SIGTERM)):
        time.sleep(0.01)
    if swallowed:
        until_there_is(process, tmp_path, "looking")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert err == "error: interrupted by SIGTERM\n"
    assert process.returncode == 143
    assert [path.name for path in tmp_path.iterdir() if path != there] == (["looking"] if swallowed else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["model=vea"], "model=vea: unknown; did you mean vae?"),
        ("train.py", ["model.latent_dmi=3"], "did you mean model.latent_dim?"),
        ("train.py", ["trainer.max_epoch=3"], "did you mean trainer.max_epochs?"),
        ("train.py", ["model.latent_dim=abc"], "model.latent_dim='abc'"),
        ("train.py", ["-m", "model.latent_dim=2,abc"], "model.latent_dim='abc'"),
        ("train.py", ["run_dir=elsewhere"], "choose it with hydra.run.dir=elsewhere"),
        ("evaluate.py", [], "run=<folder>"),
        ("evaluate.py", ["run=nix"], "run=nix: there is no such folder"),
    ],
)
def test_wrong_input_gets_one_line_and_a_status(tmp_path: Path, script: str, arguments: list[str], message: str) -> None:
    result = call(tmp_path, script, *arguments)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not list((tmp_path / "outputs").glob("**/.hydra")), "a refused run left a folder"


@pytest.mark.slow
def test_library_imports_without_hydra() -> None:
    code = (
        "import sys; sys.modules['hydra'] = sys.modules['omegaconf'] = None\n"
        "from vae_lightning import VAE, MNISTDataModule; VAE(); MNISTDataModule()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env={**os.environ}, check=True)


@pytest.mark.slow
def test_job_that_goes_wrong_is_counted_and_the_sweep_goes_on(mnist_root: Path, tmp_path: Path) -> None:
    grey = ["model/likelihood=gaussian", "data.binarization=none", "model.likelihood.scale=1e-30,0.1"]
    sweep = ["-m", "hydra.sweep.dir=sweep", *grey, "trainer.gpus=0", f"data.root={mnist_root}", *QUICK, *SMALL]
    result = call(tmp_path, "train.py", *sweep)
    assert result.returncode == 1, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith("error: [1/2] scale=1e-30: ")
    assert "the loss of step 1 (epoch 0) is not finite" in line
    records = [json.loads((tmp_path / "sweep" / f"scale={scale}" / "metrics.json").read_text()) for scale in ("1e-30", "0.1")]
    assert ["not_finite" in record for record in records] == [True, False]
    assert records[1]["metrics"]["val/elbo"]
