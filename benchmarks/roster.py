"""What is timed: the contenders by name, in the order in which they take turns.

The work, unless a name says otherwise: an MLP VAE 784-400-20-400-784, ReLU, batch 128, Adam, 55,000 MNIST images, Bernoulli
binarization at every use.
"""

from collections.abc import Mapping
from typing import NamedTuple

REFERENCE = "typical Lightning loop, 0 workers"
CONVOLUTIONAL = "typical Lightning loop, cvae_cnn3"
OURS = "ours, default"
DEEP_LIMIT = "limit, 784-200-200-50, batch 250, bfloat16, one core"
MLP = ["model.net.hidden=[400]", "model.net.init=default"]
BARE = ["logger=none", *(f"callbacks.{name}=null" for name in ("checkpoint", "last_checkpoint", "learning_rate"))]
BARE += ["callbacks.progress_bar=null", "callbacks.model_summary=null"]
DEEP = ["model.net.hidden=[200,200]", "model.net.activation=tanh", "model.latent_dim=50", "data.batch_size=250"]
ONE_CORE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NETS = {"small": "784-64-32-20", "default": "784-400-20"}
"""Nets of the stacks by their name in `contenders/stack.py`."""


class Contender(NamedTuple):
    whose: str
    """Whose Python: "ours" or a peer's."""
    script: str
    arguments: list[str]
    reference: str = REFERENCE
    """The contender with the same work that it is compared to."""
    environment: Mapping[str, str] = {}
    """Variables that differ from those of the benchmark itself."""


def contenders(data: str, epochs: int, quick: bool = False, device: str = "cpu") -> dict[str, Contender]:
    """By name; with `quick`, only what the last table is compared to."""
    if device == "cuda":
        return _on_a_gpu(data, epochs)
    chosen = _first(data, epochs)
    if quick:
        return chosen
    return chosen | _others(data, epochs) | _one_core(data, epochs) | stacks(data)


def _first(data: str, epochs: int) -> dict[str, Contender]:
    usual = ["--data", data, "--epochs", str(epochs)]
    return {
        REFERENCE: Contender("ours", "typical_lightning.py", usual),
        OURS: Contender("ours", "ours.py", [data, str(epochs), "trainer.gpus=0", *MLP]),
        "limit, float32": Contender("ours", "limit.py", usual),
    }


def _others(data: str, epochs: int) -> dict[str, Contender]:
    usual, ours = ["--data", data, "--epochs", str(epochs)], [data, str(epochs), "trainer.gpus=0"]
    mlp, on_a_cpu = [*ours, *MLP], {"JAX_PLATFORMS": "cpu"}
    return {
        "typical Lightning loop, 2 workers": Contender("ours", "typical_lightning.py", [*usual, "--workers", "2"]),
        "PyTorch's example, 0 workers": Contender("ours", "plain_torch.py", usual),
        "ours, matmul_precision=medium": Contender("ours", "ours.py", [*mlp, "trainer.matmul_precision=medium"]),
        "ours, precision=bf16-mixed": Contender("ours", "ours.py", [*mlp, "trainer.precision=bf16-mixed"]),
        "ours, compile=false": Contender("ours", "ours.py", [*mlp, "trainer.compile=false"]),
        "ours, no logger, checkpoints or bar": Contender("ours", "ours.py", [*mlp, *BARE]),
        "limit, bfloat16": Contender("ours", "limit.py", [*usual, "--dtype", "bfloat16"]),
        "pythae 0.1.2, binarized once": Contender("peers", "pythae_trainer.py", usual),
        "JAX, lax.scan": Contender("peers", "jax_scan.py", usual, environment=on_a_cpu),
        "JAX, lax.scan, bf16": Contender("peers", "jax_scan.py", [*usual, "--dtype", "bfloat16"], environment=on_a_cpu),
        CONVOLUTIONAL: Contender("ours", "typical_lightning.py", [*usual, "--model", "cvae_cnn3"], CONVOLUTIONAL),
        "ours, cvae_cnn3": Contender("ours", "ours.py", [*ours, "model=cvae_cnn3"], CONVOLUTIONAL),
    }


def _one_core(data: str, epochs: int) -> dict[str, Contender]:
    usual = ["--data", data, "--epochs", str(epochs), "--batch", "250", "--hidden", "200,200", "--latent", "50"]
    ours = [data, str(epochs), "trainer.gpus=0", *DEEP, "trainer.threads=1", "trainer.precision=bf16-mixed", "trainer.compile=true"]
    return {
        DEEP_LIMIT: Contender("ours", "limit.py", [*usual, "--dtype", "bfloat16"], DEEP_LIMIT, ONE_CORE),
        "ours, 784-200-200-50 tanh, batch 250, bf16-mixed, one core": Contender("ours", "ours.py", ours, DEEP_LIMIT, ONE_CORE),
    }


def stacks(data: str) -> dict[str, Contender]:
    """Many models that differ in their seed; images a second of all together.

    One speed is that of any number of models where they train one or two at a time, so those are timed on 8, and 64 models are
    compared to them.
    """
    chosen = {}
    for net, layers in NETS.items():
        reference = f"8 models {layers}, joblib over 2 processes"
        usual = ["--data", data, "--net", net, "--epochs", "2"]
        chosen[reference] = Contender("ours", "stack.py", [*usual, "--how", "joblib"], reference)
        chosen[f"8 models {layers}, one after the other"] = Contender("ours", "stack.py", [*usual, "--how", "one"], reference)
        chosen[f"8 models {layers}, stacked"] = Contender("ours", "stack.py", [*usual, "--how", "stacked"], reference)
        more = [*usual, "--how", "stacked", "--models", "64", "--batches", "54"]
        chosen[f"64 models {layers}, stacked"] = Contender("ours", "stack.py", more, reference)
    return chosen


def _on_a_gpu(data: str, epochs: int) -> dict[str, Contender]:
    """Fast contenders train ten times as many epochs, which are too short to be timed otherwise."""
    slow, fast = (["--data", data, "--device", "cuda", "--epochs", str(count)] for count in (epochs, 10 * epochs))
    ours = [data, str(10 * epochs), "trainer.gpus=1", "trainer.compile=true"]
    mlp, jax = [*ours, *MLP], {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    tf32, bf16 = "trainer.matmul_precision=high", "trainer.precision=bf16-mixed"
    return {
        REFERENCE: Contender("ours", "typical_lightning.py", slow),
        OURS: Contender("ours", "ours.py", mlp),
        "ours, TF32 (matmul_precision=high)": Contender("ours", "ours.py", [*mlp, tf32]),
        "ours, precision=bf16-mixed": Contender("ours", "ours.py", [*mlp, bf16]),
        "JAX, lax.scan, float32": Contender("peers", "jax_scan.py", [*fast, "--products", "highest"], environment=jax),
        "JAX, lax.scan, TF32": Contender("peers", "jax_scan.py", [*fast, "--products", "tensorfloat32"], environment=jax),
        "JAX, lax.scan, bf16": Contender("peers", "jax_scan.py", [*fast, "--dtype", "bfloat16"], environment=jax),
        CONVOLUTIONAL: Contender("ours", "typical_lightning.py", [*slow, "--model", "cvae_cnn3"], CONVOLUTIONAL),
        "ours, cvae_cnn3": Contender("ours", "ours.py", [*ours, "model=cvae_cnn3"], CONVOLUTIONAL),
        "typical Lightning loop, 8 workers": Contender("ours", "typical_lightning.py", [*slow, "--workers", "8"]),
    }


def stacks_on_a_gpu(data: str) -> dict[str, Contender]:
    """The stack beside a single model of the same net, both as many models trained at once."""
    chosen = {}
    for net, layers in reversed(NETS.items()):
        usual = ["--data", data, "--device", "cuda", "--net", net]
        alone = f"1 model {layers}"
        chosen[alone] = Contender("ours", "stack.py", [*usual, "--how", "one", "--models", "1", "--epochs", "10"], alone)
        more = [*usual, "--how", "stacked", "--models", "64"]
        chosen[f"64 models {layers}, stacked"] = Contender("ours", "stack.py", more, alone)
    return chosen
