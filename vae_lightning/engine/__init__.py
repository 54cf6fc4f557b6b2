"""The fast path: many optimizer steps for one turn of Lightning's loop, with the gradients of a step from one compiled graph.

A step on MNIST takes a few milliseconds, of which Lightning's hooks and autograd's bookkeeping are a third. So

- `loop.ChunkLoop` takes most steps without any hook. The loop keeps all of Lightning's counters, and hands a batch to Lightning
  itself if something may happen after the batch: logging, the progress bar, validation, the end of an epoch or of training;
- `stacked.train_stacked` trains many models at once, whose steps are one graph of batched products;
- `step.Step` computes loss, gradients and metrics in one graph, traced once from `Module.functional_loss`, which is pure.

`door.install` puts both into a Trainer, or says why that Trainer stays as it is. The plain path, one turn of
Lightning's loop a step, computes the same numbers to within rounding.
"""

from vae_lightning.engine.door import install
from vae_lightning.engine.eligibility import reason_against

__all__ = ["install", "reason_against"]
