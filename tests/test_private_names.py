"""Every private name of another package that is used here exists, with the signature that is relied on, and is on this list."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
import torchmetrics.utilities.imports
from filelock import FileLock
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loops import fetchers
from pytorch_lightning.loops.optimization import automatic
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from pytorch_lightning.trainer import call
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from pytorch_lightning.utilities import CombinedLoader
from torch._inductor.codecache import CppPythonBindingsCodeCache
from torch._inductor.codegen.common import KernelTemplate
from torch._inductor.cpu_vec_isa import VecISA
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim import optimizer as torch_optimizer
from torch.utils import _pytree
from torch.utils.tensorboard import SummaryWriter

import vae_lightning

PACKAGE = Path(vae_lightning.__file__).parent
LIGHTNINGS = {
    "_AutomaticOptimization",
    "_DataFetcher",
    "_TrainingEpochLoop",
    "_batches_that_stepped",
    "_call_strategy_hook",
    "_MultiProcessingLauncher",
    "_SignalConnector",
    "_can_stop_early",
    "_check_log_dir_exists",
    "_data_fetcher",
    "_detect_anomaly",
    "_duration",
    "_every_n_train_steps",
    "_experiment",
    "_fs",
    "_kwargs",
    "_logger_connector",
    "_main_port",
    "_on_before_batch_transfer",
    "_restarting",
    "_should_check_val_fx",
    "_signal_connector",
    "_train_time_interval",
    "_trainer",
}
PUBLIC_BY_CONTRACT = {"_exit", "_fields", "_replace", "_target_"}
"""A function of os, what namedtuples have, and a key of Hydra's configs."""


def takes(function: Callable[..., Any], *names: str) -> bool:
    return list(inspect.signature(function).parameters)[: len(names)] == list(names)


def optimizer() -> Any:
    return torch.optim.Adam([torch.zeros(1)])


def trainer(**arguments: Any) -> Any:
    return L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **arguments)


def meets_at_the_port_it_was_given(environment: LightningEnvironment) -> bool:
    environment._main_port = 12345
    return environment.main_port == 12345


def schema(name: str) -> list[str]:
    return [argument.name for argument in getattr(torch.ops.aten, name).default._schema.arguments]


ADAM = ["self", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "state_steps"]
ADAM += ["lr", "beta1", "beta2", "weight_decay", "eps", "amsgrad", "maximize"]
USED: dict[str, Callable[[], bool]] = {
    # Lightning's
    "_AutomaticOptimization": lambda: takes(automatic._AutomaticOptimization.run, "self", "optimizer", "batch_idx", "kwargs"),
    "_DataFetcher": lambda: {"done", "__next__"} <= {*dir(fetchers._DataFetcher), *vars(fetchers._DataFetcher())},
    "_MultiProcessingLauncher": lambda: takes(_MultiProcessingLauncher.kill, "self", "signum"),
    "_SignalConnector": lambda: takes(_SignalConnector.register_signal_handlers, "self"),
    "_TrainingEpochLoop": lambda: takes(_TrainingEpochLoop.__init__, "self", "trainer", "min_steps", "max_steps"),
    "_backward_hooks": lambda: hooks_of(torch.nn.Parameter(torch.zeros(1))),
    "_batches_that_stepped": lambda: trainer().fit_loop.epoch_loop._batches_that_stepped == 0,
    "_call_strategy_hook": lambda: takes(call._call_strategy_hook, "trainer", "hook_name"),
    "_can_stop_early": lambda: trainer().fit_loop._can_stop_early in (True, False),
    "_check_on_train_epoch_end": lambda: EarlyStopping("x", check_on_train_epoch_end=False)._check_on_train_epoch_end is False,
    "_data_fetcher": lambda: trainer().fit_loop._data_fetcher is None,
    "_detect_anomaly": lambda: trainer(detect_anomaly=True)._detect_anomaly is True,
    "_duration": lambda: Timer("00:00:01:00")._duration == 60,
    "_every_n_train_steps": lambda: ModelCheckpoint(every_n_train_steps=3)._every_n_train_steps == 3,
    "_fs": lambda: callable(CSVLogger(".")._fs.makedirs),
    "_iterator": lambda: CombinedLoader([])._iterator is None,
    "_kwargs": lambda: TensorBoardLogger(".", purge_step=3)._kwargs == {"purge_step": 3},
    "_logger_connector": lambda: takes(trainer()._logger_connector.on_batch_start, "batch"),
    "_on_before_batch_transfer": lambda: takes(L.LightningModule._on_before_batch_transfer, "self", "batch", "dataloader_idx"),
    "_should_check_val_fx": lambda: takes(trainer().fit_loop.epoch_loop._should_check_val_fx, "data_fetcher"),
    "_train_time_interval": lambda: ModelCheckpoint()._train_time_interval is None,
    "_trainer": lambda: L.LightningModule()._trainer is None,
    # filelock's
    "_context": lambda: FileLock("nowhere")._context.lock_file_fd is None,
    # torch
    "_decomp": lambda: torch.ops.aten.native_layer_norm.default in torch._decomp.decomposition_table,
    "_disable_current_modes": lambda: callable(torch.utils._python_dispatch._disable_current_modes),
    "_extended_shape": lambda: takes(Distribution._extended_shape, "self", "sample_shape"),
    "_foreach_add_": lambda: callable(torch._foreach_add_),
    "_fused_adam_": lambda: schema("_fused_adam_")[: len(ADAM)] == ADAM,
    "_fused_adamw_": lambda: schema("_fused_adamw_")[: len(ADAM)] == ADAM,
    "_get_file_writer": lambda: takes(SummaryWriter._get_file_writer, "self"),
    "_global_optimizer_post_hooks": lambda: not torch_optimizer._global_optimizer_post_hooks,
    "_global_optimizer_pre_hooks": lambda: not torch_optimizer._global_optimizer_pre_hooks,
    "_inductor": lambda: (
        takes(torch._inductor.standalone_compile, "gm", "example_inputs")
        and takes(VecISA.check_build, "self", "code")
        and takes(VecISA.build_arch_flags, "self")
        and "submit_fn" in inspect.signature(CppPythonBindingsCodeCache.load_async).parameters
    ),
    "_optimizer_step_post_hooks": lambda: not optimizer()._optimizer_step_post_hooks,
    "_optimizer_step_pre_hooks": lambda: not optimizer()._optimizer_step_pre_hooks,
    "_pytree": lambda: _pytree.tree_unflatten(*_pytree.tree_flatten({"a": [1, 2]})) == {"a": [1, 2]},
    "_python_dispatch": lambda: torch.utils._python_dispatch is not None,
    "_to_copy": lambda: torch.ops.aten._to_copy.default is not None,
    "_validate_args": lambda: Distribution._validate_args in (True, False),
    "_version": lambda: torch.zeros(1).add_(1)._version == 1,
}

BY_NAME: dict[str, Callable[[], bool]] = {
    "_main_port": lambda: meets_at_the_port_it_was_given(LightningEnvironment()),
    "_MATPLOTLIB_AVAILABLE": lambda: torchmetrics.utilities.imports._MATPLOTLIB_AVAILABLE is not None,
    "_allow_non_fake_inputs": lambda: "_allow_non_fake_inputs" in inspect.signature(make_fx).parameters,
    "_check_log_dir_exists": lambda: takes(ExperimentWriter._check_log_dir_exists, "self"),
    "_experiment": lambda: CSVLogger(".")._experiment is None,
    "_forward_hooks": lambda: all(
        isinstance(getattr(torch.nn.Linear(1, 1), f"_{kind}_hooks"), dict)
        for kind in ("forward", "forward_pre", "backward", "backward_pre")
    ),
    "_restarting": lambda: trainer().fit_loop._restarting is False,
    "_signal_connector": lambda: isinstance(trainer()._signal_connector, _SignalConnector),
    "_template_from_string": lambda: takes(KernelTemplate._template_from_string, "source"),
    "_wrapped_by_lr_sched": lambda: scheduled().step._wrapped_by_lr_sched,
}
"""Private names that are overridden, assigned to or looked up by a string, which the list above is not made of by itself."""


def hooks_of(parameter: Any) -> bool:
    parameter.register_hook(lambda gradient: gradient)
    parameter.register_post_accumulate_grad_hook(lambda parameter: None)
    return bool(parameter._backward_hooks and parameter._post_accumulate_grad_hooks)


def scheduled() -> Any:
    own = optimizer()
    torch.optim.lr_scheduler.LambdaLR(own, lambda step: 1.0)
    return own


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def nodes() -> Iterator[ast.AST]:
    for path in PACKAGE.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def own_names() -> set[str]:
    """What this package defines itself: functions, classes, variables, arguments, attributes it assigns to, modules."""
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    for node in nodes():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.For):  # and not +=, which goes on with what another defined
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            stored = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name | ast.Attribute)]
            names |= {part.id if isinstance(part, ast.Name) else part.attr for part in stored}
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def foreign_names() -> set[str]:
    own, found = own_names(), set()
    for node in nodes():
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("vae_lightning"):
            found |= {part for part in (node.module or "").split(".") if private(part)}
            found |= {alias.name for alias in node.names if private(alias.name)}
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".") if private(part)}
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            found.add(node.attr)
    return found - PUBLIC_BY_CONTRACT


def test_list_is_complete_and_holds_nothing_that_is_no_longer_used() -> None:
    assert foreign_names() == set(USED)


@pytest.mark.parametrize("name", [*USED, *BY_NAME])
def test_private_name_is_what_is_relied_on(name: str) -> None:
    assert {**USED, **BY_NAME}[name](), f"{name} has changed"


def test_lightnings_private_names_stand_in_two_files() -> None:
    of_lightning = [name for name in {**USED, **BY_NAME} if name in LIGHTNINGS]
    assert set(of_lightning) == LIGHTNINGS
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for name in LIGHTNINGS
        if re.search(rf"(?<!\w){name}\b", path.read_text())
    }
    assert found == {"engine/loop.py", "machine/lightning.py"}
