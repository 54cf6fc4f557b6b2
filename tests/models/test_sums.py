"""Running sums give the mean over images, not over batches."""

import pytest
import torch

from vae_lightning.models.sums import MetricSums


def test_mean_is_over_images_whatever_the_sizes_of_the_batches() -> None:
    values = torch.randn(100, dtype=torch.float64)
    sums = MetricSums()
    for batch in values.split([50, 49, 1]):
        sums.add({"kl": batch, "twice": 2 * batch})
    assert sums.count == 100
    assert sums.means()["kl"] == pytest.approx(values.mean().item(), rel=1e-12)
    assert sums.means()["twice"] == pytest.approx(2 * values.mean().item(), rel=1e-12)


def test_merged_sums_are_the_sums_of_all() -> None:
    first, second, values = MetricSums(), MetricSums(), torch.randn(10, dtype=torch.float64)
    first.add({"kl": values[:7]})
    second.add({"kl": values[7:]})
    first.merge(second)
    assert first.means()["kl"] == pytest.approx(values.mean().item(), rel=1e-12)
    assert second.means()["kl"] == pytest.approx(values[7:].mean().item(), rel=1e-12)
    empty = MetricSums()
    empty.merge(first)
    assert empty.means() == first.means()


def test_adding_after_a_merge_leaves_the_other_alone() -> None:
    total, window = MetricSums(), MetricSums()
    window.add({"kl": torch.ones(1)})
    total.merge(window)
    total.add({"kl": torch.full((1,), 3.0)})
    assert window.means() == {"kl": 1.0}
    assert total.means() == {"kl": 2.0}


def test_reset_forgets_everything() -> None:
    sums = MetricSums()
    sums.add({"kl": torch.ones(3)})
    sums.reset()
    assert sums.count == 0
    assert sums.means() == {}
    sums.add({"elbo": torch.full((2,), 5.0)})
    assert sums.means() == {"elbo": 5.0}


def test_sums_keep_what_float32_would_lose() -> None:
    sums = MetricSums()
    sums.add({"elbo": torch.full((1,), 1e8)})
    for _ in range(100):
        sums.add({"elbo": torch.ones(1)})
    assert sums.means()["elbo"] == pytest.approx((1e8 + 100) / 101, rel=1e-12)


def test_sums_keep_no_graph() -> None:
    sums, term = MetricSums(), torch.ones(2, requires_grad=True)
    sums.add({"loss": 2 * term})
    assert sums._sums is not None
    assert not sums._sums.requires_grad


def test_mean_over_ranks_weighs_each_rank_by_its_images() -> None:
    here, there = MetricSums(), MetricSums()
    here.add({"kl": torch.tensor([1.0, 2.0, 3.0])})
    there.add({"kl": torch.tensor([10.0])})
    sent: list[torch.Tensor] = []
    there.means(lambda totals: (sent.append(totals), totals)[1])
    assert here.means(lambda totals: totals + sent[0])["kl"] == 4


def test_totals_are_plain_numbers_and_empty_before_the_first_image() -> None:
    sums = MetricSums()
    assert sums.totals() == {}
    sums.add({"kl": torch.tensor([1.0, 2.5])})
    assert sums.totals() == {"kl": 3.5, "images": 2.0}


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_that_go_on_from_totals_have_the_means_of_all_images(ranks: int) -> None:
    values = torch.randn(11, dtype=torch.float64)
    before = MetricSums()
    before.add({"kl": values[:5]})
    parts = [MetricSums() for _ in range(ranks)]
    for rank, part in enumerate(parts):
        part.restore(before.totals(), ranks, torch.device("cpu"))
        part.add({"kl": values[5:][rank::ranks]})
    sent: list[torch.Tensor] = []
    for part in parts:
        part.means(lambda totals: (sent.append(totals), totals)[1])
    means = parts[0].means(lambda _: torch.stack(sent).sum(0))
    assert means["kl"] == pytest.approx(values.mean().item(), rel=1e-12)


def test_shares_of_restored_sums_are_merged_unrounded() -> None:
    whole, share = MetricSums(), MetricSums()
    share.restore({"kl": 9.0, "images": 3.0}, ranks=2, device=torch.device("cpu"))
    whole.merge(share)
    assert whole.totals() == {"kl": 4.5, "images": 1.5}
