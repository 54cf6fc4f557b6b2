"""Checkpoints on a full disk, and those a run goes on from."""

import csv
import os
import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig

from vae_lightning.callbacks import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint, Timing, checkpoint
from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError, StorageError
from vae_lightning.machine import compilation, files
from vae_lightning.machine.checkpoints import LAST, PREVIOUS, newest_whole

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[16]", "model.latent_dim=2")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("previous", [True, False])
def test_full_disk_is_one_line_and_leaves_the_previous_checkpoint(
    tmp_path: Path, previous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    if previous:
        AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "full")
    (tmp_path / ".last.ckpt.full.unfinished").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device") as refusal:
        AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.zeros(10_000)}, path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [file.name for file in tmp_path.iterdir()] == (["last.ckpt"] if previous else [])
    if previous:
        assert torch.load(path, weights_only=True) == {"step": 1}


def test_disk_that_is_full_keeps_both_checkpoints(tmp_path: Path) -> None:
    writer = AtomicCheckpointIO()
    for step in (1, 2):
        writer.save_checkpoint(content(step), tmp_path / LAST)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # for want of a small disk
    try:
        with pytest.raises(StorageError, match="File too large"):
            writer.save_checkpoint(content(3), tmp_path / LAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def content(step: int) -> dict[str, Any]:
    return {"state_dict": {"w": torch.full((1000,), float(step))}, "global_step": step, "epoch": 0}


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_one_of_two_names_has_a_whole_checkpoint_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be killed before and after each renaming."""
    newest: list[int] = []
    replace = os.replace

    def look() -> None:
        newest.append(step_of(newest_whole(tmp_path)[0]))

    def watched(source: Path, target: Path) -> None:
        if newest or (tmp_path / LAST).exists():
            look()
        replace(source, target)
        look()

    monkeypatch.setattr(files.os, "replace", watched)
    writer = AtomicCheckpointIO()
    for step in (1, 2, 3):
        writer.save_checkpoint(content(step), tmp_path / LAST)
    # of a save: before and after the old one is renamed, before and after the new one is
    assert newest == [1, *(1, 1, 1, 2), *(2, 2, 2, 3)]
    assert (step_of(tmp_path / LAST), step_of(tmp_path / PREVIOUS)) == (3, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]


def test_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(tmp_path: Path) -> None:
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(content(step), tmp_path / LAST)
    (tmp_path / LAST).write_bytes(b"cut")
    AtomicCheckpointIO().save_checkpoint(content(3), tmp_path / LAST)
    assert (step_of(tmp_path / LAST), step_of(tmp_path / PREVIOUS)) == (3, 1)


def test_damaged_checkpoint_stays_out_of_the_way_though_the_disk_was_full_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(content(step), tmp_path / LAST)
    (tmp_path / LAST).write_bytes(b"cut")
    writer = AtomicCheckpointIO()
    with monkeypatch.context() as full:
        full.setattr(checkpoint, "replacing", no_room)
        with pytest.raises(StorageError, match="no room"):
            writer.save_checkpoint(content(3), tmp_path / LAST)
    writer.save_checkpoint(content(3), tmp_path / LAST)
    assert (step_of(tmp_path / LAST), step_of(tmp_path / PREVIOUS)) == (3, 1)


def no_room(*_: Any, **__: Any) -> Any:
    raise StorageError("no room")


def test_what_a_killed_process_has_left_goes(compose: Compose, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ".last.ckpt.0123abcd.unfinished").touch()
    train(compose(*SMALL))
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", LAST]


# ---- by the clock


def rows(folder: Path, after: int) -> list[dict[str, str]]:
    """What was logged after step `after`, but for speeds."""
    with (folder / "csv" / "metrics.csv").open() as file:
        every = [{k: v for k, v in row.items() if v and not k.startswith("time/")} for row in csv.DictReader(file)]
    return sorted((row for row in every if int(row["step"]) >= after and len(row) > 1), key=str)


def state_of(path: Path) -> dict[str, Any]:
    """The content of a checkpoint without its folder's name, and when it was written."""
    content = torch.load(path, weights_only=True)
    assert content.pop("written") > 0
    for state in content["callbacks"].values():
        for key in ("dirpath", "folder", "best_model_path", "kth_best_model_path", "best_k_models", "last_model_path"):
            state.pop(key, None)
    return dict(content)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}[{place}]")
    else:
        assert one == other or (one != one and other != other), where


GOES_ON = (*SMALL, "logger=csv", "callbacks.images=null", "trainer.limit_train_batches=10", "trainer.max_epochs=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("trainer.log_every_n_steps=3",),
        ("trainer.log_every_n_steps=3", "trainer.compile=false", "model.lr_schedule.name=cosine"),
        ("trainer.log_every_n_steps=2", "trainer.accumulate_grad_batches=3"),
        ("trainer.log_every_n_steps=2", "trainer.val_check_interval=4", "callbacks=early_stopping"),
    ],
    ids=["fast", "lightnings", "accumulating", "validating"],
)
def test_training_goes_on_to_the_bit_from_a_checkpoint_by_the_clock(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    copies: dict[int, Path] = {}
    save = LastCheckpoint._save

    def kept(self: LastCheckpoint, trainer: L.Trainer) -> None:
        save(self, trainer)
        copies[trainer.global_step] = tmp_path / f"{trainer.global_step}.ckpt"
        shutil.copyfile(self.path, copies[trainer.global_step])

    with monkeypatch.context() as watched:
        watched.setattr(LastCheckpoint, "_save", kept)
        train(compose(*GOES_ON, *settings, "callbacks.last_checkpoint.every_minutes=1e-9", folder="never"))
    batches = 3 if "trainer.accumulate_grad_batches=3" in settings else 1
    within = [step for step in copies if step % -(-10 // batches)]
    assert len(within) >= 4
    for step in (within[0], within[2], within[-1]):
        train(compose(*GOES_ON, *settings, f"ckpt_path={copies[step]}", folder=f"rest_{step}"))
        last = Path("checkpoints", LAST)
        assert_same(state_of(tmp_path / "never" / last), state_of(tmp_path / f"rest_{step}" / last))
        assert rows(tmp_path / f"rest_{step}", step) == rows(tmp_path / "never", step)
        assert rows(tmp_path / f"rest_{step}", 0) == rows(tmp_path / f"rest_{step}", step), "nothing is logged twice"


@pytest.mark.parametrize(("minutes", "expected"), [(3, [3, 6, 9, 12]), (0, [6, 12]), (5, [5, 6, 11, 12])])
def test_clock_says_when(compose: Compose, monkeypatch: pytest.MonkeyPatch, minutes: int, expected: list[int]) -> None:
    """Each of twelve steps takes a minute, six are an epoch, and the clock begins anew with every checkpoint."""
    now, saved = [0.0], []
    whole, save = Timing.on_train_batch_end, L.Trainer.save_checkpoint

    def slow(*arguments: Any) -> None:
        now[0] += 60
        whole(*arguments)

    def kept(trainer: L.Trainer, path: Path, *arguments: Any, **settings: Any) -> None:
        saved.extend([trainer.global_step] if Path(path).name == LAST else [])
        save(trainer, path, *arguments, **settings)

    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Timing, "on_train_batch_end", slow)
    monkeypatch.setattr(L.Trainer, "save_checkpoint", kept)
    lengths = ("trainer.limit_train_batches=6", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
    train(compose(*SMALL, *lengths, f"callbacks.last_checkpoint.every_minutes={minutes}", "logger=none"))
    assert saved == expected


def test_clock_that_runs_backwards_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="every_minutes=-1"):
        LastCheckpoint("checkpoints", every_minutes=-1)


def test_last_checkpoint_says_where_training_stands(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, "trainer.max_epochs=3", "trainer.max_steps=6", folder="within"))
    train(compose(*SMALL, "trainer.max_epochs=2", folder="whole"))
    within, whole = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("within", "whole"))
    assert (within["epoch"], within["global_step"]) == (1, 6)
    assert (whole["epoch"], whole["global_step"]) == (1, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trainer.max_epochs=3", "trainer.max_steps=6"), ["training ended 2 steps after its last validation: "]),
        (("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"), ["training ended 4 steps after its last validation: "]),
        (("trainer.max_epochs=2",), []),
    ],
)
def test_steps_after_the_last_validation_are_said_not_to_be_tested(
    compose: Compose, caplog: pytest.LogCaptureFixture, words: Sequence[str], said: Sequence[str]
) -> None:
    result = train(compose(*SMALL, *words, folder="first"))
    lines = [record.getMessage() for record in caplog.records if "after its last validation" in record.getMessage()]
    assert [line[: len(said[0])] for line in lines] == said
    caplog.clear()
    if said:  # a training that goes on and is not validated either knows when the last validation was
        more = f"trainer.max_steps={result.trainer.global_step + 1}"
        train(compose(*SMALL, *words, more, "trainer.max_epochs=9", f"ckpt_path={result.folder}/checkpoints/last.ckpt"))
        assert [line for line in caplog.messages if said[0].replace(" 2 ", " 3 ").replace(" 4 ", " 5 ") in line]


def test_best_checkpoint_goes_along_to_a_new_folder(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, "trainer.max_epochs=2", folder="first"))
    first = tmp_path / "first" / "checkpoints"
    resumed = train(
        compose(*SMALL, "trainer.max_epochs=3", "trainer.limit_train_batches=5", f"ckpt_path={first}/last.ckpt", folder="second")
    )
    callback = resumed.trainer.checkpoint_callback
    assert isinstance(callback, BestCheckpoint)
    assert Path(callback.best_model_path).parent == tmp_path / "second" / "checkpoints"
    best_of_first = torch.load(first / "best.ckpt", weights_only=True)["callbacks"][callback.state_key]["best_model_score"]
    assert callback.best_model_score is not None
    assert callback.best_model_score >= best_of_first
    assert (tmp_path / "second" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model/objective=iwae",), ("iwae", 5)),
        (("model/objective=iwae", "model.objective.gradient_samples=2"), ("iwae", 5)),
        (("model/objective=miwae", "model.objective.bounds=5"), ("miwae", 5)),
        (("model/objective=iwae", "model.num_samples=2"), ("iwae", 2)),
    ],
)
def test_best_of_another_objective_is_left_behind(
    compose: Compose, tmp_path: Path, words: tuple[str, ...], expected: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Where what goes on is worse, as here by steps uphill, evaluation would otherwise take what another objective trained."""
    first = ("model/objective=iwae", "model.num_samples=5")
    train(compose(*SMALL, *first, folder="first"))
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    more = ("trainer.max_epochs=2", "+model.optimizer.maximize=true", f"ckpt_path={last}")
    train(compose(*SMALL, "model.num_samples=5", *words, *more, folder="second"))
    best = torch.load(tmp_path / "second" / "checkpoints" / "best.ckpt", weights_only=True)
    assert (best["hyper_parameters"]["objective"]["name"], best["hyper_parameters"]["num_samples"]) == expected
    anew = words not in (first[:1], (first[0], "model.objective.gradient_samples=2"))
    assert best["epoch"] == (1 if anew else 0)
    assert ("best.ckpt: starts anew" in caplog.text) == anew


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        (
            ("limit_val_batches=1",),
            ("limit_val_batches=1.0",),
            "on 1 batches of 100 images, and this training is on all validation images",
        ),
        (
            ("limit_val_batches=1.0",),
            ("limit_val_batches=0.2",),
            "on all validation images, and this training is on 0.2 of the batches",
        ),
        (("limit_val_batches=2",), ("limit_val_batches=2", "data.eval_batch_size=50"), "is on 2 batches of 50 images"),
        ((), ("monitor=val/log_likelihood",), "the checkpoint was judged by another monitor"),
        ((), (), ""),
        (("limit_val_batches=1.0",), ("limit_val_batches=1.0",), ""),
    ],
)
def test_best_of_scores_that_do_not_compare_is_left_behind(
    compose: Compose, tmp_path: Path, first: tuple[str, ...], then: tuple[str, ...], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A score of other images, or of another metric, may be one that no later weights reach."""
    first, then = (tuple(word.replace("limit_val", "trainer.limit_val") for word in words) for words in (first, then))
    train(compose(*SMALL, *first, folder="first"))
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    more = ("trainer.max_epochs=2", "model.optimizer.lr=1e-12", f"ckpt_path={last}")  # the weights stay as they are
    result = train(compose(*SMALL, *then, *more, folder="second"))
    best = torch.load(tmp_path / "second" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == (1 if why else 0)
    assert why in caplog.text
    assert ("best.ckpt: starts anew" in caplog.text) == bool(why)
    assert result.trainer.checkpoint_callback is not None


def test_best_so_far_is_kept_aside_where_another_monitor_judges(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, folder="run"))
    run = tmp_path / "run"
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    more = ("trainer.max_epochs=2", f"ckpt_path={run}/checkpoints/last.ckpt")
    train(compose(*SMALL, "monitor=val/log_likelihood", *more, folder="run"))
    (kept,) = (run / ".hydra").glob("until_step_*/best.ckpt")
    assert kept.read_bytes() == best
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1


def test_run_that_goes_on_in_its_folder_keeps_its_checkpoints_up_to_date(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, folder="run"))
    more = ("trainer.max_epochs=2", f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    with pytest.raises(ConfigurationError, match=r"callbacks\.last_checkpoint: is left out"):
        train(compose(*SMALL, *more, "callbacks=none", folder="run"))
    train(compose(*SMALL, *more, "callbacks.checkpoint=null", folder="run"))
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists(), "evaluation takes it for what was trained last"


def test_best_checkpoint_that_is_gone_is_not_pointed_to(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, folder="first"))
    checkpoints = tmp_path / "first" / "checkpoints"
    state = torch.load(checkpoints / "last.ckpt", weights_only=True)["callbacks"]
    callback = BestCheckpoint(dirpath=tmp_path / "second", filename="best", monitor="val/elbo", mode="max")
    (key,) = (key for key in state if key.startswith("BestCheckpoint"))
    (checkpoints / "best.ckpt").unlink()
    callback.load_state_dict(state[key])
    assert callback.best_model_path == ""


def test_damaged_best_checkpoint_counts_as_gone(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, folder="first"))
    checkpoints = tmp_path / "first" / "checkpoints"
    (checkpoints / "best.ckpt").write_bytes(b"cut")
    resumed = train(compose(*SMALL, "trainer.max_epochs=2", f"ckpt_path={checkpoints}/last.ckpt", folder="second"))
    assert torch.load(tmp_path / "second" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    assert resumed.objective is not None


@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("recipe", ["adam", "soap"])
def test_signal_while_the_first_graph_compiles_keeps_no_step_that_was_taken_without_it(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    """Such a step has other bits than that of a training that never stopped."""
    words = (*SMALL, f"recipe={recipe}", "trainer.compile=true")
    train(compose(*words, "trainer.max_epochs=1", folder="first"))
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def interrupted(*_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(compilation, "_compiled", interrupted)
    assert train(compose(*words, folder="anew")).interrupted
    assert not (tmp_path / "anew" / "checkpoints" / "last.ckpt").exists()
    assert train(compose(*words, "trainer.max_epochs=2", f"ckpt_path={last}", folder="first")).interrupted
    assert last.read_bytes() == before


@pytest.mark.parametrize(
    "setting",
    [
        *("save_top_k=3", "save_top_k=-1", "save_top_k=0", "save_top_k=false", "save_last=true", "every_n_train_steps=2"),
        *("every_n_epochs=2", "every_n_epochs=0", "save_on_train_epoch_end=true", "save_on_train_epoch_end=null", "filename=x"),
    ],
)
def test_setting_under_which_best_is_not_the_best_is_refused(compose: Compose, tmp_path: Path, setting: str) -> None:
    new = "" if setting.startswith(("filename", "save_on_train_epoch_end")) else "+"
    with pytest.raises(ConfigurationError, match=f"callbacks.checkpoint.{setting.partition('=')[0]}=.*: "):
        train(compose(*SMALL, f"{new}callbacks.checkpoint.{setting}"))
    assert not (tmp_path / "run").exists()


def test_others_may_be_kept_beside_the_best(compose: Compose, tmp_path: Path) -> None:
    beside = [
        "+callbacks.all._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        f"+callbacks.all.dirpath={tmp_path}/all",
        "+callbacks.all.save_top_k=-1",
    ]
    result = train(compose(*SMALL, *beside, "trainer.max_epochs=2"))
    assert len(list((tmp_path / "all").iterdir())) == 2
    assert Path(result.trainer.checkpoint_callback.best_model_path).name == "best.ckpt"  # type: ignore[union-attr]


def test_signal_to_stop_that_has_to_wait_costs_neither_checkpoints_nor_the_fast_path(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping signals after the second of four epochs that are to be trained at least."""
    saved, seen = [], []
    whole = Timing.on_train_batch_end
    monkeypatch.setattr(LastCheckpoint, "_save", lambda _, trainer: saved.append(trainer.global_step))
    monkeypatch.setattr(Timing, "on_train_batch_end", lambda self, t, *a: (seen.append(t.global_step), whole(self, t, *a)))
    early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1e9")
    result = train(compose(*SMALL, *early, "trainer.limit_train_batches=20", "trainer.min_epochs=4", "trainer.max_epochs=9"))
    assert result.trainer.global_step == 80
    assert sorted(set(saved)) == [20, 40, 60, 80]
    assert len(saved) <= 8, "after its validation and at its end, of which the second writes nothing"
    assert seen == [1, 20, 40, 50, 60, 80], "the first batch, the last of each epoch, and what is logged"


def test_least_number_of_steps_is_kept_to_the_step(compose: Compose) -> None:
    early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1e9")
    limits = ("trainer.limit_train_batches=20", "trainer.min_steps=47", "trainer.max_epochs=9")
    for path in ("auto", "false"):
        result = train(compose(*SMALL, *early, *limits, f"trainer.compile={path}", folder=path))
        assert result.trainer.global_step == 47


@pytest.mark.parametrize("step", [3, 12, 18])
def test_interrupted_run_goes_on_in_its_folder_as_if_it_had_never_stopped(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Weights, moments, early stopping, what is logged, frames of the animation: no gap, and nothing twice."""
    settings = (*GOES_ON, "trainer.log_every_n_steps=3", "callbacks=early_stopping", "callbacks.animation.frames=4")
    train(compose(*settings, folder="never"))
    whole = Timing.on_train_batch_end

    def hook(self: Timing, trainer: L.Trainer, *rest: Any) -> None:
        whole(self, trainer, *rest)
        if trainer.global_step == step:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Timing, "on_train_batch_end", hook)
        assert train(compose(*settings)).trainer.global_step == step
    rest = train(compose(*settings, f"ckpt_path={tmp_path}/run/checkpoints/{LAST}"))
    assert rest.signal is None
    last = Path("checkpoints", LAST)
    assert_same(state_of(tmp_path / "never" / last), state_of(tmp_path / "run" / last))
    assert rows(tmp_path / "run", 0) == rows(tmp_path / "never", 0)
    frames = [sorted(path.name for path in (tmp_path / run / "animation").iterdir()) for run in ("never", "run")]
    assert frames[0] == frames[1]
