"""A command line as people type it: paths as they are, null for none, flags anywhere, and what cannot be meant."""

from pathlib import Path

import pytest

from vae_lightning.commands.overrides import prepared
from vae_lightning.errors import ConfigurationError

GROUPS = {"model": ["vae", "iwae"], "logger": ["csv", "none"], "experiment": ["kzky", "none"]}
MEANT = {"vae": "model=vae", "lr": "model.optimizer.lr", "epochs": "trainer.max_epochs"}


def given(*words: str) -> list[str]:
    return prepared(words, GROUPS, lambda key: MEANT.get(key, ""))


@pytest.mark.parametrize(
    "key", ["run", "ckpt_path", "data.root", "data.static_root", "root", "evaluation.classifier", "+ckpt_path"]
)
@pytest.mark.parametrize("path", ["a=b", "a,b", "a b", "[x]"])
def test_path_is_taken_as_it_is(key: str, path: str) -> None:
    assert given(f"{key}={path}") == [f"{key}='{path}'"]


@pytest.mark.parametrize("word", ["ckpt_path=null", "run='a=b'", 'run="a,b"', "run=outputs/vae", "hydra.run.dir=."])
def test_what_hydra_reads_rightly_stays(word: str) -> None:
    assert given(word) == [word]


def test_interpolation_stays_unless_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert given("data.root=${oc.env:MD}") == ["data.root='${oc.env:MD}'"]
    Path("${a}").mkdir()
    assert given("data.root=${a}") == ["data.root='\\${a}'"]


def test_home_is_expanded_unless_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert given("data.root=~/mnist") == ["data.root=/home/me/mnist"]
    Path("~").mkdir()
    assert given("data.root=~") == ["data.root='~'"]


def test_commas_of_a_sweep_part_paths_unless_there_is_one_of_the_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert given("-m", "ckpt_path=epoch=0.ckpt,b.ckpt,'c,d'") == ["-m", "ckpt_path='epoch=0.ckpt',b.ckpt,'c,d'"]
    Path("a,b").touch()
    assert given("-m", "ckpt_path=a,b") == ["-m", "ckpt_path='a,b'"]
    assert given("-m", "name=choice(a,b)") == ["-m", "name=choice(a,b)"]


@pytest.mark.parametrize("word", ["=", "=3"])
def test_value_without_a_key_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{word}: settings are written key=value$"):
        given(word)


def test_option_of_a_group_is_chosen_with_dots_too() -> None:
    groups = {"model/net": ["mlp", "resnet"], "model": ["vae"]}
    assert prepared(["model.net.hidden=[32]", "model.net=mlp"], groups) == ["model.net.hidden=[32]", "model/net=mlp"]
    assert prepared(["-m", "model.net=mlp,resnet"], groups) == ["-m", "model/net=mlp,resnet"]
    for value in ("mlp,resnet", "own.Net", "{name:mlp}"):
        assert prepared([f"model.net={value}"], groups) == [f"model.net={value}"]


def test_null_is_none_of_a_group() -> None:
    assert given("logger=null", "experiment=None") == ["logger=none", "experiment=none"]
    assert given("-m", "experiment=null,kzky") == ["-m", "experiment=none,kzky"]
    assert given("~logger") == ["logger=none"]
    for word in ("model=null", "~model"):
        with pytest.raises(ConfigurationError, match=f"{word}: there must be one; choose from: vae, iwae"):
            given(word)


def test_flags_may_stand_behind_settings() -> None:
    assert given("model=vae", "--cfg", "job", "seed=1", "-m") == ["--cfg", "job", "-m", "model=vae", "seed=1"]
    assert given("--info", "defaults", "seed=1") == ["--info", "defaults", "seed=1"]
    assert given("--multi", "-i", "seed=1") == ["--multi", "-i", "seed=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "vae"], "--model: settings are written without dashes: model=vae"),
        (["--epochs", "5"], "trainer.max_epochs=5"),
        (["--lr=0.1"], "model.optimizer.lr=0.1"),
        (["--batch-size", "5"], "batch_size=5"),
        (["model", "=", "vae"], "model = vae: write model=vae, without spaces"),
        (["model", "=vae"], "write model=vae"),
        (["model=", "vae"], "write model=vae"),
        (["vae"], "settings are written key=value; did you mean model=vae"),
        (["model.beta=\u22124"], "write model.beta=-4"),
        (["name=../x"], "must be a folder's name"),
        (["name="], "must be a folder's name"),
        (["name=/x"], "must be a folder's name"),
        (["name=a\nb"], "must be a folder's name"),
        (["-m", "name=a,../b"], "must be a folder's name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_how_it_is_written(words: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        given(*words)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_name_with_brackets_is_a_name() -> None:
    assert given("name=tune[v2]", "name=a-b/c") == ["name='tune[v2]'", "name=a-b/c"]
