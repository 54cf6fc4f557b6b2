"""A model of permuted pixels answers for images in place as it does for the permuted ones, and stays as it was trained."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Independent, Normal
from toys import Painter

from vae_lightning.evaluation.report import Settings, latent_variable_report
from vae_lightning.inference.observed import observed_log_likelihood, observed_mask
from vae_lightning.inference.pixels import Reordered, in_place
from vae_lightning.models import M2, VAE, Classifier
from vae_lightning.types import LatentVariableModel

ORDER = torch.randperm(784, generator=torch.Generator().manual_seed(3))


def permute(images: Tensor) -> Tensor:
    return images.flatten(-3)[..., ORDER].reshape(images.shape)


def unpermute(images: Tensor) -> Tensor:
    return images.flatten(-3)[..., ORDER.argsort()].reshape(images.shape)


def placed(model: Any) -> Any:
    return in_place(model, permute, unpermute)


def images(count: int = 20) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    return (torch.rand(count, 1, 28, 28, generator=source) < 0.3).float(), torch.arange(count) % 10


@pytest.mark.parametrize("prior", ["standard", {"name": "mog", "components": 5}, {"name": "vamp", "components": 5}])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_every_estimate_is_that_of_the_permuted_images(prior: Any, likelihood: str) -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=3, net={"name": "mlp", "hidden": [16]}, prior=prior, likelihood=likelihood).eval()
    if isinstance(prior, dict) and prior["name"] == "vamp":
        with torch.no_grad():  # pseudo-inputs that look like something, so that their pixels' places matter
            model.prior_of.pseudo_inputs.copy_(permute(images(5)[0]))  # type: ignore[operator, union-attr]
    x, y = images()
    settings = Settings(num_samples=5)
    expected = latent_variable_report(model, [(permute(x), y)], "test", "none", settings)
    found = latent_variable_report(placed(model), [(x, y)], "test", "none", settings)
    for name, estimate in expected.items():
        assert found[name].value == pytest.approx(estimate.value, rel=1e-5, abs=1e-3), name


def test_answers_are_images_with_their_pixels_in_place() -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=3, net={"name": "mlp", "hidden": [16]}).eval()
    adapter, z = placed(model), torch.randn(2, 4, 3)
    with torch.no_grad():
        assert torch.equal(adapter.likelihood(z).mean, unpermute(model.likelihood(z).mean))
        assert torch.equal(adapter.likelihood(z).variance, unpermute(model.likelihood(z).variance))
        torch.manual_seed(1)
        drawn = adapter.likelihood(z).sample()
        torch.manual_seed(1)
        assert torch.equal(drawn, unpermute(model.likelihood(z).sample()))
    assert isinstance(adapter, LatentVariableModel)
    assert not hasattr(adapter, "predict")


def test_unseen_pixels_drop_out_where_they_are_in_the_picture() -> None:
    model, x, mask = Painter(), images(4)[0], observed_mask("top")
    z = model.posterior(permute(x)).mean.unsqueeze(0)
    found = observed_log_likelihood(placed(model).likelihood(z), x, mask)
    pixels = model.likelihood(z)
    assert isinstance(pixels, Independent)
    expected = torch.where(mask, unpermute(pixels.base_dist.log_prob(permute(x))), 0).sum((-3, -2, -1))
    assert torch.allclose(found, expected)
    assert not torch.allclose(found, observed_log_likelihood(pixels, permute(x), mask)), "the mask is of pixels in place"


def test_distribution_that_does_not_factorise_is_reordered_as_a_whole() -> None:
    class Whole(Distribution):
        arg_constraints: dict[str, Any] = {}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__(torch.Size([2]), torch.Size([1, 28, 28]), validate_args=False)
            self.flat = Dirichlet(torch.rand(2, 784) + 0.5)

        @property
        def mean(self) -> Tensor:
            return self.flat.mean.view(2, 1, 28, 28)

        def log_prob(self, value: Tensor) -> Tensor:
            return self.flat.log_prob(value.flatten(-3))

    whole = Whole()
    around = Reordered(whole, permute, unpermute)
    assert torch.equal(around.mean, unpermute(whole.mean))
    x = whole.mean
    assert torch.equal(around.log_prob(unpermute(x)), whole.log_prob(x))


def test_images_that_are_reordered_have_the_support_of_those_within() -> None:
    inner = Normal(torch.zeros(1, 28, 28), 1.0)
    assert Reordered(inner, permute, unpermute).support is inner.support


def test_classes_are_those_of_the_permuted_images() -> None:
    x, _ = images(6)
    for model in (Classifier().eval(), M2(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()):
        assert torch.equal(placed(model).predict(x), model.predict(permute(x)))
        assert isinstance(placed(model), LatentVariableModel) == isinstance(model, M2)
        assert placed(model).num_classes == model.num_classes
    assert torch.equal(placed(Classifier().eval()).features(x).isnan(), torch.zeros(6, 256, dtype=torch.bool))
