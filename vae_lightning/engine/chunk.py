"""Many steps in one go on a GPU: K compiled steps captured as one CUDA graph, whose launch takes as long as that of one kernel.

A step of a small net on a GPU takes less time than Python needs to launch its kernels. So the kernels of K steps are recorded once
and then launched together ("CUDA graphs", PyTorch documentation, https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). A
recorded kernel reads and writes where it did when it was recorded: parameters, the optimizer's state and images stay where they
are, and what is another at every step, such as the places of its images and the learning rate, is copied into tables that stay,
too. Nothing waits for the device within.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vae_lightning.engine.function import Choice, State
from vae_lightning.engine.graph import StepGraph
from vae_lightning.engine.update.adam import AdamUpdate
from vae_lightning.machine.compilation import leaves
from vae_lightning.noise import Source

__all__ = ["Chunks", "captured", "chunks_of"]

MOST = 4
"""Lengths of chunks that are captured at most; other lengths are taken step by step."""
ALIGNED = 16
"""Bytes that the rows of a table start at multiples of: the compiler's kernels would copy others first."""

Run = Callable[[], None]


def chunks_of(graph: StepGraph) -> "Chunks | None":
    """What takes many steps of `graph` at once; None on a CPU, where it gains nothing, and for batches or optimizers of a user."""
    on_gpu = graph.state.step.is_cuda
    return Chunks(graph) if on_gpu and graph.data is not None and isinstance(graph.update, AdamUpdate) else None


class Chunks:
    """Steps of `graph` in chunks, captured by their length when a length comes for the second time.

    Args:
        capture: makes of a function that launches kernels one that launches all of them at once.
    """

    def __init__(self, graph: StepGraph, capture: Callable[[Run], Run] | None = None) -> None:
        self.graph, self.capture = graph, capture or captured
        self._chunks: dict[int, _Chunk] = {}
        self._homes: list[int] = []

    def run(self, first: int, settings: Sequence[Sequence[float]]) -> None:
        """Take the steps on the batches of the loader from number `first` on, one for each row of `settings`.

        Args:
            settings: the numbers of `State.settings` at each step.
        """
        state, count = self.graph.state, len(settings)
        homes = [tensor.data_ptr() for tensor in leaves(state)]
        if homes != self._homes:  # what has been captured would read and write elsewhere
            self._chunks, self._homes = {}, homes
        chunk = self._chunks.get(count)
        if chunk is None:
            chunk = self._chunks[count] = _Chunk(self.graph, count)
        chunk.fill(first, settings)
        if chunk.launch is None and chunk.has_run and sum(c.launch is not None for c in self._chunks.values()) < MOST:
            chunk.launch = self.capture(chunk.steps)
        (chunk.launch or chunk.steps)()
        chunk.has_run = True
        for _ in range(count):
            self.graph.count_step()


class _Chunk:
    """`count` steps, and the tables that they read."""

    launch: Run | None = None
    """Launches the steps at once, once they are captured."""
    has_run = False

    def __init__(self, graph: StepGraph, count: int) -> None:
        self.graph, self.count = graph, count
        device, size = graph.state.step.device, graph.batch_size
        self._index = _table(count, size, torch.int64, device)
        self._places = _table(count, size, torch.int32, device)
        kinds = graph.state.settings
        self._settings = _table(count, len(kinds), kinds[0].dtype, device, each=ALIGNED)
        self._keys = [torch.empty_like(key) for key in graph.keys]
        self._held: Sequence[Sequence[float]] = []

    def fill(self, first: int, settings: Sequence[Sequence[float]]) -> None:
        """Put into the tables what the steps from batch `first` on need."""
        index, places = self.graph.loader.chosen_together(range(first, first + self.count))
        self._index.copy_(index)
        self._places.copy_(places)
        if settings != self._held:
            self._held = settings
            self._settings.copy_(_pinned(torch.tensor(settings, dtype=self._settings.dtype)), non_blocking=True)
        for kept, key in zip(self._keys, self.graph.keys, strict=True):
            kept.copy_(key)

    def steps(self) -> None:
        """Take the steps, one after the other."""
        of_data, of_model = self._keys
        for row in range(self.count):
            state: State = self.graph.state._replace(settings=list(self._settings[row].unbind()))
            batch = Choice(self._index[row], Source(of_data, self._places[row]))
            self.graph.take(leaves((state, (batch, Source(of_model, self._places[row])))))


def captured(run: Run) -> Run:
    """`run`, whose kernels are recorded now, without being executed, and launched all at once by what is returned."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        run()
    return graph.replay


def _table(rows: int, columns: int, dtype: torch.dtype, device: torch.device, each: int = 0) -> Tensor:
    """An empty table `(rows, columns)` whose rows are aligned; with `each`, whose every number is aligned to so many bytes."""
    width = max(1, each // dtype.itemsize)
    items = ALIGNED // dtype.itemsize
    stride = -(-columns * width // items) * items
    return torch.zeros(rows, stride, dtype=dtype, device=device)[:, : columns * width : width]


def _pinned(values: Tensor) -> Tensor:
    return values.pin_memory() if torch.cuda.is_available() else values
