"""The protocol recognises latent-variable models, and the records hold what they say."""

import ast
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import LinearGaussian

import vae_lightning
from vae_lightning.models import CVAE, VAE, Classifier
from vae_lightning.types import Batch, Estimate, LatentVariableModel, Noise

NET = {"name": "mlp", "hidden": [4]}


MNISTS_OWN = {"types.py", "data/mnist.py", "data/larochelle.py", "data/sources.py", "data/fetching.py", "data/idx.py"}
"""Files that may say how large MNIST's images are and how many digits there are."""
OTHERS = {"data/shapes2d.py", "compression/latents.py"}
"""Files of images of the same size by a choice of their own, and of a number of bits."""
COUNTING = {"arange", "eye", "one_hot", "randint", "range"}


def numbers_of_mnist(source: str) -> list[str]:
    """Lines of code, but not of strings, that say 28 or 784, or 10 where it can only be a number of classes."""
    lines, found = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=28 | 784):
                found.append(node.lineno)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in COUNTING:
                found += [node.lineno for argument in args if _is_ten(argument)]
            case ast.keyword(arg=str(name), value=value) if _of_classes(name) and _is_ten(value):
                found.append(node.lineno)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value):
                found += [node.lineno] * (_of_classes(name) and _is_ten(value))
            case ast.FunctionDef(args=signature):
                names, values = [*signature.posonlyargs, *signature.args], signature.defaults
                defaults = [*zip(names[len(names) - len(values) :], values, strict=True)]
                defaults += zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
                found += [argument.lineno for argument, value in defaults if _of_classes(argument.arg) and _is_ten(value)]
            case ast.Compare():
                sides = [node.left, *node.comparators]
                found += [node.lineno] * (any(map(_is_ten, sides)) and any(_of_classes(ast.unparse(side)) for side in sides))
    return [lines[number - 1].strip() for number in found]


def _is_ten(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == 10 and isinstance(node.value, int)


def _of_classes(name: str) -> bool:
    return any(word in name.lower() for word in ("class", "label", "digit"))


def test_nothing_but_mnists_own_files_says_how_large_its_images_are() -> None:
    root = Path(vae_lightning.__file__).parent
    found = {path.relative_to(root).as_posix(): numbers_of_mnist(path.read_text()) for path in root.rglob("*.py")}
    assert found["types.py"] == ["MNIST_CLASSES = 10", *["MNIST_SHAPE = (1, 28, 28)"] * 2]
    assert {path: lines for path, lines in found.items() if lines and path not in MNISTS_OWN | OTHERS} == {}


@pytest.mark.parametrize(
    "line",
    [
        "x.view(-1, 28, 28)",
        "nn.Linear(784, 500)",
        "for label in range(10): ...",
        "torch.eye(10)[y]",
        "F.one_hot(y, 10)",
        "CVAE(num_classes=10)",
        "CLASSES = 10",
        "num_labels: int = 10",
        "def net(num_classes: int = 10): ...",
        "def net(*, classes=10): ...",
        "valid = y.num_classes == 10",
    ],
)
def test_numbers_of_mnist_are_seen(line: str) -> None:
    assert numbers_of_mnist(line)


@pytest.mark.parametrize("line", ["'28 x 28'", "steps = 10", "latent_mesh(rows=10)", "scale = 10.0", "batch_size = 128"])
def test_other_numbers_are_not(line: str) -> None:
    assert not numbers_of_mnist(line)


@pytest.mark.parametrize("model", [VAE(net=NET), CVAE(net=NET), LinearGaussian()], ids=lambda m: type(m).__name__)
def test_latent_variable_models_follow_the_protocol(model: nn.Module) -> None:
    assert isinstance(model, LatentVariableModel)


@pytest.mark.parametrize("model", [Classifier(), nn.Linear(2, 2)], ids=lambda m: type(m).__name__)
def test_other_modules_do_not(model: nn.Module) -> None:
    assert not isinstance(model, LatentVariableModel)


def test_estimate_cannot_be_altered() -> None:
    estimate = Estimate(1.0, 0.1, 10, 1, "threshold", "mean")
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 2.0  # type: ignore[misc]


def test_noise_has_no_dropout_unless_given() -> None:
    assert Noise(torch.zeros(1)).dropout == ()


def test_batch_unpacks_in_order() -> None:
    images, labels, key = Batch(torch.zeros(2, 3, 8, 6), torch.ones(2), (1, 2))
    assert images.shape == (2, 3, 8, 6)
    assert labels.tolist() == [1, 1]
    assert key == (1, 2)
