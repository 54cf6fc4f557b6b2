"""JAX: a whole epoch in one compiled `lax.scan`, order and noise drawn on the device, Adam from optax."""

import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import Clock, arguments, report

SIZES = {"encoder": (784, 400), "mean": (400, 20), "log_variance": (400, 20), "decoder": (20, 400), "logits": (400, 784)}
BATCH = 128

options = arguments(dtype="float32", batches=55_000 // BATCH, products="", device="cpu")
STEPS = options.batches
if options.products:  # on a GPU, float32 products are TF32 unless asked for
    jax.config.update("jax_default_matmul_precision", options.products)
assert jax.default_backend() == {"cpu": "cpu", "cuda": "gpu"}[options.device], f"JAX computes on {jax.default_backend()}"
kind = jnp.bfloat16 if options.dtype == "bfloat16" else jnp.float32
content = Path(options.data, "MNIST", "raw", "train-images-idx3-ubyte").read_bytes()
assert struct.unpack(">4I", content[:16]) == (2051, 60_000, 28, 28)
images = jnp.asarray(np.frombuffer(content, np.uint8, offset=16).reshape(60_000, 784)[:55_000])


def dense(weights, x):
    return jnp.dot(x.astype(kind), weights["w"].astype(kind)).astype(jnp.float32) + weights["b"]


def loss_of(weights, pixels, key):
    binarize, sample = jax.random.split(key)
    x = (jax.random.bits(binarize, pixels.shape, jnp.uint16) < (pixels.astype(jnp.float32) * (65535 / 255))).astype(jnp.float32)
    h = jax.nn.relu(dense(weights["encoder"], x))
    mean, log_variance = dense(weights["mean"], h), dense(weights["log_variance"], h)
    z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(sample, mean.shape)
    logits = dense(weights["logits"], jax.nn.relu(dense(weights["decoder"], z)))
    reconstruction = optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)
    kl = -0.5 * (1 + log_variance - mean**2 - jnp.exp(log_variance)).sum(-1)
    return (reconstruction + kl).mean()


optimizer = optax.adam(1e-3)


@jax.jit
def epoch(weights, state, key):
    shuffle, noise = jax.random.split(key)
    order = jax.random.permutation(shuffle, 55_000)[: STEPS * BATCH].reshape(STEPS, BATCH)

    def step(carry, batch):
        weights, state = carry
        index, key = batch
        loss, gradients = jax.value_and_grad(loss_of)(weights, images[index], key)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(weights, updates), state), loss

    (weights, state), losses = jax.lax.scan(step, (weights, state), (order, jax.random.split(noise, STEPS)))
    return weights, state, losses.mean()


keys = jax.random.split(jax.random.key(0), len(SIZES))
weights = {
    name: {
        "w": jax.random.uniform(key, (i, o), minval=-1, maxval=1) / np.sqrt(i),
        "b": jnp.zeros(o),
    }
    for key, (name, (i, o)) in zip(keys, SIZES.items(), strict=True)
}
state = optimizer.init(weights)
clock = Clock()
for number in range(options.epochs):
    weights, state, loss = epoch(weights, state, jax.random.key(number + 1))
    loss = float(loss)
    clock.epoch(STEPS * BATCH)
report(clock.images_per_second, loss)
