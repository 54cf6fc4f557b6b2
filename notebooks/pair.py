"""Write the .ipynb beside each notebook, which is kept as text: without outputs, the same bytes for the same text."""

import hashlib
from pathlib import Path

import jupytext
import nbformat

__all__ = ["NOTEBOOKS", "paired"]

NOTEBOOKS = sorted(Path(__file__).resolve().parent.glob("visualization_*.py"))


def paired(path: Path) -> str:
    """The content of the .ipynb that belongs to the notebook `path`."""
    notebook = jupytext.read(path)
    for cell in notebook.cells:
        cell.id = hashlib.blake2b(cell.source.encode(), digest_size=4).hexdigest()  # else drawn at random
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    for path in NOTEBOOKS:
        path.with_suffix(".ipynb").write_text(paired(path))
