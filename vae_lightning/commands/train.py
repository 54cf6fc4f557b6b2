"""`train(cfg)`: one resolved config to a trained model and a run folder. The command line is only a wrapper around it."""

import functools
import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Any

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from vae_lightning import errors, runs
from vae_lightning.arguments import parameters, require
from vae_lightning.callbacks import BringsBack, Dashboard, FirstBatch, LeavesItsGroup, StopOnInterrupt, Timing, ValueRecorder
from vae_lightning.callbacks.pruning import is_pruned
from vae_lightning.commands.changing import note_changes
from vae_lightning.commands.config import Parts, lightning_errors, monitor_of, named_from_the_root, plain_of, quiet
from vae_lightning.commands.hyperparameters import code, hyperparameters_of
from vae_lightning.commands.job import is_job
from vae_lightning.commands.ownership import RunFolder
from vae_lightning.commands.resuming import is_finished, resumes
from vae_lightning.commands.treatments import treatment_of
from vae_lightning.commands.trial import pruning_of
from vae_lightning.commands.trusted import only_trusted
from vae_lightning.commands.typed import typed_words
from vae_lightning.engine import install
from vae_lightning.errors import ConfigurationError, LostRankError, NotFiniteError, VAELightningError, kind_of, one_line
from vae_lightning.machine.allocator import keep_freed_memory
from vae_lightning.machine.expendable import unraised_in_threads
from vae_lightning.machine.files import write_json
from vae_lightning.machine.formats import FORMAT
from vae_lightning.machine.lightning import spawns, tell_ranks, without_signal_handlers
from vae_lightning.machine.lost_ranks import lost_rank, said_of_children
from vae_lightning.machine.meeting import on_loopback, require_meeting_place
from vae_lightning.machine.processor import load_of_others
from vae_lightning.machine.shell import called, path_setting, shell_quoted
from vae_lightning.machine.signals import Interruption, handled, noted, received
from vae_lightning.plugins import load_declared
from vae_lightning.runs.continuing import Continuation, continuation, restoring
from vae_lightning.runs.layout import LAST, METRICS, TEST_PER_IMAGE
from vae_lightning.types import LatentVariableModel

__all__ = ["Result", "train"]

log = logging.getLogger(__name__)

THREADS = torch.get_num_threads()


@dataclass(frozen=True)
class Result:
    """The result of a training."""

    metrics: dict[str, float]
    """Final metrics by `split/metric`: train over the last epoch, val and test of the best checkpoint."""
    objective: float | None
    """The value of the monitored metric, val/elbo for a VAE; None if there was no validation."""
    signal: Signals | None
    """The signal, such as SIGINT for Ctrl-C, that ended the training before its time."""
    folder: Path
    """The run folder."""
    model: L.LightningModule
    """The model, with the weights that the metrics are of."""
    data: L.LightningDataModule
    """The data module that the model was trained on."""
    trainer: L.Trainer
    """The Trainer, in its state after training."""

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the training."""
        return self.signal is not None


def train(cfg: DictConfig, started: float | None = None) -> Result:
    """Train, validate and test what `cfg` describes, and write the run folder `cfg.run_dir`.

    Args:
        started: `time.time()` when the command was given, for the timings.

    Raises:
        ConfigurationError: something in `cfg` is wrong, or `cfg.run_dir` holds another run; nothing was trained or written.
        CheckpointError: the training cannot go on from `cfg.ckpt_path`.
        DataError: data are missing, altered, or of a wrong form.
        LostRankError: another of several processes has died.
        NotFiniteError: a loss, gradient or metric is not finite; `metrics.json` says which, and names the images of the batch.
        StorageError: the disk is full; the previous checkpoint is still there.
    """
    load_declared()
    require(
        bool(str(cfg.run_dir or "").strip()),
        "run_dir",
        cfg.run_dir,
        "a folder; in a command it is chosen with hydra.run.dir=<folder>",
    )
    folder = _hydras_folder() or Path(cfg.run_dir)
    strangers = resumes(folder) and not is_job()  # a job's settings are those of the sweep's command
    with only_trusted(cfg) if strangers else nullcontext(), RunFolder(folder) as run_folder:
        return _train(cfg, started, run_folder)


def _train(cfg: DictConfig, started: float | None, run_folder: RunFolder) -> Result:
    folder = _folder(cfg)
    timing, interrupt = Timing(started or time.time()), StopOnInterrupt()
    brings = BringsBack(timing)
    keep_freed_memory()
    # trainer.deterministic would fill all new memory with NaN, which costs a fifth of the speed and changes no number
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    parts = Parts(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    data = parts.data()
    model = parts.model(data)
    dashboard = Dashboard({"config": code(OmegaConf.to_yaml(cfg, resolve=True))}, hyperparameters_of(cfg))
    recorder = ValueRecorder(folder / TEST_PER_IMAGE)
    pruning = pruning_of(monitor_of(cfg, model)[0])
    trainer = parts.trainer(model, [timing, dashboard, FirstBatch(), brings, recorder, LeavesItsGroup(), *pruning])
    trainer.callbacks.insert(0, interrupt)  # type: ignore[attr-defined]  # first, so that it can keep the others from their hooks
    without_signal_handlers(trainer)
    require_meeting_place(trainer)
    reason = install(trainer, model, cfg.trainer.compile)
    if reason and cfg.trainer.compile is not False and trainer.is_global_zero:
        log.warning("Lightning's own loop and not the fast path, because %s", reason)
    torch.set_float32_matmul_precision(cfg.trainer.matmul_precision)
    torch.set_num_threads(THREADS if cfg.trainer.threads == "auto" else cfg.trainer.threads)
    shares = cfg.trainer.threads == "auto" and torch.get_num_threads() > 1 and isinstance(trainer.accelerator, CPUAccelerator)
    load = load_of_others() if shares and trainer.is_global_zero else None
    if load is not None:
        log.warning("other programs use this machine (load %.1f), where trainer.threads=1 may be several times faster", load)
    with named_from_the_root(model, data):
        going_on = _going_on(cfg, trainer, model, data, may_end=resumes(folder) and not is_finished(folder))
    run_folder.check(trainer, going_on)
    with named_from_the_root(model, data):
        data.prepare_data()  # before Lightning starts, so that an error about data is one line
    run_folder.take(cfg, trainer, going_on)
    # now and not at the end, when the working tree may have changed
    provenance = runs.provenance(_command(folder), cfg.seed, data.checksums() if hasattr(data, "checksums") else {})
    if going_on is not None:
        provenance["continued_from"] = going_on.record()
    dashboard.texts["provenance"] = code(OmegaConf.to_yaml(provenance))
    wrong: NotFiniteError | None = None
    try:
        with handled(), _said(folder), quiet(), lightning_errors(), named_from_the_root(model, data):
            resume = cfg.ckpt_path
            with _noted(trainer, interrupt), restoring(going_on, trainer), on_loopback(trainer):
                trainer.fit(model, datamodule=data, ckpt_path=resume, **_weights_only(trainer.fit, resume))
                brings.received(trainer, model)
                interrupt.settle(trainer)
            logged = _callback_metrics(trainer)
            stands = trainer.global_step == (going_on.progress.steps if going_on else 0)
            if stands and trainer.is_global_zero and not interrupt.interrupted and not (going_on and going_on.ends):
                log.warning("no step was trained, so that the metrics are of the weights as they were before")
            if not (interrupt.interrupted or is_pruned(trainer) or cfg.trainer.fast_dev_run):
                logged |= _evaluate_best(trainer, model, data, interrupt, brings)
    except Interruption as error:
        interrupt.signal, logged = error.signal, _callback_metrics(trainer)
    except (NotFiniteError, ProcessExitedException, ProcessRaisedException) as error:
        ours = _of_a_child(error) if isinstance(error, ProcessRaisedException) else error
        if interrupt.told and not isinstance(ours, VAELightningError):  # a process that had no time to end well
            interrupt.signal = interrupt.told
        elif not isinstance(ours, NotFiniteError):
            with named_from_the_root(model, data):
                raise ours from None
        wrong, logged = ours if isinstance(ours, NotFiniteError) else None, _callback_metrics(trainer)
    # our own models keep their metrics in double precision
    metrics = (getattr(model, "epoch_means", {}) | getattr(model, "evaluation_means", {})) or logged
    wrong = wrong or _of_metrics(metrics)
    if trainer.is_global_zero:
        more: dict[str, Any] = {"not_finite": wrong.record} if wrong else {}
        if interrupt.signal is not None:
            more |= {"interrupted": True, "signal": Signals(interrupt.signal).name}
        elif is_pruned(trainer):
            more |= {"pruned": True}
        treatment = None if wrong else _treatment(model, data)
        write_json(folder / METRICS, _record(metrics, treatment, model, timing, provenance) | more)
    if wrong:
        more_there = "has the numbers of the batch's images" if wrong.record.get("images") else "says so too"
        raise NotFiniteError(f"{wrong}; {folder / METRICS} {more_there}", wrong.record) from wrong
    objective = metrics.get(monitor_of(cfg, model)[0])
    ended_by = None if interrupt.signal is None else Signals(interrupt.signal)
    return Result(metrics, objective, ended_by, folder, model, data, trainer)


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """A block in which what happens beside the training is a line: a writer that cannot write, another process that has died."""
    with unraised_in_threads(), said_of_children():
        try:
            yield
        except (RuntimeError, ProcessExitedException, ProcessRaisedException) as error:
            lost = lost_rank(error)
            if lost is None or received() is not None:
                raise
            kept = f"; go on from where it stood with {path_setting('resume', str(folder))}" if (folder / LAST).is_file() else ""
            raise LostRankError(f"{lost}{kept}") from error


@contextmanager
def _noted(trainer: L.Trainer, interrupt: StopOnInterrupt) -> Iterator[None]:
    """A block in which a signal ends what `trainer` does in good order, in every process of the training."""

    def tell(signum: int) -> None:
        interrupt.tell(signum)
        if spawns(trainer):  # this process only waits for the others
            tell_ranks(trainer, signum)

    with noted(tell, leaving=functools.partial(tell_ranks, trainer, SIGKILL)):
        yield


def _command(folder: Path) -> str:
    """The command line that makes the run in `folder`; for a job of a sweep, that of this job alone."""
    if not HydraConfig.initialized():
        return "vae_lightning.commands.train.train"
    return " ".join([called("train.py"), *(shell_quoted(word, "utf-8") for word in runs.from_the_start(folder, typed_words()))])


def _hydras_folder() -> Path | None:
    return Path(HydraConfig.get().runtime.output_dir) if HydraConfig.initialized() else None


def _folder(cfg: DictConfig) -> Path:
    """The run folder, which is Hydra's own where Hydra started the program."""
    folder, hydra_folder = Path(cfg.run_dir), _hydras_folder()
    if hydra_folder is not None and folder.resolve() != hydra_folder.resolve():
        raise ConfigurationError(f"run_dir={folder}: follows Hydra's folder; choose it with hydra.run.dir={folder}")
    return folder


def _going_on(
    cfg: DictConfig, trainer: L.Trainer, model: L.LightningModule, data: L.LightningDataModule, may_end: bool
) -> Continuation | None:
    """How the training goes on from `cfg.ckpt_path`; None if it starts anew."""
    if cfg.ckpt_path is None:
        return None

    def name_of(owner: object, argument: str) -> str:
        if isinstance(owner, L.Callback):
            entries = {name: node for name, node in plain_of(cfg.callbacks).items() if node is not None}
            kind = type(owner).__name__
            name = next((name for name, node in entries.items() if str(node["_target_"]).endswith(f".{kind}")), "")
            return f"callbacks.{name}.{argument}" if name else f"{kind}.{argument}"
        kinds = {L.Trainer: "trainer", L.LightningModule: "model", L.LightningDataModule: "data"}
        return f"{next(where for kind, where in kinds.items() if isinstance(owner, kind))}.{argument}"

    callback = continuation(cfg.ckpt_path, trainer, model, data, name_of, may_end=may_end)
    note_changes(callback, cfg, trainer, model)
    trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]
    return callback


def _weights_only(function: Any, ckpt_path: str | None) -> dict[str, bool]:
    """Lightning versions that can load a checkpoint without executing pickles are told to."""
    return {"weights_only": True} if ckpt_path and "weights_only" in parameters(function)[0] else {}


def _evaluate_best(
    trainer: L.Trainer,
    model: L.LightningModule,
    data: L.LightningDataModule,
    interrupt: StopOnInterrupt,
    brings: BringsBack,
) -> dict[str, float]:
    """The metrics of validation and test, both of the best checkpoint's weights.

    Raises:
        Interruption: a signal came; with several processes, between validation and test, where they can agree.
    """
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    logged: dict[str, float] = {}
    with _noted(trainer, interrupt) if trainer.world_size > 1 else nullcontext():
        for function in (trainer.validate, trainer.test):
            if function == trainer.test and interrupt.settle(trainer):
                break
            step = "validation_step" if function == trainer.validate else "test_step"
            if not is_overridden(step, model):  # a model of a user's own, which can be trained all the same
                log.warning("%s: has no %s, so there are no such metrics", kind_of(model), step)
                continue
            with on_loopback(trainer):
                function(model, datamodule=data, ckpt_path=best, verbose=False, **_weights_only(function, best))
            brings.received(trainer, model)
            logged |= _callback_metrics(trainer)
    return logged


def _of_a_child(error: ProcessRaisedException | ProcessExitedException) -> Exception:
    """The error of ours that ended a process started by Lightning, read from the traceback's end; other errors as they are."""
    said = re.findall(r"^vae_lightning\.errors\.(\w+): (.+)$", str(error), flags=re.MULTILINE)
    kind = getattr(errors, said[-1][0], None) if said else None
    if not (isinstance(kind, type) and issubclass(kind, VAELightningError)):
        return error
    return NotFiniteError(said[-1][1], {"what": said[-1][1]}) if kind is NotFiniteError else kind(said[-1][1])


def _of_metrics(metrics: Mapping[str, float]) -> NotFiniteError | None:
    """The error that a run ends in whose final metrics are not finite, though its training was."""
    lost = [name for name, value in metrics.items() if not math.isfinite(value)]
    what = ", ".join(lost)
    return NotFiniteError(f"{what}: not finite at the end of training", {"what": what, "images": None}) if lost else None


def _callback_metrics(trainer: L.Trainer) -> dict[str, float]:
    """The logged metrics, by `split/metric`."""
    return {key: float(value) for key, value in trainer.callback_metrics.items() if "/" in key}


def _treatment(model: L.LightningModule, data: L.LightningDataModule) -> dict[str, Any] | None:
    """What the metrics are of, if they are likelihoods."""
    try:
        return treatment_of(model, data).plain if isinstance(model, LatentVariableModel) else None
    except Exception as error:  # of a model of one's own, whose training is not lost for that
        log.warning("%s: does not say what its pixels are (%s), so %s does not either", kind_of(model), one_line(error), METRICS)
        return None


def _record(
    metrics: dict[str, float],
    treatment: dict[str, Any] | None,
    model: L.LightningModule,
    timing: Timing,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """The content of `metrics.json`, which other programs read."""
    return {
        "format": FORMAT,
        "metrics": metrics,
        "treatment": treatment,
        "model": {"name": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())},
        "timing": {
            "seconds": time.time() - timing.started,
            "images_per_second": timing.images_per_second,
            "first_step_seconds": timing.first_step_seconds,
        },
        "provenance": provenance,
    }
