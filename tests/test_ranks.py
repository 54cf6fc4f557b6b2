"""A batch that several processes share is drawn as one process draws it, and they take the steps of one process."""

import csv
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchrun import TORCHRUN

from vae_lightning import CVAE, IWAE, VAE, Classifier
from vae_lightning.commands.train import train
from vae_lightning.data.module import ImageDataModule
from vae_lightning.models import M1, M2
from vae_lightning.models.base import Module
from vae_lightning.runs import per_image
from vae_lightning.types import UNLABELLED, Noise

REPOSITORY = Path(__file__).resolve().parent.parent
BATCH, LABELLED = 16, 8
"""Of all ranks together."""
FULL = 3
"""Full batches an epoch."""
MLP = {"name": "mlp", "hidden": [8], "dropout": 0.3}
CLASSIFIER = {"name": "classifier_mlp", "hidden": [8], "dropout": 0.3}


class Blots(ImageDataModule):
    """Grey images of five classes, so many that the last batch has `rest` of them."""

    label_names = tuple("abcde")

    def __init__(self, rest: int, **data: Any) -> None:
        super().__init__(**data)
        self.rest = rest

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        count = FULL * BATCH + self.rest
        images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return dict.fromkeys(("train", "val", "test"), (images, torch.arange(count) % 5))


class Rank:
    """What a model and its data ask the Trainer of one process among several."""

    strategy = type("Strategy", (), {"root_device": torch.device("cpu")})
    overfit_batches, train_dataloader = 0, None

    def __init__(self, rank: int, world_size: int, epoch: int, model: Module) -> None:
        self.global_rank, self.world_size, self.current_epoch = rank, world_size, epoch
        self.lightning_module, self.global_step = model, 7


Rows = dict[int, tuple[Tensor, ...]]
Build = Callable[[], Module]


def epoch_of(build: Build, data: Blots, rank: int, world_size: int, epoch: int) -> list[tuple[Rows, Tensor, list[Tensor]]]:
    """Of each batch that a process trains on: the rows of each image, by what tells images apart; the loss; the gradients."""
    torch.manual_seed(0)
    model, drawn = build(), []
    trainer = Rank(rank, world_size, epoch, model)
    model.trainer = data.trainer = trainer  # type: ignore[assignment]
    loader = trainer.train_dataloader = data.train_dataloader()
    loader.set_epoch(epoch)
    draw_noise = model.draw_noise
    model.draw_noise = lambda *arguments, **settings: drawn.append(draw_noise(*arguments, **settings)) or drawn[-1]  # type: ignore[method-assign]
    steps = []
    for number, batch in enumerate(loader):
        x, y = data.on_after_batch_transfer(batch, 0)
        loss = model.training_step((x, y), number)
        gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
        rows = zip(x, y, *rows_of(drawn[-1], len(x)), strict=True)
        steps.append((dict(zip(loader.places(number).tolist(), rows, strict=True)), loss.detach(), list(gradients)))
    return steps


def rows_of(noise: Noise, count: int) -> list[Tensor]:
    """The noise of a batch of `count` images, with images first."""
    uniform = [tensor.unflatten(0, (-1, count)).transpose(0, 1) for tensor in noise.dropout]
    return [*([noise.posterior.transpose(0, 1)] if noise.posterior.numel() else []), *uniform]


def together(build: Build, world_size: int, rest: int, epoch: int = 2, **settings: Any) -> list[tuple[Rows, Tensor, list[Tensor]]]:
    """`epoch_of` all processes together, whose losses and gradients are averaged."""
    share = {"batch_size": BATCH // world_size, "labelled_batch_size": LABELLED // world_size}
    ranks = [epoch_of(build, Blots(rest, **{**settings, **share}), rank, world_size, epoch) for rank in range(world_size)]
    batches = []
    for steps in zip(*ranks, strict=True):
        rows = {place: row for step in steps for place, row in step[0].items()}
        assert len(rows) == sum(len(step[0]) for step in steps), "no two processes have an image in common"
        gradients = [torch.stack(each).mean(0) for each in zip(*(step[2] for step in steps), strict=True)]
        batches.append((rows, torch.stack([step[1] for step in steps]).mean(), gradients))
    return batches


GREY: dict[str, Any] = {"binarization": "none"}
MOVED: dict[str, Any] = {"augment_shift": 2.0, "augment_rotation": 20.0, "augment_scale": 0.1}
FEW: dict[str, Any] = {"num_labels": 10}
OF_BLOTS: dict[str, Any] = {"latent_dim": 3, "net": MLP, "image_shape": (1, 8, 8)}
CASES: dict[str, tuple[Build, dict[str, Any]]] = {
    "vae": (lambda: VAE(num_samples=3, kl_warmup_steps=20, **OF_BLOTS), {}),
    "augmented": (lambda: VAE(likelihood="gaussian", **OF_BLOTS), {**GREY, **MOVED}),
    "iwae": (lambda: IWAE(num_samples=4, **OF_BLOTS), MOVED),
    "iaf": (
        lambda: VAE(posterior={"name": "iaf", "hidden": [8], "context": 4}, prior={"name": "mog", "components": 3}, **OF_BLOTS),
        {},
    ),
    "cvae": (lambda: CVAE(num_classes=5, **OF_BLOTS), {"permute_pixels": True}),
    "m1": (lambda: M1(classes=5, classifier=CLASSIFIER, num_samples=2, **OF_BLOTS), FEW),
    "m2": (lambda: M2(num_classes=5, classifier=CLASSIFIER, num_samples=2, **OF_BLOTS), {**FEW, **MOVED}),
    "few labels alone": (lambda: M2(num_classes=5, classifier=CLASSIFIER, **OF_BLOTS), {"num_labels": 40, "only_labelled": True}),
    "classifier": (lambda: Classifier(net=CLASSIFIER, num_classes=5, image_shape=(1, 8, 8)), MOVED),
}


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_processes_draw_and_step_as_one_process_does(case: str, world_size: int) -> None:
    build, settings = CASES[case]
    one, several = (together(build, count, rest=8, **settings) for count in (1, world_size))
    assert len(one) == len(several) >= FULL
    assert len(one[-1][0]) < len(one[0][0]), "the last batch is a smaller one"
    for (rows, loss, gradients), (others, of_others, theirs) in zip(one, several, strict=True):
        assert rows.keys() == others.keys()
        for place, row in rows.items():
            assert all(torch.equal(*pair) for pair in zip(row, others[place], strict=True)), place
        torch.testing.assert_close(loss, of_others, rtol=1e-5, atol=1e-5)
        for pair in zip(gradients, theirs, strict=True):
            torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("world_size", "rest", "left"), [(2, 7, 6), (4, 7, 4), (4, 3, 0), (2, 1, 0), (4, 4, 4)])
@pytest.mark.parametrize("case", ["vae", "m2"])
def test_images_too_few_for_equal_parts_are_left_out_and_the_others_are_drawn_alike(
    case: str, world_size: int, rest: int, left: int
) -> None:
    build, settings = CASES[case]
    one, several = (together(build, count, rest=rest, **settings) for count in (1, world_size))
    labelled = LABELLED * (case == "m2")
    assert [len(rows) for rows, *_ in several] == [BATCH + labelled] * FULL + [left + labelled] * (left > 0)
    for (rows, *_), (others, *_) in zip(one, several, strict=False):
        assert others.keys() <= rows.keys()
        for place, row in others.items():
            assert all(torch.equal(*pair) for pair in zip(row, rows[place], strict=True)), place


def test_an_image_is_drawn_afresh_in_each_epoch_and_each_time_it_comes_with_its_label() -> None:
    build, settings = CASES["m2"]
    epochs = [together(build, 2, rest=8, epoch=epoch, **settings) for epoch in (0, 1)]
    first, second = ({place: row for rows, *_ in epoch for place, row in rows.items()} for epoch in epochs)
    count = FULL * BATCH + 8
    assert len(first) == count + (FULL + 1) * LABELLED, "no two images of an epoch are told apart by one number"
    assert all((int(row[1]) == UNLABELLED) == (place < count) for place, row in first.items())
    for numbers in (2, 3, 4):  # latents, and dropout
        assert not any(torch.equal(row[numbers], second[place][numbers]) for place, row in first.items())
        assert len({tuple(row[numbers].flatten().tolist()) for row in first.values()}) == len(first)


@pytest.mark.parametrize("count", [10, 16, 40, 70])
def test_means_over_ranks_are_those_of_one_process_also_where_ranks_have_no_batch(count: int) -> None:
    """Batches of 16: one of them, a whole one, three for four processes, and five of which the last is smaller."""
    data = Blots(30, batch_size=BATCH, eval_batch_size=BATCH)
    images, labels = (part[:count] for part in data.read()["val"])
    data.read = lambda: dict.fromkeys(("train", "val", "test"), (images, labels))  # type: ignore[method-assign]

    def totals(world_size: int) -> list[dict[str, float]]:
        found = []
        for rank in range(world_size):
            torch.manual_seed(0)
            model = VAE(**OF_BLOTS)
            trainer = Rank(rank, world_size, 0, model)
            model.trainer = data.trainer = trainer  # type: ignore[assignment]
            loader = trainer.val_dataloaders = data.val_dataloader()  # type: ignore[attr-defined]
            assert len(loader) >= 1, "without a batch, Lightning would leave the rank out of what all ranks do"
            for number, batch in enumerate(loader):
                model.validation_step(data.on_after_batch_transfer(batch, 0), number)
            found.append(model._evaluation.totals())
        return found

    (one,) = totals(1)
    several = totals(4)
    assert all(total.keys() == one.keys() for total in several)
    assert {name: sum(total[name] for total in several) for name in one} == pytest.approx(one, rel=1e-6)
    assert one["images"] == count


def test_model_with_a_validation_of_its_own_has_no_batch_that_it_would_count() -> None:
    class Own(VAE):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/own", batch[0].mean())

    assert VAE(**OF_BLOTS).leaves_out_stand_ins
    assert not Own(**OF_BLOTS).leaves_out_stand_ins


# ---- a real command


FEW_IMAGES = [
    *(
        "data.val_size=59856",
        "trainer.limit_train_batches=1.0",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        "logger=csv",
    ),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
]
SEMI_SUPERVISED = [
    *("model=m2", "model.net.name=mlp", "model.net.hidden=[16]", "model.net.dropout=0.2", "model.latent_dim=3"),
    *("model.num_samples=2", "data.num_labels=40", "data.augment_shift=1"),
]


def logged(folder: Path) -> list[dict[str, float]]:
    (log,) = folder.glob("**/metrics.csv")
    rows = csv.DictReader(log.open())
    return [{key: float(v) for key, v in row.items() if v and not key.startswith("time/")} for row in rows]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_batches_twice_as_large(
    compose: Callable[..., DictConfig], mnist_root: Path, tmp_path: Path
) -> None:
    # 144 images: a full batch of 96, and one of 48
    both = [*SEMI_SUPERVISED, *FEW_IMAGES, "trainer.accelerator=cpu", "data.eval_batch_size=60"]
    split = [
        "trainer.devices=2",
        "data.batch_size=48",
        "data.labelled_batch_size=8",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
    ]
    command = [sys.executable, str(REPOSITORY / "train.py"), f"data.root={mnist_root}", "hydra.run.dir=two", *both, *split]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    whole = [
        "trainer.gpus=auto",
        "data.batch_size=96",
        "data.labelled_batch_size=16",
        "trainer.limit_val_batches=2",
        "trainer.limit_test_batches=2",
    ]
    train(compose(*both, *whole, folder="one", quick=False))
    one, two = (logged(tmp_path / folder) for folder in ("one", "two"))
    losses = [row["train/loss"] for row in one if "train/loss" in row]
    assert len(losses) == 4
    assert len(set(losses)) == 4
    for row, other in zip(one, two, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-4)
    alone, together = (per_image(tmp_path / folder) for folder in ("one", "two"))
    assert alone.keys() == together.keys()
    assert alone["_images"].tolist() == together["_images"].tolist(), "the images of all processes, in the split's order"
    assert len(alone["_images"]) == 120
    for name, values in alone.items():
        assert together[name] == pytest.approx(values, rel=1e-3, abs=1e-3), name


# ---- stopped and resumed


SHAPES = [
    *("data=shapes2d", "data.train_size=2400", "data.val_size=100", "data.test_size=100", "data.batch_size=10"),
    *(
        "data.eval_batch_size=25",
        "model.net.hidden=[8]",
        "model.latent_dim=2",
        "trainer.max_epochs=3",
        "trainer.log_every_n_steps=20",
    ),
    *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
    *("callbacks.latents=null", "callbacks.animation.frames=4", "callbacks.last_checkpoint.every_minutes=0.0001", "logger=csv"),
    *("+logger.tensorboard={_target_:pytorch_lightning.loggers.TensorBoardLogger,name:tensorboard,version:''}",),
    *("+logger.tensorboard.save_dir=${run_dir}", "+logger.tensorboard.default_hp_metric=false"),
]


def started(folder: Path, *words: str, torchrun: bool = False) -> subprocess.Popen[str]:
    line = [sys.executable, *(TORCHRUN if torchrun else []), str(REPOSITORY / "train.py"), *words]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(line, cwd=folder, stdout=log, stderr=log, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def below(pid: int) -> list[int]:
    """A process and all that it has started, and these have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(process for child in children for process in below(int(child)))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert started(folder, *SHAPES, "hydra.run.dir=run").wait() == 0, (folder / "log.txt").read_text()
    return folder / "run"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs to know the processes of a process")
@pytest.mark.parametrize(
    ("start", "ending"),
    [("ddp", "SIGKILL"), pytest.param("ddp_spawn", "SIGTERM", marks=pytest.mark.exhaustive), ("torchrun", "SIGKILL")],
)
def test_run_of_two_processes_that_is_stopped_and_resumed_is_that_of_one_never_stopped(
    undisturbed: Path, tmp_path: Path, start: str, ending: str
) -> None:
    stress = runpy.run_path(str(REPOSITORY / "tests" / "stress" / "resume.py"))
    torchrun = start == "torchrun"
    words = [*SHAPES, *([] if torchrun else [f"trainer.strategy={start}"])]
    process = started(tmp_path, *words, torchrun=torchrun)
    deadline = time.monotonic() + 240
    while not (found := list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt"))) and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        time.sleep(0.01)
    for pid in below(process.pid) if ending == "SIGKILL" else [process.pid]:
        os.kill(pid, getattr(signal, ending))
    assert process.wait(timeout=60) == (128 + signal.SIGTERM if ending == "SIGTERM" else -signal.SIGKILL)
    run = found[0].parent.parent
    assert (run / "metrics.json").is_file() == (ending == "SIGTERM")
    assert started(tmp_path, "resume=latest", torchrun=torchrun).wait() == 0, (tmp_path / "log.txt").read_text()
    assert stress["same"](stress["contents"](undisturbed), stress["contents"](run)) == []
    assert [path for path in run.parent.iterdir() if any(path.iterdir())] == [run], "no process logs into a folder of its own"


# ---- several machines


MACHINES = (
    *("data=shapes2d", "data.train_size=600", "data.val_size=50", "data.test_size=50", "data.eval_batch_size=50"),
    *("model.net.hidden=[8]", "model.latent_dim=2", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
    *("callbacks.latents=null", "logger=none", "trainer.accelerator=cpu", "name=machines"),
)


@pytest.mark.slow
def test_two_machines_train_as_one_process_into_one_run_folder_that_the_first_alone_writes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1"]
    words = [str(REPOSITORY / "train.py"), *MACHINES, "trainer.num_nodes=2", "trainer.devices=1", "data.batch_size=50"]
    machines = [
        subprocess.Popen(
            [*torchrun, f"--master_port={port}", f"--node_rank={rank}", *words],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (1, 0)
    ]
    said = [machine.communicate(timeout=240)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    (run,) = tmp_path.glob("outputs/machines/*")
    assert sorted(path.name for path in run.iterdir()) == [
        *(".hydra", ".lock", "checkpoints", "metrics.json", "test_per_image.npz", "train.log")
    ]
    one = [sys.executable, str(REPOSITORY / "train.py"), *MACHINES, "data.batch_size=100", "hydra.run.dir=one"]
    subprocess.run(one, cwd=tmp_path, check=True, capture_output=True)
    metrics, of_one = (json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (run, tmp_path / "one"))
    assert metrics == pytest.approx(of_one, rel=1e-5)


# ---- sweeps and searches of such runs


FEW = (
    *(
        "data=shapes2d",
        "data.train_size=256",
        "data.val_size=64",
        "data.test_size=64",
        "data.batch_size=16",
        "data.eval_batch_size=32",
    ),
    *("model.net.hidden=[8]", "model.latent_dim=2", "trainer.max_epochs=2", "logger=none", "callbacks.latents=null"),
    *("trainer.accelerator=cpu", "trainer.devices=2"),
)


@pytest.mark.slow
def test_each_job_of_a_sweep_trains_in_several_processes_into_its_one_folder(tmp_path: Path) -> None:
    assert started(tmp_path, "-m", *FEW, "seed=0,1").wait() == 0, (tmp_path / "log.txt").read_text()
    assert started(tmp_path, *FEW, "seed=1", "hydra.run.dir=one").wait() == 0
    (sweep,) = tmp_path.glob("outputs/*/sweep_*")
    assert {path.name for path in sweep.parent.iterdir()} == {sweep.name, ".sweeps.lock"}
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {".sweep", "seed=0", "seed=1", "figures"}
    job, one = (json.loads((run / "metrics.json").read_text())["metrics"] for run in (sweep / "seed=1", tmp_path / "one"))
    assert job == one


@pytest.mark.slow
def test_all_processes_of_a_hopeless_trial_stop_together(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs the extra optuna: pip install 'vae_lightning[optuna]'")
    asked = ["hydra/sweeper=optuna", "model.optimizer.lr=1e-2,1e-7", "hydra.sweeper.n_trials=2", "hydra.sweeper.startup_trials=1"]
    drawn = ["hydra.sweeper.sampler=random", "hydra.sweeper.seed=3"]  # 1e-2, and then 1e-7
    assert started(tmp_path, "-m", *asked, *drawn, *FEW).wait() == 0, (tmp_path / "log.txt").read_text()
    (sweep,) = tmp_path.glob("outputs/*/sweep_*")
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(sweep / "optuna.journal")))
    trials = optuna.load_study(study_name=None, storage=journal).trials
    assert [(trial.params["model.optimizer.lr"], trial.state.name) for trial in trials] == [(1e-2, "COMPLETE"), (1e-7, "PRUNED")]
    assert [list(trial.intermediate_values) for trial in trials] == [[1, 2], [1]], "each reported once, by its first process"
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {".sweep", "lr=0.01", "lr=1e-07", "figures"}
