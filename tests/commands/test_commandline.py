"""What a user sees of an error, and the names that configs are made with."""

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import OmegaConf, open_dict
from yaml import YAMLError

from vae_lightning.commands import commandline
from vae_lightning.commands.commandline import (
    BUG,
    CONF,
    INTERRUPTED,
    one_line_errors,
    paths_of_the_command,
    register_resolvers,
    whole_command,
)
from vae_lightning.errors import ConfigurationError, DataError, NotFiniteError, UnknownKeyError
from vae_lightning.machine import signals
from vae_lightning.machine.signals import Interruption, handled


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


def test_error_of_ours_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise DataError("data.root=/nowhere:\n  is not there")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: data.root=/nowhere: is not there\n"


def test_error_of_a_part_that_hydra_builds_is_the_parts_own(capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"_target_": "vae_lightning.commands.stacks.Stacks", "stack": 1}
    with pytest.raises(SystemExit) as end, one_line_errors():
        hydra.utils.instantiate(spec)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: hydra.launcher.stack=1: must be auto, or at least 2\n"


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


def test_interruption_is_no_reason_why_a_job_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    monkeypatch.setattr(commandline, "note_reason", noted.append)
    for error in (Interruption(signal.SIGTERM), KeyboardInterrupt(), ConfigurationError("seed=x: wrong")):
        with pytest.raises(SystemExit), one_line_errors():
            raise error
    assert noted == ["seed=x: wrong"]


def test_interruption_is_one_whatever_a_library_makes_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    def instantiate(chained: bool) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            if chained:
                raise ConfigurationError("Error locating target") from error
        raise InstantiationException("Error locating target") from None

    for chained in (True, False):
        with handled(), pytest.raises(SystemExit) as end, one_line_errors():
            instantiate(chained)
        assert capsys.readouterr().err == "error: interrupted by SIGTERM\n"
        assert end.value.code == 143


def test_interruption_of_a_command_as_it_begins_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signals, "_watch", lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as end, whole_command():
        raise AssertionError("it has begun")
    assert end.value.code == 143
    assert capsys.readouterr().err == "error: interrupted by SIGTERM\n"


def test_interruption_that_a_library_swallowed_counts_at_the_end_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, whole_command(), suppress(BaseException):
        signal.raise_signal(signal.SIGINT)
    assert end.value.code == 130
    assert capsys.readouterr().err == "error: interrupted by SIGINT\n"


def test_mistake_in_the_program_keeps_its_traceback_and_says_that_it_is_one() -> None:
    with pytest.raises(ZeroDivisionError) as mistake, one_line_errors(), one_line_errors():
        _ = 1 / 0
    assert mistake.value.__notes__ == [BUG]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "outputs/aaa"), "outputs/aaa: File name too long"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "outputs"), "outputs: Not a directory"),
        (FileExistsError(errno.EEXIST, "File exists", "outputs"), "outputs: File exists"),
        (MemoryError(), "out of memory"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate\n2 GiB"),
            "out of memory (CUDA out of memory. Tried to allocate 2 GiB)",
        ),
        (YAMLError("while parsing\n  line 3"), "a configuration file is no YAML: while parsing line 3"),
        (UnknownKeyError("", "model.beta", ("net",)), "model.beta: belongs to model=beta_vae"),
    ],
)
def test_foreign_error_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {line}")
    assert said.count("\n") == 1


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit), one_line_errors(), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        hydra.compose("train", list(words))
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("model=cvae", "model=cvae: unknown; did you mean cvae_cnn2, cvae_cnn3 or cvae_mlp?"),
        ("model.beta=4", "model.beta: belongs to model=beta_vae"),
        ("max_epochs=5", "max_epochs: no such key; did you mean trainer.max_epochs?"),
        (
            "data=/some/where",
            "the folder of their files is data.root=<folder>, and a folder of your own images is data=folder data.path=/some/where",
        ),
        ("model/liklihood=gaussian", "did you mean model/likelihood?"),
        ("model/net@classifier=mlp", "model/net@classifier: nothing that is chosen has a place for it; there is: model/net"),
        ("evaluation=full", "is of evaluate.py"),
        ("hydra.run.dri=x", "hydra.run.dri: no such key; did you mean hydra.run.dir?"),
        ("model.latent_dim=2,3", "model.latent_dim=2,3: several values are a sweep, which needs -m; one list is written"),
        ("seed=a=b", "seed=a=b: cannot be read (mismatched input '='); if it is one text, write \"seed='a=b'\""),
    ],
)
def test_word_that_hydra_refuses(capsys: pytest.CaptureFixture[str], word: str, line: str) -> None:
    said = refusal(capsys, word)
    assert line in said
    assert said.count("\n") == 1


def test_what_hydra_itself_refuses_is_one_line_and_the_same_of_others_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "=3") == "error: Config group override must be a string or a list. Got int\n"
    with pytest.raises(ValueError, match="of a program"), one_line_errors():
        raise ValueError("of a program")


def test_paths_are_relative_to_the_command_wherever_hydra_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_resolvers()
    monkeypatch.chdir(tmp_path)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", ["data.root=data", "ckpt_path=ab.ckpt", "name=n"], return_hydra_config=True)
    cfg.hydra.runtime.output_dir = "out"
    HydraConfig.instance().set_config(cfg)
    try:
        with open_dict(cfg):
            del cfg["hydra"]
        unchanged = cfg.copy()
        paths_of_the_command(cfg)
        assert cfg == unchanged
        (tmp_path / "run").mkdir()
        monkeypatch.chdir(tmp_path / "run")
        paths_of_the_command(cfg)
    finally:
        HydraConfig.instance().cfg = None
    assert (cfg.data.root, cfg.ckpt_path, cfg.name) == (f"{tmp_path}/data", f"{tmp_path}/ab.ckpt", "n")
    assert cfg.data.static_root is None


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
        ("++model.net.name=mynets.small,+trainer.x=1,~model/net", "model.net.name=mynets.small,trainer.x=1,model_net"),
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


def test_environment_is_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    before = dict(os.environ)
    with one_line_errors():
        assert os.environ["HYDRA_FULL_ERROR"] == "1"
    assert dict(os.environ) == before


def test_training_that_went_wrong_has_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise NotFiniteError("the loss of step 1 is not finite")
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: the loss of step 1 is not finite\n"
