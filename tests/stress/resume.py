"""Runs killed by SIGKILL at random moments and resumed until they are done, compared bit for bit with runs never stopped.

    python tests/stress/resume.py --runs 100 --data data --folder /tmp/stress

A process is forked from one that has imported torch, so that a run takes seconds; it then runs train.py as a command would.
Prints a table with a row for each setting, and leaves with status 1 if a run differs. Not run by pytest, which has
tests/commands/test_resuming.py.
"""

import argparse
import csv
import json
import math
import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
COMMON = (
    *("trainer.gpus=0", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "trainer.log_every_n_steps=3"),
    *("trainer.limit_val_batches=2", "trainer.limit_test_batches=2", "data.eval_batch_size=100", "data.batch_size=64"),
    *("model.latent_dim=2", "callbacks.animation.frames=6", "callbacks.images.every_n_epochs=1"),
    *("logger=csv", "+logger.tensorboard={_target_:pytorch_lightning.loggers.TensorBoardLogger,name:tensorboard,version:''}"),
    *("+logger.tensorboard.save_dir=${run_dir}", "+logger.tensorboard.default_hp_metric=false"),
)
MLP = ("model.net.hidden=[32]",)
SETTINGS: dict[str, tuple[str, ...]] = {
    "vae, adam": (*MLP, "trainer.max_epochs=4", "trainer.limit_train_batches=30"),
    "iwae, cosine, validation within epochs, early stopping": (
        *("model=iwae", "model.lr_schedule.name=cosine", "trainer.max_epochs=4", "trainer.limit_train_batches=30"),
        *("trainer.val_check_interval=10", "callbacks=early_stopping", "callbacks.early_stopping.patience=3", *MLP),
    ),
    "vae, early stopping that stops": (
        *("trainer.max_epochs=9", "trainer.limit_train_batches=20", "callbacks=early_stopping", *MLP),
        *("callbacks.early_stopping.patience=2", "+callbacks.early_stopping.min_delta=1000"),
    ),
    "beta_vae, plateau, accumulated gradients, warm-up": (
        *("model=beta_vae", "model.lr_schedule.name=reduce_lr_on_plateau", "+model.lr_schedule.patience=0", *MLP),
        *(
            "trainer.accumulate_grad_batches=2",
            "trainer.max_epochs=4",
            "trainer.limit_train_batches=31",
            "model.kl_warmup_steps=30",
        ),
    ),
    "vae, momentum, max_steps within an epoch": (
        *("model.optimizer.name=sgd", "+model.optimizer.momentum=0.9", "model.optimizer.lr=0.0001", *MLP),
        *("trainer.max_steps=70", "trainer.max_epochs=9", "trainer.limit_train_batches=30"),
    ),
    "conditional vae, validation every 2nd epoch": (
        *("model=cvae_mlp", "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5", "trainer.limit_train_batches=20", *MLP),
    ),
    "fast path, compiled": (*MLP, "trainer.compile=true", "trainer.max_epochs=4", "trainer.limit_train_batches=40"),
    "two processes, of which the first is killed": (
        *("trainer.gpus=auto", "trainer.accelerator=cpu", "trainer.devices=2", "callbacks.latents=null"),
        *(*MLP, "trainer.max_epochs=3", "trainer.limit_train_batches=120"),
    ),
}
CLOCK = "callbacks.last_checkpoint.every_minutes=0.003"
"""Where last.ckpt is written by the clock too, every fifth of a second."""


def command(words: Sequence[str], folder: Path) -> int:
    """Start `train.py words` in `folder` and give the process's id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.chdir(folder)
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [str(REPOSITORY / "train.py"), *words]
    status = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(words: Sequence[str], folder: Path, after: float = math.inf) -> tuple[int | None, float]:
    """The exit status of a command, None if it was killed `after` so many seconds; and the seconds it took."""
    began, process = time.monotonic(), command(words, folder)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        took = time.monotonic() - began
        if ended:
            return os.waitstatus_to_exitcode(status), took
        if took >= after:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None, took
        time.sleep(0.002)


# ---- what a run left


def contents(folder: Path) -> dict[str, Any]:
    """Everything of a run folder that has to be the same, by name."""
    import torch

    found: dict[str, Any] = {"metrics.json": json.loads((folder / "metrics.json").read_text())["metrics"]}
    for name in ("last", "best"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        if not path.is_file():
            continue
        content = torch.load(path, weights_only=True)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "callbacks", "hyper_parameters"):
            found[f"{name}.ckpt {key}"] = content[key]
        found[f"{name}.ckpt sums"] = content["vae_lightning"]["sums"]
    found["test_per_image.npz"] = (folder / "test_per_image.npz").read_bytes()
    found["csv"] = _rows(folder / "csv" / "metrics.csv")
    found |= _events(folder / "tensorboard")
    found |= {f"animation/{path.name}": _frame(path) for path in sorted((folder / "animation").glob("*.npz"))}
    return found


def _frame(path: Path) -> Any:
    import numpy as np

    with np.load(path) as frame:
        return {name: frame[name].tobytes() for name in frame}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    rows = [{key: value for key, value in row.items() if value and "time/" not in key} for row in csv.DictReader(path.open())]
    return [row for row in rows if set(row) - {"step", "epoch"}]


def _events(folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}).Reload()
    tags: Mapping[str, Any] = written.Tags()
    scalars = {tag: [(event.step, event.value) for event in written.Scalars(tag)] for tag in tags["scalars"] if "time/" not in tag}
    images = {tag: [(event.step, event.encoded_image_string) for event in written.Images(tag)] for tag in tags["images"]}
    return {f"tensorboard {tag}": values for tag, values in (scalars | images).items()}


def same(first: Any, second: Any, where: str = "") -> list[str]:
    """The places in which two contents differ."""
    import torch

    if isinstance(first, Mapping) and isinstance(second, Mapping):
        first, second = (
            {Path(key).name if "/" in str(key) and Path(key).is_absolute() else key: v for key, v in m.items()}
            for m in (first, second)
        )
        places = [f"{where}: only one has {key}" for key in first.keys() ^ second.keys()]
        return places + [place for key in first.keys() & second.keys() for place in same(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)} entries"]
        return [place for i, pair in enumerate(zip(first, second, strict=True)) for place in same(*pair, f"{where}/{i}")]
    if isinstance(first, torch.Tensor):
        equal = isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
        return [] if equal else [f"{where}: tensors differ"]
    if isinstance(first, str) and isinstance(second, str) and "/" in first:
        return []  # a path
    equal = first == second or (first != first and second != second)
    return [] if equal else [f"{where}: {str(first)[:60]} and {str(second)[:60]}"]


# ---- the stress


def resumed_until_done(words: Sequence[str], folder: Path, took: float, most: int, chance: random.Random) -> tuple[int, int]:
    """Kill a run at random moments, at most `most` times, and resume it until it is done; how often each."""
    kills = resumes = 0
    while True:
        begun = (folder / "run" / ".hydra" / "config.yaml").is_file()
        resumes += begun
        after = chance.uniform(0.0, took * 0.9) if kills < most else math.inf
        status, _ = run(["resume=run"] if begun else [*words, "hydra.run.dir=run"], folder, after)
        if status is None:
            kills += 1
        elif status == 0 or "is finished" in (folder / "log.txt").read_text()[-300:]:  # killed after the last file was written
            return kills, resumes
        else:
            raise SystemExit(f"{folder}: status {status}: {(folder / 'log.txt').read_text()[-2000:]}")


def stress(
    name: str, words: Sequence[str], folder: Path, runs: int, chance: random.Random, most: int
) -> tuple[int, int, int, float]:
    """Kills, resumes, and runs that differ; and how long the run takes that is never stopped."""
    folder.mkdir(parents=True)
    status, took = run([*words, "hydra.run.dir=undisturbed"], folder)
    if status:
        raise SystemExit(f"{name}: status {status}: {(folder / 'log.txt').read_text()[-2000:]}")
    expected = contents(folder / "undisturbed")
    kills = resumes = different = 0
    for number in range(runs):
        place = folder / str(number)
        place.mkdir()
        killed, resumed = resumed_until_done(words, place, took, most, chance)
        kills, resumes = kills + killed, resumes + resumed
        if places := same(expected, contents(place / "run")):
            different += 1
            print(f"{name}, run {number} ({place}):", *places[:12], sep="\n    ", flush=True)
        else:
            shutil.rmtree(place)
    return kills, resumes, different, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="in all; shared between the settings")
    parser.add_argument("--kills", type=int, default=3, help="of a run, at most")
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    parser.add_argument("--data", default="data", help="where MNIST is")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the runs; those that differ are left in it")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which runs are killed")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    import vae_lightning.commands.train  # noqa: F401  (before forking)

    data = Path(options.data).resolve()
    clock = [CLOCK] if "every_minutes" in (REPOSITORY / "conf" / "callbacks" / "default.yaml").read_text() else []
    settings = {name: words for name, words in SETTINGS.items() if options.only in name}
    chance, wrong = random.Random(options.seed), 0
    print("| setting | runs | killed | resumed | different | seconds undisturbed |\n|---|---|---|---|---|---|", flush=True)
    for number, (name, words) in enumerate(settings.items()):
        runs = options.runs // len(settings) + (number < options.runs % len(settings))
        own = [*COMMON, *clock, *words, f"data.root={data}"]
        kills, resumes, different, took = stress(name, own, options.folder / str(number), runs, chance, options.kills)
        wrong += different
        print(f"| {name} | {runs} | {kills} | {resumes} | {different} | {took:.1f} |", flush=True)
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
