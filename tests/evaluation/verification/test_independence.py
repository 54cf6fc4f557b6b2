"""An image's numbers are its own: a net that takes statistics of the batch, and one that looks at labels, are caught."""

import torch
from planted import Halves, finding, material_of, verdict
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class BatchStatistics(Halves):
    """A BatchNorm that stays in training mode, in the encoder or before the decoder."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.norm = where, nn.BatchNorm1d(2, affine=False)

    def train(self, mode: bool = True) -> "BatchStatistics":
        return super().train(True)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        q = super().posterior(x)
        loc = self.norm(q.mean.repeat(2, 1))[: len(x)] if self.where == "encoder" else q.mean
        return Independent(Normal(loc, 0.6), 1)

    def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
        z = self.norm(z.reshape(-1, 2)).view_as(z) if self.where == "decoder" else z
        return super().logits(z, y)


class Eavesdropper(Halves):
    """An unconditional model that brightens the first row by the label all the same."""

    def logits(self, z: Tensor, y: Tensor | None) -> Tensor:
        logits = super().logits(z, None)
        if y is not None:
            logits[..., 0, 0, :] += (4.0 * y - 2.0).unsqueeze(-1)
        return logits


def test_batch_statistics_of_an_encoder_are_caught() -> None:
    whole = material_of(BatchStatistics("encoder").eval(), Halves().images)
    for name in ("posterior", "log_p", "elbo"):
        found = finding(f"independence/{name}", whole)
        assert not found.passed
        assert found.size > 100 * found.tolerance, "many times what rounding does"


def test_batch_statistics_of_a_decoder_are_caught_and_the_posterior_is_not_blamed() -> None:
    whole = material_of(BatchStatistics("decoder").eval(), Halves().images)
    assert finding("independence/posterior", whole).passed
    assert not finding("independence/log_p", whole).passed


def test_model_that_cannot_take_an_image_alone_has_failed_and_says_why() -> None:
    class Alone(Halves):
        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            if len(x) == 1:
                raise ValueError("Expected more than 1 value per channel when training")
            return super().posterior(x, y)

    result = verdict("independence/posterior", material_of(Alone(), Halves().images))
    assert (result.applies, result.passed) == (True, False)
    assert result.line == "could not be computed: ValueError: Expected more than 1 value per channel when training"


def test_label_that_an_unconditional_model_looks_at_is_caught() -> None:
    found = finding("independence/labels", material_of(Eavesdropper(), Halves().images))
    assert not found.passed
    assert found.size > 1, "nats, by a row of four pixels"
    assert finding("independence/labels", material_of(Halves(), Halves().images)).size == 0


def test_order_of_images_is_another_one_and_noise_goes_along_with_them() -> None:
    class Seen(Halves):
        orders: list[list[float]] = []  # noqa: RUF012

        def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
            Seen.orders.append(x.flatten(1).sum(-1).tolist())
            return super().posterior(x, y)

    found = finding("independence/log_p", material_of(Seen(), Halves().images))
    whole = [order for order in Seen.orders if len(order) == 24]
    assert any(order != whole[0] and sorted(order) == sorted(whole[0]) for order in whole)
    assert [] not in Seen.orders
    assert sum(len(order) == 1 for order in Seen.orders) == 24, "each alone"
    assert found.size < 1e-4
    assert torch.tensor(found.tolerance) < 0.01
