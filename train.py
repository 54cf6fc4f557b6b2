"""Train a model: `python train.py model=cvae_cnn3 trainer.gpus=1`. `--help` lists what can be chosen, `-m` sweeps."""

import sys
import time

import hydra
from omegaconf import DictConfig

from vae_lightning.commands.commandline import failed_job, one_line_errors, paths_of_the_command, start
from vae_lightning.commands.job import is_job, is_stack
from vae_lightning.errors import NotFiniteError
from vae_lightning.machine.collection import end_of_imports
from vae_lightning.machine.signals import status_of

STARTED = time.time()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    with one_line_errors():
        # torch and Lightning take seconds to import, which --help should not wait for
        from vae_lightning.commands.screen import print_run
        from vae_lightning.commands.train import train
        from vae_lightning.commands.typed import to_trust

        end_of_imports()
        if is_stack():
            from vae_lightning.commands.members import train_members

            sys.exit(train_members(STARTED))
        paths_of_the_command(cfg)
        try:
            result = train(cfg, STARTED)
        except NotFiniteError as error:
            return failed_job(error)
        first = result.trainer.is_global_zero  # of several processes, which all come here
        if first and not is_job():
            print_run(
                result.folder, result.metrics, interrupted=result.interrupted, trust=to_trust(cfg, all_parts=result.interrupted)
            )
    if result.signal is not None:
        # Lightning kills a training of which another rank than the first leaves with a status of its own
        sys.exit(status_of(result.signal) if first else 0)
    return result.objective


if __name__ == "__main__":
    start("train", main)
