"""What a training cannot do is said before it starts: its precision, and the metrics that callbacks wait for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import M2, VAE, Classifier
from vae_lightning.rehearsal import check_monitors, check_precision, direction, logged_metrics, nearest_metric, rehearse
from vae_lightning.training import check_config, train

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[16]", "model.latent_dim=3")
TERMS = ("loss", "elbo", "log_likelihood", "kl")
KNOWN = logged_metrics(TERMS)


def trainer(**arguments: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


@pytest.mark.parametrize("kind", [VAE, M2, Classifier])
def test_rehearsal_names_what_is_logged_and_leaves_no_trace(kind: type[Any]) -> None:
    model = kind()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    terms = rehearse(model, trainer(precision="64-true"))
    assert terms is not None
    assert {"loss", "accuracy" if kind is Classifier else "elbo"} <= set(terms)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
    for name, value in model.state_dict().items():
        assert value.dtype == weights[name].dtype
        assert torch.equal(value, weights[name])


class Logs(VAE):
    def terms(self, *arguments: Any) -> dict[str, torch.Tensor]:
        self.log("val/score", float(self.trainer.current_epoch))
        return super().terms(*arguments)


class Waits(EarlyStopping): ...


def test_model_or_callback_of_ones_own_may_log_what_nobody_knows() -> None:
    assert rehearse(Logs(), trainer()) is None
    assert rehearse(Logs(), trainer(precision="bf16-mixed")) is None
    check_monitors(Logs(), {"x": EarlyStopping("val/score")}, None, None)
    check_monitors(VAE(), {"x": EarlyStopping("val/score"), "own": Waits("val/loss")}, TERMS, None)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("val_loss", "val/loss"),
        ("val_elbo", "val/elbo"),
        ("elbo", "val/elbo"),
        ("loss", "val/loss"),
        ("validation_loss", "val/loss"),
        ("valid/kl", "val/kl"),
        ("train_loss", "train/loss"),
        ("test/elbo", "val/elbo"),
        ("grad_norm", "train/gradient_norm"),
        ("xyzzy", ""),
    ],
)
def test_nearest_metric_is_the_one_meant(name: str, nearest: str) -> None:
    assert nearest_metric(name, KNOWN) == nearest


def test_direction_is_known_of_what_has_one() -> None:
    assert [direction(name) for name in ("val/loss", "val/elbo", "val/iwae_bound", "val/accuracy", "val/kl")] == [
        "min",
        "max",
        "max",
        "max",
        None,
    ]


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EarlyStopping("val_loss"), r"callbacks\.x\.monitor=val_loss: is not logged; did you mean val/loss\?"),
        (ModelCheckpoint(monitor="test/elbo", mode="max"), "is measured after training; did you mean val/elbo"),
        (EarlyStopping("val/loss", mode="max"), r"callbacks\.x\.mode=max: val/loss is better lower"),
        (ModelCheckpoint(monitor="val/elbo"), r"callbacks\.x\.mode=min: val/elbo is better higher"),
    ],
)
def test_callback_that_waits_in_vain_is_refused(callback: L.Callback, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_monitors(VAE(), {"x": callback}, TERMS, None)


def test_callback_that_does_not_is_taken() -> None:
    waiting = {"a": EarlyStopping("train/kl"), "b": ModelCheckpoint(monitor="epoch"), "c": ModelCheckpoint()}
    check_monitors(VAE(), waiting, TERMS, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks=early_stopping", "callbacks.early_stopping.monitor=val_loss"], r"early_stopping\.monitor=val_loss"),
        (["monitor=val_elbo"], "monitor=val_elbo: is not logged; did you mean val/elbo"),
        (["monitor=val/kl"], "say with monitor_mode=min or monitor_mode=max"),
        (["trainer.precision=16-true"], r"trainer\.precision=16-true.*use 32-true"),
        (["trainer.precision=transformer-engine"], r"trainer\.precision=transformer-engine"),
        (["model/posterior=iaf", "trainer.precision=bf16-true"], r"trainer\.precision=bf16-true: this model cannot"),
    ],
)
def test_refused_in_one_line_before_anything_is_written(
    compose: Compose, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        train(compose(*SMALL, *overrides))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_loss_is_best_where_it_is_lowest(compose: Compose) -> None:
    result = train(compose(*SMALL, "monitor=val/loss"))
    checkpoint = result.trainer.checkpoint_callback
    assert isinstance(checkpoint, ModelCheckpoint)
    assert (checkpoint.monitor, checkpoint.mode) == ("val/loss", "min")


PRECISIONS = ["64-true", "bf16-true"]
MODELS = [
    ["model=vae", *SMALL, "model.net.dropout=0.1"],
    ["model=vae", *SMALL, "model/prior=vamp", "model.prior.components=5"],
    ["model=vae", *SMALL, "model/prior=mog", "model/likelihood=gaussian", "data.binarization=none"],
    ["model=cvae_cnn3", "model.conditional_prior=true"],
    ["model=m2", *SMALL, "data.num_labels=100"],
    ["model=cnn"],
]


@pytest.mark.filterwarnings("ignore:trainer.precision=bf16-true")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: "-".join(model[:1] + model[3:4]))
def test_whole_model_in_another_precision_gives_nearly_the_figures_of_float32(
    compose: Compose, model: list[str], precision: str
) -> None:
    figures = [
        train(compose(*model, f"trainer.precision={kind}", "logger=none", folder=kind)).metrics for kind in ("32-true", precision)
    ]
    tolerance = 1e-4 if precision == "64-true" else 0.02
    for split in ("train", "val", "test"):
        assert figures[1][f"{split}/loss"] == pytest.approx(figures[0][f"{split}/loss"], rel=tolerance)


def test_precision_that_costs_figures_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="bf16-mixed"):
        check_precision("bf16-true")


def test_images_are_drawn_and_classified_in_another_precision(compose: Compose) -> None:
    train(compose("model=cnn", "trainer.precision=64-true"))
    train(compose(*SMALL, "trainer.precision=64-true", "callbacks.images.every_n_epochs=1", folder="vae"))


def test_flow_trains_in_double_precision(compose: Compose) -> None:
    check_config(compose(*SMALL, "model/posterior=iaf", "model.posterior.hidden=[8]", "trainer.precision=64-true"))
