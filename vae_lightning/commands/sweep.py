"""Hydra's sweeper `basic`: `python train.py -m ...` to jobs, each with a run folder of its own, and to a table of what came out.

A sweep has a record in its folder (`sweeps.record`), and how its jobs stand is read from their run folders (`sweeps.status`). So
the same command goes on with a sweep wherever it was stopped, and two commands at once share its jobs.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lightning.commands.launchers import Launched
from vae_lightning.commands.processes import Processes, fork_server
from vae_lightning.commands.stacks import Stacks
from vae_lightning.commands.sweeping import Wanted, wanted
from vae_lightning.commands.tasks import JobLauncher
from vae_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from vae_lightning.commands.running import SweepRun

__all__ = ["OURS", "Sweep", "register"]

OURS = "hydra_plugins.vae_lightning"
"""The name under which Hydra knows our plugins: it takes plugins from the package hydra_plugins alone."""


def register() -> None:
    """Put the sweeper and the launcher of this project into the place of Hydra's own, which are called `basic`."""
    plugins = Plugins.instance()  # which stores Hydra's own configs, so it comes first
    for group, name, plugin, settings in (
        ("sweeper", "basic", Sweep, {"params": {}}),
        ("launcher", "basic", Processes, {"jobs": "auto"}),
        ("launcher", "stacked", Stacks, {"jobs": "auto", "stack": "auto"}),
    ):
        target = f"{OURS}.{plugin.__name__}"
        plugins.class_name_to_class[target] = plugin
        node = {"_target_": target, **settings}
        ConfigStore.instance().store(group=f"hydra/{group}", name=name, node=node, provider="vae_lightning")


class Sweep(Sweeper):
    """Hydra's sweeper that trains the jobs of a sweep, goes on with those that were stopped, and shows the table.

    Args:
        params: settings that are varied, as a command line would: `{"model.beta": "1,4,10"}`; the command line wins.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the parts that Hydra gives to a sweeper."""
        self.hydra_context, self.config = hydra_context, config
        self._launcher = functools.partial(
            Plugins.instance().instantiate_launcher, hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep; end the program with status 1 if jobs failed, and with 128 + signal if a signal ended it."""
        assert self.hydra_context is not None
        assert self.config is not None
        plugin = self._launcher()
        _refuse_ranks()
        if isinstance(plugin, Processes):
            fork_server()  # which imports torch while this process does
        launcher = plugin if isinstance(plugin, JobLauncher) else Launched(self.hydra_context, self.config, plugin)
        asked = wanted()
        words = arguments if asked.words is None else asked.words
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        status = self._run(parser, launcher, asked).run(self._with_params(words, parser))
        if status:
            sys.exit(status)

    def _run(self, parser: OverridesParser, launcher: Any, asked: Wanted) -> "SweepRun":
        """What runs the jobs of the command."""
        from vae_lightning.commands.running import SweepRun

        assert self.config is not None
        return SweepRun(self.config, parser, launcher, asked)

    def _with_params(self, words: Sequence[str], parser: OverridesParser) -> list[str]:
        typed = {override.key_or_group for override in parser.parse_overrides(list(words))}
        return [*(f"{key}={value}" for key, value in self.params.items() if key.lstrip("+") not in typed), *words]


def _refuse_ranks() -> None:
    from vae_lightning.machine.processes import started_by

    launcher, count = started_by()
    if count > 1:
        raise ConfigurationError(
            f"-m: {launcher} started {count} processes, and each would run the whole sweep; start one process, "
            f"python train.py -m ..., and give each job its devices: trainer.devices={count}"
        )
