"""Hydra's sweeper `optuna`: `python train.py sweep=optuna` searches for the settings that are best by the monitored metric.

The public plugin hydra-optuna-sweeper wants an Optuna before 3; this one takes Optuna from 4 on, and runs its trials as the jobs of
a sweep: each an ordinary run in a folder of its own, by whatever launcher, to go on with wherever it was stopped.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning nor Optuna.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from vae_lightning.commands.sweep import OURS, Sweep
from vae_lightning.commands.sweeping import Wanted
from vae_lightning.sweeps.search import SearchSettings
from vae_lightning.sweeps.study import require_optuna

if TYPE_CHECKING:
    from vae_lightning.commands.running import SweepRun

__all__ = ["SearchSweep", "register_search"]


def register_search() -> None:
    """Tell Hydra of the sweeper `optuna`."""
    target = f"{OURS}.{SearchSweep.__name__}"
    Plugins.instance().class_name_to_class[target] = SearchSweep
    node = {"_target_": target, "params": {}, **asdict(SearchSettings())}
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=node, provider="vae_lightning")


class SearchSweep(Sweep):
    """Hydra's sweeper that searches with Optuna.

    Args:
        params: settings that are searched, as a command line would: `{"model.latent_dim": "range(2,51)"}`; the command line wins.
        settings: those of `SearchSettings`.
    """

    def __init__(self, params: Mapping[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(params)
        self.settings = SearchSettings(**settings)

    def sweep(self, arguments: list[str]) -> None:
        """Run the search; end the program with status 1 if trials failed, and with 128 + signal if a signal ended it."""
        self.settings.check()
        require_optuna()
        super().sweep(arguments)

    def _run(self, parser: OverridesParser, launcher: Any, asked: Wanted) -> "SweepRun":
        from vae_lightning.commands.searching import SearchRun

        assert self.config is not None
        return SearchRun(self.config, parser, launcher, asked, self.settings)
