"""Graphs for the page compute what the model computes, with the weights of the page, and hold no more numbers than the model."""

import json

import pytest
import torch
from torch import Tensor, nn

from vae_lightning import VAE, MNISTDataModule
from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.constants import Constants
from vae_lightning.explorer.functions import functions_for_page
from vae_lightning.explorer.graphs import Graph, graph_of
from vae_lightning.explorer.operations import known_operations
from vae_lightning.export.functions import Function
from vae_lightning.inference.pixels import in_place

NET = {"name": "mlp", "hidden": [64]}
X = torch.linspace(0, 1, 3 * 784).reshape(3, 1, 28, 28).round()
Y = torch.tensor([0, 2, 1])


def graphs(model: VAE, constants: Constants) -> dict[str, Graph]:
    return {name: graph_of(function, constants) for name, function in functions_for_page(model.eval(), X, Y).items()}


def test_graph_is_the_function_to_the_rounding_of_its_weights() -> None:
    model = VAE(latent_dim=2, net=NET, num_classes=3)
    functions = functions_for_page(model.eval(), X, Y)
    exact, rounded = (
        {name: graph_of(functions[name], Constants(width)) for name in ("decoder", "terms")} for width in ("float32", "float16")
    )
    for name, graph in exact.items():
        inputs = list(graph.function.inputs.values())
        with torch.no_grad():
            right = graph.function.module(*inputs)
        for value, other, halves in zip(
            graph(*inputs), right if isinstance(right, tuple) else (right,), rounded[name](*inputs), strict=True
        ):
            assert torch.allclose(value, other, atol=1e-6)
            assert torch.allclose(halves, other, atol=0.02, rtol=1e-3)
    z = torch.randn(3, 2)
    assert not torch.equal(exact["decoder"](z, Y)[0], rounded["decoder"](z, Y)[0])


def test_graph_of_a_model_of_permuted_pixels_is_of_images_in_place() -> None:
    data, model = MNISTDataModule(permute_pixels=True, eval_seed=77), VAE(latent_dim=2, net=NET).eval()
    for function in functions_for_page(in_place(model, data.permute, data.unpermute), X, Y).values():
        inputs = list(function.inputs.values())
        with torch.no_grad():
            right = function.module(*inputs)
        for value, other in zip(
            graph_of(function, Constants())(*inputs), right if isinstance(right, tuple) else (right,), strict=True
        ):
            assert torch.allclose(value, other, atol=0.02, rtol=1e-3)


@pytest.mark.slow
def test_graph_takes_any_number_of_images() -> None:
    model = VAE(latent_dim=2, net={"name": "cnn2"})
    decoder = graphs(model, Constants("float32"))["decoder"]
    z = torch.randn(7, 2)
    assert torch.allclose(decoder(z)[0], model.decode(z), atol=1e-5)


@pytest.mark.slow
def test_posteriors_of_pseudo_inputs_go_into_the_page_and_not_the_pseudo_inputs() -> None:
    constants = Constants()
    graphs(VAE(latent_dim=2, net=NET, prior={"name": "vamp", "components": 50}), constants)
    sizes = [torch.Size(shape).numel() for _, shape, _ in constants.to_plain()["tensors"]]
    assert max(sizes) == 784 * 64
    assert sum(sizes) < 2 * 784 * 64 + 5000


@pytest.mark.slow
@pytest.mark.parametrize("net", ["cnn2", "cnn3"])
def test_numbers_are_not_more_than_the_models(net: str) -> None:
    constants = Constants()
    model = VAE(latent_dim=5, net=net)
    graphs(model, constants)
    held = sum(torch.Size(shape).numel() for _, shape, _ in constants.to_plain()["tensors"])
    assert held <= sum(p.numel() for p in model.parameters()) + 500


@pytest.mark.slow
def test_plain_graph_is_strict_json_of_known_operations() -> None:
    for graph in graphs(VAE(latent_dim=2, net="cnn3", num_classes=3), Constants()).values():
        plain = json.loads(json.dumps(graph.to_plain(), allow_nan=False))
        assert {name for name, _ in plain["operations"]} <= known_operations()


class Odd(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.special.i0(z)


class Constant(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z * 0 + torch.rand(2)


@pytest.mark.parametrize(("module", "operation"), [(Odd(), "i0.default"), (Constant(), "rand.default")])
def test_operation_that_the_page_does_not_know_is_refused_by_name(module: nn.Module, operation: str) -> None:
    function = Function("decoder", module, {"z": torch.ones(3, 2)}, ("mean",))
    with pytest.raises(ConfigurationError, match=rf"^decoder: the explorer's page does not know the operation {operation}$"):
        graph_of(function, Constants())


class Form(nn.Module):
    """An operation that the page knows, in a form that it does not."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.over_one, self.over_three = nn.Conv1d(2, 2, 3), nn.ConvTranspose3d(2, 2, 3)
        self.register_buffer("mask", torch.tensor([True, False]))

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "one":
            return self.over_one(x[:, :, 0])
        if self.name == "three":
            return self.over_three(x[:, :, None])
        if self.name == "places":
            found = (x[:, 0, 0, 0] > 0).long()
            return x[found, found]
        if self.name == "mask":
            return x[:, self.mask]
        return nn.functional.max_pool2d(x, 2, dilation=(1, 2))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one", r"convolution\.default as of Conv1d \(it knows that of Conv2d\)"),
        ("three", r"convolution\.default as of Conv3d \(it knows that of Conv2d\)"),
        ("places", r"index\.Tensor with 2 index tensors \(it knows that with one\)"),
        ("mask", r"index\.Tensor with a mask \(it knows that with whole numbers\)"),
        ("dilation", r"max_pool2d_with_indices\.default with a dilation of 1x2 \(it knows that with none\)"),
    ],
)
def test_form_of_an_operation_that_the_page_does_not_know_is_refused_by_name(name: str, said: str) -> None:
    function = Function("decoder", Form(name), {"x": torch.ones(3, 2, 5, 5)}, ("mean",))
    with pytest.raises(ConfigurationError, match=rf"^decoder: the explorer's page does not know the operation {said}$"):
        graph_of(function, Constants())
