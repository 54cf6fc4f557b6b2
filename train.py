"""Train a model: `python train.py model=cvae_cnn3 trainer.gpus=1`. `--help` lists what can be chosen, `-m` sweeps."""

import time

import hydra
from omegaconf import DictConfig

from vae_lightning.commands.commandline import start
from vae_lightning.commands.programs import trained

STARTED = time.time()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    return trained(cfg, STARTED)


if __name__ == "__main__":
    start("train", main)
