"""Evaluate a trained run, `python evaluate.py run=<folder>`, or all of a sweep, `sweep=<folder>`. `latest` is the newest."""

import hydra
from omegaconf import DictConfig

from vae_lightning.commands.commandline import start
from vae_lightning.commands.programs import evaluated


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    evaluated(cfg)


if __name__ == "__main__":
    start("evaluate", main)
