"""Estimators hold by default as many decoded images as an evaluation does, and keep the settings that they were given."""

import dataclasses
import inspect
import pkgutil
from importlib import import_module
from typing import Any

import pytest
import yaml

from vae_lightning import inference
from vae_lightning.commands.commandline import CONF
from vae_lightning.inference.ais import AISSettings
from vae_lightning.inference.svi import SVISettings

SMALL = {"mean_images": 1000, "posterior_means": 500}
"""What is no estimator: it holds fewer images, as it needs one of each latent."""


def estimators() -> dict[str, int]:
    """The default of `max_batch` of each public function and class of `vae_lightning.inference` that has one."""
    defaults: dict[str, int] = {}
    for module in (import_module(f"{inference.__name__}.{info.name}") for info in pkgutil.iter_modules(inference.__path__)):
        for name in module.__all__:
            public: Any = getattr(module, name)
            if isinstance(public, type):
                public = vars(public).get("__call__")
            if inspect.isfunction(public) and "max_batch" in (known := inspect.signature(public).parameters):
                defaults[name] = known["max_batch"].default
    return defaults


def test_estimators_hold_what_an_evaluation_holds() -> None:
    asked = yaml.safe_load((CONF / "evaluation" / "default.yaml").read_text())["max_batch"]
    held = {name: default for name, default in estimators().items() if default is not inspect.Parameter.empty}
    assert {"ImportanceSampler", "importance_weighted", "quadrature", "annealed_importance_sampling"} <= held.keys()
    assert held == dict.fromkeys(held, asked) | {name: SMALL[name] for name in held.keys() & SMALL.keys()}


@pytest.mark.parametrize("settings", [SVISettings(), AISSettings(10, 10)])
def test_settings_cannot_change_under_an_estimate_that_states_them(settings: Any) -> None:
    field = dataclasses.fields(settings)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, field, getattr(settings, field))
