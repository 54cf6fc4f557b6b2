"""What no step can be faster than: its matrix products at their shapes, its random numbers, and Adam's memory traffic."""

import statistics
import time
from itertools import pairwise

import torch
from common import arguments, report

options = arguments(dtype="float32", batch=128, hidden="400", latent=20)
kind, B = getattr(torch, options.dtype), options.batch
hidden = [int(width) for width in options.hidden.split(",")]
encoder, decoder = [784, *hidden, 2 * options.latent], [options.latent, *reversed(hidden), 784]
LAYERS = [*pairwise(encoder), *pairwise(decoder)]
PARAMETERS = sum(k * n + n for k, n in LAYERS)

torch.set_grad_enabled(False)
products = []
for number, (k, n) in enumerate(LAYERS):
    shapes = [(B, k, n), (k, B, n)]  # forward; gradient of the weights
    if number:
        shapes.append((B, n, k))  # gradient of the input, which images do not need
    products += [(torch.randn(i, j, dtype=kind), torch.randn(j, o, dtype=kind)) for i, j, o in shapes]
outputs = [a @ b for a, b in products]
weights = [torch.randn(PARAMETERS) for _ in range(4)]
words = torch.empty(B * 784 // 4, dtype=torch.int64)
step = [torch.tensor(1.0)]


def once() -> None:
    words.random_()
    torch.randn(B, options.latent)
    for (a, b), out in zip(products, outputs, strict=True):
        torch.mm(a, b, out=out)
    p, g, m, v = ([w] for w in weights)
    torch._fused_adam_(
        p, g, m, v, [], step, lr=1e-9, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False
    )


STEPS = 50 * 128 // B
"""Steps that are timed together: the median of many such times is reported."""

speeds = []
for _ in range(5 * options.epochs + 1):
    started = time.perf_counter()
    for _ in range(STEPS):
        once()
    speeds.append(B * STEPS / (time.perf_counter() - started))
report(statistics.median(speeds[1:]), float("nan"))
