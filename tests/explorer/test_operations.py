"""The page's operations are torch's: each is tried in a browser, also those that no net of this project has."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import MISSING, Browser, browser, program
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.explorer.constants import Constants
from vae_lightning.explorer.graphs import graph_of
from vae_lightning.explorer.operations import known_operations, script
from vae_lightning.export.functions import Function

SCRIPTS = ("tensors.js", "products.js", "special.js", "operations.js", "interpreter.js")


class Called(nn.Module):
    """A function of images with a weight or two."""

    def __init__(self, function: Callable[..., Tensor], *weights: Tensor) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.weights)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


TRIED: dict[str, nn.Module] = {
    "convolution in groups, with a dilation": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2),
    "transposed convolution": nn.ConvTranspose2d(4, 6, (4, 3), stride=(3, 2), padding=(1, 2), output_padding=(2, 1)),
    "transposed convolution in groups": nn.ConvTranspose2d(4, 2, 3, stride=2, dilation=2, groups=2, bias=False),
    "layer norm": nn.LayerNorm([7, 6]),
    "group norm": nn.GroupNorm(2, 4),
    "batch norm": nn.BatchNorm2d(4),
    "largest of windows": nn.MaxPool2d(3, stride=2, padding=1),
    "largest of windows at the border": nn.MaxPool2d(2, ceil_mode=True),
    "mean of windows": nn.AvgPool2d(3, stride=2, padding=1),
    "mean of windows without padding": nn.AvgPool2d((3, 2), stride=2, padding=(1, 0), count_include_pad=False),
    "padding and cropping": Called(lambda x: F.pad(x, [1, 2, -1, 3, 0, 1], value=0.5)),
    "upsampling": Called(lambda x: F.interpolate(x, scale_factor=2)),
    "upsampling to a size": Called(lambda x: F.interpolate(x, size=(9, 11))),
    "gelu": nn.GELU(),
    "gelu by tanh": nn.GELU("tanh"),
    "leaky relu": nn.LeakyReLU(0.2),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(beta=2),
    "softmax": Called(lambda x: x.softmax(1) + x.log_softmax(-1)),
    "variance": Called(lambda x: x.var((1, 3), keepdim=True) + x.std(2, correction=0, keepdim=True)),
    "flip and roll of places": Called(lambda x: x.flip(-1, 1)[:, :, [3, 0, 5]]),
    "repeat and stack": Called(lambda x: torch.stack([x, 2 * x], 2).repeat(1, 1, 1, 2, 1).flatten(1, 2)),
    "extremes": Called(lambda x: x.amax((1, 2)) + x.amin((1, 2)) + x.cumsum(-1)[:, 0, 0] + torch.maximum(x, -x)[:, 0, 0]),
    "logic": Called(lambda x: torch.where((x > 0) & (x < 1) | ~(x.abs() <= 1.5), x.sign(), x.round()).clamp(-1, 2)),
    "functions": Called(lambda x: torch.erf(x) + torch.special.ndtri(torch.special.ndtr(x)) + x.sin() * x.cos() + x.expm1()),
    "roots and powers": Called(
        lambda x: x.abs().sqrt() + (x.abs() + 1).rsqrt() + (x.abs() + 0.1) ** x + 1 / (1 + x**2) + x.floor()
    ),
    "slices": Called(lambda x: x[:, 1:3, ::2, -4:-1] - x[:, :2, ::2, 1:4].transpose(-1, -2).transpose(-1, -2)),
    "products": Called(lambda x, w: torch.einsum("bchw,chk->bwk", x, w) @ w[0].mT, drawn(4, 7, 5)),
    "rows by index": Called(lambda x, w: F.embedding((x[:, 0, 0] > 0).long() + 1, w), drawn(3, 4)),
    "places by index": Called(lambda x: x.gather(2, (x[:, :, :2] > 0).long()) + x.index_select(2, torch.tensor([4, 0]))),
    "parts": Called(
        lambda x: torch.cat([part * (i + 1) for i, part in enumerate(x.split([1, 3], 1))], 1) + x.select(3, 2).unsqueeze(-1)
    ),
    "means and sums of all": Called(lambda x: x.mean() + x.sum() * x[:, 0, 0] - x.mean(1).sum(-1).sum(-1, keepdim=True)),
}


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    if program() is None:
        pytest.skip(MISSING)
    with browser() as tab:
        yield tab


class All(nn.Module):
    """All that is tried as one function, which takes a fraction of the time to trace."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = nn.ModuleList(TRIED.values())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in self.tried)


def test_every_operation_is_torchs(tab: Browser, tmp_path: Path) -> None:
    x, constants, all_of_them = drawn(3, 4, 7, 6), Constants("float32"), All().eval()
    graph = graph_of(Function("tried", all_of_them, {"x": x}, tuple(TRIED)), constants)
    with torch.no_grad():
        right = dict(zip(TRIED, all_of_them(x), strict=True))
    content = json.dumps({"constants": constants.to_plain(), "graph": graph.to_plain(), "x": x.flatten().tolist()})
    calls = f"""
      const content = {content};
      const x = tensor([3, 4, 7, 6], Float64Array.from(content.x)), found = {{}};
      const outputs = new Graph(content.graph, decoded(content.constants)).call({{x}});
      for (const [name, {{shape, data}}] of Object.entries(outputs)) found[name] = [shape, Array.from(data, String)];"""
    page = tmp_path / "page.html"
    page.write_text("<meta charset=utf-8><script>" + "\n".join(map(script, SCRIPTS)) + calls + "</script>")
    tab.open(page)
    wrong = {}
    for name, (shape, values) in tab.do("found").items():
        expected = right[name]
        if shape != list(expected.shape):
            wrong[name] = shape
        elif not torch.allclose(torch.tensor([float(value) for value in values]).view(shape), expected, atol=2e-5, rtol=1e-4):
            wrong[name] = values
    assert wrong == {}


def test_names_are_torchs_own() -> None:
    unknown = []
    for name in known_operations():
        module: Any
        operation, _, overload = name.partition(".")
        module = __import__("operator") if operation == "py" else getattr(torch.ops.aten, operation, None)
        if not hasattr(module, overload):
            unknown.append(name)
    assert unknown == []
