"""What a session of tests does once, and not in each test: digests of files that stay, imports of configs, tracebacks of nobody's errors."""

import copy
import functools
import os
import shutil
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.file_config_source import FileConfigSource

from vae_lightning.data import sources

CACHE = "TORCHINDUCTOR_CACHE_DIR"


def compile_into_a_folder_of_its_own(config: pytest.Config) -> None:
    """Let all processes of the session share what one has compiled, and none find what an earlier session has."""
    if not hasattr(config, "workerinput"):
        before, folder = os.environ.get(CACHE), tempfile.mkdtemp(prefix="compiled_")
        os.environ[CACHE] = folder

        def end() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            os.environ.pop(CACHE) if before is None else os.environ.update({CACHE: before})

        config.add_cleanup(end)


@contextmanager
def everything_once(lasting: Path, conf: Path) -> Iterator[None]:
    """A block in which real data in `lasting` are verified once, and configs in `conf` parsed once, as long as no file changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_verified", _verified_once(sources._verified, lasting.resolve()))
        patch.setattr(FileConfigSource, "load_config", _parsed_once(FileConfigSource.load_config, conf))
        patch.setattr("torch._subclasses.fake_tensor.traceback", _without_stacks())
        yield


def _verified_once(verified: Callable[..., sources.Verified], lasting: Path) -> Callable[..., sources.Verified]:
    known: dict[Any, sources.Verified] = {}

    @functools.wraps(verified)
    def once(dataset: str, raw: Path, **settings: Any) -> sources.Verified:
        if not raw.resolve().is_relative_to(lasting):
            return verified(dataset, raw, **settings)
        files = sorted(raw.glob("*"))
        key = dataset, raw, *((path.name, path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino) for path in files)
        if key not in known:
            known[key] = verified(dataset, raw, **settings)
        splits = {name: (images.clone(), labels.clone()) for name, (images, labels) in known[key].splits.items()}
        return known[key]._replace(splits=splits, checksums=dict(known[key].checksums))

    return once


def _parsed_once(load: Callable[..., Any], conf: Path) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    @functools.wraps(load)
    def once(self: Any, config_path: str) -> Any:
        path = Path(self.path) / f"{config_path.removesuffix('.yaml')}.yaml"
        if not path.is_relative_to(conf) or not path.is_file():
            return load(self, config_path)
        key = self.provider, self.path, config_path, path.stat().st_mtime_ns
        if key not in known:
            known[key] = load(self, config_path)
        return copy.deepcopy(known[key])

    return once


def _without_stacks() -> types.SimpleNamespace:
    """`traceback` for torch's fake tensors, of which each notes where it was made, ninety frames below pytest, and nobody reads it."""
    return types.SimpleNamespace(**{**vars(traceback), "extract_stack": lambda *_, **__: traceback.StackSummary()})
