import ast
import base64
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from notebooks.pair import NOTEBOOKS, paired, small, with_outputs
from vae_lightning import figures

TINY = {"epochs": 2, "batches": 4, "hidden": [16], "frames": 3, "num_images": 200, "num_exact": 10, "svi_steps": 5}
OWN = {"visualization_vae": {"betas": (1.0, 4.0)}, "visualization_cvae": {"num_classified": 50}}
LIBRARIES = {"IPython", "matplotlib", "pytorch_lightning", "torch", "vae_lightning"}
STANDARD = {"logging", "math", "os", "pathlib", "tempfile", "warnings"}
NO_FIGURES = {"elbo_per_image", "one_of_each", "png", "posterior_gap", "read_recording", "style"}
FIGURES = {name for name in figures.__all__ if name.islower()} - NO_FIGURES
CHOICE = {"reconstructions", "samples", "posterior_means", "interpolations", "completion", "learning_curves", "rate_distortion"}
"""What each notebook must show; beside these, what its text asks for."""

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code(notebook: NotebookNode) -> Iterator[NotebookNode]:
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def drawn_by(source: str) -> set[str]:
    """The figures that a cell draws."""
    return set(re.findall(r"\bfigures\.(\w+)\(", source)) & FIGURES


def executed(path: Path, root: Path, folder: Path) -> NotebookNode:
    """The notebook after a run with small parameters, in a kernel of its own."""
    notebook = nbformat.reads(paired(path), as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    parameters = {"data_root": str(root.resolve()), **TINY, **OWN[path.stem]}
    small = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    notebook.cells.insert(place + 1, small)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"})
    return notebook


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_of_a_tiny_run_is_shown(path: Path, mnist_root: Path, tmp_path: Path):
    drawing = [cell for cell in code(executed(path, mnist_root, tmp_path)) if drawn_by(cell.source)]
    assert len(drawing) > 15
    for cell in drawing:
        shown = [kind for output in cell.outputs for kind in output.get("data", {}) if kind in ("image/png", "image/gif")]
        assert len(shown) >= len(drawn_by(cell.source)), f"{cell.source}\nshowed {shown}"


@each
def test_notebook_shows_a_choice_that_has_the_important_figures(path: Path):
    drawn = {name for cell in code(jupytext.read(path)) for name in drawn_by(cell.source)}
    assert drawn >= CHOICE
    assert ({"class_samples", "class_style_grid", "style_transfer"} <= drawn) == (path.stem == "visualization_cvae")


@each
def test_the_ipynb_is_that_of_the_text(path: Path):
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert with_outputs(path, {cell.id: cell.outputs for cell in code(notebook)}) == path.with_suffix(".ipynb").read_text(), (
        "make notebooks"
    )
    assert with_outputs(path, {}) == paired(path)


@each
def test_outputs_are_kept_small_and_every_figure_has_its_picture(path: Path):
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    assert path.with_suffix(".ipynb").stat().st_size < 300_000
    drawing = [cell for cell in code(notebook) if drawn_by(cell.source)]
    assert len(drawing) > 15
    for cell in drawing:
        assert [o for o in cell.outputs if o.output_type == "display_data"], f"make notebooks ARGS=--run: {cell.source}"
    texts = [output.text for cell in code(notebook) for output in cell.outputs if output.output_type == "stream"]
    assert any("elbo" in text for text in texts)
    assert not [text for text in texts if re.search(r"(^|\s)/\w", text)], "a path of a machine"
    assert all(cell.execution_count is None for cell in code(notebook))
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@each
def test_it_says_how_long_it_takes(path: Path):
    assert re.search(
        r"takes \w+ to \w+ minutes on one core \(\d+ s and \d+ s,", jupytext.read(path).cells[0].source.replace("\n", " ")
    )


def test_kept_output_is_a_small_still_and_what_was_printed():
    frames = [Image.new("RGB", (800, 400), color) for color in ("red", "#332288")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="a"),
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("stream", name="stdout", text="b"),
        nbformat.v4.new_output("display_data", {"image/gif": base64.b64encode(file.getvalue()).decode(), "text/plain": "<Image>"}),
        nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=1),
    ]
    printed, picture = small(outputs)
    assert printed.text == "ab"
    assert [*picture.data] == ["image/png"]
    with Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))) as kept:
        assert kept.width < 300
        assert kept.convert("RGB").getpixel((5, 5)) == (0x33, 0x22, 0x88), "the last frame"


@each
def test_they_use_the_library_only(path: Path):
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= LIBRARIES | STANDARD
