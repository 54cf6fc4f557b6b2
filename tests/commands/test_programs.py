"""The installed commands: those of setup.cfg, with help and completion within a second, and the configs of the package."""

import importlib
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from test_packaging import setup

COMMANDS = dict(line.split(" = ") for line in setup()["options.entry_points"]["console_scripts"].strip().split("\n"))


def call(name: str, *words: str, **variables: str) -> str:
    """What the installed command `name` prints."""
    module, _, function = COMMANDS[name].partition(":")
    code = f"import sys; from {module} import {function}; sys.argv[0] = {name!r}; {function}()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_helps(name: str) -> None:
    module, _, function = COMMANDS[name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert "run=<folder>" in call(name, "--help") or "=<folder>" in call(name, "--help")


def test_shells_complete_options_and_settings() -> None:
    line = "vae-train model=cvae_c"
    found = call("vae-train", "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line))).split()
    assert found == ["model=cvae_cnn2", "model=cvae_cnn3"]
    assert "complete -o nospace" in call("vae-train", "-sc", "install=bash")


def test_configs_are_composed_as_by_the_scripts() -> None:
    shown = [call("vae-train", "--cfg", "job", "model=beta_vae"), call("vae-evaluate", "--cfg", "job", "run=x")]
    scripts = [("train.py", "model=beta_vae"), ("evaluate.py", "run=x")]
    for text, (script, word) in zip(shown, scripts, strict=True):
        ended = subprocess.run(
            [sys.executable, script, "--cfg", "job", word], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert ended.stdout == text
