"""Evaluate a trained run, `python evaluate.py run=<folder>`, or all of a sweep, `sweep=<folder>`. `latest` is the newest."""

import sys

import hydra
from omegaconf import DictConfig

from vae_lightning.commands.commandline import one_line_errors, paths_of_the_command, start
from vae_lightning.machine.collection import end_of_imports


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        # torch and Lightning take seconds to import, which --help should not wait for
        from vae_lightning.commands.evaluate import evaluate
        from vae_lightning.commands.evaluating import evaluate_sweep
        from vae_lightning.commands.sweeping import evaluated_sweep
        from vae_lightning.commands.typed import typed_words
        from vae_lightning.reports.table import print_report

        end_of_imports()
        paths_of_the_command(cfg)
        if (sweep := evaluated_sweep()) is not None:
            sys.exit(evaluate_sweep(sweep, cfg, typed_words()))
        found = evaluate(cfg)
        print_report(found.report, found.folder, [drawn.name for drawn in found.gallery.drawn], found.gallery.skipped)


if __name__ == "__main__":
    start("evaluate", main)
