"""Damage to what is read, and made-up words of commands: an answer is a result, or one line, and nothing is written.

hypothesis makes them up, the same each time, and makes what fails smaller. `VAE_LIGHTNING_FUZZ=<seconds>` goes on for so long with
others, a target. What was found stands in `bad_input.tsv` and `test_bad_input.py`; what there is to be fuzzed, in `fuzz/targets.py`.
"""

import os
import secrets
import time
from pathlib import Path

import pytest
from fuzz.targets import TARGETS, Target
from hypothesis import given, seed, settings

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("VAE_LIGHTNING_FUZZ", "0"))
A_ROUND = 100


def tried(target: Target, few: int) -> None:
    """Put `few` examples before a target, the same each time, and then others as long as there is time for."""
    started = time.monotonic()
    settings(max_examples=few)(given(**target.given)(target.examine))()
    while time.monotonic() - started < SECONDS:
        others = settings(max_examples=A_ROUND, derandomize=False)(given(**target.given)(target.examine))
        seed(secrets.randbits(64))(others)()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["run_folder", "documents", "resumed", "checkpoint", "content", "state_of_training", "restored", "report"]
)
def test_run_folder(name: str, tmp_path: Path) -> None:
    tried(TARGETS[name](tmp_path), few=60)


@pytest.mark.parametrize("name", ["array", "pictures", "raw_files", "packed"])
def test_data(name: str, tmp_path: Path) -> None:
    tried(TARGETS[name](tmp_path), few=100)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["words", "words_of_an_evaluation"])
def test_words_of_a_command(name: str, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    tried(TARGETS[name](tmp_path), few=60)
