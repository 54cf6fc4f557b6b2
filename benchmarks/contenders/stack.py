"""Many VAEs that differ in their seed: stacked into one, by joblib over two processes as a sweep is, or one after the other.

Images a second of all models together, in every epoch but the first, without validation; seconds are those of the models' own
clocks, so what a process needs to start is left out, as it is for every contender.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import arguments, report

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
NETS = {"small": ["model.net.hidden=[64,32]"], "default": ["model.net.hidden=[400]", "model.net.init=default"]}
PROCESSES = 2

options = arguments(how="stacked", models=8, net="default", batches=429, device="cpu")


def overrides(seed: int, folder: str) -> list[str]:
    """Words of `train.py` for the model of `seed`."""
    words = [f"seed={seed}", f"data.root={options.data}", f"run_dir={folder}/{seed}", "name=stack", *NETS[options.net]]
    words += [f"trainer.gpus={int(options.device == 'cuda')}", f"trainer.max_epochs={options.epochs}", "trainer.compile=true"]
    words += [f"trainer.limit_train_batches={options.batches}", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    return [*words, "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]


def config(seed: int, folder: str, threads: int | str) -> Any:
    """The config of the model of `seed`, as a sweep's job has it, with a clock."""
    sys.path[:0] = [path for path in (str(REPOSITORY), str(HERE)) if path not in sys.path]
    import hydra

    from vae_lightning.commands.commandline import register_resolvers

    register_resolvers()
    words = [*overrides(seed, folder), f"trainer.threads={threads}", "+callbacks.clock._target_=epoch_clock.EpochClock"]
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return hydra.compose("train", [*words, f"+callbacks.clock.path={folder}/epochs_of_{seed}"])


def trained(cfg: Any) -> tuple[int, float, float]:
    """Images and seconds of the epochs after the first, and the last training loss."""
    from vae_lightning.commands.train import train

    metrics = train(cfg).metrics
    turns = [json.loads(line) for line in Path(cfg.callbacks.clock.path).read_text().splitlines()][1:]
    return sum(turn["images"] for turn in turns), sum(turn["seconds"] for turn in turns), metrics["train/loss"]


def alone(seed: int, folder: str, threads: int | str) -> tuple[int, float, float]:
    return trained(config(seed, folder, threads))


def one_after_the_other(folder: str) -> tuple[float, float]:
    return _together([alone(seed, folder, "auto") for seed in range(options.models)], at_once=1)


def over_processes(folder: str) -> tuple[float, float]:
    from joblib import Parallel, delayed

    jobs = (delayed(alone)(seed, folder, 1) for seed in range(options.models))
    return _together(Parallel(n_jobs=PROCESSES)(jobs), at_once=PROCESSES)


def stacked(folder: str) -> tuple[float, float]:
    configs = [config(seed, folder, "auto") for seed in range(options.models)]
    try:
        from vae_lightning.engine.stacked import run_stacked
    except ImportError:
        sys.exit("error: not there yet: vae_lightning.engine.stacked")
    outcomes = run_stacked([partial(trained, cfg) for cfg in configs])
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    # each model's clock runs while the others take their steps
    return _together([outcome.result for outcome in outcomes], at_once=options.models)


def _together(ends: list[Any], at_once: int) -> tuple[float, float]:
    """Images a second of all, of which so many train at any time, and their mean loss."""
    images, seconds, losses = (sum(column) for column in zip(*ends, strict=True))
    return at_once * images / seconds, losses / len(ends)


with tempfile.TemporaryDirectory() as folder:
    how = {"stacked": stacked, "joblib": over_processes, "one": one_after_the_other}[options.how]
    report(*how(folder))
