"""A run that is resumed imports nothing that its command does not trust."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from vae_lightning.commands.trusted import TRUSTS, is_trust, named_in, only_trusted, require_trusted_configs
from vae_lightning.errors import CheckpointError, ConfigurationError

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("words", "packages"),
    [
        (["seed=1"], []),
        (["trust=a"], ["a"]),
        (["+trust=[a, b_2]", "trust=[c]"], ["a", "b_2", "c"]),
        (["trust=[]"], []),
    ],
)
def test_words_name_packages(words: list[str], packages: list[str]) -> None:
    assert named_in(words) == packages


@pytest.mark.parametrize("word", ["trust=a.b", "trust=[a,../b]", "trust=[a b]", "trust={a}"])
def test_what_names_no_package_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^trust=.*: must be names of packages: trust=\[mypkg\]$"):
        named_in([word])


def test_a_word_of_another_key_says_nothing_of_trust() -> None:
    assert [word for word in ("trust=a", "trusts=a", "a.trust=b", "trust") if is_trust(word)] == ["trust=a"]


def test_configs_of_a_package_are_those_of_its_code(tmp_path: Path) -> None:
    word = "hydra.searchpath=[pkg://theirs.conf]"
    with pytest.raises(CheckpointError, match=r"^hydra\.searchpath=.*: is of package theirs; .*trust=\[theirs\]"):
        require_trusted_configs(["seed=1", word], [])
    require_trusted_configs([word, "hydra.searchpath=[file:///theirs]"], ["theirs"])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that leaves a mark where it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "theirs.py").write_text(
        f"import pytorch_lightning, pathlib; pathlib.Path({str(mark)!r}).touch()\nclass Own(pytorch_lightning.Callback): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("theirs", None)
    return mark


@pytest.mark.parametrize(
    "words",
    [
        ("+callbacks.own._target_=theirs.Own",),
        ("+callbacks.own={_target_: pytorch_lightning.callbacks.LambdaCallback, on_fit_start: {_target_: theirs.Own}}",),
        ("+trainer.strategy={_target_: theirs.Own}",),
        ("+callbacks.own={_target_: pytorch_lightning.callbacks.Callback, of: [{_target_: theirs.Own}]}",),
    ],
)
def test_a_class_anywhere_is_imported_when_its_package_is_trusted_and_not_before(
    compose: Compose, package: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    cfg = compose(*words)
    with (
        pytest.raises(CheckpointError, match=r"^[\w.]+_target_=theirs\.Own: is of package theirs; .*trust=\[theirs\]"),
        only_trusted(cfg),
    ):
        pytest.fail("trained")
    assert not package.exists()
    monkeypatch.setenv(TRUSTS, "theirs")
    with only_trusted(cfg):
        assert package.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "pytorch_lightning.callbacks.model_checkpoint.os.system",
        "torch.hub.load",
        "builtins.exec",
        "hydra.utils.get_method",
    ],
)
def test_a_function_that_could_do_anything_is_refused(compose: Compose, target: str) -> None:
    with pytest.raises(CheckpointError), only_trusted(compose(f"+callbacks.own._target_={target}")):
        pytest.fail("trained")


def test_what_this_project_s_own_runs_name_is_trusted(compose: Compose) -> None:
    cfg = compose(
        "logger=csv", "callbacks=early_stopping", "+trainer.profiler={_target_: pytorch_lightning.profilers.SimpleProfiler}"
    )
    with only_trusted(cfg):
        pass
