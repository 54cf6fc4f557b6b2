"""A name with a dot is imported; one that a run folder holds only from packages that are trusted, and only a part of a run."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vae_lightning import plugins
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.plugins import ENTRY_POINT, add_working_directory, is_path, load_declared, locate, trusting

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
