"""Each page of docs/extending as a new user tries it: in an empty folder, with nothing but the page."""

import itertools
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import REPOSITORY
from omegaconf import DictConfig

from vae_lightning.commands import commandline
from vae_lightning.commands.commandline import CONF, one_line_errors, register_resolvers
from vae_lightning.commands.config import check_config
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.overrides import parts_of, prepared
from vae_lightning.commands.own_parts import with_own_parts
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.train import train
from vae_lightning.evaluation.registry import PARTS, SETTINGS
from vae_lightning.glossary import METRICS

PAGES = REPOSITORY / "docs" / "extending"
NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")
OWN = "Bringing your own"
"""The section of the project's README that is tried as a page too."""
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r"# (\S+\.(?:py|yaml|toml))\b")
TRAINING = [
    "trainer.gpus=0",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "logger=none",
]
EVALUATION = ["gpus=0", "evaluation.num_samples=2", "evaluation.num_images=8", "evaluation.train_images=8"]


def _section(path: Path, title: str) -> str:
    return path.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@dataclass
class Page:
    """What a page has one do, in its order."""

    name: str
    folder: Path
    mnist_root: Path
    say: Callable[[list[str]], None]
    """Is told the command before it is run."""
    runs: Iterator[int] = field(default_factory=itertools.count)

    def steps(self) -> Iterator[tuple[str, str]]:
        """Blocks of code by their language, and lines of a terminal as "shell", with the answer to a refused one."""
        text = (PAGES / f"{self.name}.md").read_text() if self.name != "README" else _section(REPOSITORY / "README.md", OWN)
        last = 0
        for block in FENCED.finditer(text):
            yield from self._lines(text[last : block.start()])
            yield block[1], block[2]
            last = block.end()
        yield from self._lines(text[last:])

    def _lines(self, text: str) -> Iterator[tuple[str, str]]:
        for line in re.findall(r"^    (\$ .*\n    error: .*|python .*)$", text, re.MULTILINE):
            yield "shell", line

    def take(self, language: str, text: str) -> None:
        title = TITLE.match(text)
        if title:
            path = self.folder / title[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            self.forget()
        elif language == "python":
            exec(compile(text, self.name, "exec"), {"__name__": self.name})
        elif language == "shell":
            typed, _, answer = text.partition("\n    error: ")
            _, script, *words = shlex.split(typed.removeprefix("$ "))
            self.run(script, words, answer)
        else:
            raise AssertionError(f"{self.name}: a block of {language} without a file's name on its first line")

    def run(self, script: str, words: list[str], answer: str) -> None:
        if script == "-m":
            assert words[0] == "pytest"
            self.test(words[1])
        elif script in ("train.py", "evaluate.py"):
            self.say([script, *words])
            command = self.train if script == "train.py" else self.evaluate
            self.command(command, words, answer)
        else:
            runpy.run_path(script)

    def command(self, command: Callable[[list[str], bool], None], words: list[str], answer: str) -> None:
        if not answer:
            command(words, True)
            return
        with pytest.raises(SystemExit):
            command(words, False)

    def train(self, words: list[str], really: bool) -> None:
        with one_line_errors():
            for job in self._jobs(words):
                cfg = self._composed("train", job)
                if really:
                    train(cfg)
                else:
                    check_config(cfg)

    def evaluate(self, words: list[str], really: bool) -> None:
        with one_line_errors():
            done = evaluate(self._composed("evaluate", words))
        failed = {**done.report["not_measured"], **done.gallery.skipped}
        assert not {name: why for name, why in failed.items() if "failed" in why or "gave" in why}

    def _jobs(self, words: list[str]) -> Iterator[list[str]]:
        if "-m" not in words:
            yield words
            return
        keys = [word.partition("=")[::2] for word in words if word != "-m"]
        for values in itertools.product(*(parts_of(value) for _, value in keys)):
            yield [f"{key}={value}" for (key, _), value in zip(keys, values, strict=True)]

    def _composed(self, name: str, words: list[str]) -> DictConfig:
        catalogue = Catalogue(CONF, name)
        words = with_own_parts(prepared(words, catalogue.groups, catalogue.meant), CONF)
        own = []
        if "--config-dir" in words:
            place = words.index("--config-dir")
            own = [f"hydra.searchpath=[file://{self.folder / words[place + 1]}]"]
            del words[place : place + 2]
        own += TRAINING if name == "train" else EVALUATION
        if name == "train":
            own += [f"run_dir={self.folder}/outputs/page/{next(self.runs)}", "name=page"]
            own += [] if self._needs_callbacks(words) else ["callbacks=none"]
            own += [] if any(word.startswith("data=") for word in words) else [f"data.root={self.mnist_root}", "data.batch_size=8"]
        elif not any(word.startswith("evaluation.figures") for word in words):
            own += ["evaluation.figures=[samples]"]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose(name, [*own, *words])

    def _needs_callbacks(self, words: list[str]) -> bool:
        """Whether a training is evaluated afterwards, which needs a checkpoint, or brings callbacks of its own."""
        return any("callbacks" in word for word in words) or any("evaluate.py" in text for _, text in self.steps())

    def test(self, file: str) -> None:
        """The tests in `file`, as pytest runs them."""
        found: dict[str, Any] = runpy.run_path(file)
        tests = [value for key, value in found.items() if key.startswith("test_")]
        contracts = [value for key, value in found.items() if key.startswith("Test")]
        assert tests or contracts
        for contract in contracts:
            contract().check()
        for number, test in enumerate(tests):
            place = self.folder / f"test_{number}"
            place.mkdir(exist_ok=True)
            test(*([place] if "tmp_path" in test.__code__.co_varnames[: test.__code__.co_argcount] else []))

    def forget(self) -> None:
        """Let files that a page has written be imported anew."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(self.folder)):
                del sys.modules[name]


@pytest.fixture
def registered() -> Iterator[None]:
    """What a page registers is forgotten after it."""
    tables: list[dict[str, Any]] = [PARTS, SETTINGS, METRICS]
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["README", *NAMES])
def test_page_works_in_an_empty_folder(
    name: str, tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register_resolvers()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def say(words: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(commandline, "_catalogue", Catalogue(CONF, words[0].removesuffix(".py")))

    page = Page(name, tmp_path, mnist_root, say)
    steps = list(page.steps())
    assert any(kind == "shell" for kind, _ in steps), "the page has no command"
    try:
        for kind, text in steps:
            capsys.readouterr()
            page.take(kind, text)
            answer = text.partition("\n    ")[2] if kind == "shell" else ""
            if answer:
                (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
                wanted = re.sub(r"\\\{\w+\\\}", r"\\S+", re.escape(answer)).replace(r"\.\.\.", ".*")
                assert re.fullmatch(wanted, said), f"{text}\n    says:\n    {said}"
    finally:
        page.forget()


def test_index_has_every_page_and_every_link_leads_somewhere() -> None:
    index = (PAGES / "README.md").read_text()
    assert {f"{name}.md" for name in NAMES} <= set(re.findall(r"\]\((\w+\.md)\)", index))
    rows = re.findall(r"^\| .*? \| `(.*?)` \| \[.*?\]\((\w+\.md)\) \|$", index, re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        for module, name in re.findall(r"\b((?:my\w+|darkness))\.(\w+)", row[0]):
            page = (PAGES / row[1]).read_text()
            assert f"# {module}.py" in page, row
            assert re.search(rf"^(class |def )?{name}\b", page, re.MULTILINE), row
    for path in (*PAGES.glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)", path.read_text()):
            assert (path.parent / link).is_file(), f"{path}: {link}"
