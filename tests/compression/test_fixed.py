"""Fixed arithmetic gives the same bits whatever a sum's order is, and nearly what torch gives."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.compression.fixed import FixedArithmetic
from vae_lightning.errors import ConfigurationError
from vae_lightning.nets import NETS


def fixed(compute: object, *values: Tensor) -> Tensor:
    with torch.no_grad(), FixedArithmetic():
        return compute(*values)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("name", NETS)
def test_every_net_gives_each_image_the_same_bits_alone_and_among_others(name: str) -> None:
    torch.manual_seed(0)
    x, z = torch.rand(5, 1, 28, 28).double().round(), torch.randn(5, 3).double()
    encoder = NETS[name].encoder(latent_dim=3, num_classes=0, image_shape=(1, 28, 28)).double()
    decoder = NETS[name].decoder(latent_dim=3, num_classes=0, image_shape=(1, 28, 28), outputs=1).double()
    for net, value in ((lambda x: torch.cat(encoder(x), -1), x), (decoder, z)):
        together = fixed(net, value)
        assert torch.equal(fixed(net, value[3:4]), together[3:4])
        with torch.no_grad():
            assert torch.allclose(together, net(value), atol=2e-3)


@pytest.mark.parametrize(
    "function",
    [torch.sigmoid, torch.tanh, torch.exp, F.softplus, F.elu, F.gelu, F.silu, F.leaky_relu, F.relu, lambda x: F.glu(x, 0)],
)
def test_functions_are_those_of_torch(function: object) -> None:
    x = torch.linspace(-30, 30, 4002, dtype=torch.float64)
    expected = function(x)  # type: ignore[operator]
    assert ((fixed(function, x) - expected).abs() <= 4e-6 * expected.abs().clamp(min=1)).all()


def test_logarithms_sums_and_means_are_those_of_torch() -> None:
    x = torch.linspace(0, 1, 3001, dtype=torch.float64)
    assert torch.allclose(fixed(torch.log, x[1:] * 1e3), (x[1:] * 1e3).log(), atol=4e-6)
    assert torch.allclose(fixed(lambda x: x.logit(1e-3), x), x.logit(1e-3), atol=8e-6)
    assert fixed(torch.log, x)[0] == -torch.inf
    for reduced in (lambda x: x.mean((0, 2)), lambda x: x.sum(1, keepdim=True), lambda x: x.mean()):
        values = torch.randn(3, 4, 5, dtype=torch.float64)
        assert torch.allclose(fixed(reduced, values), reduced(values), atol=1e-4)


LAYERS: dict[str, nn.Module] = {
    **{kind.__name__: kind() for kind in (nn.PReLU, nn.CELU, nn.Mish, nn.Hardswish, nn.LogSigmoid, nn.Softsign, nn.Dropout)},
    **{f"{kind.__name__}, in place": kind(inplace=True) for kind in (nn.ReLU, nn.ELU, nn.SELU, nn.SiLU, nn.Hardtanh)},
    **{kind.__name__: kind(8) for kind in (nn.LayerNorm, nn.BatchNorm1d, nn.RMSNorm)},
    "GroupNorm": nn.GroupNorm(2, 8),
    "Softmax": nn.Softmax(-1),
    "LogSoftmax": nn.LogSoftmax(-1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_consist_of_smaller_operations_are_those_of_torch(name: str) -> None:
    torch.manual_seed(0)
    layer, x = LAYERS[name].double().eval(), torch.randn(6, 8).double()
    if isinstance(layer, nn.BatchNorm1d):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    together = fixed(layer, x.clone())
    assert torch.equal(fixed(layer, x[2:3].clone()), together[2:3])
    with torch.no_grad():
        assert torch.allclose(together, layer(x.clone()), atol=2e-4)


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_in_groups_are_those_of_torch(transposed: bool) -> None:
    torch.manual_seed(0)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer, x = kind(4, 6, 3, stride=2, groups=2).double(), torch.randn(2, 4, 9, 9).double()
    with torch.no_grad():
        assert torch.allclose(fixed(layer, x), layer(x), atol=1e-3)


def test_what_is_written_into_numbers_of_another_precision_is_refused() -> None:
    """As they are computed with in double precision, the result would be lost."""
    with pytest.raises(ConfigurationError, match="has no fixed arithmetic"):
        fixed(torch.tanh_, torch.ones(3, dtype=torch.float32))


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_are_those_of_torch(transposed: bool) -> None:
    torch.manual_seed(0)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    how = {"output_padding": (1, 0)} if transposed else {"dilation": (1, 2)}
    layer, x = kind(3, 4, (4, 3), stride=(2, 3), padding=(1, 2), **how).double(), torch.randn(2, 3, 9, 11).double()
    with torch.no_grad():
        assert torch.allclose(fixed(layer, x), layer(x), atol=1e-3)


def test_an_operation_without_fixed_arithmetic_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="torch's sin has no fixed arithmetic"):
        fixed(torch.sin, torch.ones(3))
    with pytest.raises(ConfigurationError, match=r"a power of 1\.5 has no fixed arithmetic"):
        fixed(lambda x: x**1.5, torch.ones(3))


PROGRAM = """
import hashlib, torch
from vae_lightning.compression.fixed import FixedArithmetic
from vae_lightning.nets import NETS

def digest():
    net = NETS["gated_mlp"].decoder(latent_dim=5, num_classes=0, image_shape=(1, 28, 28), outputs=1).double()
    z = (torch.arange(200.).double().view(40, 5) * 0.37).remainder(3)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_((torch.arange(value.numel()).double() * 0.618).remainder(1).view_as(value) * 0.2 - 0.1)
        with FixedArithmetic():
            return hashlib.sha256(net(z).numpy().tobytes()).hexdigest()
"""


@pytest.mark.slow
def test_a_processor_without_vector_units_gives_the_same_bits() -> None:
    here: dict[str, object] = {}
    exec(PROGRAM, here)
    there = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}\nprint(digest())"],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here["digest"]()  # type: ignore[operator]
