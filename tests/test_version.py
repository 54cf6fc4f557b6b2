"""One version: in the code, in what is installed, and in how to cite it."""

from importlib.metadata import version
from pathlib import Path

import yaml

from vae_lightning.version import __version__


def test_installed_version_is_that_of_the_code() -> None:
    assert version("vae_lightning") == __version__


def test_citation_names_the_version_of_the_code() -> None:
    citation = yaml.safe_load((Path(__file__).resolve().parent.parent / "CITATION.cff").read_text())
    assert citation["version"] == citation["preferred-citation"]["version"] == __version__
    assert citation["license"] == "MIT"
    assert citation["type"] == citation["preferred-citation"]["type"] == "software"
