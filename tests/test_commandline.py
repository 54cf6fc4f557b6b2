"""What a user sees of an error, and the names that configs are made with."""

import errno

import pytest
from omegaconf import OmegaConf

from vae_lightning.commandline import INTERRUPTED, one_line_errors, register_resolvers
from vae_lightning.errors import DataError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


def test_error_of_ours_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise DataError("data.root=/nowhere:\n  is not there")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: data.root=/nowhere: is not there\n"


def test_full_disk_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "outputs/run/.hydra/config.yaml")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: outputs/run/.hydra/config.yaml: No space left on device\n"


def test_interrupt_has_the_status_of_shells(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise KeyboardInterrupt
    assert end.value.code == INTERRUPTED == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_mistake_in_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0


def test_unknown_key_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    cfg = OmegaConf.create({"model": {"latent_dim": 2}})
    OmegaConf.set_struct(cfg, True)
    with pytest.raises(SystemExit), one_line_errors():
        _ = cfg.model.latent_dmi
    assert "did you mean model.latent_dim?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ("model.beta=4,seed=1", "model.beta=4,seed=1"),
        ("model.net.hidden=[20, 20]", "model.net.hidden=_20,_20_"),
        ("", "run"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("a" * 300, "a" * 150),
    ],
)
def test_folder_names_are_short_and_hold_no_separators(overrides: str, folder: str) -> None:
    register_resolvers()
    cfg = OmegaConf.create({"overrides": overrides, "folder": "${folder_name:${overrides}}"})
    assert cfg.folder == folder


def test_first_of_skips_null() -> None:
    register_resolvers()
    cfg = OmegaConf.create({"a": None, "b": "b", "first": "${first_of:${a},${b}}"})
    assert cfg.first == "b"
