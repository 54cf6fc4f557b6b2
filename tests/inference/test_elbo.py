"""The ELBO of each image, against a model whose every term is known."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from toys import LinearGaussian, Painter

from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.elbo import bound_at, mean_elbo


@torch.no_grad()
def test_exact_posterior_makes_the_bound_tight() -> None:
    model = LinearGaussian()
    x = model.marginal().sample((40,))
    noise = torch.randn(4000, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bound = mean_elbo(model, model.exact_posterior(x), noise, x, None, max_batch=5000)
    assert bound == pytest.approx(model.marginal().log_prob(x), abs=0.15)
    wide = Independent(Normal(model.exact_posterior(x).mean, 2 * model.exact_scale), 1)
    gap = model.marginal().log_prob(x) - mean_elbo(model, wide, noise, x, None, max_batch=5000)
    assert gap == pytest.approx(kl_divergence(wide, model.exact_posterior(x)), abs=0.3)


def test_memory_does_not_change_the_bound() -> None:
    model, x = Painter(), torch.rand(3, 1, 28, 28).round()
    noise, posterior = torch.randn(20, 3, 2), model.posterior(x)
    whole, small = (mean_elbo(model, posterior, noise, x, None, max_batch=size) for size in (1000, 1))
    assert small == pytest.approx(whole, abs=1e-4)


def test_terms_are_the_bound_and_a_mask_leaves_unseen_pixels_out() -> None:
    model, x = Painter(), torch.rand(3, 1, 28, 28).round()
    posterior = model.posterior(x)
    z, mask = posterior.mean.unsqueeze(0), torch.zeros(1, 28, 28, dtype=torch.bool)
    terms = bound_at(model, posterior, z, x, None)
    assert torch.equal(terms.elbo, terms.log_likelihood - terms.kl)
    assert torch.equal(terms.log_likelihood, model.likelihood(z).log_prob(x).squeeze(0))
    unseen = bound_at(model, posterior, z, x, None, mask)
    assert torch.equal(unseen.log_likelihood, torch.zeros(3))
    assert torch.equal(unseen.kl, terms.kl)


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 3, 1), (4, 2, 2), (3, 2)])
def test_noise_of_other_samples_is_refused(shape: tuple[int, ...]) -> None:
    model, x = Painter(), torch.rand(3, 1, 28, 28).round()
    with pytest.raises(ConfigurationError, match=r"^noise=\(.*: must be \(K, 3, 2\) or \(K, 1, 2\), K at least 1"):
        mean_elbo(model, model.posterior(x), torch.zeros(shape), x, None)
