"""What holds on a GPU: `make gpu` runs these, and on a machine without one they are skipped.

`VAE_LIGHTNING_GPU_TESTS=cpu` goes through the same tests on a CPU, which says of the tests that they run.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from engine_fits import assert_same, fit, graphs
from omegaconf import DictConfig, OmegaConf

from vae_lightning import CVAE, IWAE, VAE, BetaVAE, CapacityVAE, MNISTDataModule, noise
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.train import train
from vae_lightning.models import M1, M2

DEVICE = os.environ.get("VAE_LIGHTNING_GPU_TESTS", "cuda")
CONF = Path(__file__).resolve().parent.parent / "conf"
Compose = Callable[..., DictConfig]

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU")]
if DEVICE != "cuda":
    pytestmark.append(pytest.mark.usefixtures("graphs_as_traced"))

TRAINER = {"accelerator": {"cuda": "gpu"}.get(DEVICE, DEVICE), "devices": 1}
GPUS = f"trainer.gpus={int(DEVICE == 'cuda')}"
SMALL = ("model.net.hidden=[32]", "model.latent_dim=3")
MLP = {"name": "classifier_mlp", "hidden": [8]}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vae": (VAE, {"kl_warmup_steps": 5}),
    "vae, dropout": (VAE, {"net": {"name": "mlp", "hidden": [12], "dropout": 0.2}}),
    "beta": (BetaVAE, {"beta": 3.3, "net": "cnn2"}),
    "capacity": (CapacityVAE, {"capacity_steps": 10, "gamma": 7.0, "num_samples": 2}),
    "iwae": (IWAE, {"num_samples": 3, "net": "cnn3"}),
    "dreg": (IWAE, {"num_samples": 3, "doubly_reparameterised": True, "net": {"name": "gated_mlp", "hidden": [12]}}),
    "cvae": (CVAE, {"net": "cnn3", "prior": "class"}),
    "m1": (M1, {"classifier": {**MLP, "dropout": 0.2}}),
    "m2": (M2, {"classifier": MLP, "alpha": 0.7}),
    "gaussian, mog": (VAE, {"likelihood": "gaussian", "prior": {"name": "mog", "components": 3}}),
    "continuous bernoulli, vamp": (VAE, {"likelihood": "continuous_bernoulli", "prior": {"name": "vamp", "components": 3}}),
    "resnet, iaf": (
        VAE,
        {"net": {"name": "resnet", "channels": [2, 3, 4]}, "posterior": {"name": "iaf", "hidden": [8], "context": 4}},
    ),
}


def builder(name: str) -> Callable[[], Any]:
    kind, arguments = MODELS[name]
    return lambda: kind(
        latent_dim=3, optimizer={"name": "adam", "lr": 1e-4}, **{"net": {"name": "mlp", "hidden": [12]}, **arguments}
    )


@pytest.mark.parametrize("name", MODELS)
def test_compiled_steps_are_the_plain_ones(name: str, tmp_path: Path) -> None:
    labelled = MODELS[name][0] not in (M1, M2)
    (plain, _), (compiled, trainer) = (
        fit(builder(name), tmp_path, fast=fast, labelled=labelled, max_epochs=1, **TRAINER) for fast in (False, True)
    )
    assert graphs(trainer) == 1
    assert_same(plain, compiled, within=3e-5)


@pytest.mark.parametrize("name", ["vae", "cvae"])
def test_training_on_the_device_is_training_on_a_cpu(name: str, tmp_path: Path) -> None:
    """The same images, in the same order, binarized and trained with the same noise: weights differ by rounding."""
    there, _ = fit(builder(name), tmp_path, fast=False, max_epochs=1, **TRAINER)
    here, _ = fit(builder(name), tmp_path, fast=False, max_epochs=1)
    assert_same({key: value.cpu() for key, value in there.items()}, here, within=3e-5)


# ---- noise


def drawn(device: str) -> dict[str, torch.Tensor]:
    places = torch.arange(7, 107, dtype=torch.int32, device=device)
    source = noise.Source(noise.key_of(0, "train", 3, device=device), places)
    return {
        "integers": source.integers16("pixels", 784),
        "uniform": source.uniform("dropout", (400,), repeats=2),
        "normal": source.normal("posterior", 5, 50),
    }


@pytest.mark.parametrize("kind", ["integers", "uniform"])
def test_noise_has_the_bits_that_it_has_on_a_cpu(kind: str) -> None:
    assert torch.equal(drawn(DEVICE)[kind].cpu(), drawn("cpu")[kind])


def test_normal_noise_is_that_of_a_cpu_to_the_last_digits() -> None:
    """The logarithm and the square root in it may round differently."""
    torch.testing.assert_close(drawn(DEVICE)["normal"].cpu(), drawn("cpu")["normal"], rtol=2e-6, atol=2e-6)


def test_noise_of_a_compiled_graph_is_that_of_a_plain_one() -> None:
    if DEVICE != "cuda":
        pytest.skip("held by tests/test_noise.py")
    key, places = noise.key_of(0, "train", 3, device=DEVICE), torch.arange(64, dtype=torch.int32, device=DEVICE)
    draw = torch.compile(lambda key, places: noise.Source(key, places).integers16("pixels", 784))
    assert torch.equal(draw(key, places), noise.Source(key, places).integers16("pixels", 784))


def test_noise_binarizes_images_alike_on_both_devices(mnist_root: Path) -> None:
    data = MNISTDataModule(root=str(mnist_root), binarization="dynamic")
    data.prepare_data()
    data.setup("fit")
    images, labels = (tensor[:256] for tensor in (data.train_dataloader().images, data.train_dataloader().labels))
    places = torch.arange(256, dtype=torch.int32)
    prepared = [
        data.prepared(
            images.to(device), labels.to(device), noise.Source(noise.key_of(0, "images", 2, device=device), places.to(device))
        )
        for device in (DEVICE, "cpu")
    ]
    assert torch.equal(prepared[0][0].cpu(), prepared[1][0])


# ---- runs


def ends(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a training ended with."""
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")[
        "state_dict"
    ]
    return state


RUNS = [["model=vae", "model.net.dropout=0.2", *SMALL], ["model=iwae", *SMALL], ["model=cvae_cnn3"]]


@pytest.mark.parametrize("words", RUNS, ids=lambda words: words[0])
def test_resuming_within_an_epoch_is_exact_and_so_is_repeating(words: list[str], compose: Compose, tmp_path: Path) -> None:
    settings = [
        *words,
        GPUS,
        "trainer.deterministic=true",
        "trainer.compile=true",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=6",
    ]
    whole, again = (train(compose(*settings, folder=name)) for name in ("whole", "again"))
    assert whole.metrics == again.metrics
    train(compose(*settings, "trainer.max_steps=4", folder="part"))
    rest = train(compose(*settings, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt", folder="rest"))
    assert rest.trainer.global_step == whole.trainer.global_step == 12
    weights = [ends(tmp_path / name) for name in ("whole", "again", "rest")]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), f"{name}, repeated"
        assert torch.equal(value, weights[2][name]), f"{name}, resumed"


@pytest.mark.parametrize("words", [["trainer.precision=bf16-mixed"], ["trainer.matmul_precision=high"]], ids=["bf16", "tf32"])
def test_lower_precision_trains_to_about_the_same_loss(words: list[str], compose: Compose) -> None:
    settings = [*SMALL, GPUS, "trainer.compile=true", "trainer.limit_train_batches=60"]
    full, lower = (train(compose(*settings, *more, folder=name)) for more, name in (([], "full"), (words, "lower")))
    torch.set_float32_matmul_precision("highest")
    assert lower.metrics["train/loss"] == pytest.approx(full.metrics["train/loss"], rel=0.02)


def test_chunks_of_many_steps_are_the_plain_steps(compose: Compose) -> None:
    """Enough steps for many at a time, with a remainder, beside Lightning's own loop."""
    settings = [*SMALL, GPUS, "trainer.limit_train_batches=130", "trainer.log_every_n_steps=50", "model.optimizer.lr=1e-4"]
    chunks, plain = (train(compose(*settings, f"trainer.compile={compile}", folder=compile)) for compile in ("true", "false"))
    for name, value in plain.metrics.items():
        assert chunks.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-3), name


def evaluated(run: Path, gpus: int, to: Path, *words: str) -> Any:
    words = (f"run={run}", f"to={to}", f"gpus={gpus}", "evaluation.num_samples=20", "evaluation.num_images=50", *words)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return evaluate(hydra.compose("evaluate", [*words, "evaluation.train_images=10", "evaluation.marginal_images=10"]))


@pytest.mark.parametrize("words", [["model=vae", "model.latent_dim=2"], ["model=cvae_cnn3"]], ids=lambda words: words[0])
def test_figures_are_drawn_on_the_device_and_estimates_are_those_of_a_cpu(
    words: list[str], compose: Compose, tmp_path: Path
) -> None:
    cfg = compose(*words, GPUS, "callbacks.animation.frames=3", "trainer.limit_train_batches=10")
    train(cfg)
    run = tmp_path / "run"
    (run / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(cfg, run / ".hydra" / "config.yaml")
    there = evaluated(run, int(DEVICE == "cuda"), tmp_path / "there")
    here = evaluated(run, 0, tmp_path / "here", "evaluation.figures=[]")
    assert {"samples", "reconstructions"} < {drawn.name for drawn in there.gallery.drawn}
    for name, estimate in here.report["splits"]["test"].items():
        assert there.report["splits"]["test"][name]["value"] == pytest.approx(estimate["value"], rel=1e-4, abs=1e-3), name
