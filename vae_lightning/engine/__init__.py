"""The fast path: many optimizer steps for one turn of Lightning's loop, and a whole step as one compiled graph.

A step on MNIST takes a few milliseconds, of which Lightning's hooks and autograd's bookkeeping are a third. So

- `function.StepFunction` is a training step as one pure function of tensors: choice of images, binarization, noise, forward pass,
  gradients, clipping, the optimizer's update and the sums for the log. `graph.StepGraph` compiles it, and holds its tensors;
- `step.Step` takes a step by that graph, as long as nothing has changed that the graph froze, and else as the model computes it;
- `update` makes of an optimizer what goes into the graph;
- `loop.ChunkLoop` takes most steps without any hook. The loop keeps all of Lightning's counters, and hands a batch to Lightning
  itself if something may happen after the batch: logging, the progress bar, validation, the end of an epoch or of training;
- `chunk.Chunks` takes the steps in between as one CUDA graph on a GPU;
- `stacked.train_stacked` trains many models at once, whose steps are one graph of batched products.

`door.install` puts them into a Trainer, or says why that Trainer stays as it is. The plain path, one turn of Lightning's loop a
step, computes the same numbers to within rounding.
"""

from vae_lightning.engine.door import install
from vae_lightning.engine.eligibility import reason_against

__all__ = ["install", "reason_against"]
