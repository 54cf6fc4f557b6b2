"""Graphs of a model's functions in files, each tried against the model before it stands.

- ONNX, which onnxruntime computes in Python, C, C++, C#, Java, JavaScript and on phones. https://onnx.ai
- torch.export's own format, `.pt2`, which torch computes without this project's code.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from vae_lightning.errors import ConfigurationError, one_line
from vae_lightning.export.functions import Function, traced
from vae_lightning.machine.files import replacing

__all__ = ["FORMATS", "TOLERANCE", "Parity", "RandomGraphError", "write_graph"]

TOLERANCE = 1e-4
"""The largest difference that a graph may show, relative to values beyond 1."""
RANDOM = {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operations of ONNX that draw random numbers."""

Compute = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Outputs of a graph for its inputs."""


class RandomGraphError(ConfigurationError):
    """A function of a model draws random numbers, so no other program could give the same values."""


@dataclass(frozen=True)
class Parity:
    """How far a graph in a file is from the model.

    >>> Parity("encoder.onnx", 3e-7, images=8).sentence
    'encoder.onnx: at most 3.0e-07 from the model, on 8 images, together and one at a time'
    """

    file: str
    """The file's name."""
    difference: float
    """The largest difference of an output, relative to values beyond 1."""
    images: int
    """How many images it was tried on."""

    @property
    def sentence(self) -> str:
        """The parity in words."""
        return f"{self.file}: at most {self.difference:.1e} from the model, on {self.images} images, together and one at a time"


def write_graph(function: Function, folder: Path, format: str, tolerance: float = TOLERANCE) -> Parity:
    """Write the graph of `function` into `folder`, if it computes what the model computes.

    Args:
        format: a key of `FORMATS`.
        tolerance: the largest difference that is accepted, relative to values beyond 1.

    Raises:
        ConfigurationError: the function has no such graph, draws random numbers, or the graph differs; nothing is written.
        StorageError: the folder cannot be written.
    """
    suffix, save, load = FORMATS[format]
    program = traced(function)
    target = folder / f"{function.name}{suffix}"
    with replacing(target) as unfinished:
        save(program, function, unfinished)
        difference = _difference(function, load(unfinished))
        if not difference <= tolerance:
            raise ConfigurationError(
                f"{target.name}: differs from the model by {difference:.1e}, more than tolerance={tolerance:g}; nothing is exported"
            )
    return Parity(target.name, difference, len(next(iter(function.inputs.values()))))


def _difference(function: Function, compute: Compute) -> float:
    """The largest difference between the model and a graph, on all images together and on the first alone."""
    inputs = list(function.inputs.values())
    largest = 0.0
    for batch in (inputs, [value[:1] for value in inputs]):
        with torch.no_grad():
            expected = function.module(*batch)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for value, right in zip(compute(batch), expected, strict=True):
            if value.shape != right.shape:
                raise ConfigurationError(f"{function.name}: its graph gives shape {tuple(value.shape)} for {tuple(right.shape)}")
            away = (value.double() - right.double()).abs() / right.double().abs().clamp(min=1)
            largest = max(largest, float(away.nan_to_num(nan=float("inf")).max()))
    return largest


# ---- ONNX


def _save_onnx(program: ExportedProgram, function: Function, path: Path) -> None:
    _require("onnx", "onnxscript", "onnxruntime")
    import onnx_ir  # of onnxscript

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's of its own parts
            graph: Any = torch.onnx.export(
                program, dynamo=True, input_names=list(function.inputs), output_names=list(function.outputs), verbose=False
            )
    except Exception as error:  # the exporter has errors of its own, one for each stage, around the one that says why
        why: BaseException = error
        while why.__cause__ is not None:
            why = why.__cause__
        raise ConfigurationError(f"{function.name}: has no graph in ONNX: {one_line(why, 300)}") from error
    drawn = sorted({node.op_type for node in graph.model.graph} & RANDOM)
    if drawn:
        raise RandomGraphError(f"{function.name}: draws random numbers ({', '.join(drawn)}), which a graph must not")
    for value in (*graph.model.graph.inputs, *graph.model.graph.outputs):
        value.shape = onnx_ir.Shape(["batch", *value.shape[1:]])
    graph.save(str(path))


def _load_onnx(path: Path) -> Compute:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def compute(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        return [torch.from_numpy(value) for value in found]

    return compute


# ---- torch.export


def _save_program(program: ExportedProgram, function: Function, path: Path) -> None:
    drawn = sorted({str(node.target) for node in program.graph.nodes if torch.Tag.nondeterministic_seeded in _tags(node)})
    if drawn:
        raise RandomGraphError(f"{function.name}: draws random numbers ({', '.join(drawn)}), which a graph must not")
    with path.open("wb") as file:
        torch.export.save(program, file)


def _tags(node: Any) -> Sequence[Any]:
    return getattr(node.target, "tags", ())


def _load_program(path: Path) -> Compute:
    with path.open("rb") as file:
        module = torch.export.load(file).module()

    def compute(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            found = module(*inputs)
        return found if isinstance(found, tuple | list) else (found,)

    return compute


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ConfigurationError(f"format=onnx: needs {', '.join(missing)}: pip install 'vae_lightning[onnx]'")


FORMATS: dict[str, tuple[str, Callable[[ExportedProgram, Function, Path], None], Callable[[Path], Compute]]] = {
    "onnx": (".onnx", _save_onnx, _load_onnx),
    "torch_export": (".pt2", _save_program, _load_program),
}
"""The suffix of each format, what writes it, and what reads it again."""
