"""The NLL of a 200-200-50 VAE by `evaluate.py`, K = 5,000, beside the time of the decoder's matrix products alone.

The images a second are those of the NLL by itself; beside them its seconds, the products' seconds, and the one over the other.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import arguments, report

REPOSITORY = Path(__file__).resolve().parents[2]
LAYERS = [(50, 200), (200, 200), (200, 784)]

options = arguments(samples=5000, images=10_000, products="highest", device="cpu")


def command(script: str, *words: str) -> None:
    """Run one of this project's commands, whose words to the screen go to stderr."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    arguments = [sys.executable, str(REPOSITORY / script), *words]
    status = subprocess.run(arguments, check=False, stdout=sys.stderr, cwd=REPOSITORY, env=environment).returncode
    if status:
        sys.exit(status)


def products(count: int) -> float:
    """Seconds of the decoder's products for `count` latents."""
    rows = min(count, 65_536 if options.device == "cuda" else 4000)
    torch.set_float32_matmul_precision(options.products)
    weights = [torch.randn(k, n, device=options.device) for k, n in LAYERS]
    inputs = [torch.randn(rows, k, device=options.device) for k, _ in LAYERS]
    outputs = [torch.empty(rows, n, device=options.device) for _, n in LAYERS]

    def times(turns: int) -> float:
        started = time.perf_counter()
        for _ in range(turns):
            for a, b, out in zip(inputs, weights, outputs, strict=True):
                torch.mm(a, b, out=out)
        if options.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    times(3)
    turns = max(1, count // rows)
    measured = min(turns, 500)
    return times(measured) * turns / measured


with tempfile.TemporaryDirectory() as folder:
    gpus = int(options.device == "cuda")
    net = ["model.latent_dim=50", "model.net.hidden=[200,200]", "model.net.activation=tanh", "logger=none"]
    short = [f"trainer.max_epochs={options.epochs}", "trainer.limit_train_batches=50", "trainer.limit_val_batches=1"]
    place = [f"data.root={options.data}", f"hydra.run.dir={folder}/run", f"trainer.gpus={gpus}", "trainer.limit_test_batches=1"]
    command("train.py", *net, *short, *place)
    what = [f"evaluation.num_samples={options.samples}", f"evaluation.num_images={options.images}", "evaluation.figures=[]"]
    command("evaluate.py", f"run={folder}/run", f"gpus={gpus}", f"root={options.data}", *what, "evaluation.train_images=1")
    nll = json.loads(Path(folder, "run", "evaluation", "report.json").read_text())["splits"]["test"]["nll"]
with torch.no_grad():
    alone = products(options.images * options.samples)
report(options.images / nll["seconds"], float("nan"), seconds=nll["seconds"], products=alone, to_products=nll["seconds"] / alone)
