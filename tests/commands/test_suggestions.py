"""Suggestions name what was meant, wherever in the configuration it is."""

import configparser
from pathlib import Path

import pytest

from vae_lightning.commands.suggestions import LAUNCHERS, MEANT, RENAMED, Catalogue, unknown_group, unknown_option, unknown_setting

CONF = Path(__file__).resolve().parents[2] / "conf"
TRAIN, EVALUATE = Catalogue(CONF, "train"), Catalogue(CONF, "evaluate")


@pytest.mark.parametrize(
    ("key", "siblings", "message"),
    [
        ("model.beta", ["net", "latent_dim"], "model.beta: belongs to model=beta_vae"),
        ("max_epochs", ["model", "trainer"], "did you mean trainer.max_epochs?"),
        ("trainer.epochs", ["min_epochs", "max_epochs"], "did you mean trainer.max_epochs?"),
        ("trainer.max_epoch", ["min_epochs", "max_epochs"], "did you mean trainer.max_epochs?"),
        ("model.latent_dmi", ["latent_dim"], "did you mean model.latent_dim?"),
        ("model.lr", ["net", "optimizer"], "did you mean model.optimizer.lr?"),
        ("optimizer", ["model", "trainer"], "did you mean model.optimizer.name?"),
        ("likelihood", ["model"], "did you mean model/likelihood?"),
        ("batch_size", ["data"], "did you mean data.batch_size?"),
        ("latent_dim", ["model"], "did you mean model.latent_dim?"),
        ("gpus", ["trainer"], "did you mean trainer.gpus?"),
        ("trainer.gpu", ["gpus"], "did you mean trainer.gpus?"),
        ("dataset", ["data"], "did you mean data?"),
        ("patience", ["callbacks"], "did you mean callbacks=early_stopping?"),
        ("callbacks.early_stoping", ["images", "checkpoint"], "did you mean callbacks=early_stopping?"),
        ("model.conditional_prior", ["prior"], "is model/prior=class now"),
        ("run", ["run_dir"], "is of evaluate.py"),
        ("foo", ["model", "data"], "foo: no such key; the top level has: data, model"),
    ],
)
def test_setting(key: str, siblings: list[str], message: str) -> None:
    found = str(unknown_setting(key, siblings, TRAIN))
    assert found.startswith(f"{key}: ")
    assert message in found
    assert "with data=mnist" not in found  # which is the default


def test_evaluation_knows_what_is_of_training() -> None:
    assert "is of train.py" in str(unknown_setting("model", ["run"], EVALUATE))
    assert str(unknown_setting("evaluation.digit", ["label"], EVALUATE)) == "evaluation.digit: is evaluation.label now"
    assert "evaluation.num_samples" in str(unknown_setting("num_samples", ["run"], EVALUATE))


def test_option_chosen_by_its_name_alone() -> None:
    found = str(unknown_setting("model.net.hidden", ["kernel"], TRAIN, ["model.net.name=cnn3"]))
    assert "choose it whole: model/net=cnn3" in found


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model/cvae", "did you mean cvae_cnn2, cvae_cnn3 or cvae_mlp?"),
        ("model/vea", "model=vea: unknown; did you mean vae?"),
        ("model/net/cnn", "did you mean classifier_cnn, cnn2 or cnn3?"),
        ("data//tmp/x", "a folder of your own images is data=folder data.path=/tmp/x"),
        ("data/x.npy", "an array of your own images is data=array data.path=x.npy"),
        ("model/a/b.ckpt", "a checkpoint is given with ckpt_path=a/b.ckpt"),
    ],
)
def test_option(file: str, message: str) -> None:
    group = "model/net" if file.startswith("model/net") else file.partition("/")[0]
    assert message in str(unknown_option(file, TRAIN.groups[group], TRAIN))


def test_group_that_the_chosen_option_has_not() -> None:
    found = str(unknown_group("model/objective", TRAIN))
    assert found.startswith("model/objective: the model that is chosen has no objective; those that have: model=beta_vae, ")
    assert "model=vae" in found
    assert "model=cnn" not in found.split(", ")
    assert str(unknown_group("model/nett", TRAIN)) == "model/nett: no such group; did you mean model/net?"
    assert "is of train.py" in str(unknown_group("model/net", EVALUATE))


@pytest.mark.parametrize("meant", sorted({*MEANT.values(), *(now for old, now in RENAMED.items() if old.startswith("model"))}))
def test_every_other_word_leads_to_something_that_exists(meant: str) -> None:
    key, _, option = meant.lstrip("+").partition("=")
    in_optimizer = key.startswith("model.optimizer.")
    known = key in TRAIN.settings or key in TRAIN.groups or key in ("hydra.run.dir", "resume") or in_optimizer
    assert known
    assert not option or option in TRAIN.groups[key]


def test_argument_that_came_with_another_choice_is_said_to_be_left_out() -> None:
    typed = ["recipe=soap", "model.optimizer.name=mine.Signs"]
    found = str(unknown_setting("model.optimizer.eps", ["lr"], TRAIN, typed))
    assert found.startswith("model.optimizer.eps: comes with recipe=soap or by default, and mine.Signs does not take it; ")
    assert "comes with" not in str(unknown_setting("model.optimizer.eps", ["lr"], TRAIN, [*typed, "model.optimizer.eps=1"]))
    assert "comes with" not in str(unknown_setting("model.optimizer.eps", ["lr"], TRAIN, typed[1:]))


def test_setting_of_a_class_of_ones_own_is_meant_before_one_of_another_option() -> None:
    own = ["batch_size", "size"]
    assert str(unknown_setting("data.sise", own, TRAIN)) == "data.sise: no such key; did you mean data.size?"
    assert "hydra" not in str(unknown_setting("model.decoder.outputs", ["width"], TRAIN))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("joblib", "its package is not installed: pip install 'vae_lightning[joblib]'"),
        ("submitit_slurm", "its package is not installed: pip install 'vae_lightning[slurm]'"),
        ("ray", "its package is not installed: pip install 'vae_lightning[ray]'"),
        ("submitit_slrum", "did you mean submitit_slurm?"),
        ("basci", "did you mean basic?"),
    ],
)
def test_launcher_that_is_not_there_names_what_brings_it(name: str, message: str) -> None:
    error = unknown_option(f"hydra/launcher/{name}", ["basic"], TRAIN)
    assert str(error).startswith(f"hydra/launcher={name}: ")
    assert message in str(error)


def test_every_launcher_has_an_extra_that_exists() -> None:
    options = configparser.ConfigParser()
    options.read(CONF.parent / "setup.cfg")
    assert set(LAUNCHERS.values()) <= {*options["options.extras_require"]}
