import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from vae_lightning import CVAE, VAE
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.ais import annealed_importance_sampling
from vae_lightning.inference.elbo import mean_elbo
from vae_lightning.inference.importance import importance_sampling
from vae_lightning.inference.observed import MASKS, observed_log_likelihood, observed_mask
from vae_lightning.inference.quadrature import log_joint_on, quadrature
from vae_lightning.inference.svi import stochastic_variational_inference
from vae_lightning.noise import Source, generator


def test_default_is_the_upper_fourteen_rows() -> None:
    mask = observed_mask()
    assert mask.shape == (1, 28, 28)
    assert mask[:, :14].all()
    assert not mask[:, 14:].any()


def test_halves_are_counted_along_their_own_side() -> None:
    top, left = observed_mask("top", (3, 5, 8)), observed_mask("left", (3, 5, 8))
    assert top.any(-1).any(0).tolist() == [True, True, False, False, False]
    assert left.any(-2).any(0).tolist() == [True] * 4 + [False] * 4
    assert top[..., :2, :].all()
    assert left[..., :4].all()


def test_quadrant_is_where_its_halves_meet() -> None:
    for rows in ("top", "bottom"):
        for columns in ("left", "right"):
            assert torch.equal(observed_mask(f"{rows}_{columns}"), observed_mask(rows) & observed_mask(columns))


def test_all_is_everything() -> None:
    assert observed_mask("all").all()


@pytest.mark.parametrize("kind", MASKS)
def test_every_mask_is_bool_of_the_shape_asked_for(kind: str) -> None:
    mask = observed_mask(kind, (2, 6, 4))
    assert mask.shape == (2, 6, 4)
    assert mask.dtype == torch.bool


def test_random_observes_the_fraction_asked_for_by_its_generator_alone() -> None:
    shape = (100, 100, 100)
    mask = observed_mask("random", shape, 0.3, generator(0))
    assert mask.float().mean().item() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 1e6) ** 0.5)
    assert torch.equal(mask, observed_mask("random", shape, 0.3, generator(0)))
    assert not torch.equal(mask, observed_mask("random", shape, 0.3, generator(1)))
    assert observed_mask("random", fraction=1.0).all()
    assert not observed_mask("random", fraction=0.0).any()


def test_unknown_mask_is_refused_by_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"kind=botom: unknown; did you mean bottom\?"):
        observed_mask("botom")


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_fraction_is_a_probability(fraction: float) -> None:
    with pytest.raises(ConfigurationError, match=f"fraction={fraction}: must be from 0 to 1"):
        observed_mask("random", fraction=fraction)


SIDES = st.integers(1, 5)


@given(st.integers(1, 3), SIDES, SIDES, SIDES, st.data())
def test_seen_and_unseen_pixels_add_up_to_the_whole_image_whichever_are_seen(
    batch: int, channels: int, rows: int, columns: int, data: st.DataObject
) -> None:
    shape = data.draw(st.sampled_from(((channels, rows, columns), (batch, channels, rows, columns))), "shape of the mask")
    seen = data.draw(arrays(bool, shape), "mask")
    torch.manual_seed(0)
    likelihood = Independent(Bernoulli(logits=torch.randn(2, batch, channels, rows, columns).double()), 3)
    x, mask = torch.randint(2, (batch, channels, rows, columns)).double(), torch.from_numpy(seen)
    parts = observed_log_likelihood(likelihood, x, mask) + observed_log_likelihood(likelihood, x, ~mask)
    torch.testing.assert_close(parts, likelihood.log_prob(x))
    torch.testing.assert_close(observed_log_likelihood(likelihood, x, None), likelihood.log_prob(x))


@given(st.lists(SIDES, max_size=2), st.integers(0, 9), st.integers(0, 9))
def test_every_pixel_is_in_one_quadrant_and_in_one_of_two_halves_of_images_of_any_shape(
    above: list[int], rows: int, columns: int
) -> None:
    masks = {kind: observed_mask(kind, (*above, rows, columns)).int() for kind in MASKS}
    everything = masks["all"]
    assert everything.shape == (*above, rows, columns)
    assert everything.all()
    for parts in (("top", "bottom"), ("left", "right"), ("top_left", "top_right", "bottom_left", "bottom_right")):
        assert torch.equal(sum(masks[part] for part in parts), everything)


def test_mask_of_one_image_serves_all_and_latents_may_be_shared() -> None:
    loc = torch.randn(5, 1, 4).double()
    x, mask = torch.randn(3, 4).double(), torch.tensor([True, False, True, True])
    result = observed_log_likelihood(
        Independent(Independent(Normal(loc.unsqueeze(-1), 0.5), 1), 1), x.unsqueeze(-1), mask.unsqueeze(-1)
    )
    torch.testing.assert_close(result, Independent(Normal(loc[..., mask], 0.5), 1).log_prob(x[:, mask]))


def test_unseen_pixels_have_no_effect_on_value_or_gradient_whatever_they_hold() -> None:
    loc = torch.zeros(2, 3, requires_grad=True)
    x = torch.tensor([1.0, float("nan"), float("inf")])
    result = observed_log_likelihood(Independent(Normal(loc, 1.0), 1), x, torch.tensor([True, False, False]))
    result.sum().backward()
    torch.testing.assert_close(result, Normal(0.0, 1.0).log_prob(torch.ones(2)))
    assert loc.grad is not None
    assert loc.grad.tolist() == [[1, 0, 0]] * 2


def test_pixels_that_depend_on_each_other_are_refused() -> None:
    likelihood = MultivariateNormal(torch.zeros(3), torch.eye(3))
    with pytest.raises(NotImplementedError, match=r"independent given z .* not a MultivariateNormal"):
        observed_log_likelihood(likelihood, torch.zeros(1, 3), torch.tensor([True, False, True]))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (
            torch.zeros(3, 4, 4),
            torch.zeros(3, dtype=torch.int64),
            r"x: must be images \(B, 1, 4, 4\) of .*; it is float32 \(3, 4, 4\)",
        ),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64), r"x: must be images .*, at least one; it is float32 \(0, 1,"),
        (torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"x: must be .*; it is uint8 "),
        (torch.zeros(3, 1, 4, 4), torch.zeros(2, dtype=torch.int64), r"y: must be labels \(B,\), one an image; they are \(2,\)"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(3, 3), r"y: must be labels \(B,\), one an image; they are \(3, 3\)"),
        (torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 3]), r"y: must be labels \(B,\) from 0 to 2"),
        (torch.zeros(3, 1, 4, 4), None, r"y: must be labels \(B,\) from 0 to 2"),
    ],
)
def test_images_and_labels_that_are_not_the_models_are_refused_by_every_estimator(x: Tensor, y: Tensor | None, said: str) -> None:
    """Images without their channel would be weighed against each other's pixels, which gives numbers, and wrong ones."""
    model = CVAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, num_classes=3, image_shape=(1, 4, 4)).eval()
    source = Source.of(torch.zeros(len(x)), "estimate")
    posterior = Independent(Normal(torch.zeros(len(x), 2), 1.0), 1)
    for estimate in (
        lambda: importance_sampling(model, x, y, 3, source),
        lambda: annealed_importance_sampling(model, x, y),
        lambda: quadrature(model, x, y),
        lambda: stochastic_variational_inference(model, x, y),
        lambda: log_joint_on(model, torch.zeros(5, 2), x, y),
        lambda: mean_elbo(model, posterior, torch.zeros(3, len(x), 2), x, y),
    ):
        with pytest.raises(ConfigurationError, match=rf"^{said}"):
            estimate()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.ones(4, 8, 8, dtype=torch.bool), r"it is bool \(4, 8, 8\)"),
        (torch.ones(8, 8, dtype=torch.bool), r"it is bool \(8, 8\)"),
        (torch.ones(1, 7, 8, dtype=torch.bool), r"it is bool \(1, 7, 8\)"),
        (torch.ones(1, 8, 8), r"it is float32 \(1, 8, 8\)"),
    ],
)
def test_masks_that_are_not_of_the_images_are_refused_by_every_estimator(mask: Tensor, said: str) -> None:
    """One without the channel of four images would be taken for one of four channels, which gives numbers, and wrong ones."""
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, image_shape=(1, 8, 8)).eval()
    x = torch.zeros(4, 1, 8, 8)
    for estimate in (
        lambda: annealed_importance_sampling(model, x, mask=mask),
        lambda: quadrature(model, x, mask=mask),
        lambda: stochastic_variational_inference(model, x, mask=mask),
        lambda: log_joint_on(model, torch.zeros(5, 2), x, mask=mask),
        lambda: mean_elbo(model, model.posterior(x), torch.zeros(3, 4, 2), x, None, mask),
    ):
        with pytest.raises(ConfigurationError, match=rf"^mask: must be bool \(1, 8, 8\) or \(4, 1, 8, 8\), .*{said}"):
            estimate()
