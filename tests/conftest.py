"""What several tests need: real MNIST, and short runs of any config."""

import gc
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
from nothing import refuse_all_of_nothing
from omegaconf import DictConfig
from quick_traces import quick_make_fx
from session import compile_into_a_folder_of_its_own, everything_once, same_examples_every_time

from vae_lightning.commands.commandline import register_resolvers
from vae_lightning.commands.sweep import register
from vae_lightning.data import larochelle, sources
from vae_lightning.data.binarization import binarize
from vae_lightning.engine import purity
from vae_lightning.machine import collection, compilation, screen
from vae_lightning.noise import generator

SELDOM = (50_000, 20, 10)
"""Thresholds of `gc.set_threshold`: tracing graphs makes many objects and hardly any garbage."""
collection.USUAL = SELDOM  # to which a training returns
UNTIL = float(os.environ.get("VAE_LIGHTNING_TESTS_UNTIL", "inf"))
"""Seconds since 1970 after which no further test is begun."""
REPOSITORY = Path(__file__).resolve().parent.parent
QUICK = [
    "trainer.gpus=0",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "data.batch_size=32",
    "data.eval_batch_size=100",
]


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what it does not wait for so, and commands inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    compile_into_a_folder_of_its_own(config)
    register()  # before configs are composed, which are parsed once a session
    same_examples_every_time()


def pytest_collection_finish() -> None:
    refuse_all_of_nothing()
    gc.freeze()  # what has been imported stays
    gc.set_threshold(*SELDOM)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if time.time() > UNTIL:
        pytest.skip("not begun in the time that there is, VAE_LIGHTNING_TESTS_UNTIL")


@pytest.fixture(scope="session", autouse=True)
def once_a_session() -> Iterator[None]:
    """Nothing that stays as it is is read and digested anew by each test."""
    with everything_once(data_root(), REPOSITORY / "conf"):
        yield


@pytest.fixture(autouse=True)
def no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget where the command of an earlier test was given."""
    monkeypatch.setattr(screen, "_command_folder", None)


def data_root() -> Path:
    return Path(os.environ.get("VAE_LIGHTNING_DATA", REPOSITORY / "data"))


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, but for torch's record of what it traces, which comes or not as earlier tests have traced."""
    with caplog.filtering(lambda record: not record.name.startswith("torch.")):  # type: ignore[arg-type]
        yield caplog


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A folder with real MNIST: VAE_LIGHTNING_DATA, or the repository's `data`, fetched to if need be."""
    root = data_root()
    sources.raw_folder("mnist", root)
    return root


@pytest.fixture
def static_root(mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data.root with real MNIST whose "static" images are a few of its own, so that no test needs Larochelle's files."""
    import scipy.io  # which a machine that has no such images may lack

    root = tmp_path / "data"
    folder = root / larochelle.FOLDER
    folder.mkdir(parents=True)
    (root / "MNIST").symlink_to((mnist_root / "MNIST").resolve(), target_is_directory=True)
    for split, images in {"train": slice(0, 200), "valid": slice(50_000, 50_100), "test": slice(0, 100)}.items():
        grey, labels = sources.load("mnist", mnist_root, "test" if split == "test" else "train")
        monkeypatch.setitem(larochelle.LABELS_SHA256, split, hashlib.sha256(labels[images].byte().numpy().tobytes()).hexdigest())
        pixels = (binarize(grey[images], "dynamic", generator(0)) // 255).flatten(1).numpy()
        monkeypatch.setitem(larochelle.PIXELS_SHA256, split, hashlib.sha256(pixels.tobytes()).hexdigest())
        scipy.io.savemat(str(folder / larochelle._name(split)), {"X": pixels}, appendmat=False)
    return root


@pytest.fixture(scope="session")
def compose_into(mnist_root: Path) -> Callable[..., DictConfig]:
    """A config of a quick run on real MNIST, with the given overrides, that writes into the given folder."""
    register_resolvers()

    def of(folder: Path, *overrides: str, quick: bool = True) -> DictConfig:
        own = [f"data.root={mnist_root}", f"run_dir={folder}", "name=test"]
        with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            return hydra.compose("train", [*own, *(QUICK if quick else ()), *overrides])

    return of


@pytest.fixture
def compose(compose_into: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    """A config of a quick run on real MNIST, with the given overrides, that writes into a folder of its own."""

    def of(*overrides: str, folder: str = "run", quick: bool = True) -> DictConfig:
        return compose_into(tmp_path / folder, *overrides, quick=quick)

    return of


@pytest.fixture
def graphs_as_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were traced, instead of what a C++ compiler makes of them in half a minute."""
    import torch._inductor

    monkeypatch.setattr(torch._inductor, "standalone_compile", lambda module, *_, **__: lambda *tensors: module(*tensors))


@pytest.fixture
def graphs_quickly_traced(graphs_as_traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were traced, by a tracer that is quicker than torch's."""
    for module in (compilation, purity):
        monkeypatch.setattr(module, "make_fx", quick_make_fx)
