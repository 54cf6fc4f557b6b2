"""The parts of a full evaluation see only the protocol: models of one's own get all of them."""

import sys
import types

import pytest
import torch
from torch import Tensor
from toys import Painter

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation import parts
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.parts import PARTS, ImageCounts, Material, Part, PartSettings, check_parts, measure
from vae_lightning.inference.ais import AISSettings
from vae_lightning.inference.svi import SVISettings
from vae_lightning.models import VAE
from vae_lightning.types import Estimate

SETTINGS = PartSettings(
    num_samples=20,
    svi=SVISettings(max_steps=3),
    of_parts=(
        ImageCounts(estimators=2, structured=2, samples=24, probes=30),
        AISSettings(num_chains=2, num_distributions=3, leapfrog_steps=2),
    ),
)
BOUND = {name: Estimate(1.0, 0.1, 10, 1, "none", "") for name in ("kl", "log_likelihood", "nll")}


class Eye:
    """A judge that tells images by how dark their halves are."""

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1).unflatten(1, (28, 28)).mean(-2)

    def predict(self, x: Tensor) -> Tensor:
        return (10 * self.features(x)[:, :10]).softmax(-1)


def material(num_classes: int = 0, latent_dim: int = 2, judge: Eye | None = None) -> Material:
    model = Painter(latent_dim, num_classes)

    def images(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        torch.manual_seed(len(split))
        y = torch.arange(count or 30) % 2
        return model.likelihood(torch.randn(len(y), latent_dim), y).sample(), y

    return Material(model, images, BOUND, "none", num_classes, SETTINGS, Budget(500), judge, "an eye")


def test_every_part_that_fits_is_measured_and_the_others_say_why_not() -> None:
    found = dict(measure(material(judge=Eye()), list(PARTS)))
    assert found.pop("disentanglement") == "the data set has no known factors of variation: data=shapes2d has"
    for name, report in found.items():
        assert isinstance(report, dict), f"{name}: {report}"
        for key, estimate in report.items():
            assert estimate.value == estimate.value, key
            assert estimate.seconds >= 0, key
            assert estimate.section, key
    assert list(found) == [name for name in PARTS if name != "disentanglement"]


def test_what_does_not_fit_says_so() -> None:
    reasons = {name: PARTS[name].unfit(material(num_classes=2, latent_dim=3)) for name in PARTS}
    assert reasons["quadrature"] == "needs a latent of at most two dimensions, and this model's has 3"
    assert "told the label" in str(reasons["probes"])
    assert str(reasons["samples"]).startswith("classifier=null: ")
    assert "factors" in str(reasons["disentanglement"])
    assert {name for name, reason in reasons.items() if reason is None} >= {"importance", "ais", "bdmc", "gaps", "structured"}


def test_a_part_asked_for_by_name_must_fit() -> None:
    check_parts(material(), ["quadrature", "gaps"])
    with pytest.raises(ConfigurationError, match=r"^parts=quadrature: needs a latent of at most two dimensions"):
        check_parts(material(latent_dim=3), ["gaps", "quadrature"])
    with pytest.raises(ConfigurationError, match="did you mean gaps"):
        check_parts(material(), ["gap"])


def test_a_part_that_fails_does_not_cost_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(m: Material) -> dict[str, Estimate]:
        raise ValueError("no\nway")

    def wordless(m: Material) -> dict[str, Estimate]:
        raise NotImplementedError

    monkeypatch.setitem(parts.PARTS, "gaps", Part("gaps", broken))
    monkeypatch.setitem(parts.PARTS, "ais", Part("ais", wordless))
    found = dict(measure(material(), ["gaps", "ais", "rate_distortion"]))
    assert found["gaps"] == "failed (ValueError: no way)"
    assert found["ais"] == "NotImplementedError"
    assert isinstance(found["rate_distortion"], dict)


def wipes(m: Material) -> dict[str, Estimate]:
    m.images("test", None)[0].zero_()
    m.model.train()  # type: ignore[attr-defined]
    return {}


def leaves(m: Material) -> dict[str, Estimate]:
    raise SystemExit(3)


def sums(m: Material) -> dict[str, Estimate]:
    return {"ink": m.estimate(m.images("test", None)[0].flatten(1).sum(-1), "a sum")}


def test_what_a_part_of_ones_own_changes_is_as_it_was_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mypkg")
    for function in (wipes, leaves, sums):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "mypkg", module)
    held = torch.ones(4, 1, 2, 2), torch.zeros(4)
    model = VAE(2, {"name": "mlp", "hidden": [4]}, image_shape=(1, 2, 2)).eval()
    found = dict(measure(Material(model, lambda split, count: held, {}, "none", 0), ["mypkg.wipes", "mypkg.leaves", "mypkg.sums"]))
    assert found["mypkg.leaves"] == "failed (SystemExit: 3)"
    assert isinstance(found["mypkg.sums"], dict)
    assert found["mypkg.sums"]["ink"].value == 4
    assert not model.training


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_refused(count: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^estimators={count}: must be at least 2"):
        ImageCounts(estimators=count)
    with pytest.raises(ConfigurationError, match=r"^samples=23: must be at least 24"):
        ImageCounts(samples=23)
