"""What a training cannot do is said before it starts: its precision, and the metrics that callbacks wait for."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from short_fits import Written
from torch.distributions import Independent, StudentT

from vae_lightning.commands import rehearsal
from vae_lightning.commands.config import check_config
from vae_lightning.commands.rehearsal import (
    check_monitors,
    check_precision,
    direction,
    logged_metrics,
    nearest_metric,
    rehearse,
    warn_of_emulation,
)
from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import CVAE, IWAE, M1, M2, VAE, Classifier
from vae_lightning.noise import Source
from vae_lightning.types import Terms

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


class OfMean(VAE):
    def objective(self, terms: Terms) -> torch.Tensor:
        return super().objective(terms).mean()


class Misspelt(VAE):
    def objective(self, terms: Terms) -> torch.Tensor:
        objective: torch.Tensor = terms.loglikelihood  # type: ignore[attr-defined]
        return objective


class Heavy(VAE):
    def posterior(self, *arguments: Any) -> Any:
        normal = super().posterior(*arguments)
        return Independent(StudentT(torch.tensor(3.0), normal.mean, normal.stddev), 1)


class HeavyPrior(VAE):
    def prior(self, *arguments: Any) -> Any:
        return Independent(StudentT(torch.full((self.latent_dim,), 3.0)), 1)


class OfMeans(M2, OfMean): ...


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OfMean, r"^objective: OfMean gave a Tensor of shape \(\); a number an image is wanted, a tensor of shape \(2,\)$"),
        (OfMeans, r"^objective: OfMeans gave a Tensor of shape \(\); .* of shape \(20,\)$"),
        (
            Misspelt,
            r"^model: Misspelt \(.*test_rehearsal\.py, line \d+\) fails in a step of two images .*: AttributeError: 'Terms'",
        ),
        (Heavy, r"^model: an? .*StudentT.* has no from_noise\(epsilon\), so it cannot be sampled here$"),
        (HeavyPrior, r"^prior: an? .*StudentT.* has no from_noise\(epsilon\), so it cannot be sampled here$"),
    ],
)
def test_model_of_ones_own_that_cannot_be_trained_is_refused_in_a_line(kind: type[VAE], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        rehearse(kind(), trainer())


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
        (
            EarlyStopping("train/kl", check_on_train_epoch_end=False),
            r"callbacks\.x\.monitor=train/kl: .*check_on_train_epoch_end=true",
        ),
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
    waiting = {
        "a": EarlyStopping("train/kl"),
        "d": EarlyStopping("train/kl", check_on_train_epoch_end=True),
        "b": ModelCheckpoint(monitor="epoch"),
        "c": ModelCheckpoint(),
    }
    check_monitors(VAE(), waiting, TERMS, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks=early_stopping", "callbacks.early_stopping.monitor=val_loss"], r"early_stopping\.monitor=val_loss"),
        (["monitor=val_elbo"], "monitor=val_elbo: is not logged; did you mean val/elbo"),
        (["monitor=val/elb"], "did you mean val/elbo?"),
        (["trainer.barebones=true"], "trainer.barebones=true: switches off what a run folder is made of"),
        (["monitor=val/kl"], "monitor=val/kl: say with monitor_mode=min or monitor_mode=max"),
        (["monitor=train/elbo"], "monitor=train/elbo: must be a metric of validation"),
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


NET = {"name": "mlp", "hidden": [16], "dropout": 0.1}
GREY = {"name": "gaussian", "scale": 0.1}
MODELS: list[tuple[type[Any], dict[str, Any]]] = [
    (VAE, {"net": NET}),
    (VAE, {"net": NET, "prior": {"name": "vamp", "components": 5}}),
    (VAE, {"net": NET, "prior": "mog", "likelihood": GREY}),
    (IWAE, {"net": "gated_mlp"}),
    (CVAE, {"net": "cnn3", "prior": "class"}),
    (VAE, {"net": "resnet"}),
    (M1, {"net": NET}),
    (M2, {"net": NET}),
    (Classifier, {}),
]


@pytest.mark.parametrize(("precision", "tolerance"), [("64-true", 1e-4), ("bf16-true", 0.03)])
@pytest.mark.parametrize(("kind", "arguments"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_terms_in_another_precision_are_nearly_those_of_float32(
    kind: type[Any], arguments: dict[str, Any], precision: str, tolerance: float
) -> None:
    torch.manual_seed(0)
    model = kind(**arguments)
    plugin = trainer(precision=precision).precision_plugin
    converted = plugin.convert_module(copy.deepcopy(model))
    x, y = torch.rand(8, 1, 28, 28).round(), torch.arange(8)
    noise = model.draw_noise(x, Source.of(x, 0, "train"))
    expected = model.terms(model(x, y, noise), x, y, torch.tensor(0.0))
    with plugin.forward_context():
        again = converted.draw_noise(x, Source.of(x, 0, "train"))
        assert torch.equal(again.posterior, noise.posterior)
        found = converted.terms(converted(x, y, noise), x, y, torch.tensor(0.0))
    for name, values in expected.items():
        if name != "accuracy":
            assert torch.allclose(found[name].float(), values, rtol=tolerance, atol=tolerance * float(values.abs().mean())), name


@pytest.mark.filterwarnings("ignore:trainer.precision=bf16-true")
@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_training_in_another_precision_is_finite_and_its_run_can_be_loaded(
    compose: Compose, tmp_path: Path, precision: str
) -> None:
    metrics = train(compose(*SMALL, f"trainer.precision={precision}", "callbacks.images.every_n_epochs=1")).metrics
    assert all(math.isfinite(value) for value in metrics.values())
    loaded = VAE.load_from_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert loaded.sample(2).dtype == torch.float32


def test_precision_that_costs_accuracy_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="bf16-mixed"):
        check_precision("bf16-true")


@pytest.mark.parametrize(("precision", "can", "warned"), [("bf16-mixed", False, 1), ("bf16-mixed", True, 0), ("32-true", False, 0)])
def test_precision_that_the_processor_emulates_is_warned_of(
    precision: Any, can: bool, warned: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(rehearsal, "computes_in_bfloat16", lambda: can)
    warn_of_emulation(trainer(precision=precision))
    assert sum("emulates them" in str(warning.message) for warning in recwarn) == warned


@pytest.mark.filterwarnings("ignore:trainer.precision=bf16-true")
def test_confusion_of_a_classifier_is_drawn_in_another_precision(compose: Compose, tmp_path: Path) -> None:
    train(compose("model=cnn", "trainer.precision=bf16-true", "trainer.limit_train_batches=1"))
    assert Written(tmp_path / "run" / "tensorboard").images == ["test/confusion"]


def test_flow_trains_in_double_precision(compose: Compose) -> None:
    check_config(compose(*SMALL, "model/posterior=iaf", "model.posterior.hidden=[8]", "trainer.precision=64-true"))


@pytest.mark.parametrize(("finder", "key"), [("BatchSizeFinder", "data.batch_size"), ("LearningRateFinder", "model.optimizer.lr")])
def test_callback_that_trains_with_another_setting_than_is_recorded_is_refused(
    compose: Compose, tmp_path: Path, finder: str, key: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^callbacks\.mine: {finder} would train with another {key} than"):
        train(compose(*SMALL, f"+callbacks.mine._target_=pytorch_lightning.callbacks.{finder}"))
    assert not list(tmp_path.iterdir())
