"""What is printed runs when it is pasted, whatever is in a name."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vae_lightning.commands.overrides import prepared
from vae_lightning.machine.shell import (
    called,
    command,
    hydra_quoted,
    is_hydra_quoted,
    path_setting,
    setting,
    shell_quoted,
    tensorboard,
    unquoted,
)

AWKWARD = [
    "plain/path-1.ckpt",
    "epoch=0-step=100.ckpt",
    "a,b",
    "tune[v2]",
    "a[/b]",
    "it's",
    'say "a"',
    "two words",
    "$HOME",
    "~/x",
    "é/日本",
    "back\\slash",
    "ends in \\",
    "'quoted'",
    "null",
    "true",
    "12",
    "1e5",
    "(a)",
    "{a: 1}",
    "100%",
    "!x",
    "#x",
    "*?",
    "new\nline",
    "tab\t",
    "",
    "latest",
]


def read_by_hydra(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("text", AWKWARD)
def test_hydra_reads_what_was_quoted(text: str) -> None:
    assert read_by_hydra(f"key={hydra_quoted(text)}") == text
    assert read_by_hydra(setting("key", text)) == text
    assert unquoted(setting("key", text).removeprefix("key=")) == text


@pytest.mark.parametrize("text", AWKWARD)
def test_shell_reads_what_was_quoted(text: str) -> None:
    result = subprocess.run(["bash", "-c", f"printf %s {shell_quoted(text)}"], capture_output=True, check=True)
    assert result.stdout.decode() == text


def test_terminal_that_lacks_a_character_gets_a_word_that_a_shell_reads_all_the_same() -> None:
    word = shell_quoted("é it's", "ascii")
    assert word.isascii()
    assert subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout.decode() == "é it's"


@pytest.mark.parametrize("text", AWKWARD)
def test_commands_of_this_project_read_a_printed_path(text: str) -> None:
    (word,) = prepared([path_setting("run", text)])
    assert read_by_hydra(word) == ("./latest" if text == "latest" else text)


def test_interpolation_in_a_path_is_none() -> None:
    assert read_by_hydra(prepared([path_setting("run", "a${b}")])[0]) == "a\\${b}"


def test_quoted_is_one_string_of_the_grammar() -> None:
    assert is_hydra_quoted("'a=b'")
    assert is_hydra_quoted('"it\'s"')
    assert not is_hydra_quoted("'a','b'")
    assert unquoted('"it\'s"') == read_by_hydra('key="it\'s"') == "it's"
    assert not is_hydra_quoted("'a\\'")


def test_command_names_the_neighbour_of_the_script_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["../my code/train.py"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("evaluate.py", "run=a b") == "python '../my code/evaluate.py' 'run=a b'"
    (tmp_path / "python").write_text("")
    (tmp_path / "python").chmod(0o755)
    # another python than the one that runs would not have this project
    assert command("evaluate.py").startswith(shell_quoted(sys.executable))
    assert tensorboard() == f"{shell_quoted(sys.executable)} -m tensorboard.main"


def test_installed_command_names_installed_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "vae-train")])
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    # no shell would find it by its name alone
    assert command("evaluate.py", "run=a b") == f"{tmp_path / 'vae-evaluate'} 'run=a b'"
    (tmp_path / "vae-evaluate").write_text("")
    (tmp_path / "vae-evaluate").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("evaluate.py", "run=a b") == "vae-evaluate 'run=a b'"
    assert called("train.py") == "vae-train"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "vae-export")])
    assert called("train.py") == "vae-train"
    monkeypatch.setattr(sys, "argv", ["my code/train.py"])
    assert called("evaluate.py") == "python 'my code/evaluate.py'"
