"""The pages of this project as a reader tries them: commands can be given, names can be imported, links lead somewhere."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import hydra
import pytest
from conftest import REPOSITORY

from vae_lightning.callbacks import LastCheckpoint
from vae_lightning.callbacks.dashboard import NUM_PROJECTED
from vae_lightning.callbacks.diagnostics import MAX_DIMENSIONS, NO_KL, NUM_IMAGES
from vae_lightning.callbacks.progress import STEPS
from vae_lightning.commands.commandline import CONF, register_resolvers
from vae_lightning.commands.overrides import parts_of, prepared
from vae_lightning.commands.own_nets import with_own_net
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.engine.step import COMPILE_FROM
from vae_lightning.machine.formats import FORMAT

PAGES = sorted(path for pattern in ("*.md", "docs/*.md", "outputs/*.md") for path in REPOSITORY.glob(pattern))
COMMAND = re.compile(r"python (train|evaluate)\.py\s+([^`#]*?)\s*(?:`|#|$)", re.MULTILINE)
BEFORE = {"model.conditional_prior=true"}
"""Settings that a page names as those of an earlier version."""
OF_A_SWEEP = re.compile(r"sweep=|hydra[./](launcher|sweeper)")
"""What says how jobs are run, and is in no job's config; the options of conf/sweep have tests of their own."""
OF_A_SPACE = re.compile(r"=(interval|range|choice|tag)\(")
"""What is searched, and no value."""
TYPED = re.compile(r"-m|-cn|--\w[\w-]*")


def texts() -> list[tuple[str, str, str]]:
    """Page, script and words of each command of `train.py` and `evaluate.py` in a page, but for those of the past."""
    found = set()
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for script, words in COMMAND.findall(page.read_text()):
            if not any(word in words for word in ("resume=", "--help", "--cfg", "mynets", "mypkg", *BEFORE)):
                found.add((page.name, script, " ".join(words.rstrip('"\\ ').split())))
    return sorted(found)


def given(words: str) -> list[str]:
    """The words of a command, with something in the places that a reader has to fill, and one value of a sweep."""
    filled = re.sub(r"<[\w ]+>", "here", words.replace("<model>", "vae"))
    kept = [word for word in shlex.split(filled) if not TYPED.fullmatch(word) and "..." not in word]
    settings = [word for word in kept if "=" in word and not OF_A_SWEEP.match(word) and not OF_A_SPACE.search(word)]
    return [parts_of(word)[0] for word in settings]


@pytest.mark.parametrize(("page", "script", "words"), texts(), ids=lambda part: part)
def test_command_of_a_page_can_be_given(page: str, script: str, words: str) -> None:
    register_resolvers()
    catalogue = Catalogue(CONF, script)
    own = with_own_net(prepared(given(words), catalogue.groups, catalogue.meant), CONF)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose(script, own)


def test_there_are_commands_and_they_are_read_whole() -> None:
    assert len(texts()) > 40
    assert given("-m model=beta_vae model.latent_dim=2,10 evaluation.figures=[a,b] run=<run of it>") == [
        *("model=beta_vae", "model.latent_dim=2", "evaluation.figures=[a,b]", "run=here"),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(((?!https?:|#)[^)#]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


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
    readme, glossary = (" ".join((REPOSITORY / name).read_text().split()) for name in ("README.md", "docs/glossary.md"))
    assert f"Runs of {COMPILE_FROM:,} steps and more are compiled" in readme
    assert f"Ctrl-C ends a run within {STEPS} steps" in readme
    assert LastCheckpoint("checkpoints").every_minutes == 5
    assert "every five minutes (callbacks.last_checkpoint.every_minutes)" in readme
    assert f"the posterior means of {NUM_PROJECTED:,} test images" in readme
    assert f"both over the same {NUM_IMAGES} validation images" in glossary
    assert f"up to d = {MAX_DIMENSIONS - 1})" in glossary
    assert f"below {NO_KL} nats at two validations in a row" in glossary
    assert f'say `"format": {FORMAT}`' in glossary
