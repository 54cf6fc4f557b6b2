"""What `train.py` and `evaluate.py` do once Hydra has composed their config, and the installed commands that do the same.

`vae-train` and `vae-evaluate` need no checkout: their configs are those in the package.
"""

import sys
import time

import hydra
from omegaconf import DictConfig

from vae_lightning.commands.commandline import CONF, end_with, failed_job, one_line_errors, paths_of_the_command, start
from vae_lightning.commands.job import is_job, is_stack
from vae_lightning.errors import NotFiniteError
from vae_lightning.machine.collection import end_of_imports
from vae_lightning.machine.signals import heed, status_of

__all__ = ["evaluated", "trained", "vae_evaluate", "vae_train"]

STARTED = time.time()


def trained(cfg: DictConfig, started: float) -> float | None:
    """Train what `cfg` says, and print what came of it.

    Args:
        started: when the command was started, in seconds since the epoch.

    Returns:
        What a sweep optimises; None where there is no such number.
    """
    with one_line_errors():
        # torch and Lightning take seconds to import, which --help should not wait for
        from vae_lightning.commands.screen import print_run
        from vae_lightning.commands.train import train
        from vae_lightning.commands.typed import to_trust
        from vae_lightning.machine.lightning import batches_of_unfinished_epoch

        end_of_imports()
        heed()
        if is_stack():
            from vae_lightning.commands.members import train_members

            sys.exit(train_members(started))
        paths_of_the_command(cfg)
        try:
            result = train(cfg, started)
        except NotFiniteError as error:
            return failed_job(error)
        first = result.trainer.is_global_zero  # of several processes, which all come here
        if first and not is_job():
            limits = {split: getattr(result.trainer, f"limit_{split}_batches") for split in ("train", "val", "test")}
            limits["train"] = batches_of_unfinished_epoch(result.trainer) or limits["train"]
            trust = to_trust(cfg, all_parts=result.interrupted)
            print_run(result.folder, result.metrics, interrupted=result.interrupted, trust=trust, limits=limits)
    if result.signal is not None:
        # Lightning kills a training of which another rank than the first leaves with a status of its own
        sys.exit(status_of(result.signal) if first else 0)
    return result.objective


def evaluated(cfg: DictConfig) -> None:
    """Evaluate the run or the sweep that `cfg` names, and print what came of it."""
    with one_line_errors():
        # torch and Lightning take seconds to import, which --help should not wait for
        from vae_lightning.commands.evaluate import evaluate
        from vae_lightning.commands.evaluating import evaluate_sweep
        from vae_lightning.commands.sweeping import evaluated_sweep
        from vae_lightning.commands.typed import typed_words
        from vae_lightning.reports.table import print_report

        end_of_imports()
        heed()
        paths_of_the_command(cfg)
        if (sweep := evaluated_sweep()) is not None:
            sys.exit(evaluate_sweep(sweep, cfg, typed_words()))
        found = evaluate(cfg)
        print_report(found.report, found.folder, [drawn.name for drawn in found.gallery.drawn], found.gallery.skipped)
        if found.unverified:
            end_with(found.unverified)


def vae_train() -> None:
    """The command `vae-train`."""

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
    def main(cfg: DictConfig) -> float | None:
        return trained(cfg, STARTED)

    start("train", main)


def vae_evaluate() -> None:
    """The command `vae-evaluate`."""

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
    def main(cfg: DictConfig) -> None:
        evaluated(cfg)

    start("evaluate", main)
