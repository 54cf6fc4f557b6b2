"""One version, in the code and in what is installed."""

from importlib.metadata import version

from vae_lightning.version import __version__


def test_installed_version_is_that_of_the_code() -> None:
    assert version("vae_lightning") == __version__
