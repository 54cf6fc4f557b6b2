"""What a session of tests does once instead of in each test: digesting files that stay, parsing this project's configs, compiling."""

import copy
import functools
import importlib.util
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
from hydra._internal.config_repository import ConfigRepository

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


def same_examples_every_time() -> None:
    """Let hypothesis make up the same examples in every session, whatever ran before, and neither keep any nor look at the clock.

    A machine that has nothing but a GPU may lack hypothesis; a file of tests that wants it then fails by its own import.
    """
    if importlib.util.find_spec("hypothesis") is None:
        return
    import hypothesis
    from hypothesis.configuration import set_hypothesis_home_dir
    from hypothesis.internal.conjecture import providers

    checks = [
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.filter_too_much,
        hypothesis.HealthCheck.function_scoped_fixture,
    ]
    hypothesis.settings.register_profile(
        "suite", derandomize=True, database=None, deadline=None, suppress_health_check=checks, max_examples=50
    )
    hypothesis.settings.load_profile("suite")
    set_hypothesis_home_dir(os.devnull)  # below which nothing can be written, as a checkout is no place for it
    constants = providers.Constants()
    # else the numbers and texts in all modules that happen to be imported are tried
    providers._get_local_constants = lambda: constants


@contextmanager
def everything_once(lasting: Path, conf: Path) -> Iterator[None]:
    """A block in which the data in `lasting` are verified once as long as no file changes, and this project's configs are parsed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_verified", _verified_once(sources._verified, lasting.resolve()))
        patch.setattr(ConfigRepository, "load_config", _parsed_once(ConfigRepository.load_config, conf))
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
    def once(self: ConfigRepository, config_path: str) -> Any:
        sources = tuple((source.provider, source.scheme(), source.path) for source in self.get_sources())
        if any(scheme == "file" and path != str(conf) for _, scheme, path in sources):
            return load(self, config_path)
        if (sources, config_path) not in known:
            known[sources, config_path] = load(self, config_path)
        return copy.deepcopy(known[sources, config_path])

    return once


def _without_stacks() -> types.SimpleNamespace:
    """`traceback` for torch's fake tensors, of which each notes where it was made, ninety frames below pytest, and nobody reads it."""
    return types.SimpleNamespace(**{**vars(traceback), "extract_stack": lambda *_, **__: traceback.StackSummary()})
