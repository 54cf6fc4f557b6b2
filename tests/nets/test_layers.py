"""Dropout with given noise, initialisations with the variance they promise, and a decoder that starts from the mean image."""

import pytest
import torch
from torch import Tensor, nn

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets import DECODERS, ENCODERS, Decoder, Net
from vae_lightning.nets.layers import ACTIVATIONS, INITIALISATIONS, Dropout, GatedLinear, Stack, initialise


def test_dropout_drops_where_the_noise_is_below_p_and_rescales_the_rest() -> None:
    h, uniform = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 0.19, 0.2, 0.9])
    torch.testing.assert_close(Dropout(0.2, (4,))(h, uniform), torch.tensor([0.0, 0.0, 3.75, 5.0]))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_without_noise_is_the_identity_in_either_mode(training: bool) -> None:
    h = torch.randn(3, 4)
    assert torch.equal(Dropout(0.9, (4,)).train(training)(h), h)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_with_probability_p_and_keeps_the_expectation(p: float) -> None:
    torch.manual_seed(0)
    n = 200_000
    out = Dropout(p, (n,))(torch.full((n,), 3.0), torch.rand(n))
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)
    assert out.double().mean().item() == pytest.approx(3, abs=4 * 3 * (p / (1 - p) / n) ** 0.5)


def test_dropout_of_zero_drops_nothing() -> None:
    h = torch.randn(5)
    assert torch.equal(Dropout(0.0, (5,))(h, torch.zeros(5)), h)


@pytest.mark.parametrize("p", [1.0, 1.5, -0.1, float("nan")])
def test_dropout_probability_must_be_below_one(p: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^dropout=.*: must be in \[0, 1\)"):
        Dropout(p, (4,))


def test_stack_hands_each_dropout_the_next_noise() -> None:
    stack = Stack(Dropout(0.5, (2,)), nn.Identity(), Dropout(0.5, (2,)))
    first, second = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    assert stack(torch.ones(2), iter([first, torch.ones(2)])).tolist() == [0, 4]
    assert stack(torch.ones(2), iter([torch.ones(2), second])).tolist() == [4, 0]
    assert stack(torch.ones(2)).tolist() == [1, 1]


def test_stack_with_too_little_noise_fails_instead_of_going_on() -> None:
    with pytest.raises(StopIteration):
        Stack(Dropout(0.5, (2,)), Dropout(0.5, (2,)))(torch.ones(2), iter([torch.ones(2)]))


def test_net_lists_its_dropout_layers_in_order() -> None:
    class Some(Net):
        def __init__(self) -> None:
            super().__init__()
            self.body = Stack(Dropout(0.1, (5,)), nn.Linear(5, 3), Dropout(0.1, (3,)), Dropout(0.1, (4, 2)))

    assert Some().dropout_features == [(5,), (3,), (4, 2)]


# ---- initialisation


def big_layer(name: str) -> nn.Linear:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(400, 300))
    initialise(net, name)
    assert isinstance(net[0], nn.Linear)
    return net[0]


@pytest.mark.parametrize(("name", "variance"), [("xavier", 2 / (400 + 300)), ("he", 2 / 400), ("normal", 0.01**2)])
def test_initialisation_has_its_variance_and_no_bias(name: str, variance: float) -> None:
    layer = big_layer(name)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert layer.weight.mean().abs().item() < 5 * (variance / layer.weight.numel()) ** 0.5
    assert not layer.bias.any()


@pytest.mark.parametrize(("name", "variance"), [("xavier", 2 / (400 + 300)), ("he", 2 / 400), ("normal", 0.01**2)])
def test_both_matrices_of_a_gated_layer_vary_as_they_would_alone(name: str, variance: float) -> None:
    net = GatedLinear(400, 300)
    initialise(net, name)
    for weight in net.weight.chunk(2):
        assert weight.var().item() == pytest.approx(variance, rel=0.03)
    assert not net.bias.any()


def test_xavier_is_uniform_within_its_bound() -> None:
    weight, bound = big_layer("xavier").weight, (6 / 700) ** 0.5
    assert bound * 0.999 < weight.abs().max().item() <= bound


def test_he_keeps_the_scale_of_relu_features_through_many_layers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(10) for layer in (nn.Linear(500, 500), nn.ReLU())))
    initialise(net, "he")
    x = torch.randn(200, 500)
    assert net(x).square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.5)


def test_default_leaves_torchs_own() -> None:
    torch.manual_seed(0)
    assert torch.equal(big_layer("default").weight, (torch.manual_seed(0), nn.Linear(400, 300))[1].weight)


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 1, 3), nn.Conv2d(1, 4, 3, bias=False)])
def test_convolutions_are_initialised_too(layer: nn.Module) -> None:
    torch.manual_seed(0)
    initialise(layer, "normal")
    assert layer.weight.abs().max() < 0.06  # torch's own bound here is 1/3 or 1/6
    assert layer.bias is None or not layer.bias.any()


def test_unknown_initialisation_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^init=xaver: unknown; did you mean xavier\?"):
        initialise(nn.Linear(2, 2), "xaver")


@pytest.mark.parametrize("init", INITIALISATIONS)
@pytest.mark.parametrize("name", ENCODERS)
def test_every_net_takes_every_initialisation(name: str, init: str) -> None:
    for build in (ENCODERS[name], DECODERS[name]):
        net = build(2, 0, init=init)
        assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_bend(name: str) -> None:
    x = torch.linspace(-3, 3, 13)
    assert ACTIVATIONS[name]()(x).diff().diff().abs().max() > 0.01


# ---- the decoder's start


def silenced(decoder: Decoder) -> Decoder:
    """With zero weights before its output bias, so that only this bias speaks."""
    bias = decoder.output_bias
    for p in decoder.parameters():
        if p is not bias:
            nn.init.zeros_(p)
    return decoder


def mean_image() -> Tensor:
    torch.manual_seed(0)
    return 0.1 + 0.8 * torch.rand(1, 28, 28)


@pytest.mark.parametrize("name", ["mlp", "gated_mlp"])
def test_dense_decoder_starts_from_every_pixel_of_the_mean_image(name: str) -> None:
    decoder = silenced(DECODERS[name](2, 0))
    decoder.start_from_mean(mean_image())
    torch.testing.assert_close(decoder.output_bias.view(1, 28, 28), mean_image().logit())
    torch.testing.assert_close(decoder(torch.randn(3, 2)).sigmoid(), mean_image().expand(3, -1, -1, -1))


@pytest.mark.parametrize("name", ["cnn2", "cnn3", "resnet"])
def test_convolutional_decoder_starts_from_the_mean_over_pixels(name: str) -> None:
    decoder = silenced(DECODERS[name](2, 0))
    decoder.start_from_mean(mean_image())
    torch.testing.assert_close(decoder.output_bias, mean_image().mean().logit().view(1))
    torch.testing.assert_close(decoder(torch.randn(3, 2)).sigmoid(), mean_image().mean().expand(3, 1, 28, 28))


def test_pixels_that_are_always_black_or_white_start_from_a_finite_bias() -> None:
    decoder = DECODERS["mlp"](2, 0)
    decoder.start_from_mean(torch.cat([torch.zeros(1, 14, 28), torch.ones(1, 14, 28)], 1))
    assert decoder.output_bias.isfinite().all()
    assert decoder.output_bias[0] < -5
    assert decoder.output_bias[-1] > 5
