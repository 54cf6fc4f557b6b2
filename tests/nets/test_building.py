"""Nets by name, by import path and as modules; what is wrong with one is said in a line that names it."""

from collections.abc import Callable
from typing import Any

import foreign_nets
import pytest
import torch
from torch import Tensor, nn

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import VAE
from vae_lightning.nets import NETS, NetPair
from vae_lightning.nets.mlp import MLPDecoder, MLPEncoder
from vae_lightning.noise import Source

MLP = {"name": "mlp", "hidden": [8]}
X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 9])


def loss(model: VAE, x: Tensor = X, y: Tensor | None = Y) -> Tensor:
    return model.terms(model(x, y, model.draw_noise(x, Source.of(x, 0))), x, y if y is not None else Y, torch.tensor(0.0))["loss"]


def refusal(build: Callable[[], Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what is built


@pytest.mark.parametrize("num_classes", [0, 10])
def test_a_pair_by_import_path_is_built_for_the_models_data(num_classes: int) -> None:
    model = VAE(2, "foreign_nets.LINEAR", num_classes=num_classes, image_shape=(3, 10, 12), likelihood="gaussian_per_pixel")
    assert isinstance(model.encoder, foreign_nets.LinearEncoder)
    assert isinstance(model.decoder, foreign_nets.LinearDecoder)
    assert loss(model, torch.rand(4, 3, 10, 12), Y).isfinite().all()


def test_an_encoder_and_a_decoder_are_chosen_each_for_itself_with_arguments_of_their_own() -> None:
    spec = {"name": "foreign_nets.LinearEncoder", "gain": 2.0}
    model = VAE(2, MLP, encoder=spec, decoder="cnn3")
    assert isinstance(model.encoder, foreign_nets.LinearEncoder)
    assert (model.encoder.gain, type(model.decoder)) == (2.0, NETS["cnn3"].decoder)
    assert model.hparams["encoder"] == spec
    assert isinstance(VAE(2, MLP, encoder="foreign_nets.UnconditionalEncoder").decoder, MLPDecoder)


def test_one_half_of_a_pair_may_come_from_elsewhere() -> None:
    model = VAE(2, "foreign_nets.Halved", decoder=MLP)
    assert isinstance(model.encoder, foreign_nets.LinearEncoder)
    assert isinstance(model.decoder, MLPDecoder)


def test_modules_are_taken_as_they_are() -> None:
    encoder, decoder = foreign_nets.LinearEncoder(2, 0, (1, 28, 28)), foreign_nets.LinearDecoder(2, 0, (1, 28, 28), 1)
    model = VAE(2, encoder=encoder, decoder=decoder)
    assert (model.encoder, model.decoder) == (encoder, decoder)
    loss(model).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_encoder_without_labels_may_give_a_list_and_find_its_size_by_itself() -> None:
    assert loss(VAE(2, MLP, encoder="foreign_nets.UnconditionalEncoder")).shape == (4,)


def test_a_subclass_of_ours_is_given_the_noise_of_its_dropout() -> None:
    torch.manual_seed(0)
    model = VAE(2, MLP, encoder=MLPEncoder(2, 0, hidden=[8], dropout=0.5))
    noise = model.draw_noise(X, Source.of(X, 0))
    assert [tuple(u.shape) for u in noise.dropout] == [(4, 8)]
    dropped = model.posterior(X, None, iter([torch.zeros(4, 8)])).mean
    torch.testing.assert_close(dropped, model.encoder.loc.bias.expand(4, 2))


def test_a_pair_has_both_halves_of_the_tables() -> None:
    assert all(isinstance(pair, NetPair) and issubclass(pair.encoder, nn.Module) for pair in NETS.values())  # type: ignore[arg-type]


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"net": "mpl"}, "net.name=mpl: unknown; did you mean mlp?"),
        ({"net": "foreign_nets.Halved"}, "net.name=foreign_nets.Halved: has no decoder"),
        ({"net": "foreign_nets.LinearEncoder"}, "net.name=foreign_nets.LinearEncoder: has no encoder"),
        ({"net": "foreign_nets.Nothing"}, "net.name=foreign_nets.Nothing: foreign_nets has no Nothing"),
        ({"encoder": "foreign_nets.text"}, "encoder.name=foreign_nets.text: builds a str, which is no torch.nn.Module"),
        ({"encoder": "foreign_nets.LINEAR"}, "encoder.name=foreign_nets.LINEAR: is a NetPair, and cannot be called"),
        (
            {"encoder": "foreign_nets.Raises"},
            "encoder.name=foreign_nets.Raises: building it fails: FileNotFoundError: weights for 2 dimensions",
        ),
        ({"decoder": {"name": "foreign_nets.LinearDecoder", "depth": 2}}, "decoder.depth: no such key"),
        (
            {"encoder": {"name": "foreign_nets.LinearEncoder", "gain": "much"}},
            "encoder.gain='much': input should be a valid number",
        ),
        ({"encoder": {"name": "foreign_nets.LinearEncoder", "latent_dim": 5}}, "encoder.latent_dim: no such key"),
        ({"net": "cnn3", "image_shape": (1, 16, 28)}, "image_shape=[1, 16, 28]: must be at least 27 high and wide"),
    ],
)
def test_a_net_that_cannot_be_built_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    assert refusal(lambda: VAE(2, **arguments)).startswith(message)


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("features", "one tensor of shape (4, 2)"),
        ("three", "a tuple of (4, 2) and (4, 2) and (4, 2)"),
        ("wide", "a tuple of (4, 2) and (4, 4)"),
        ("dictionary", "a dict"),
        ("numbers", "a tuple of float and (4, 2)"),
    ],
)
def test_what_an_encoder_gives_must_be_two_tensors_of_the_latents_size(what: str, given: str) -> None:
    model = VAE(2, MLP, encoder={"name": "foreign_nets.Gives", "what": what})
    assert refusal(lambda: loss(model)) == (
        f"encoder: Gives gave {given} of images (4, 1, 28, 28); a pair is wanted, mean and log-variance of the latents, each of "
        "shape (4, 2)"
    )


def test_a_flows_encoder_is_told_how_much_more_is_wanted() -> None:
    flow = {"name": "iaf", "hidden": [8], "context": 3}
    assert loss(VAE(2, MLP, encoder="foreign_nets.LinearEncoder", posterior=flow)).shape == (4,)
    model = VAE(2, MLP, encoder=foreign_nets.LinearEncoder(2, 0, (1, 28, 28)), posterior=flow)
    assert refusal(lambda: loss(model)).endswith("each of shape (4, 5)")


@pytest.mark.parametrize(
    ("likelihood", "what", "given", "wanted"),
    [
        (
            "bernoulli",
            "flat",
            "one tensor of shape (4, 784)",
            "1 number for each pixel of 1 channel, one tensor of shape (4, 1, 28, 28)",
        ),
        ("bernoulli", "pair", "a tuple of (4, 1, 28, 28) and NoneType", "1 number for each pixel of 1 channel, one tensor"),
        ("gaussian_per_pixel", "one", "one tensor of shape (4, 1, 28, 28)", "2 numbers for each pixel of 1 channel, one tensor of"),
    ],
)
def test_what_a_decoder_gives_must_be_what_the_likelihood_wants(likelihood: str, what: str, given: str, wanted: str) -> None:
    model = VAE(2, MLP, likelihood, decoder={"name": "foreign_nets.Gives", "what": what})
    said = refusal(lambda: loss(model))
    assert said.startswith(f"decoder: Gives gave {given} of latents (4, 2); the likelihood wants {wanted}")


def test_a_mean_image_does_not_say_where_several_numbers_a_pixel_start() -> None:
    for net in ("mlp", "cnn3"):
        decoder = VAE(2, net, "gaussian_per_pixel").decoder
        said = refusal(lambda decoder=decoder: decoder.start_from_mean(torch.full((1, 28, 28), 0.5)))  # type: ignore[misc]
        assert said == "start_from_mean=True: must be false with a likelihood of more than one number a pixel and channel"
