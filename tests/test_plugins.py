"""A name with a dot is imported; one that a run folder holds only from packages that are trusted, and only a part of a run."""

import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import pytest

from vae_lightning import plugins
from vae_lightning.errors import CheckpointError, ConfigurationError, Interruption
from vae_lightning.plugins import (
    ENTRY_POINT,
    add_working_directory,
    is_path,
    load_declared,
    locate,
    search_working_directory,
    trusting,
)

CODE = """
import os
import torch
IMPORTED = True
class Net(torch.nn.Module):
    class Inner(torch.nn.Module): ...
def build(): ...
import functools
from vae_lightning.nets import NetPair
from vae_lightning.nets.mlp import MLPDecoder
pair = NetPair(Net, MLPDecoder)
small = NetPair(functools.partial(Net), functools.partial(MLPDecoder, hidden=[2]))
harmful = NetPair(Net, os.system)
hidden = NetPair(Net, functools.partial(os.system, "true"))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package `door_<number>` that nobody has imported yet, with modules that work and one that does not."""
    name = f"door_{tmp_path.name}".replace("-", "_")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(CODE)
    (folder / "broken.py").write_text("import no_such_package_at_all")
    (folder / "wrong.py").write_text("raise ValueError('two\\nlines')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_import_path_names_a_class_a_nested_class_or_a_function(package: str) -> None:
    assert locate(f"{package}.nets.Net").__name__ == "Net"
    assert locate(f"{package}.nets.Net.Inner").__qualname__ == "Net.Inner"
    assert callable(locate(f"{package}.nets.build"))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{package}.nets.Ne", "net.name={package}.nets.Ne: {package}.nets has no Ne"),
        ("{package}.net.Net", "net.name={package}.net.Net: {package} has no net"),
        ("{package}x.nets.Net", "net.name={package}x.nets.Net: there is no package {package}x; is it installed"),
        ("{package}.broken.Net", "importing {package}.broken fails: ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("{package}.wrong.Net", "importing {package}.wrong fails: ValueError: two lines"),
        ("{package}..Net", "is no import path such as mypkg.module.Name"),
        (".nets.Net", "is no import path"),
        ("nets.My-Net", "is no import path"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_line(package: str, path: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        locate(path.format(package=package), "net.name")
    assert said.format(package=package) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_package_that_is_not_trusted_is_not_imported(package: str) -> None:
    with trusting([]), pytest.raises(CheckpointError, match=rf"trust=\[{package}\].*{ENTRY_POINT}"):
        locate(f"{package}.nets.Net", "net.name")
    with trusting(["mine"]), pytest.raises(CheckpointError, match=rf"trust=\[mine,{package}\]"):
        locate(f"{package}.nets.Net", "net.name")
    assert f"{package}.nets" not in sys.modules
    with trusting([package]):
        assert locate(f"{package}.nets.Net").__name__ == "Net"
    locate(f"{package}.nets.build")  # a command's own names


@pytest.mark.parametrize(
    "path",
    [
        "torch.load",
        "torch.hub.load",
        "torch.utils.cpp_extension.load",
        "torch.nn.functional.relu",
        "torch.nn.modules.module.torch.load",
        "vae_lightning.plugins.os.system",
        "vae_lightning.plugins.locate",
        "vae_lightning.runs.loading.load",
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
    ],
)
def test_run_folder_cannot_name_what_does_anything_else_than_build_a_part(path: str) -> None:
    with trusting([]), pytest.raises(CheckpointError, match="refused"):
        locate(path)


def test_what_a_trusted_package_imports_is_not_its_own(package: str) -> None:
    with trusting([package]):
        assert locate(f"{package}.nets.build")
        with pytest.raises(CheckpointError, match="refused"):
            locate(f"{package}.nets.os.system")


def test_pair_of_a_trusted_package_is_as_trusted_as_what_it_is_made_of(package: str) -> None:
    with trusting([package]):
        assert locate(f"{package}.nets.pair").encoder.__name__ == "Net"
        assert locate(f"{package}.nets.small")
        for name in ("harmful", "hidden"):
            with pytest.raises(CheckpointError, match="refused"):
                locate(f"{package}.nets.{name}")


def test_parts_of_this_project_and_of_torch_are_trusted() -> None:
    with trusting([]):
        for path in ("vae_lightning.models.BetaVAE", "vae_lightning.data.MNISTDataModule", "torch.nn.Linear", "torch.optim.RAdam"):
            assert is_path(path)
            locate(path)


def test_package_that_declares_the_entry_point_is_trusted_and_imported(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mine", f"{package}.nets", ENTRY_POINT)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == ENTRY_POINT else [])
    load_declared()
    assert sys.modules[f"{package}.nets"].IMPORTED
    with trusting([]):
        assert locate(f"{package}.nets.Net")


def test_package_whose_declared_module_fails_is_said_in_a_line(
    package: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("mine", f"{package}.broken", ENTRY_POINT)])
    load_declared()
    assert "no_such_package_at_all" in caplog.text


def test_module_in_the_directory_of_the_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_in_this_directory.py").write_text("VALUE = 3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    add_working_directory()
    assert locate("only_in_this_directory.VALUE") == 3
    assert sys.path[-1] == str(tmp_path), "what is installed comes first"


def test_other_programs_do_not_find_what_lies_in_the_directory_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"beside_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(f"import {name}_of_mine\nVALUE = {name}_of_mine.VALUE")
    (tmp_path / f"{name}_of_mine.py").write_text("VALUE = 3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(plugins, "_directory", None)
    search_working_directory()
    with trusting([]), pytest.raises(CheckpointError, match="refused"):
        locate(f"{name}.VALUE")
    with pytest.raises(ConfigurationError, match="there is no package"):
        locate("no_such_package_at_all.VALUE")
    assert str(tmp_path) not in sys.path
    assert find_spec(name) is None
    assert locate(f"{name}.VALUE") == 3, "with its own module beside it"


@pytest.mark.parametrize("reason", ["sys.exit(3)", "raise KeyError", "class Odd(BaseException): ...\nraise Odd('x')", "import ("])
def test_package_that_ends_the_program_is_said_in_a_line(package: str, tmp_path: Path, reason: str) -> None:
    (tmp_path / package / "ends.py").write_text(f"import sys\n{reason}\n")
    with pytest.raises(ConfigurationError, match=rf"^net={package}\.ends\.Net: importing {package}\.ends fails: [^\n]*$"):
        locate(f"{package}.ends.Net", "net")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interruption])
def test_interruption_while_a_package_is_imported_stays_one(package: str, tmp_path: Path, kind: type[BaseException]) -> None:
    raised = "KeyboardInterrupt" if kind is KeyboardInterrupt else "__import__('vae_lightning.errors').errors.Interruption(15)"
    (tmp_path / package / "slow.py").write_text(f"raise {raised}")
    with pytest.raises(kind):
        locate(f"{package}.slow.Net")


def test_attribute_comes_before_a_module_of_its_name(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "Net.py").write_text("class Net: ...")
    (tmp_path / package / "__init__.py").write_text("from .Net import Net")
    assert isinstance(locate(f"{package}.Net"), type)


def test_module_that_makes_its_attributes_may_fail_to(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "lazy.py").write_text("def __getattr__(name):\n    raise RuntimeError('no GPU')")
    with pytest.raises(ConfigurationError, match="looking for Net fails: RuntimeError: no GPU"):
        locate(f"{package}.lazy.Net")


OF_ITS_OWN = """
import functools, os, subprocess, sys, torch
from functools import lru_cache, partial
from subprocess import Popen
from jinja2 import Environment
from vae_lightning.nets.building import NetPair
class Net(torch.nn.Module): ...
SMALL = partial(partial(Net), 3)
PAIR = NetPair(Net, Net)
LINEAR = torch.nn.Linear
cached = lru_cache(Net)
own = lambda: None
run = partial(partial(os.system))
open_file = open
"""


def test_what_a_trusted_package_made_is_its_own_and_what_it_imported_is_not(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "own.py").write_text(OF_ITS_OWN)
    with trusting([package]):
        for name in ("Net", "SMALL", "PAIR", "LINEAR", "own"):
            assert locate(f"{package}.own.{name}") is not None
        foreign = ("run", "Popen", "open_file", "os.system", "sys.exit", "partial", "torch.load", "torch.hub.load", "sys")
        reached = ("own.__globals__.clear", "own.__class__", "Net.__subclasses__", "Net.forward.__globals__", "SMALL.func")
        for name in (*foreign, *reached):
            with pytest.raises(CheckpointError, match=r"may name; refused|must be trusted as well"):
                locate(f"{package}.own.{name}")
        with pytest.raises(CheckpointError, match=rf"is of package jinja2, .*: trust=\[{package},jinja2\]"):
            locate(f"{package}.own.Environment")


def test_path_does_not_go_on_through_what_a_module_imported(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "asks.py").write_text(f"def __getattr__(name):\n    open({str(tmp_path / 'asked')!r}, 'w')")
    (tmp_path / f"{package}_trusted.py").write_text(f"from {package} import asks")
    with trusting([f"{package}_trusted"]), pytest.raises(CheckpointError, match="refused"):
        locate(f"{package}_trusted.asks.Net")
    assert (tmp_path / "asked").exists() is False


@pytest.mark.parametrize("name", ["os", "subprocess", "builtins", "torch", "vae_lightning"])
def test_what_could_do_anything_cannot_be_trusted(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"trust={name}: "), trusting([name]):
        pass


@pytest.mark.parametrize("path", ["mypkg.a\nb", "mypkg.\x1b[31m", "mypkg." + "x" * 100_000, "mypkg.", "my pkg.Net", "ключ.Сеть"])
def test_odd_path_is_refused_in_one_short_line(path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        locate(path, "net.name")
    assert str(caught.value).startswith("net.name=")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
