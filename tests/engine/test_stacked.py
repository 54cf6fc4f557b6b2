"""Models that are trained in a stack come out as they would alone."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from vae_lightning import CVAE, IWAE, VAE, BetaVAE
from vae_lightning.callbacks import LastCheckpoint
from vae_lightning.data import ImageDataModule
from vae_lightning.engine import stacked as stacked_module
from vae_lightning.engine.stacked import train_stacked
from vae_lightning.errors import ConfigurationError, NotFiniteError

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

MLP = {"name": "mlp", "hidden": [12]}
CNN = {"name": "cnn2", "kernel": 3}
NUMBER = 90
"""Training images: eleven batches of eight, and two more."""


class Toy(ImageDataModule):
    """Small random images with labels."""

    label_names = ("zero", "one", "two")
    image_shape = (1, 8, 8)

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        source = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (NUMBER, *self.image_shape), dtype=torch.uint8, generator=source)
        labels = torch.arange(NUMBER) % 3
        return {"train": (images, labels), "val": (images[:10], labels[:10]), "test": (images[:10], labels[:10])}


class Losses(L.Callback):
    """Notes the loss of each batch that Lightning sees."""

    sees_every_batch = False

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses[trainer.global_step] = float(outputs["loss"])


class Run:
    """A training with a run folder of its own."""

    def __init__(self, folder: Path, build: Callable[[], Any], callbacks: Sequence[L.Callback] = (), **arguments: Any) -> None:
        seed, data = arguments.pop("data_seed", 0), arguments.pop("data", {})
        torch.manual_seed(seed)
        self.folder, self.model = folder, build()
        self.data = Toy(batch_size=8, eval_batch_size=10, seed=seed, **data)
        self.losses = Losses()
        off = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
        defaults: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 5, "enable_checkpointing": True}
        own = [self.losses, LastCheckpoint(str(folder)), *callbacks]
        self.trainer = L.Trainer(**off, **{**defaults, **arguments}, callbacks=own, logger=CSVLogger(folder, "", ""))

    def alone(self) -> "Run":
        self.trainer.fit(self.model, datamodule=self.data)
        return self

    @property
    def training(self) -> tuple[Any, ...]:
        return self.trainer, self.model, self.data


def both(folder: Path, *descriptions: dict[str, Any]) -> tuple[list[Run], list[Run], list[Exception | None]]:
    """The trainings that `descriptions` are arguments of, each alone, and stacked, and how the stacked ones ended."""
    alone = [Run(folder / f"alone_{n}", **description) for n, description in enumerate(descriptions)]
    for run in alone:
        run.alone()
    stacked = [Run(folder / f"stacked_{n}", **description) for n, description in enumerate(descriptions)]
    return alone, stacked, train_stacked([run.training for run in stacked])


def assert_same(alone: Run, stacked: Run, within: float = 1e-4) -> None:
    seen = stacked.losses.losses
    assert max(alone.losses.losses) == max(seen)
    assert [alone.losses.losses[step] for step in seen] == pytest.approx(list(seen.values()), rel=within)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(stacked.model.state_dict()[name], value, rtol=10 * within, atol=10 * within, msg=name)
    assert sorted(path.name for path in alone.folder.iterdir()) == sorted(path.name for path in stacked.folder.iterdir())
    lines, others = ((run.folder / "metrics.csv").read_text().splitlines() for run in (alone, stacked))
    assert lines[0] == others[0]
    for line, other in zip(lines, others, strict=True):
        for value, of_other in zip(line.split(","), other.split(","), strict=True):
            assert value == of_other or float(value) == pytest.approx(float(of_other), rel=10 * within, abs=1e-3)


KINDS: dict[str, Callable[..., Any]] = {"vae": VAE, "beta": BetaVAE, "iwae": IWAE, "cvae": CVAE, "resampled": VAE}
DIFFERENCES: dict[str, list[dict[str, Any]]] = {
    "vae": [{"kl_warmup_steps": 0}, {"kl_warmup_steps": 30}],
    "beta": [{"beta": 4.0}, {"beta": 0.5}],
    "iwae": [{"num_samples": 3}, {"num_samples": 3, "kl_warmup_steps": 9}],
    "cvae": [{"num_classes": 3}, {"num_classes": 3}],
    "resampled": 2 * [{"num_samples": 6, "objective": {"name": "dreg", "gradient_samples": 2}}],
}


def assert_stack_comes_out(folder: Path, kind: str, net: Any, epochs: int) -> None:
    """That two models of different numbers come out of a stack as they would alone."""

    def description(seed: int) -> dict[str, Any]:
        # a large eps, as Adam makes steps of full size of the rounding in gradients that are nearly 0
        optimizer = {"name": "adam", "lr": [1e-3, 3e-3][seed], "eps": 1e-3}
        shared = {"latent_dim": 2, "net": net, "image_shape": (1, 8, 8), "seed": seed, "optimizer": optimizer}
        return {"build": lambda: KINDS[kind](**shared, **DIFFERENCES[kind][seed]), "data_seed": seed, "max_epochs": epochs}

    alone, stacked, errors = both(folder, *map(description, range(2)))
    assert errors == [None, None]
    for run, of_stack in zip(alone, stacked, strict=True):
        assert_same(run, of_stack)


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_a_stack_come_out_as_they_would_alone(kind: str, tmp_path: Path) -> None:
    assert_stack_comes_out(tmp_path, kind, MLP, epochs=2)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("net", [MLP, CNN], ids=["mlp", "cnn"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_steps_of_a_stack_are_those_of_each_model_alone(kind: str, net: Any, tmp_path: Path) -> None:
    assert_stack_comes_out(tmp_path, kind, net, epochs=17)


def small(seed: int = 0, **arguments: Any) -> dict[str, Any]:
    """The arguments of a `Run` of a small model."""
    of_run = {key: arguments.pop(key) for key in ("callbacks", "data", "max_epochs", "gradient_clip_val") if key in arguments}
    shared = {"latent_dim": 2, "net": MLP, "image_shape": (1, 8, 8), "seed": seed}
    return {"build": lambda: VAE(**{**shared, **arguments}), "data_seed": seed, **of_run}


@pytest.mark.slow
def test_schedules_clipping_and_unequal_lengths_are_each_models_own(tmp_path: Path) -> None:
    warmup = {"name": "cosine", "warmup": 0.2}
    slow = {"name": "adam", "lr": 1e-4}
    dropout = {**MLP, "dropout": 0.2}
    alone, stacked, errors = both(
        tmp_path,
        small(0, lr_schedule=warmup, gradient_clip_val=1.0, net=dropout),
        small(1, optimizer=slow, gradient_clip_val=0.5, max_epochs=1, net={**dropout, "dropout": 0.4}),
        small(2, gradient_clip_val=2.0, max_epochs=3, net=dropout),
    )
    assert errors == [None, None, None]
    for run, of_stack in zip(alone, stacked, strict=True):
        assert_same(run, of_stack)


@pytest.mark.slow
def test_the_stack_shrinks_when_half_of_its_models_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []

    class Noted(stacked_module.Stack):
        def __init__(self, members: Sequence[Any]) -> None:
            widths.append(len(members))
            super().__init__(members)

    monkeypatch.setattr(stacked_module, "Stack", Noted)
    epochs = (1, 4, 2, 3, 1)
    alone, stacked, errors = both(tmp_path, *(small(n, max_epochs=count) for n, count in enumerate(epochs)))
    assert errors == [None] * 5
    assert widths == [5, 2, 1], "3 of 5 go on into the second epoch, 2 into the third, 1 into the last"
    for run, of_stack in zip(alone, stacked, strict=True):
        assert_same(run, of_stack)


class Poison(L.Callback):
    """Makes a weight not a number after so many steps."""

    sees_every_batch = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step >= 12:
            with torch.no_grad():
                pl_module.encoder.loc.weight[0, 0] = float("nan")


class Stop(L.Callback):
    """Ends a training after so many steps."""

    sees_every_batch = False

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 10


@pytest.mark.slow
def test_a_model_that_fails_or_stops_leaves_the_others_as_they_would_be_alone(tmp_path: Path) -> None:
    last = Run(tmp_path / "alone", **small(2))
    last.trainer.fit(last.model, datamodule=last.data)
    runs = [Run(tmp_path / f"run_{n}", **small(n, callbacks=c)) for n, c in enumerate(([Poison()], [Stop()], []))]
    failure, *others = train_stacked([run.training for run in runs])
    assert isinstance(failure, NotFiniteError)
    assert failure.record["step"] == runs[0].trainer.global_step
    assert others == [None, None]
    assert runs[1].trainer.global_step < runs[2].trainer.global_step == last.trainer.global_step
    assert_same(last, runs[2])


def test_a_loss_that_is_not_finite_in_the_middle_of_a_chunk_is_found_at_its_step(tmp_path: Path) -> None:
    def exploding() -> Any:
        return VAE(latent_dim=2, net=MLP, image_shape=(1, 8, 8), optimizer={"name": "adam", "lr": 1e30})

    alone = Run(tmp_path / "alone", build=exploding)
    with pytest.raises(NotFiniteError) as expected:
        alone.trainer.fit(alone.model, datamodule=alone.data)
    runs = [Run(tmp_path / "stacked", build=exploding), Run(tmp_path / "other", **small(0))]
    error, other = train_stacked([run.training for run in runs])
    assert other is None
    assert isinstance(error, NotFiniteError)
    assert {key: error.record[key] for key in ("what", "step", "images")} == {
        key: expected.value.record[key] for key in ("what", "step", "images")
    }


def test_a_run_goes_on_alone_from_a_checkpoint_of_a_stack(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", **small(0, max_epochs=2))
    whole.trainer.fit(whole.model, datamodule=whole.data)
    runs = [Run(tmp_path / f"run_{n}", **small(n, max_epochs=1)) for n in range(2)]
    train_stacked([run.training for run in runs])
    sizes = [(tmp_path / name / "last.ckpt").stat().st_size for name in ("whole", "run_0")]
    assert sizes[1] < 1.1 * sizes[0]
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=False)["state_dict"] for name in ("whole", "run_0")]
    assert states[1]._metadata == states[0]._metadata == whole.model.state_dict()._metadata  # versions, by which modules migrate
    again = Run(tmp_path / "again", **small(0, max_epochs=2))
    again.trainer.fit(again.model, datamodule=again.data, ckpt_path=str(tmp_path / "run_0" / "last.ckpt"), weights_only=False)
    assert again.trainer.global_step == whole.trainer.global_step
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar])
def test_one_progress_bar_stands_for_all(bar: type[L.Callback], tmp_path: Path) -> None:
    def training(seed: int) -> tuple[Any, ...]:
        off: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = L.Trainer(max_epochs=2, num_sanity_val_steps=0, callbacks=[bar()], default_root_dir=tmp_path, **off)
        return trainer, VAE(latent_dim=2, net=MLP, image_shape=(1, 8, 8), seed=seed), Toy(batch_size=8, eval_batch_size=10)

    trainings = [training(seed) for seed in range(3)]
    assert train_stacked(trainings) == [None, None, None]
    assert [trainer.progress_bar_callback.is_enabled for trainer, _, _ in trainings] == [True, False, False]


def test_trained_models_have_tensors_of_their_own(tmp_path: Path) -> None:
    runs = [Run(tmp_path / f"run_{n}", **small(n, max_epochs=1)) for n in range(2)]
    train_stacked([run.training for run in runs])
    for run in runs:
        held = run.trainer.optimizers[0].state.values()
        tensors = [*run.model.parameters(), *run.model.buffers(), *(tensor for state in held for tensor in state.values())]
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"net": {"name": "mlp", "hidden": [10]}}, r"^model\.net\.hidden: \[12\] and \[10\]"),
        ({"latent_dim": 3}, r"^model\.latent_dim: 2 and 3"),
        ({"likelihood": "continuous_bernoulli"}, r"^model\.likelihood: bernoulli and continuous_bernoulli"),
        ({"objective": "iwae"}, r"^model\.objective: elbo and iwae"),
        ({"optimizer": {"name": "adamw"}}, r"^optimizer.name: adam and adamw"),
        ({"optimizer": {"name": "adam", "amsgrad": True}}, r"^optimizer.amsgrad: None and True"),
        ({"gradient_clip_val": 1.0}, r"^trainer.gradient_clip_val: None and 1.0"),
        ({"optimizer": {"name": "adam", "weight_decay": 0.1}}, r"^optimizer.weight_decay: "),
        ({"data": {"binarization": "none"}}, r"^data.binarization: dynamic and none"),
        ({"data": {"permute_pixels": True}}, r"^data: the training images differ"),
    ],
)
def test_what_differs_in_more_than_numbers_is_refused_by_name(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    runs = [Run(tmp_path / f"run_{n}", **small(0, max_epochs=1, **arguments)) for n, arguments in enumerate(({}, other))]
    with pytest.raises(ConfigurationError, match=message):
        train_stacked([run.training for run in runs])
    assert [run.trainer.global_step for run in runs] == [0, 0]


def test_a_trainer_that_no_stack_can_take_is_refused(tmp_path: Path) -> None:
    runs = [Run(tmp_path / f"run_{n}", **small(0, max_epochs=1)) for n in range(2)]
    runs[1].trainer.accumulate_grad_batches = 2
    with pytest.raises(ConfigurationError, match="accumulate_grad_batches"):
        train_stacked([run.training for run in runs])
    assert runs[0].trainer.global_step == 0


def test_a_part_that_two_trainings_share_is_refused(tmp_path: Path) -> None:
    first, second = (Run(tmp_path / name, **small(0)) for name in "ab")
    with pytest.raises(ConfigurationError, match=r"^data: "):
        train_stacked([first.training, (second.trainer, second.model, first.data)])


class Interrupt(L.Callback):
    """Presses Ctrl-C after ten steps."""

    sees_every_batch = False

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 10:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_every_training_in_good_order(tmp_path: Path) -> None:
    runs = [Run(tmp_path / f"run_{n}", **small(n, callbacks=c, max_epochs=50)) for n, c in enumerate(([Interrupt()], []))]
    before = signal.getsignal(signal.SIGINT)
    assert train_stacked([run.training for run in runs]) == [None, None]
    assert signal.getsignal(signal.SIGINT) is before
    for run in runs:
        assert 10 <= run.trainer.global_step <= 20
        assert (run.folder / "last.ckpt").exists()
