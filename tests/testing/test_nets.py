"""Nets with one fault each, and the sentence that finds it."""

import pytest
import torch
from foreign_nets import Gives
from torch import Tensor, nn

from vae_lightning.testing.nets import check_decoder, check_encoder

SHAPE = (1, 4, 4)


class Net(nn.Module):
    """An encoder without a fault, if not for `fault`."""

    def __init__(self, fault: str = "", num_classes: int = 0) -> None:
        super().__init__()
        self.fault = fault
        self.body = nn.Linear(16 + num_classes, 4)
        self.norm, self.dropout, self.idle = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(1, 1)
        self.norm.requires_grad_(fault == "batch norm")
        self.idle.requires_grad_(fault == "idle")

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        rows = x.flatten(1)
        if y is not None:
            rows = torch.cat([rows, 0 * y if self.fault == "labels" else y], dim=-1)
        h = self.body(rows)
        if self.fault == "batch norm" and len(h) > 1:
            h = self.norm(h)
        if self.fault == "single" and len(h) == 1:
            h = h.squeeze(0)
        h = self.dropout(h) if self.fault == "dropout" else h
        h = h / 0 if self.fault == "infinite" else h
        h = h.detach() if self.fault == "detached" else h
        h = torch.cat([h[:, :2], 0 * h[:, 2:]], dim=-1) if self.fault == "one head" else h
        loc, log_variance = h.chunk(2, dim=-1)
        return (loc,) if self.fault == "one" else (loc, log_variance)


FAULTS = {
    "batch norm": r"the output of one image changes by \S+ with the other images of its batch: is there a BatchNorm",
    "single": r"the mean has shape \(1,\), not \(1, 2\)|the mean has shape \(2,\), not \(1, 2\)",
    "dropout": r"the output differs by \S+ when it is computed a second time: noise must be given",
    "infinite": r"mean and log-variance: 64 of 64 numbers are not finite",
    "detached": r"the output does not depend on any parameter",
    "one head": r"2 of 4 outputs are the same for all of 64 inputs",
    "one": r"gives a tuple of 1, not a pair of mean and log-variance",
    "idle": r"no gradient of Net: the output reaches idle\.weight, idle\.bias",
}


def test_the_net_without_a_fault_passes() -> None:
    for num_classes in (0, 3):
        check_encoder(Net(num_classes=num_classes), image_shape=SHAPE, num_classes=num_classes)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_encoder_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_encoder(Net(fault), image_shape=SHAPE)


def test_labels_that_are_not_used_are_named() -> None:
    with pytest.raises(AssertionError, match="the output is the same whatever the labels are"):
        check_encoder(Net("labels", num_classes=3), image_shape=SHAPE, num_classes=3)


def test_a_net_that_takes_no_labels_cannot_be_conditional() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    with pytest.raises(
        AssertionError, match=r"Sequential: a call with \(16, 1, 4, 4\) and one-hot labels \(16, 3\) fails: TypeError"
    ):
        check_encoder(encoder, image_shape=SHAPE, num_classes=3)


@pytest.mark.parametrize("what", ["three", "wide", "dictionary", "numbers", "features"])
def test_whatever_else_an_encoder_gives_is_named(what: str) -> None:
    with pytest.raises(AssertionError, match=r"^Gives: (gives a|the (mean|log-variance) (is|has))"):
        check_encoder(Gives(what=what), image_shape=SHAPE)


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_another_number_of_latents_is_named(latent_dim: int) -> None:
    with pytest.raises(AssertionError, match=rf"the mean has shape \(16, 2\), not \(16, {latent_dim}\)"):
        check_encoder(Net(), image_shape=SHAPE, latent_dim=latent_dim)


class Half(nn.Module):
    """A decoder that forgets the lower half of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(2, 16)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.body(z).view(-1, *SHAPE)
        return torch.cat([images[..., :2, :], torch.zeros_like(images[..., 2:, :])], dim=-2)


class Flat(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 16)


def test_a_decoder_that_forgets_half_of_its_output_is_named() -> None:
    with pytest.raises(AssertionError, match="Half: 8 of 16 outputs are the same for all of 64 inputs"):
        check_decoder(Half(), image_shape=SHAPE)


def test_a_decoder_of_another_shape_is_named() -> None:
    with pytest.raises(AssertionError, match=r"Flat: the output has shape \(16, 16\), not \(16, 1, 4, 4\)"):
        check_decoder(Flat(), image_shape=SHAPE)
    with pytest.raises(AssertionError, match=r"the output has shape \(16, 1, 4, 4\), not \(16, 2, 4, 4\)"):
        check_decoder(nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, SHAPE)), image_shape=SHAPE, outputs=2)


def test_what_is_no_module_is_named() -> None:
    with pytest.raises(AssertionError, match=r"function is no torch\.nn\.Module"):
        check_encoder(lambda x: x)  # type: ignore[arg-type]
