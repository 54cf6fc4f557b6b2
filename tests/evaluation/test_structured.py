"""Unseen quadrants against the exact integral over a latent of two dimensions."""

import pytest
import torch
from toys import Painter

from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.structured import QUADRANTS, structured_report
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.quadrature import quadrature
from vae_lightning.inference.svi import QUICK, SVISettings


@pytest.mark.parametrize("num_classes", [0, 2])
@pytest.mark.parametrize("svi", [SVISettings(max_steps=150, num_samples=10), QUICK], ids=["a moderate fit", "quick"])
def test_unseen_quadrants_cost_what_the_exact_integral_says(num_classes: int, svi: SVISettings) -> None:
    model = Painter(num_classes=num_classes)
    torch.manual_seed(0)
    y = torch.tensor([0, 1, 1]) if num_classes else None
    x = model.likelihood(torch.randn(3, 2), y).sample()
    report = structured_report(model, x, y, "none", svi, 1000, Budget(4000))
    whole = quadrature(model, x, y).log_evidence
    for count, names in QUADRANTS.items():
        mask = torch.stack([observed_mask(name) for name in names]).any(0)
        assert mask.sum() == 196 * count
        exact = (quadrature(model, x, y, mask).log_evidence - whole).mean().item()
        estimate = report[f"nll_unseen/given_{count}_quadrants"]
        assert estimate.value == pytest.approx(exact, abs=0.1)
        assert (estimate.num_images, estimate.num_samples) == (3, 1000)
