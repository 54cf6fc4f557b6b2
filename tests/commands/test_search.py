"""The sweeper that Hydra knows as `optuna`."""

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from vae_lightning.commands.search import SearchSweep, register_search
from vae_lightning.errors import ConfigurationError
from vae_lightning.sweeps import study
from vae_lightning.sweeps.search import SearchSettings


def test_hydra_knows_the_sweeper_by_name_with_the_defaults_of_the_code() -> None:
    register_search()
    node = dict(ConfigStore.instance().load("hydra/sweeper/optuna.yaml").node)
    assert Plugins.instance().class_name_to_class[node.pop("_target_")] is SearchSweep
    assert node.pop("params") == {}
    assert SearchSweep(**node).settings == SearchSettings()


def test_wrong_settings_are_refused_before_anything_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"^hydra\.sweeper\.n_trials=0: must be a whole number of at least 1$"):
        SearchSweep(n_trials=0).sweep([])
    with pytest.raises(ConfigurationError, match=r"pip install 'vae_lightning\[optuna\]'$"):
        SearchSweep().sweep([])
