"""Check the jobs of a sweep before the first one starts."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback as HydraCallback
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.commands.config import check_config
from vae_lightning.machine.collection import end_of_imports

__all__ = ["CheckSweep"]

JOBS = 50
"""Jobs up to which a sweep is checked completely: a check takes a tenth of a second."""


class CheckSweep(HydraCallback):
    """Hydra's callback that checks the jobs of a sweep before the first one starts.

    Of up to `JOBS` jobs all are checked; of more, each value of a setting once, beside the first values of the other settings.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        end_of_imports()  # before there are models and data, which a check leaves behind
        # unresolved: a setting may refer to others, which only a job has
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        parsed = OverridesParser.create().parse_overrides(overrides)
        choices = [
            [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [override.input_line or ""]
            for override in parsed
        ]
        # Hydra turns errors of callbacks into warnings, so the error has to end the program here
        with one_line_errors():
            seen: dict[str, Any] = {}
            for job in _jobs(choices):
                check_config(hydra.compose(config.hydra.job.config_name, [*job, "run_dir=."]), seen)


def _jobs(choices: list[list[str]]) -> Iterator[list[str]]:
    """The overrides of each job to be checked, from the values of each override."""
    if math.prod(map(len, choices)) <= JOBS:
        yield from map(list, itertools.product(*choices))
        return
    firsts = [options[0] for options in choices]
    yield firsts
    for place, options in enumerate(choices):
        for option in options[1:]:
            yield [*firsts[:place], option, *firsts[place + 1 :]]
