"""What says input is the input, what says mean is the mean, what says sample is a sample, the worst is the worst."""

import pytest
import torch
from torch import Tensor
from toys import Painter

from vae_lightning.figures.images import elbo_per_image, reconstruction_pairs, reconstructions, reproductions, samples


def test_reproductions_are_the_means_decoded_from_posterior_means(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter()
    left, right = reproductions(model, x, y, columns=3).axes
    assert torch.equal(shown(left).flatten(0, 1), x[:9, 0])
    expected = model.likelihood(model.posterior(x[:9]).mean).mean
    assert torch.allclose(shown(right).flatten(0, 1), expected[:, 0])


def test_elbo_is_the_mean_over_noise_of_the_models_own(x: Tensor, y: Tensor) -> None:
    model = Painter()
    values = torch.stack([elbo_per_image(model, x, y, seed) for seed in range(200)])
    posterior = model.posterior(x)
    z = posterior.sample((2000,))
    expected = (model.likelihood(z).log_prob(x) + model.prior().log_prob(z) - posterior.log_prob(z)).mean(0)
    assert torch.allclose(values.mean(0), expected, atol=0.3)


def test_reconstructions_are_ordered_by_elbo(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter()
    panels = reconstructions(model, x, y, columns=3).axes
    order = elbo_per_image(model, x, y).argsort(descending=True)
    for panel, places in zip(panels, (order[:3], order[18:21], order[-3:]), strict=True):
        inputs, means, drawn = shown(panel)
        assert torch.equal(inputs, x[places, 0])
        halves = means[..., 1:, :14]
        assert torch.allclose(halves, halves[..., :1, :1].expand_as(halves)), "a mean of one half is one level"
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}, "a sample is binary"


def test_pairs_show_an_image_beside_its_own_reproduction(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter()
    panels = reconstruction_pairs(model, x, y, rows=2).axes[:8]
    for panel in panels:
        image, mean = shown(panel)[0]
        (place,) = (x[:, 0] == image).flatten(1).all(1).nonzero().flatten().tolist()
        assert panel.get_title() == str(int(y[place]))
        assert torch.allclose(mean, model.likelihood(model.posterior(x[place : place + 1]).mean).mean[0, 0])


def test_samples_lie_below_their_means_and_come_from_the_prior(shown) -> None:  # type: ignore[no-untyped-def]
    means, drawn = shown(samples(Painter(), count=400).axes[0])
    z = means[:, 5, 0].logit()
    assert abs(float(z.mean())) < 0.2
    assert abs(float(z.std()) - 1) < 0.15
    assert torch.allclose(drawn[:, :, :14].mean((1, 2)), means[:, 5, 0], atol=0.12)


def test_samples_of_a_conditional_model_are_of_the_label_above(shown) -> None:  # type: ignore[no-untyped-def]
    axes = samples(Painter(num_classes=10), num_classes=10).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(i) for i in range(10)]
    assert torch.equal(shown(axes)[0, :, 0, 0].round(), torch.arange(10) % 2.0)


def test_another_seed_draws_another_sample_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (samples(Painter(), seed=seed).axes[0].images[0].get_array() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("count", [3, 12, 40])
def test_pairs_of_few_images_say_what_is_what_within_the_picture(x: Tensor, y: Tensor, count: int, overhang) -> None:  # type: ignore[no-untyped-def]
    assert overhang(lambda: reconstruction_pairs(Painter(), x[:count], y[:count])) < 0.02
    made = reconstruction_pairs(Painter(), x[:count], y[:count])
    words = "input, left; mean of p(x | z), right"
    assert made.get_suptitle() == (words if count < 13 else "")
    assert made.axes[-1].get_ylabel() == ("grey level" if count < 13 else f"grey level of the {words}")
