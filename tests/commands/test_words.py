"""Words of the small commands: each key once, a near name for a misspelt one."""

from pathlib import Path

import pytest

from vae_lightning.commands.words import asked_for, list_of, settings_of
from vae_lightning.errors import ConfigurationError
from vae_lightning.plugins import locate, trusting

KEYS = {"run": "<folder>", "to": "<folder>", "format": "[a,b]"}


def test_values_may_hold_anything() -> None:
    assert settings_of(["run=a=b c", "to="], KEYS) == {"run": "a=b c", "to": ""}


def test_paths_are_quoted_as_for_the_other_commands_or_not_at_all() -> None:
    assert settings_of(["run='seed=0,x'", "to=it's"], KEYS) == {"run": "seed=0,x", "to": "it's"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["latest"], "latest: is not understood; give run=<folder>, to=<folder>"),
        (["--run=x"], "--run=x: is not understood"),
        (["rum=x"], r"rum=x: no such key; did you mean run=\?"),
        (["elephant=x"], "elephant=x: no such key; give run=<folder>"),
        (["run=a", "run=b"], "run=b: run is given twice"),
    ],
)
def test_wrong_words_are_named(words: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        settings_of(words, KEYS)


@pytest.mark.parametrize("value", ["[a,b]", "a,b", " [ a , 'b' ] "])
def test_lists_are_written_as_in_hydra_or_plainly(value: str) -> None:
    assert list_of("format", value) == ["a", "b"]


@pytest.mark.parametrize("value", ["", "[]", "a,,b", "[a,]"])
def test_list_of_nothing_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^format="):
        list_of("format", value)


def test_package_in_the_directory_of_the_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynets_of_words.py").write_text("import torch\n\n\nclass Net(torch.nn.Module):\n    width = 3\n")
    monkeypatch.chdir(tmp_path)
    with asked_for([], "") as given, trusting(["mynets_of_words"]):
        assert given == []
        assert locate("mynets_of_words.Net").width == 3


def test_help_is_printed_and_nothing_else_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with asked_for(["run=x", "-h"], "what it does") as given:
        assert given is None
    assert capsys.readouterr().out == "what it does\n"
    with asked_for(["run=x"], "what it does") as given:
        assert given == ["run=x"]
