"""Write the .ipynb beside each notebook, which is kept as text, with small outputs: pictures of few colours, stills of animations.

`python notebooks/pair.py` (`make notebooks`) takes outputs from the .ipynb that is there, for cells that have not changed;
`--run` (`make notebooks ARGS=--run`) runs the notebooks anew, which takes minutes, with MNIST from `VAE_LIGHTNING_DATA`.
"""

import argparse
import base64
import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image, ImageColor

from vae_lightning.figures.style import CLASS_COLORS

__all__ = ["NOTEBOOKS", "executed", "paired", "small", "with_outputs"]

NOTEBOOKS = sorted(Path(__file__).resolve().parent.glob("visualization_*.py"))
WIDTHS = {"image/png": 310, "image/gif": 190}
"""Pixels of the width of a kept picture, at most, by what it was; of an animation a still is kept."""
GREYS = 6
"""Levels of grey of a kept picture; one in colour has the colours of classes beside them."""
GREY = 30
"""Levels of 256 by which the channels of a picture without colours differ at most."""


def paired(path: Path) -> str:
    """The content of the .ipynb that belongs to the notebook `path`, without outputs; the same bytes for the same text."""
    notebook = jupytext.read(path)
    for cell in notebook.cells:
        cell.id = hashlib.blake2b(cell.source.encode(), digest_size=4).hexdigest()  # else drawn at random
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
    return nbformat.writes(notebook) + "\n"


def with_outputs(path: Path, outputs: Mapping[str, list[NotebookNode]]) -> str:
    """The content of the .ipynb of the notebook `path` with the outputs of each cell, by the cell's id."""
    notebook = nbformat.reads(paired(path), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs.get(cell.id, [])
    return nbformat.writes(notebook) + "\n"


def executed(path: Path) -> NotebookNode:
    """The notebook `path` after a run in a kernel of its own, in its folder."""
    notebook = nbformat.reads(paired(path), as_version=4)
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def small(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs of a cell as they are kept: what was printed, joined, and each picture without the text that stands for it."""
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    kept = [nbformat.v4.new_output("stream", name="stdout", text=printed)] if printed else []
    for output in outputs:
        for kind in WIDTHS:
            if kind in output.get("data", {}):
                kept.append(nbformat.v4.new_output("display_data", {"image/png": _shrunk(output.data[kind], WIDTHS[kind])}))
    return kept


def _shrunk(picture: str, width: int) -> str:
    """A picture in base64 as a PNG of few colours; of an animation, its last frame."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        still = image.convert("RGB")
    still.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
    channels = np.asarray(still).astype(int)
    colored = int((channels.max(-1) - channels.min(-1)).max()) > GREY
    few = still.quantize(palette=_palette(CLASS_COLORS if colored else ()), dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _palette(colors: Sequence[str]) -> Image.Image:
    """A picture whose palette is `GREYS` levels from black to white, and `colors`."""
    levels = [(255 * level // (GREYS - 1),) * 3 for level in range(GREYS)]
    values = [*levels, *(ImageColor.getrgb(color) for color in colors)]
    palette = Image.new("P", (1, 1))
    # the rest of the 256 entries repeats the first one: without that they would be other colours
    palette.putpalette([channel for color in [*values, *[values[0]] * (256 - len(values))] for channel in color])
    return palette


def _kept(path: Path) -> dict[str, list[NotebookNode]]:
    """The outputs in the .ipynb `path`, by the id of their cell."""
    cells = nbformat.read(path, as_version=4).cells if path.is_file() else []
    return {cell.id: cell.outputs for cell in cells if cell.cell_type == "code"}


def _run(path: Path) -> dict[str, list[NotebookNode]]:
    started = time.perf_counter()
    cells = executed(path).cells
    print(f"{path.stem}: {time.perf_counter() - started:.0f} s")
    return {cell.id: small(cell.outputs) for cell in cells if cell.cell_type == "code"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", action="store_true", help="run the notebooks anew, which takes minutes")
    run = parser.parse_args().run
    for path in NOTEBOOKS:
        target = path.with_suffix(".ipynb")
        target.write_text(with_outputs(path, _run(path) if run else _kept(target)))
