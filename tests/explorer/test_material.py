"""What a page shows beside the model, where the truth is known."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning import VAE
from vae_lightning.distributions.sampling import diagonal_gaussian
from vae_lightning.explorer.constants import Constants
from vae_lightning.explorer.functions import functions_for_page
from vae_lightning.explorer.graphs import Graph, graph_of
from vae_lightning.explorer.material import CHECKED, Rounding, activity, latents_of, rounding, typical

NET = {"name": "mlp", "hidden": [64]}
Y = torch.zeros(50, dtype=torch.int64)


class Known(nn.Module):
    """A model whose first latent says nothing, and whose second and third have a KL of 2 and of 0.5 nats for every image."""

    latent_dim = 3

    def prior(self, y: Tensor | None = None) -> Distribution:
        return diagonal_gaussian(torch.zeros(3), torch.zeros(3))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        sign = 2 * (x[:, 0, 0, :1] > 0) - 1
        return diagonal_gaussian(sign * torch.tensor([0.0, 2.0, 1.0]), torch.zeros(len(x), 3))

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        raise NotImplementedError


def test_activity_is_the_kl_of_each_dimension() -> None:
    x = torch.randn(50, 1, 4, 4)
    found = activity(Known(), x, Y, latents_of(Known(), x, Y))
    assert torch.allclose(found.values, torch.tensor([0.0, 2.0, 0.5]))
    assert found.order == [1, 2, 0]
    assert "KL" in found.measure


def test_activity_is_a_variance_where_the_kl_is_no_sum_over_dimensions() -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=2, net=NET, prior={"name": "mog", "components": 3}).eval()
    x = torch.rand(50, 1, 28, 28)
    latents = latents_of(model, x, Y)
    found = activity(model, x, Y, latents)
    assert torch.allclose(found.values, latents.means.var(0))
    assert "variance" in found.measure


def test_latents_of_a_flow_are_those_of_its_samples() -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=2, net=NET, posterior={"name": "iaf", "hidden": [8]}).eval()
    x = torch.rand(4, 1, 28, 28)
    means, scales = latents_of(model, x, Y[:4])
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for image in range(4):
            z = model(x[image : image + 1].expand(2000, -1, -1, -1), None, _noise(noise)).z[0]
            assert torch.allclose(means[image], z.mean(0), atol=4 * float(z.std(0).max()) / 32**0.5)
            assert torch.allclose(scales[image], z.std(0), rtol=0.6)


def _noise(epsilon: Tensor):  # type: ignore[no-untyped-def]
    from vae_lightning.types import Noise

    return Noise(epsilon.unsqueeze(0))


@pytest.mark.parametrize("width", ["float32", "float16"])
def test_rounding_says_what_fewer_bits_change(width: str) -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=2, net=NET).eval()
    x = torch.rand(50, 1, 28, 28).round()
    constants = Constants(width)  # type: ignore[arg-type]
    functions = functions_for_page(model, x[:3], Y[:3])
    graphs = {name: graph_of(functions[name], constants) for name in ("prior", "decoder", "terms")}
    found = rounding(graphs, x, Y)
    if width == "float32":
        assert found.mean < 1e-6
        assert found.elbo < 1e-3
    else:
        assert 1e-6 < found.mean < 1e-3
        assert 1e-5 < found.elbo < 0.1
    usual = typical(graphs, x, Y)
    assert usual["images"] == 50
    assert usual["log_likelihood"] - usual["kl"] == pytest.approx(-544, abs=30)  # a model that knows nothing: 784 log 2


def test_rounding_is_tried_on_images_of_every_class_where_they_are_sorted() -> None:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, num_classes=4).eval()
    x, y = torch.zeros(4 * CHECKED, 1, 28, 28), torch.arange(4).repeat_interleave(CHECKED)
    functions = functions_for_page(model, x[:3], y[:3])
    tried = []

    class Watched(Graph):
        def __call__(self, *inputs: Tensor) -> list[Tensor]:
            tried.append(inputs[-1].bincount().tolist())
            return super().__call__(*inputs)

    graphs = {name: graph_of(functions[name], Constants()) for name in ("prior", "decoder", "terms")}
    watched: Any = {name: Watched(**vars(graph)) for name, graph in graphs.items()}
    rounding(watched, x, y)
    assert tried == [[CHECKED // 4] * 4] * 2


def test_rounding_that_is_no_number_is_not_finite() -> None:
    assert Rounding(0.1, 0.1).is_finite
    assert not Rounding(float("nan"), 0.1).is_finite
    assert not Rounding(0.1, float("inf")).is_finite
