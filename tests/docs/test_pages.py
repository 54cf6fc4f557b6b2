"""The pages of this project as a reader tries them: commands can be given, names can be imported, links lead somewhere."""

import ast
import configparser
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import REPOSITORY
from page_commands import PAGES, given, texts

from vae_lightning.callbacks import LastCheckpoint
from vae_lightning.callbacks.dashboard import NUM_PROJECTED
from vae_lightning.callbacks.diagnostics import MAX_DIMENSIONS, NO_KL, NUM_IMAGES
from vae_lightning.callbacks.progress import STEPS
from vae_lightning.commands import compress, explore, export, table
from vae_lightning.commands.commandline import CONF, register_resolvers
from vae_lightning.commands.overrides import prepared
from vae_lightning.commands.own_parts import with_own_parts
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.words import settings_of
from vae_lightning.engine.step import COMPILE_FROM
from vae_lightning.machine.formats import FORMAT

KEYS = {"vae-sweep": table.KEYS, "vae-export": export.KEYS, "vae-explore": explore.KEYS, "vae-compress": compress.KEYS}
"""The settings of the commands that are not Hydra's."""


@pytest.mark.parametrize(("page", "script", "words"), texts(), ids=lambda part: part)
def test_command_of_a_page_can_be_given(page: str, script: str, words: str) -> None:
    register_resolvers()
    catalogue = Catalogue(CONF, script)
    own = with_own_parts(prepared(given(words), catalogue.groups, catalogue.meant), CONF)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose(script, own)


def settings_beside_others() -> list[str]:
    """What the tables of docs/coming_from.md say is to be written here, where it is no whole command."""
    rows = re.findall(r"^\| .+ \| (.+) \|$", (REPOSITORY / "docs" / "coming_from.md").read_text(), re.MULTILINE)
    cells = [words for row in rows for words in re.findall(r"`([^`]*)`", row)]
    return [
        words for words in cells if "=" in words and not words.startswith("python ") and "mypkg" not in words and words[-1] != "="
    ]


@pytest.mark.parametrize("words", settings_beside_others())
def test_setting_that_is_said_to_do_what_another_repository_does_is_there(words: str) -> None:
    register_resolvers()
    catalogue = Catalogue(CONF, "train")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose("train", with_own_parts(prepared(given(words), catalogue.groups, catalogue.meant), CONF))


def test_there_are_commands_and_they_are_read_whole() -> None:
    assert len(texts()) > 40
    assert given("-m model=beta_vae model.latent_dim=2,10 evaluation.figures=[a,b] run=<run of it>") == [
        *("model=beta_vae", "model.latent_dim=2", "evaluation.figures=[a,b]", "run=here"),
    ]


def test_installed_commands_of_a_page_are_declared_and_understood() -> None:
    """`vae-...` in a page is a command of the package, and its words are understood."""
    scripts = configparser.ConfigParser()
    scripts.read(REPOSITORY / "setup.cfg")
    declared = set(re.findall(r"^(vae-[\w-]+) =", scripts["options.entry_points"]["console_scripts"], re.MULTILINE))
    lines = [
        (page.name, *found)
        for page in PAGES
        for found in re.findall(r"(?:`|^ {4})(vae-\w+)([^`#\n]*)", page.read_text(), re.MULTILINE)
    ]
    assert len(lines) > 3
    for page, command, words in lines:
        if page == "CHANGELOG.md":
            continue
        assert command in declared, page
        if command in KEYS and words.strip():
            assert settings_of(shlex.split(re.sub(r"<[\w ]+>", "here", words)), KEYS[command]), page


SNIPPETS = [
    pytest.param(block, id=f"{page.relative_to(REPOSITORY).as_posix()}-{number}")
    for page in PAGES
    if page.is_relative_to(REPOSITORY / "docs") and page.name not in ("search.md", "export.md", "python.md")
    for number, block in enumerate(
        re.findall(
            r"^```python\n(.*?)^```$",
            re.sub(r"<!-- code: .*?<!-- /code -->", "", page.read_text(), flags=re.DOTALL),
            re.MULTILINE | re.DOTALL,
        )
    )
]
"""Python in pages that is not an excerpt of the package, as test_excerpts.py holds those to be; those of search.md, export.md and python.md have tests of their own."""


@pytest.mark.parametrize("block", SNIPPETS)
def test_snippet_of_a_page_runs(block: str) -> None:
    exec(compile(block, "page", "exec"), {"__name__": "page"})


@pytest.mark.slow
def test_page_for_python_trains_one_model_and_eight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_root: Path) -> None:
    page = (REPOSITORY / "docs" / "python.md").read_text()
    one, eight, _ = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    short = "max_epochs=1, limit_train_batches=2, limit_val_batches=1"
    names: dict[str, Any] = {"__name__": "page"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(mnist_root)
    for block in (one, eight):
        assert "max_epochs=5" in block
        exec(compile(block.replace("max_epochs=5", short), "page", "exec"), names)
    assert names["images"].shape == (16, 1, 28, 28)
    assert names["errors"] == [None] * 8
    assert len([*(tmp_path / "models").glob("*/**/*.ckpt")]) == 8


def test_files_and_folders_that_a_page_names_are_there() -> None:
    named = {
        (page, path)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for path in re.findall(r"`((?:vae_lightning|tests|docs|conf|benchmarks|notebooks|examples)/[\w./-]*)`", page.read_text())
    }
    assert len(named) > 20
    gone = [f"{page.name}: {path}" for page, path in sorted(named) if not (REPOSITORY / path).exists()]
    assert gone == []


def test_what_a_page_imports_is_there() -> None:
    blocks = [
        block for page in PAGES for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    imports = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("vae_lightning")]
    assert len(ours) >= 5
    for node in ours:
        module = importlib.import_module(str(node.module))
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_what_make_does_in_a_page_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"(?:`|^ {4})make ([\w-]+)", page.read_text(), re.MULTILINE)}
    assert {"train", "test", "check"} <= named
    assert named <= targets


def test_numbers_in_sentences_are_those_of_the_code() -> None:
    names = ("speed", "run_folder", "tensorboard", "glossary")
    speed, run_folder, tensorboard, glossary = (" ".join((REPOSITORY / f"docs/{name}.md").read_text().split()) for name in names)
    assert f"Runs of {COMPILE_FROM:,} steps and more are compiled" in speed
    assert f"Ctrl-C ends a run within {STEPS} steps" in run_folder
    assert LastCheckpoint("checkpoints").every_minutes == 5
    assert "every five minutes (callbacks.last_checkpoint.every_minutes)" in run_folder
    assert f"the posterior means of {NUM_PROJECTED:,} test images" in tensorboard
    assert f"both over the same {NUM_IMAGES} validation images" in glossary
    assert f"up to d = {MAX_DIMENSIONS - 1})" in glossary
    assert f"below {NO_KL} nats at two validations in a row" in glossary
    assert f'say `"format": {FORMAT}`' in glossary
