"""`train(cfg)`: one resolved config to a trained model and a run folder. The command line is only a wrapper around it."""

import itertools
import logging
import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback as HydraCallback
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar
from pytorch_lightning.callbacks.lr_monitor import LearningRateMonitor
from torch.multiprocessing.spawn import ProcessRaisedException

from vae_lightning import errors, runs
from vae_lightning.arguments import check, parameters, require
from vae_lightning.callbacks import AtomicCheckpointIO, Dashboard, StopOnInterrupt, Timing
from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.commands.ownership import RunFolder
from vae_lightning.commands.rehearsal import check_finders, check_monitors, check_precision, direction, rehearse
from vae_lightning.engine import install
from vae_lightning.errors import ConfigurationError, NotFiniteError, VAELightningError
from vae_lightning.machine.allocator import keep_freed_memory
from vae_lightning.machine.processes import own_environment
from vae_lightning.models.base import Module
from vae_lightning.runs.continuing import Continuation, continuation

__all__ = ["CheckSweep", "Result", "check_config", "train"]

log = logging.getLogger(__name__)

LIGHTNING_LOG = logging.getLogger("pytorch_lightning.utilities.rank_zero")
JOBS = 50
"""Jobs of a sweep that are all checked before it starts: a check takes a tenth of a second."""
THREADS = torch.get_num_threads()
OURS = {"gpus", "compile", "matmul_precision", "threads"}
"""Keys of `trainer` that are not Lightning's."""
SET_HERE = {"self", "logger", "callbacks", "plugins", "default_root_dir"}
"""Arguments of Lightning's Trainer that have a place of their own in the config."""


@dataclass(frozen=True)
class Result:
    """What a training run gives back."""

    metrics: dict[str, float]
    """Final figures by `split/metric`: train over the last epoch, val and test of the best checkpoint."""
    objective: float | None
    """The value that says how good the run is, val/elbo for a VAE; None if it was not validated."""
    interrupted: bool
    """Whether Ctrl-C ended it."""
    folder: Path
    """The run folder."""
    model: L.LightningModule
    """With the weights the figures are of."""
    data: L.LightningDataModule
    """The data module it was trained on."""
    trainer: L.Trainer
    """As the training left it."""


def train(cfg: DictConfig, started: float | None = None) -> Result:
    """Train, validate and test what `cfg` describes, and write the run folder `cfg.run_dir`.

    Args:
        started: `time.time()` when the command was given, for the timings.

    Raises:
        ConfigurationError: something in `cfg` is wrong, or `cfg.run_dir` holds another run; nothing was trained or written.
        CheckpointError: `cfg.ckpt_path` cannot be gone on from.
        DataError: data could not be had.
        NotFiniteError: a loss, gradient or metric is; `metrics.json` says which, and the numbers of the batch's images.
        StorageError: the disk is full; the previous checkpoint is still there.
    """
    with RunFolder(_hydras_folder() or Path(cfg.run_dir)) as run_folder:
        return _train(cfg, started, run_folder)


def _train(cfg: DictConfig, started: float | None, run_folder: RunFolder) -> Result:
    folder = _folder(cfg)
    timing, interrupt = Timing(started or time.time()), StopOnInterrupt()
    keep_freed_memory()
    # trainer.deterministic would fill all new memory with NaN, which costs a fifth of the speed and changes no figure
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    parts = _Parts(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    model, data = parts.model(), parts.data()
    dashboard = Dashboard({"config": _code(OmegaConf.to_yaml(cfg, resolve=True))}, _hyperparameters(cfg))
    trainer = parts.trainer(model, [timing, interrupt, dashboard])
    reason = install(trainer, model, cfg.trainer.compile)
    if reason and cfg.trainer.compile is not False:
        log.warning("Lightning's own loop and not the fast path, because %s", reason)
    torch.set_float32_matmul_precision(cfg.trainer.matmul_precision)
    torch.set_num_threads(THREADS if cfg.trainer.threads == "auto" else cfg.trainer.threads)
    going_on = _going_on(cfg, trainer, model, data)
    run_folder.check(trainer, going_on)
    data.prepare_data()  # before Lightning starts, so that an error about data is one line
    run_folder.take(cfg, trainer, going_on)
    # now and not at the end: by then the working tree may be another
    provenance = runs.provenance(cfg.seed, data.checksums() if hasattr(data, "checksums") else {})
    if going_on is not None:
        provenance["continued_from"] = going_on.record()
    dashboard.texts["provenance"] = _code(OmegaConf.to_yaml(provenance))
    wrong: NotFiniteError | None = None
    try:
        with _quiet(), _lightning_errors():
            resume = cfg.ckpt_path
            trainer.fit(model, datamodule=data, ckpt_path=resume, **_weights_only(trainer.fit, resume))
            logged = _callback_metrics(trainer)
            # of trainings in processes that Lightning started, the step is not known here
            stands = trainer.world_size == 1 and trainer.global_step == (going_on.progress.steps if going_on else 0)
            if stands and not interrupt.interrupted:
                log.warning("no step was trained, so that the figures are of the weights as they were before")
            if not interrupt.interrupted and not cfg.trainer.fast_dev_run:
                logged |= _evaluate_best(trainer, model, data)
    except (NotFiniteError, ProcessRaisedException) as error:
        ours = _of_a_child(error) if isinstance(error, ProcessRaisedException) else error
        if not isinstance(ours, NotFiniteError):
            raise ours from None
        wrong, logged = ours, _callback_metrics(trainer)
    # our own models keep their figures in double precision, unless they were trained in processes that are gone
    metrics = (getattr(model, "epoch_means", {}) | getattr(model, "evaluation_means", {})) or logged
    wrong = wrong or _of_metrics(metrics)
    if trainer.is_global_zero:
        more = {"not_finite": wrong.record} if wrong else {}
        runs.write_json(folder / "metrics.json", _record(metrics, model, timing, provenance) | more)
    if wrong:
        more_there = "has the numbers of the batch's images" if wrong.record.get("images") else "says so too"
        raise NotFiniteError(f"{wrong}; {folder / 'metrics.json'} {more_there}", wrong.record) from wrong
    objective = metrics.get(_monitor(cfg, model)[0])
    return Result(metrics, objective, interrupt.interrupted, folder, model, data, trainer)


def check_config(cfg: DictConfig) -> None:
    """Refuse a config with a wrong name, type or range, without touching data or disk."""
    parts = _Parts(cfg)
    model = parts.model()
    parts.data()
    parts.trainer(model)


class CheckSweep(HydraCallback):
    """Checks the jobs of a sweep before the first one starts: all of up to `JOBS`, of more each value beside the others' first."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        overrides = list(config.hydra.overrides.task)
        parsed = OverridesParser.create().parse_overrides(overrides)
        choices = [
            [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [override.input_line or ""]
            for override in parsed
        ]
        # Hydra makes warnings of what a callback raises, so the error has to end the program here
        with one_line_errors():
            for job in _jobs(choices):
                check_config(hydra.compose(config.hydra.job.config_name, [*job, "run_dir=."]))


def _jobs(choices: list[list[str]]) -> Iterator[list[str]]:
    """The overrides of the jobs to be checked, from the options of each override."""
    if math.prod(map(len, choices)) <= JOBS:
        yield from map(list, itertools.product(*choices))
        return
    firsts = [options[0] for options in choices]
    yield firsts
    for place, options in enumerate(choices):
        for option in options[1:]:
            yield [*firsts[:place], option, *firsts[place + 1 :]]


# ---- the parts of a run


def _hydras_folder() -> Path | None:
    return Path(HydraConfig.get().runtime.output_dir) if HydraConfig.initialized() else None


def _folder(cfg: DictConfig) -> Path:
    """The run folder, which is Hydra's own where Hydra started the program."""
    folder, own = Path(cfg.run_dir), _hydras_folder()
    if own is not None and folder.resolve() != own.resolve():
        raise ConfigurationError(f"run_dir={folder}: follows Hydra's folder; choose it with hydra.run.dir={folder}")
    return folder


def _check_seed(cfg: DictConfig) -> None:
    if not isinstance(cfg.seed, int) or isinstance(cfg.seed, bool):
        raise ConfigurationError(f"seed={cfg.seed}: must be an integer")
    require(0 <= cfg.seed < 2**32, "seed", cfg.seed, "from 0 to 4294967295")


class _Parts:
    """Builds the parts of a run from a checked config."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        _check_seed(cfg)
        check(_root, {str(key): None if key in _GROUPS else cfg[key] for key in cfg}, "")
        _check_trainer(_plain(cfg.trainer))
        monitored = OmegaConf.merge(cfg, {"monitor": "val/loss", "monitor_mode": "min"})
        for group in ("callbacks", "logger"):
            for name, node in _wanted(_plain(monitored)[group]).items():
                _checked_class(node, f"{group}.{name}")
        _checked_class(_plain(cfg.model), "model")
        _checked_class(_plain(cfg.data), "data")
        _devices(cfg.trainer)
        check_precision(cfg.trainer.precision)

    def model(self) -> L.LightningModule:
        model: L.LightningModule = _build(self.cfg.model, L.LightningModule, "model")
        return model

    def data(self) -> L.LightningDataModule:
        data: L.LightningDataModule = _build(self.cfg.data, L.LightningDataModule, "data")
        _warn_of_odd_pairs(self.cfg)
        return data

    def trainer(self, model: L.LightningModule, own: Sequence[L.Callback] = ()) -> L.Trainer:
        """Everything that trains `model`, tried on blank images where the model is one of ours."""
        cfg = self.cfg
        arguments = {key: value for key, value in _plain(cfg.trainer).items() if key not in OURS}
        arguments.update(_devices(cfg.trainer))
        monitor, mode = _monitor(cfg, model)
        resolved = OmegaConf.merge(cfg, {"monitor": monitor, "monitor_mode": mode})
        loggers = [_instantiated(node, f"logger.{name}") for name, node in _wanted(resolved.logger).items()]
        built = {name: _instantiated(node, f"callbacks.{name}") for name, node in _wanted(resolved.callbacks).items()}
        check_finders(built)
        callbacks = {name: c for name, c in built.items() if _is_wanted(c, arguments, bool(loggers))}
        if arguments["enable_model_summary"] is None:  # Lightning would add one of its own
            arguments["enable_model_summary"] = any(isinstance(c, ModelSummary) for c in callbacks.values())
        with _quiet(), _lightning_errors(ValueError, TypeError, RuntimeError, ImportError, OSError):
            trainer = L.Trainer(
                **arguments,
                logger=loggers or False,
                callbacks=[*callbacks.values(), *own],
                plugins=[AtomicCheckpointIO(), *own_environment(arguments)],
                default_root_dir=cfg.run_dir,
            )
        if isinstance(model, Module):
            check_monitors(model, callbacks, rehearse(model, trainer), cfg.monitor)
        return trainer


_GROUPS = {"model", "data", "trainer", "callbacks", "logger"}


def _root(
    name: str | None,
    seed: int,
    run_dir: str,
    ckpt_path: str | None,
    monitor: str | None,
    monitor_mode: Literal["min", "max"] | None,
    model: None,
    data: None,
    trainer: None,
    callbacks: None,
    logger: None,
) -> None:
    """The top level of the config, as a signature that it is checked against."""


def _wanted(group: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entries of callbacks or logger, without those that are set to null."""
    return {name: node for name, node in (group or {}).items() if node is not None}


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _checked_class(node: Mapping[str, Any], where: str) -> type:
    """The class `node` names, after checking its arguments against the class's signature."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigurationError(f"{where}: needs a _target_ that names a class")
    try:
        found = get_class(str(node["_target_"]))
    except Exception as error:  # Hydra wraps whatever the import raised
        package = str(node["_target_"]).partition(".")[0]
        raise ConfigurationError(f"{where}._target_={node['_target_']}: cannot be imported; is {package} installed?") from error
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    check(found, {k: v for k, v in arguments.items() if not (isinstance(v, Mapping) and "_target_" in v)}, where)
    return found


def _build(node: DictConfig, base: type, where: str) -> Any:
    """Build from plain containers, which is what checkpoints can hold."""
    found = get_class(node._target_)
    if not issubclass(found, base):
        raise ConfigurationError(f"{where}._target_={node._target_}: is not a {base.__name__}")
    try:
        return found(**{key: value for key, value in _plain(node).items() if key != "_target_"})
    except (OverflowError, RuntimeError, TypeError) as error:  # of torch, about sizes; that memory is not enough is said elsewhere
        words = " ".join(str(error).partition("Exception raised from")[0].split())
        if isinstance(error, VAELightningError) or "memory" in words or (isinstance(error, TypeError) and "verflow" not in words):
            raise
        raise ConfigurationError(f"{where}: {words[:200]}") from error


def _instantiated(node: DictConfig, where: str) -> Any:
    """A callback or logger; what it says of a wrong value is said in its own words."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, VAELightningError):
            raise error.__cause__ from None
        raise ConfigurationError(f"{where}: {' '.join(str(error.__cause__ or error).split())}") from error


def _own_trainer_keys(
    gpus: int | Literal["auto"],
    compile: bool | Literal["auto"],
    matmul_precision: Literal["highest", "high", "medium"],
    threads: int | Literal["auto"],
) -> None:
    """The keys of `trainer` that are ours, as a signature that they are checked against."""


def _check_trainer(arguments: dict[str, Any]) -> None:
    check(_own_trainer_keys, {k: v for k, v in arguments.items() if k in OURS}, "trainer")
    threads = arguments.get("threads", "auto")
    require(threads == "auto" or threads >= 1, "trainer.threads", threads, "auto (one a core) or at least 1")
    known = parameters(L.Trainer)[0]
    check(L.Trainer, {k: v for k, v in arguments.items() if k in known}, "trainer")
    for key in arguments:
        if key not in known and key not in OURS:
            raise ConfigurationError(f"trainer.{key}: is not an argument of Lightning's Trainer")
        if key in SET_HERE:
            raise ConfigurationError(f"trainer.{key}: has a place of its own: the callbacks and logger groups, and run_dir")


def _devices(trainer: DictConfig) -> dict[str, Any]:
    """`trainer.gpus` as Lightning's accelerator and devices."""

    gpus = trainer.gpus
    own = {key: trainer[key] for key in ("accelerator", "devices") if trainer[key] != "auto"}
    if own:
        if gpus != "auto":
            raise ConfigurationError(f"trainer.gpus={gpus}: give either it or trainer.{next(iter(own))}, not both")
        return own
    available = torch.cuda.device_count()
    if gpus == "auto":
        gpus = min(available, 1)
    require(gpus >= -1, "trainer.gpus", gpus, "auto, 0 (CPU), a number of GPUs, or -1 (all)")
    if gpus == 0:
        return {"accelerator": "cpu", "devices": 1}
    if available < max(gpus, 1):
        has = f"only {available} GPU(s)" if available else "no GPU that torch can use"
        raise ConfigurationError(f"trainer.gpus={gpus}: this machine has {has}; to run on the CPU: trainer.gpus=0")
    count = available if gpus == -1 else gpus
    if count > 1 and _in_a_sweep() and trainer.strategy == "auto":
        raise ConfigurationError(
            f"trainer.gpus={gpus}: in a sweep, several GPUs a job need trainer.strategy=ddp_spawn, because processes that "
            "Lightning starts anew would run the whole sweep again"
        )
    return {"accelerator": "cuda", "devices": count}


def _in_a_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _is_wanted(callback: L.Callback, arguments: Mapping[str, Any], has_logger: bool) -> bool:
    """Whether Lightning would accept `callback` beside its own flags, and what it monitors is measured."""
    if arguments["limit_val_batches"] == 0 and (getattr(callback, "monitor", None) or "").startswith("val/"):
        return False
    if isinstance(callback, ProgressBar):
        return arguments["enable_progress_bar"] is not False
    if isinstance(callback, ModelSummary):
        asked = arguments["enable_model_summary"]
        return bool(asked) if asked is not None else not _in_a_sweep()
    if isinstance(callback, Checkpoint):
        return arguments["enable_checkpointing"] is not False
    if isinstance(callback, LearningRateMonitor):
        return has_logger
    return True


def _monitor(cfg: DictConfig, model: L.LightningModule) -> tuple[str, str]:
    """The metric that says which checkpoint is best, and whether its best is the highest: the config's, else the model's own."""
    own, own_mode = getattr(model, "monitor", "val/loss"), getattr(model, "monitor_mode", "min")
    metric = cfg.monitor or own
    mode = cfg.monitor_mode or (own_mode if metric == own else direction(metric))
    if mode is None:
        raise ConfigurationError(f"monitor={metric}: say with monitor_mode=min or monitor_mode=max which is better")
    return metric, mode


def _warn_of_odd_pairs(cfg: DictConfig) -> None:
    likelihood = (_plain(cfg.model).get("likelihood") or {}) if "likelihood" in cfg.model else {}
    name = likelihood.get("name") if isinstance(likelihood, dict) else likelihood
    binarization = cfg.data.get("binarization")
    if name == "bernoulli" and binarization == "none":
        warnings.warn(
            "model/likelihood=bernoulli with data.binarization=none: grey levels are not outcomes of a Bernoulli distribution; "
            "elbo and nll bound those of dynamically binarized images from below, and compare with no published figure",
            stacklevel=2,
        )
    elif name in ("gaussian", "continuous_bernoulli") and binarization not in (None, "none"):
        warnings.warn(
            f"model/likelihood={name} with data.binarization={binarization}: a density of grey levels, evaluated at black and "
            "white, so the figure called elbo is not an ELBO of binary data; use data.binarization=none",
            stacklevel=2,
        )


# ---- what TensorBoard says of a run

SHOWN_OF_TRAINER = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")
NOT_SHOWN_OF_DATA = ("root", "static_root")


def _hyperparameters(cfg: DictConfig) -> dict[str, float | str]:
    """What HParams tells runs apart by: seed, model, data, some of the trainer's settings, and whatever the command line set."""
    plain = _plain(cfg)
    # what is zero of data is off
    data = {key: value for key, value in plain["data"].items() if value and key not in NOT_SHOWN_OF_DATA}
    trainer = {key: plain["trainer"].get(key) for key in SHOWN_OF_TRAINER}
    flat, everything = _flat({"model": plain["model"], "data": data, "trainer": trainer}), _flat(plain)
    flat |= {key: everything[key] for key in _overridden() if key in everything}
    names = {group: plain[group]["_target_"].rpartition(".")[2] for group in ("model", "data")}
    kept = {k: v for k, v in flat.items() if v is not None and k.rpartition(".")[2] not in ("_target_", "seed")}
    return {**names, "seed": cfg.seed} | {k: v if type(v) in (int, float) else str(v) for k, v in kept.items()}


def _overridden() -> list[str]:
    """The keys that this run's command line, or its place in a sweep, set."""
    if not HydraConfig.initialized():
        return []
    names = (override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task)
    return [name for name in names if name not in ("run_dir", "ckpt_path", "data.root", "data.static_root")]


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _code(text: str) -> str:
    """Markdown that shows `text` as it is."""
    return f"```\n{text.rstrip()}\n```"


# ---- running


def _going_on(cfg: DictConfig, trainer: L.Trainer, model: L.LightningModule, data: L.LightningDataModule) -> Continuation | None:
    """How the training goes on from `cfg.ckpt_path`; None if it starts anew."""
    if cfg.ckpt_path is None:
        return None
    callback = continuation(cfg.ckpt_path, trainer, model, data)
    trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]
    return callback


def _weights_only(function: Any, ckpt_path: str | None) -> dict[str, bool]:
    """Lightning versions that can load a checkpoint without executing pickles are told to."""
    return {"weights_only": True} if ckpt_path and "weights_only" in parameters(function)[0] else {}


def _evaluate_best(trainer: L.Trainer, model: L.LightningModule, data: L.LightningDataModule) -> dict[str, float]:
    """Validate and test the best checkpoint, so that both figures are of the same weights."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    logged: dict[str, float] = {}
    for function in (trainer.validate, trainer.test):
        function(model, datamodule=data, ckpt_path=best, verbose=False, **_weights_only(function, best))
        logged |= _callback_metrics(trainer)
    return logged


def _of_a_child(error: ProcessRaisedException) -> Exception:
    """The error of ours that ended a process which Lightning had started, by the end of its traceback; else `error`."""
    said = re.findall(r"^vae_lightning\.errors\.(\w+): (.+)$", str(error), flags=re.MULTILINE)
    kind = getattr(errors, said[-1][0], None) if said else None
    if not (isinstance(kind, type) and issubclass(kind, VAELightningError)):
        return error
    return NotFiniteError(said[-1][1], {"what": said[-1][1]}) if kind is NotFiniteError else kind(said[-1][1])


def _of_metrics(metrics: Mapping[str, float]) -> NotFiniteError | None:
    """The error that a run ends in whose final figures are not finite, though its training was."""
    lost = [name for name, value in metrics.items() if not math.isfinite(value)]
    what = ", ".join(lost)
    return NotFiniteError(f"{what}: not finite at the end of training", {"what": what, "images": None}) if lost else None


def _callback_metrics(trainer: L.Trainer) -> dict[str, float]:
    """What was logged as `split/metric`."""
    return {key: float(value) for key, value in trainer.callback_metrics.items() if "/" in key}


def _record(metrics: dict[str, float], model: L.LightningModule, timing: Timing, provenance: dict[str, Any]) -> dict[str, Any]:
    """The content of `metrics.json`, which other programs read."""
    return {
        "metrics": metrics,
        "model": {"name": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())},
        "timing": {
            "seconds": time.time() - timing.started,
            "images_per_second": timing.images_per_second,
            "first_step_seconds": timing.first_step_seconds,
        },
        "provenance": provenance,
    }


@contextmanager
def _lightning_errors(*kinds: type[Exception]) -> Iterator[None]:
    """What Lightning says of a wrong setting, as an error of ours."""
    try:
        yield
    except Exception as error:
        if isinstance(error, VAELightningError) or not isinstance(error, (MisconfigurationException, *kinds)):
            raise
        raise ConfigurationError(f"trainer: {' '.join(str(error).split())}") from error


class _quiet(warnings.catch_warnings):
    """Keeps warnings and advertisements away that a user of this project cannot act on."""

    def __enter__(self) -> None:
        super().__enter__()
        LIGHTNING_LOG.addFilter(_is_no_advertisement)
        for message in (
            ".*does not have many workers.*",  # batches come from memory
            ".*isinstance\\(treespec, LeafSpec\\).*",  # within Lightning
            ".*Checkpoint directory .* exists and is not empty.*",
            ".*callbacks used to create the checkpoint need to be provided.*",  # the command says which there are
            ".*could not find the monitored key.*",  # training ended before the first validation; a wrong key is an error
            ".*The `srun` command is available.*",
            ".*is not supported by the model summary.*",
        ):
            warnings.filterwarnings("ignore", message=message)

    def __exit__(self, *error: Any) -> None:
        LIGHTNING_LOG.removeFilter(_is_no_advertisement)
        super().__exit__(*error)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
