"""A training that goes on follows the command, and refuses by name what it cannot follow."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.train import Result, train
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.machine.checkpoints import Progress
from vae_lightning.models.schedules import BurdaSchedule, CosineSchedule
from vae_lightning.runs.continuing import Continuation, restoring

Compose = Callable[..., DictConfig]
MODEL = ("model.net.hidden=[8]", "model.latent_dim=2", "trainer.log_every_n_steps=1", "callbacks.latents=null", "logger=csv")
SHAPES = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100")
SMALL = (*SHAPES, *MODEL)
EARLY = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1e9")
"""Early stopping for which nothing is an improvement but the first validation."""


@pytest.fixture(scope="module")
def before(compose_into: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of four batches; their checkpoints stand between two epochs."""
    folder = tmp_path_factory.mktemp("before") / "run"
    train(compose_into(folder, *SMALL, "model.lr_schedule.name=cosine", "trainer.max_epochs=2"))
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def within(compose_into: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped after two of the four batches of the first epoch."""
    folder = tmp_path_factory.mktemp("within") / "run"
    train(compose_into(folder, *MODEL, "trainer.max_epochs=2", "trainer.max_steps=2"))
    return folder / "checkpoints" / "last.ckpt"


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def last(result: Result) -> dict[str, Any]:
    return content(result.folder / "checkpoints" / "last.ckpt")


def rates(result: Result) -> dict[int, float]:
    """The learning rate of each step, by the number of steps taken before."""
    rows = list(csv.DictReader((result.folder / "csv" / "metrics.csv").open()))
    (key,) = {name for name in rows[0] if name.startswith("lr")}
    return {int(row["step"]): float(row[key]) for row in rows if row[key]}


# ---- the command wins


@pytest.mark.parametrize(
    ("overrides", "factor"),
    [
        (("model.lr_schedule.name=cosine", "trainer.max_epochs=4"), CosineSchedule(16, 4)),
        (("model.lr_schedule.name=burda", "trainer.limit_train_batches=2", "trainer.max_epochs=4"), BurdaSchedule(0, 2)),
        (("model.lr_schedule.name=constant", "trainer.max_epochs=3"), lambda step: 1.0),
        # 8 steps so far, and two epochs of 2
        (("model.lr_schedule.name=cosine", "trainer.limit_train_batches=2", "trainer.max_epochs=4"), CosineSchedule(12, 2)),
    ],
)
def test_schedule_is_the_one_asked_for_now(
    compose: Compose, before: Path, overrides: tuple[str, ...], factor: Callable[[int], float]
) -> None:
    result = train(compose(*SMALL, "model.optimizer.lr=0.002", *overrides, f"ckpt_path={before}"))
    logged = rates(result)
    assert list(logged) == list(range(8, result.trainer.global_step))
    assert logged == pytest.approx({step: 0.002 * factor(step) for step in logged}, abs=1e-12)


def test_schedule_of_a_training_that_had_none_stands_where_it_would(compose: Compose, within: Path) -> None:
    result = train(compose(*MODEL, "model.lr_schedule.name=cosine", "trainer.max_epochs=2", f"ckpt_path={within}"))
    assert rates(result) == pytest.approx({step: 1e-3 * CosineSchedule(8, 4)(step) for step in range(2, 8)}, abs=1e-12)


def test_numbers_of_the_optimizer_are_the_commands_and_all_records_agree(compose: Compose, before: Path) -> None:
    settings = ("model.optimizer.lr=0.00001", "+model.optimizer.betas=[0.5,0.6]", "+model.optimizer.weight_decay=0.1")
    result = train(compose(*SMALL, *settings, "trainer.max_epochs=3", f"ckpt_path={before}"))
    (group,) = last(result)["optimizer_states"][0]["param_groups"]
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (1e-5, (0.5, 0.6), 0.1)
    assert int(last(result)["optimizer_states"][0]["state"][0]["step"]) == 12, "the moments go on"
    assert last(result)["hyper_parameters"]["optimizer"]["lr"] == 1e-5
    for path in (result.folder / ".hydra" / "config.yaml", result.folder / "csv" / "hparams.yaml"):
        config = OmegaConf.load(path)
        assert OmegaConf.select(config, "model.optimizer.lr", default=OmegaConf.select(config, "optimizer.lr")) == 1e-5
    record = json.loads((result.folder / "metrics.json").read_text())["provenance"]["continued_from"]
    assert record["checkpoint"] == str(before)
    assert (record["epochs"], record["steps"]) == (2, 8)
    assert record["changed"]["model.optimizer.lr"] == {"was": 0.001, "is": 1e-5}
    assert record["changed"]["model.lr_schedule.name"] == {"was": "cosine", "is": "constant"}


@pytest.mark.parametrize(("name", "states"), [("sgd", set()), ("rmsprop", {"step", "square_avg"})])
def test_another_optimizer_starts_afresh_and_says_so(
    compose: Compose, before: Path, caplog: pytest.LogCaptureFixture, name: str, states: set[str]
) -> None:
    result = train(compose(*SMALL, f"model.optimizer.name={name}", "trainer.max_epochs=3", f"ckpt_path={before}"))
    assert result.trainer.global_step == 12
    assert {key for state in last(result)["optimizer_states"][0]["state"].values() for key in state} == states
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "starts afresh" in line


def test_epochs_of_another_batch_size_have_their_own_number_of_steps(compose: Compose) -> None:
    few = (*SMALL, "trainer.limit_train_batches=1.0")  # 200 training images
    first = train(compose(*few, "data.batch_size=80", "trainer.max_epochs=1", folder="first"))
    assert first.trainer.global_step == 3
    checkpoint = first.folder / "checkpoints" / "last.ckpt"
    rest = train(compose(*few, "data.batch_size=40", "trainer.max_epochs=3", f"ckpt_path={checkpoint}", folder="rest"))
    assert rest.trainer.global_step == 3 + 2 * 5
    assert last(rest)["epoch"] == 2


# ---- as if it had never stopped


@pytest.fixture(scope="module")
def whole(compose_into: Compose, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Three epochs without a stop, and with early stopping."""
    return train(compose_into(tmp_path_factory.mktemp("whole") / "run", *SMALL, "callbacks=early_stopping", "trainer.max_epochs=3"))


@pytest.mark.parametrize(("name", "limit"), [("last", "trainer.max_steps=-1"), ("best", "trainer.max_steps=100")])
def test_going_on_between_epochs_is_exact_with_early_stopping_too(compose: Compose, whole: Result, name: str, limit: str) -> None:
    settings = (*SMALL, "callbacks=early_stopping", limit)
    first = train(compose(*settings, "trainer.max_epochs=2", folder="first"))
    checkpoint = first.folder / "checkpoints" / f"{name}.ckpt"
    assert content(checkpoint)["global_step"] == 8, "each epoch is better than the one before"
    rest = train(compose(*settings, "trainer.max_epochs=3", f"ckpt_path={checkpoint}", folder="rest"))
    assert rest.metrics == whole.metrics
    ends = [last(result) for result in (whole, rest)]
    assert all(torch.equal(value, ends[1]["state_dict"][key]) for key, value in ends[0]["state_dict"].items())
    (early,) = (key for key in ends[0]["callbacks"] if key.startswith("EarlyStopping"))
    assert ends[0]["callbacks"][early] == ends[1]["callbacks"][early]
    assert ends[0]["loops"]["fit_loop"]["epoch_loop.state_dict"] == ends[1]["loops"]["fit_loop"]["epoch_loop.state_dict"]
    assert max(rates(rest)) == max(rates(whole)) == 11


EPOCHS = ("trainer.max_epochs=2",)
STEPS = ("trainer.max_steps=6",)
"""In the middle of the second of three epochs."""
GREEDY = ("+model.lr_schedule.patience=0", "+model.lr_schedule.threshold=10", "+model.lr_schedule.threshold_mode=abs")
"""For which hardly anything is an improvement."""


@pytest.mark.parametrize(
    ("schedule", "stop"),
    [
        (("step_lr", "+model.lr_schedule.step_size=1", "+model.optimizer.groups=" + __name__ + ".halves"), EPOCHS),
        (("exponential_lr", "+model.lr_schedule.gamma=0.7"), STEPS),
        (("cyclic_lr", "+model.lr_schedule.base_lr=0.001", "+model.lr_schedule.max_lr=0.01", "model.optimizer.name=nadam"), STEPS),
        (("reduce_lr_on_plateau", *GREEDY), EPOCHS),
        (("reduce_lr_on_plateau", "trainer.val_check_interval=2", *GREEDY), STEPS),
    ],
)
def test_going_on_with_torchs_schedules_is_exact(
    compose: Compose, schedule: tuple[str, ...], stop: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    settings = (*SMALL, "trainer.max_epochs=3", f"model.lr_schedule.name={schedule[0]}", *schedule[1:])
    whole = train(compose(*settings, folder="whole"))
    first = train(compose(*settings, *stop, folder="first"))
    rest = train(compose(*settings, f"ckpt_path={first.folder}/checkpoints/last.ckpt", folder="rest"))
    ends = [last(result) for result in (whole, rest)]
    assert all(torch.equal(value, ends[1]["state_dict"][key]) for key, value in ends[0]["state_dict"].items())
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]
    groups = [[group["lr"] for group in end["optimizer_states"][0]["param_groups"]] for end in ends]
    assert groups[0] == groups[1]
    assert groups[0][-1] != 0.001, "the rate has changed"
    assert "Lightning's own loop" not in caplog.text, "all on the fast path"


def halves(model: torch.nn.Module) -> list[dict[str, Any]]:
    parameters = list(model.parameters())
    return [{"params": parameters[1::2], "lr": 0.01}, {"params": parameters[::2]}]


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_schedule_of_torch_stands_where_it_would_after_another(compose: Compose, before: Path, interval: str) -> None:
    """Eight steps of two epochs, of which the checkpoint's schedule was a cosine."""
    asked = ("model.lr_schedule.name=exponential_lr", "+model.lr_schedule.gamma=0.5", f"+model.lr_schedule.interval={interval}")
    result = train(compose(*SMALL, *asked, "trainer.max_epochs=4", f"ckpt_path={before}"))
    logged = rates(result)
    assert list(logged) == list(range(8, 16))
    places = {step: step if interval == "step" else step // 4 for step in logged}
    assert logged == pytest.approx({step: 1e-3 * 0.5**place for step, place in places.items()})


def test_groups_of_a_checkpoint_may_become_others(compose: Compose, before: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = ("+model.optimizer.groups=" + __name__ + ".halves", "trainer.max_epochs=3")
    result = train(compose(*SMALL, *own, f"ckpt_path={before}"))
    (state,) = last(result)["optimizer_states"]
    assert [group["lr"] for group in state["param_groups"]] == [0.01, 0.001]
    assert {int(value["step"]) for value in state["state"].values()} == {12}, "the moments go on"
    assert "starts afresh" not in caplog.text


def test_more_patience_counts_and_none_left_is_said(compose: Compose) -> None:
    settings = (*SMALL, *EARLY, "trainer.max_epochs=9")
    first = train(compose(*settings, folder="first"))
    assert first.trainer.global_step == 8, "stopped after the second epoch"
    on = f"ckpt_path={first.folder}/checkpoints/last.ckpt"
    with pytest.raises(ConfigurationError, match=r"early_stopping\.patience=1: .*nothing is left to train; ask for more patience"):
        train(compose(*settings, on, folder="same"))
    more = train(compose(*settings, "callbacks.early_stopping.patience=3", on, folder="more"))
    assert more.trainer.global_step == 16
    least = train(compose(*settings, "trainer.min_epochs=3", on, folder="least"))
    assert least.trainer.global_step == 12


def test_patience_begins_anew_with_another_objective(compose: Compose) -> None:
    """An ELBO that another beta is trained for does not compare with the best so far, which it may never reach."""
    settings = (*SMALL, *EARLY, "trainer.max_epochs=9")
    first = train(compose(*settings, folder="first"))
    on = f"ckpt_path={first.folder}/checkpoints/last.ckpt"
    beta = ("model/objective=beta", "model.objective.beta=20", on)
    second = train(compose(*settings, *beta, folder="second"))
    assert second.trainer.global_step == first.trainer.global_step + 8, "stopped after two epochs of its own"
    (before, after) = (
        next(s for k, s in last(each)["callbacks"].items() if k.startswith("EarlyStopping")) for each in (first, second)
    )
    assert after["best_score"] != before["best_score"], "the best of its own"


# ---- nothing left


def test_reached_length_is_said_with_what_to_ask_for(compose: Compose, before: Path, within: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"max_epochs=2: the checkpoint has trained 2 epochs, so nothing is left"):
        train(compose(*SMALL, "trainer.max_epochs=2", f"ckpt_path={before}"))
    with pytest.raises(ConfigurationError, match=r"max_steps=2: the checkpoint has trained 2 steps, so nothing is left"):
        train(compose(*MODEL, "trainer.max_steps=2", f"ckpt_path={within}"))
    assert not (tmp_path / "run").exists()


def test_used_up_time_is_said(compose: Compose, before: Path, tmp_path: Path) -> None:
    checkpoint = content(before)
    checkpoint["callbacks"]["Timer"] = {"time_elapsed": {"train": 21.0}}
    torch.save(checkpoint, tmp_path / "timed.ckpt")
    on = (*SMALL, "trainer.max_epochs=3", f"ckpt_path={tmp_path}/timed.ckpt")
    with pytest.raises(
        ConfigurationError, match=r"max_time: 20 seconds are for the whole training, which has taken 21 .* more time"
    ):
        train(compose(*on, "trainer.max_time=00:00:00:20"))
    assert train(compose(*on, "trainer.max_time=00:01:00:00")).trainer.global_step == 12


# ---- what cannot change


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=64", "data.batch_size=64: the checkpoint was trained with 32, which cannot change within an epoch"),
        ("data.val_size=100", "data.val_size=100: the checkpoint was trained with 5000"),
        ("data.binarization=threshold", "data.binarization=threshold: the checkpoint was trained with dynamic"),
        ("data=fashion_mnist", "data.dataset=fashion_mnist: the checkpoint was trained with mnist"),
        ("data.num_labels=100", "data.num_labels=100: the checkpoint was trained with None"),
        ("seed=1", "data.seed=1: the checkpoint was trained with 0"),
        ("trainer.limit_train_batches=2", "trainer.limit_train_batches=2: the checkpoint stands 2 batches into its epoch"),
    ],
)
def test_what_cannot_change_within_an_epoch_is_refused_by_name(
    compose: Compose, within: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        train(compose(*MODEL, "trainer.max_epochs=2", override, f"ckpt_path={within}"))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


class _Begun(Exception):
    """Training would begin now."""


def test_number_of_processes_cannot_change_within_an_epoch_and_may_after_one(
    compose: Compose, within: Path, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: object, **__: object) -> None:
        raise _Begun

    monkeypatch.setattr(L.Trainer, "fit", begin)
    two = (
        "trainer.gpus=auto",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.strategy=ddp_spawn",
        "trainer.max_epochs=3",
    )
    with pytest.raises(
        ConfigurationError, match=r"^trainer\.devices=2: the checkpoint was trained with 1, which cannot change within"
    ):
        train(compose(*MODEL, *two, f"ckpt_path={within}"))
    with pytest.raises(_Begun):
        train(compose(*SMALL, *two, f"ckpt_path={before}", folder="after"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.latent_dim=3"], "model.latent_dim: the checkpoint has 2, asked for is 3"),
        (["model.net.hidden=[9]"], "model.net.hidden: the checkpoint has [8], asked for is [9]"),
        (["model.net.activation=tanh"], "model.net.activation: the checkpoint has relu, asked for is tanh"),
        (["model/likelihood=continuous_bernoulli"], "model.likelihood.name: the checkpoint has bernoulli"),
        (["model/prior=mog"], "model.prior.name: the checkpoint has standard, asked for is mog"),
        (["model=beta_vae"], "is of model VAE, asked for is BetaVAE"),
        (["model=cvae_mlp"], "is of model VAE, asked for is CVAE"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is not an ELBO")
def test_checkpoint_of_another_model_is_refused_in_one_line(
    compose: Compose, before: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        train(compose(*overrides[:1], *SMALL, *overrides, "trainer.max_epochs=3", f"ckpt_path={before}"))
    assert message in str(refusal.value)
    assert str(before) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "foreign", "weights"])
def test_file_that_is_no_checkpoint_is_refused_in_one_line(compose: Compose, before: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.ckpt"
    if kind == "foreign":
        torch.save({"weights": torch.zeros(1)}, path)
    elif kind == "weights":
        whole = content(before)
        torch.save({key: whole[key] for key in ("state_dict", "hyper_parameters", "vae_lightning")}, path)
    else:
        whole_bytes = before.read_bytes()
        path.write_bytes({"cut": whole_bytes[: len(whole_bytes) // 2], "empty": b"", "text": b"last.ckpt"}[kind])
    with pytest.raises(CheckpointError) as refusal:
        train(compose(*SMALL, "trainer.max_epochs=3", f"ckpt_path={path}"))
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def spoil_moments(content: dict[str, Any]) -> None:
    content["optimizer_states"][0]["state"][0]["exp_avg"] = ["none"]


STATES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an optimizer without groups": (
        lambda content: content["optimizer_states"][0].update(param_groups=[]),
        "cannot be restored (ValueError",
    ),
    "moments that are none": (spoil_moments, "cannot be restored"),
    "a place in no epoch": (lambda content: content["MNISTDataModule"].pop("epoch"), "is damaged: its place in the data is"),
    "a place of text": (lambda content: content["MNISTDataModule"].update(images="x"), "is damaged: its place in the data is"),
    "sums of text": (
        lambda content: content["vae_lightning"].update(sums={"epoch": {"kl": "x"}}),
        "is damaged: its sums so far are",
    ),
    "sums of no images": (
        lambda content: content["vae_lightning"].update(sums={"epoch": {"kl": 1.0}}),
        "is damaged: its sums so far are",
    ),
    "a version that is none": (
        lambda content: content.update({"pytorch-lightning_version": [3]}),
        "cannot be restored (InvalidVersion",
    ),
}


QUICKLY = ("moments that are none", "a place of text")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.slow) for name in STATES])
def test_state_that_cannot_be_restored_is_said_in_one_line_and_leaves_nothing(
    compose: Compose, within: Path, tmp_path: Path, name: str
) -> None:
    spoil, part = STATES[name]
    path = tmp_path / "last.ckpt"
    spoilt = content(within)
    spoil(spoilt)
    torch.save(spoilt, path)
    with pytest.raises(CheckpointError) as refusal:
        train(compose(*MODEL, "trainer.max_epochs=2", "trainer.max_steps=4", f"ckpt_path={path}"))
    assert str(refusal.value).startswith(f"{path}: {part}"), str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def raised_in(module: str, error: Exception) -> Callable[[], None]:
    """A function of a module that raises an error."""
    scope: dict[str, Any] = {"__name__": module, "error": error}
    exec("def function(): raise error", scope)
    function: Callable[[], None] = scope["function"]
    return function


CONNECTOR, ADAM = "pytorch_lightning.trainer.connectors.checkpoint_connector", "torch.optim.adam"


@pytest.mark.parametrize(
    ("module", "error", "step", "expected"),
    [
        (CONNECTOR, KeyError("x"), 2, CheckpointError),
        (ADAM, RuntimeError("shapes differ"), 2, CheckpointError),
        (ADAM, RuntimeError("shapes differ"), 3, RuntimeError),
        ("theirs", RuntimeError("shapes differ"), 2, RuntimeError),
        (ADAM, torch.OutOfMemoryError("CUDA out of memory"), 2, torch.OutOfMemoryError),
        (ADAM, RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, RuntimeError),
        (CONNECTOR, OSError(5, "Input/output error"), 2, OSError),
        (CONNECTOR, ConfigurationError("x"), 2, ConfigurationError),
    ],
)
def test_only_what_the_content_of_a_checkpoint_does_is_an_error_of_it(
    module: str, error: Exception, step: int, expected: type[Exception]
) -> None:
    going_on = Continuation(Path("last.ckpt"), Progress(epochs=0, batches=2, steps=2), {})
    trainer: Any = SimpleNamespace(global_step=step)
    with pytest.raises(expected) as raised, restoring(going_on, trainer):
        raised_in(module, error)()
    assert (type(raised.value) is CheckpointError) == (expected is CheckpointError)
    with pytest.raises(type(error)), restoring(None, trainer):
        raised_in(module, error)()


class Counts(L.Callback):
    """Counts epochs, from a number that can be given."""

    sees_every_batch = False

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def test_callback_of_ones_own_has_its_state_back_under_the_name_of_an_argument_too(compose: Compose) -> None:
    own = (*SMALL, f"+callbacks.mine._target_={Counts.__module__}.Counts")
    first = train(compose(*own, "trainer.max_epochs=2"))
    again = train(compose(*own, "trainer.max_epochs=3", f"ckpt_path={first.folder / 'checkpoints' / 'last.ckpt'}", folder="again"))
    (count,) = (callback.count for callback in again.trainer.callbacks if type(callback).__name__ == "Counts")  # type: ignore[attr-defined]
    assert count == 3
