"""Build the parts of a training from a resolved config, and refuse a config that is wrong."""

import difflib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelSummary, ProgressBar
from pytorch_lightning.callbacks.lr_monitor import LearningRateMonitor
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from vae_lightning.arguments import check, parameters, prefixed, require
from vae_lightning.callbacks import AtomicCheckpointIO
from vae_lightning.commands.devices import _in_a_sweep, devices_of
from vae_lightning.commands.job import is_job
from vae_lightning.commands.rehearsal import (
    check_finders,
    check_monitors,
    check_precision,
    direction,
    nearest_metric,
    rehearse,
    warn_of_emulation,
)
from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.errors import ConfigurationError, UnknownKeyError, VAELightningError, kind_of, one_line
from vae_lightning.glossary import LOGGED
from vae_lightning.machine.expendable import expendable
from vae_lightning.machine.processes import own_environment
from vae_lightning.models.base import Module
from vae_lightning.models.parts import require_begun
from vae_lightning.plugins import is_path, locate
from vae_lightning.runs.left_to_data import OF_DATA, left_to_data, with_data, without_unknown

__all__ = ["Parts", "check_config", "lightning_errors", "monitor_of", "named_from_the_root", "plain_of", "quiet"]

LIGHTNING_LOG = logging.getLogger("pytorch_lightning.utilities.rank_zero")

OURS = {"gpus", "compile", "matmul_precision", "threads"}
"""Keys of `trainer` that this project adds to Lightning's."""

LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
}
"""The least values of settings that Lightning does not look at before it divides by them, or takes a negative one for none."""

SET_HERE = {"self", "logger", "callbacks", "plugins", "default_root_dir"}
"""Arguments of Lightning's Trainer that stand elsewhere in the config than below `trainer`."""


def check_config(cfg: DictConfig, seen: dict[str, L.LightningDataModule] | None = None) -> None:
    """Refuse a config with a wrong name, type or range, without writing files.

    Data are read only if the model leaves the shape of its images to data that have it from their files.

    Args:
        seen: the data of configs that were checked before, which then need not be read again; the data of `cfg` are added.

    Raises:
        ConfigurationError: the message names the key.
        DataError: data that have to be read cannot be read.
    """
    parts = Parts(cfg)
    data = parts.data()
    if seen is not None:
        settings = {key: value for key, value in plain_of(cfg.data).items() if key != "seed"}  # which changes no image
        data = seen.setdefault(repr(settings), data)
    parts.trainer(parts.model(data))


def _check_seed(cfg: DictConfig) -> None:
    if not isinstance(cfg.seed, int) or isinstance(cfg.seed, bool):
        raise ConfigurationError(f"seed={cfg.seed}: must be an integer")
    require(0 <= cfg.seed < 2**32, "seed", cfg.seed, "from 0 to 4294967295")


class Parts:
    """Builds data, model and trainer of a run from a config, which is checked first."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        _check_seed(cfg)
        check(_root, {str(key): None if key in _GROUPS else cfg[key] for key in cfg}, "")
        _check_trainer(plain_of(cfg.trainer))
        monitored = OmegaConf.merge(cfg, {"monitor": "val/loss", "monitor_mode": "min"})
        for group in ("callbacks", "logger"):
            for name, node in _wanted(plain_of(monitored)[group]).items():
                _checked_class(node, KINDS[group], f"{group}.{name}")
        _checked_class(plain_of(cfg.model), KINDS["model"], "model", of_data=True)
        _checked_class(plain_of(cfg.data), KINDS["data"], "data")
        devices_of(cfg.trainer)
        check_precision(cfg.trainer.precision)

    def model(self, data: L.LightningDataModule) -> L.LightningModule:
        """The model; image shape and number of classes are those of `data` if the config leaves them open."""
        asked = plain_of(self.cfg.model)
        with prefixed("model", OF_DATA), prefixed("data", parameters(type(data))[0]):  # which may be read only now
            arguments = with_data(locate(str(asked["_target_"]), "model._target_"), asked, data)
        model: L.LightningModule = _build(arguments, "model")
        return model

    def data(self) -> L.LightningDataModule:
        data: L.LightningDataModule = _build(plain_of(self.cfg.data), "data")
        _warn_of_odd_pairs(self.cfg)
        return data

    def trainer(self, model: L.LightningModule, own: Sequence[L.Callback] = ()) -> L.Trainer:
        """The trainer of `model`, with the config's callbacks and `own`; one of this project's models is tried on blank images."""
        cfg = self.cfg
        arguments = {key: value for key, value in plain_of(cfg.trainer).items() if key not in OURS}
        arguments.update(devices_of(cfg.trainer))
        monitor, mode = monitor_of(cfg, model)
        resolved = OmegaConf.merge(cfg, {"monitor": monitor, "monitor_mode": mode})
        wanted = {f"logger.{name}": node for name, node in _wanted(resolved.logger).items()}
        loggers = [expendable(_instantiated(node, name), name) for name, node in wanted.items()]
        built = {name: _instantiated(node, f"callbacks.{name}") for name, node in _wanted(resolved.callbacks).items()}
        check_finders(built)
        for name, callback in built.items():
            if isinstance(callback, EarlyStopping):
                require(callback.patience >= 0, f"callbacks.{name}.patience", callback.patience, "at least 0")
        with prefixed("model", ["optimizer"]):
            rated = bool(loggers) and (not isinstance(model, Module) or model.has_learning_rate())
        callbacks = {name: c for name, c in built.items() if _is_wanted(c, arguments, rated)}
        if arguments["enable_model_summary"] is None:  # Lightning would add one of its own
            arguments["enable_model_summary"] = any(isinstance(c, ModelSummary) for c in callbacks.values())
        with prefixed("trainer", ["devices"]):
            environment = own_environment(arguments)
        with quiet(), lightning_errors(ValueError, TypeError, RuntimeError, ImportError, OSError):
            trainer = L.Trainer(
                **arguments,
                logger=loggers or False,
                callbacks=[*callbacks.values(), *own],
                plugins=[AtomicCheckpointIO(), *environment],
                default_root_dir=cfg.run_dir,
            )
        warn_of_emulation(trainer)
        if isinstance(model, Module):
            with prefixed("model", parameters(type(model))[0]):
                terms = rehearse(model, trainer)
            check_monitors(model, callbacks, terms, cfg.monitor)
        return trainer


KINDS = {"model": L.LightningModule, "data": L.LightningDataModule, "callbacks": L.Callback, "logger": Logger}
"""What a class must be to stand in a group of the config."""
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
    """The signature against which the top level of the config is checked."""


def _wanted(group: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entries of `callbacks` or `logger` that are not null."""
    return {name: node for name, node in (group or {}).items() if node is not None}


def plain_of(node: Any) -> Any:
    """`node` as resolved plain containers if it is a part of a config; other values as they are."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _checked_class(node: Mapping[str, Any], base: type, where: str, *, of_data: bool = False) -> type:
    """The class `node` names, after checking its arguments against the class's signature.

    Args:
        of_data: whether arguments may be left to the data.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigurationError(f"{where}: needs a _target_ that names a class")
    found = locate(str(node["_target_"]), f"{where}._target_")
    if not isinstance(found, type):
        raise ConfigurationError(f"{where}._target_={node['_target_']}: is {kind_of(found)}, and no class")
    if not issubclass(found, base):
        twin = any(kind.__module__.startswith("lightning.") for kind in found.__mro__)
        hint = "; it is one of the package lightning, and this project is built on pytorch_lightning" if twin else ""
        raise ConfigurationError(f"{where}._target_={node['_target_']}: is not a {base.__name__}{hint}")
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    later = left_to_data(found, arguments) if of_data else []
    known = without_unknown(arguments) if of_data else arguments
    try:
        check(found, {k: v for k, v in known.items() if not (isinstance(v, Mapping) and "_target_" in v)}, where, offered=later)
    except UnknownKeyError as error:
        raise _of_another_class(error, found, where) from None
    _check_passed_on(found, arguments, where)
    return found


def _check_passed_on(found: type, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse what a logger would pass on, as training begins, to a writer that does not take it."""
    beside = {key: value for key, value in arguments.items() if key not in parameters(found)[0]}
    if beside and issubclass(found, TensorBoardLogger):
        from torch.utils.tensorboard import SummaryWriter  # takes tenths of a second, which only these need to wait for

        check(SummaryWriter, beside, where, offered=("log_dir", "purge_step"))
        for key, value in beside.items():
            kind = type(parameters(SummaryWriter)[0][key].default)  # which it has instead of annotations
            require(type(value) is kind, f"{where}.{key}", value, kind.__name__)


def _of_another_class(error: UnknownKeyError, own: type, where: str) -> ConfigurationError:
    """The error for a setting that `own` does not take: of a user's class, it may be left over from what it takes the place of."""
    ours = own.__module__.partition(".")[0] == "vae_lightning"
    if ours or where not in ("model", "data") or difflib.get_close_matches(error.key.rpartition(".")[2], error.known):
        return error
    return ConfigurationError(
        f"{error.key}: {own.__name__} takes no such setting; give a class of your own a file of its own, conf/{where}/mine.yaml, "
        f"and choose it: --config-dir conf {where}=mine"
    )


def _build(node: Mapping[str, Any], where: str) -> Any:
    """Build from plain containers, which is what checkpoints can hold, an instance of a class that was checked."""
    found = locate(str(node["_target_"]), f"{where}._target_")
    try:
        with prefixed(where, parameters(found)[0]):
            built = found(**{key: value for key, value in node.items() if key != "_target_"})
        require_begun(built, f"{where}._target_={node['_target_']}")
        return built
    except VAELightningError:
        raise
    except Exception as error:
        words = one_line(str(error).partition("Exception raised from")[0])
        if found.__module__.partition(".")[0] != "vae_lightning":  # whatever the code of a user's package raises
            said = f"{where}._target_={node['_target_']}: building it fails: {type(error).__name__}: {words}"
            raise ConfigurationError(said) from error
        if not isinstance(error, OverflowError | RuntimeError | TypeError):
            raise
        # torch's errors about sizes; that memory is not enough is said elsewhere
        if "memory" in words or (isinstance(error, TypeError) and "verflow" not in words):
            raise
        raise ConfigurationError(f"{where}: {words[:200]}") from error


def _instantiated(node: DictConfig, where: str) -> Any:
    """The callback or logger that `node` describes; `where` is put before the argument that an error of ours names."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, VAELightningError):
            with prefixed(where, [str(key) for key in node]):
                raise error.__cause__ from None
        raise ConfigurationError(f"{where}: {one_line(error.__cause__ or error)}") from error


def own_trainer_keys(
    gpus: int | Literal["auto"],
    compile: bool | Literal["auto"],
    matmul_precision: Literal["highest", "high", "medium"],
    threads: int | Literal["auto"],
) -> None:
    """The signature against which the keys of `trainer` in `OURS` are checked."""


def _check_trainer(arguments: dict[str, Any]) -> None:
    check(own_trainer_keys, {k: v for k, v in arguments.items() if k in OURS}, "trainer")
    threads = arguments.get("threads", "auto")
    require(threads == "auto" or threads >= 1, "trainer.threads", threads, "auto (one a core) or at least 1")
    for key, least in LEAST.items():
        value = arguments.get(key)
        if isinstance(value, int | float):
            require(value >= least, f"trainer.{key}", value, f"at least {least}")
    known = parameters(L.Trainer)[0]
    for key in arguments:
        if key not in known and key not in OURS:
            raise ConfigurationError(f"trainer.{key}: is not an argument of Lightning's Trainer")
        if key == "barebones" and arguments[key]:
            raise ConfigurationError(
                "trainer.barebones=true: switches off what a run folder is made of; for speed alone there are "
                "trainer.compile=true, callbacks=none and logger=none"
            )
        if key in SET_HERE:
            raise ConfigurationError(f"trainer.{key}: has a place of its own: the callbacks and logger groups, and run_dir")
    check(L.Trainer, {k: v for k, v in arguments.items() if k in known}, "trainer")


def _is_wanted(callback: L.Callback, arguments: Mapping[str, Any], logs_rate: bool) -> bool:
    """Whether Lightning would accept `callback` beside its own flags, and what it monitors is measured."""
    if arguments["limit_val_batches"] == 0 and (getattr(callback, "monitor", None) or "").startswith("val/"):
        return False
    if isinstance(callback, ProgressBar):
        return arguments["enable_progress_bar"] is not False
    if isinstance(callback, ModelSummary):
        asked = arguments["enable_model_summary"]
        return bool(asked) if asked is not None else not (is_job() or _in_a_sweep())
    if isinstance(callback, Checkpoint):
        return arguments["enable_checkpointing"] is not False
    if isinstance(callback, LearningRateMonitor):
        return logs_rate
    return True


def monitor_of(cfg: DictConfig, model: L.LightningModule) -> tuple[str, str]:
    """The metric by which checkpoints are compared, and "min" or "max": as the config says, else as the model says."""
    default, default_mode = getattr(model, "monitor", "val/loss"), getattr(model, "monitor_mode", "min")
    metric = cfg.monitor or default
    if metric.startswith("train/"):
        raise ConfigurationError(f"monitor={metric}: must be a metric of validation, after which the best is kept: val/...")
    mode = cfg.monitor_mode or (default_mode if metric == default else direction(metric))
    if mode is None:
        measured = [f"val/{name}" for name in LOGGED]
        nearest = nearest_metric(metric, measured) if metric not in measured else ""
        hint = f"did you mean {nearest}? else " if nearest else ""
        raise ConfigurationError(f"monitor={metric}: {hint}say with monitor_mode=min or monitor_mode=max which is better")
    return metric, mode


def _warn_of_odd_pairs(cfg: DictConfig) -> None:
    spec = (plain_of(cfg.model).get("likelihood") or {}) if "likelihood" in cfg.model else {}
    name = spec.get("name") if isinstance(spec, dict) else spec
    binarization = cfg.data.get("binarization")
    binary = _is_binary(name)
    if binary is True and binarization == "none":
        warnings.warn(
            f"model/likelihood={name} with data.binarization=none: grey levels are not outcomes of a distribution of binary "
            "images; elbo and nll bound those of dynamically binarized images from below, and compare with no published number",
            stacklevel=2,
        )
    elif binary is False and binarization not in (None, "none"):
        warnings.warn(
            f"model/likelihood={name} with data.binarization={binarization}: a distribution of grey levels, evaluated at black and "
            "white, so the number called elbo is not an ELBO of binary data; use data.binarization=none",
            stacklevel=2,
        )


def _is_binary(likelihood: object) -> bool | None:
    """Whether the likelihood of this name or import path is one of binary images; None if that is not known."""
    with suppress(ConfigurationError):
        cls = locate(str(likelihood)) if is_path(likelihood) else LIKELIHOODS.get(str(likelihood))
        return getattr(cls, "binary", None)
    return None


@contextmanager
def lightning_errors(*kinds: type[Exception]) -> Iterator[None]:
    """A block in which Lightning's error about a wrong setting becomes an error of ours."""
    try:
        yield
    except Exception as error:
        known = isinstance(error, (MisconfigurationException, *kinds)) or (
            isinstance(error, ValueError) and _raised_by_lightning(error)
        )
        if isinstance(error, RuntimeError) and "within local rank has zero length" in str(error):
            raise ConfigurationError(
                "data: a process has no batch of validation or test images, which the processes share; choose a smaller "
                "data.eval_batch_size, or fewer trainer.devices"
            ) from error
        if isinstance(error, VAELightningError) or not known:
            raise
        raise ConfigurationError(f"trainer: {one_line(error)}") from error


def _raised_by_lightning(error: Exception) -> bool:
    """Whether Lightning itself raised `error`, which it does for settings that do not go with the data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(
        ("pytorch_lightning.", "lightning_fabric.")
    )


@contextmanager
def named_from_the_root(model: L.LightningModule, data: L.LightningDataModule) -> Iterator[None]:
    """A block in which errors that name an argument of `model` or `data` name the place in the config instead."""
    with prefixed("model", parameters(type(model))[0]), prefixed("data", parameters(type(data))[0]):
        yield


class quiet(warnings.catch_warnings):
    """A block without warnings and advertisements that a user of this project cannot act on."""

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
