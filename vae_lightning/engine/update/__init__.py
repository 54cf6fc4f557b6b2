"""Optimizers as updates inside a graph: what an optimizer's `step` does to parameters and state, as pure tensor operations.

`update_of(optimizer, parameters)` gives an `Update`, whose `apply` a tracer may record behind the gradients of a step. The tensors
of its state are those of `optimizer.state`, so that checkpoints hold them, and a plain `optimizer.step()` may follow a step of the
graph and the other way round. Learning rate, betas and the other numbers of the parameter groups are inputs of the graph, so that
a schedule may change them at every step. `clipped` is Lightning's clipping of gradients.
"""

from vae_lightning.engine.update.base import Update
from vae_lightning.engine.update.clipping import clipped
from vae_lightning.engine.update.of_optimizer import update_of

__all__ = ["Update", "clipped", "update_of"]
