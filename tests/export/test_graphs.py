"""Graphs in files: each gives what the model gives, or is not written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vae_lightning import VAE, MNISTDataModule
from vae_lightning.errors import ConfigurationError
from vae_lightning.export import graphs
from vae_lightning.export.functions import Function, functions_of
from vae_lightning.export.graphs import FORMATS, RandomGraphError, write_graph
from vae_lightning.inference.pixels import in_place

X, Y = torch.arange(2 * 784).reshape(2, 1, 28, 28) % 2 * 1.0, torch.tensor([1, 2])


def functions(**arguments: Any) -> list[Function]:
    return functions_of(VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, **arguments).eval(), X, Y)


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    if "torch_export" not in request.node.name:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)


@pytest.mark.parametrize("format", FORMATS)
def test_file_is_tried_against_the_model(tmp_path: Path, format: str) -> None:
    for function in functions(num_classes=3):
        parity = write_graph(function, tmp_path, format)
        assert 0 <= parity.difference < 1e-5
        assert (tmp_path / parity.file).is_file()


@pytest.mark.parametrize("format", FORMATS)
def test_graph_of_a_model_of_permuted_pixels_is_of_images_in_place(tmp_path: Path, format: str) -> None:
    data = MNISTDataModule(permute_pixels=True, eval_seed=len(format) + 1000)
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for function in functions_of(in_place(model, data.permute, data.unpermute), images, Y):
        assert write_graph(function, tmp_path, format).difference < 1e-5
    with torch.no_grad():
        assert torch.equal(
            functions_of(in_place(model, data.permute, data.unpermute), images, Y)[0].module(images)[0],
            functions_of(model, images, Y)[0].module(data.permute(images))[0],
        )


def test_reason_why_there_is_no_graph_is_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a step of many, in colours") from TypeError("no such operation")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(ConfigurationError, match=r"^encoder: has no graph in ONNX: no such operation$"):
        write_graph(functions()[0], tmp_path, "onnx")


def test_onnxruntime_computes_the_decoder_for_any_number_of_images(tmp_path: Path) -> None:
    import onnxruntime

    function = functions(num_classes=3)[1]
    write_graph(function, tmp_path, "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx", providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("z", ["batch", 2]), ("y", ["batch"])]
    z, y = np.random.default_rng(0).standard_normal((7, 2)).astype(np.float32), np.arange(7) % 3
    (mean,) = session.run(["mean"], {"z": z, "y": y})
    with torch.no_grad():
        right = function.module(torch.from_numpy(z), torch.from_numpy(y))
    assert np.abs(mean - right.numpy()).max() < 1e-5


@pytest.mark.parametrize("format", FORMATS)
def test_graph_that_differs_is_refused_with_its_difference(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suffix, save, load = FORMATS[format]

    def wrong(path: Path) -> graphs.Compute:
        compute = load(path)
        return lambda inputs: [value + 0.5 for value in compute(inputs)]

    monkeypatch.setitem(FORMATS, format, (suffix, save, wrong))
    with pytest.raises(ConfigurationError, match=r"decoder.*: differs from the model by 5\.0e-01, more than tolerance=0\.0001"):
        write_graph(functions()[1], tmp_path, format)
    assert not list(tmp_path.iterdir())


def test_nan_differs(tmp_path: Path) -> None:
    class Undefined(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - 1).sqrt()

    with pytest.raises(ConfigurationError, match="differs from the model by inf"):
        write_graph(Function("encoder", Undefined(), {"x": torch.zeros(2, 3)}, ("y",)), tmp_path, "torch_export")


@pytest.mark.parametrize("format", FORMATS)
def test_random_function_is_refused(tmp_path: Path, format: str) -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    with pytest.raises(RandomGraphError, match=r"^encoder: draws random numbers"):
        write_graph(Function("encoder", Random(), {"x": torch.zeros(2, 3)}, ("y",)), tmp_path, format)


def test_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"format=onnx: needs onnx, .*pip install 'vae_lightning\[onnx\]'"):
        write_graph(functions()[1], tmp_path, "onnx")
