"""A likelihood that is one passes every check that applies to it, and what fails is in the report by name and size."""

import pytest
from planted import Halves, linear_images, material_of
from toys import LinearGaussian

from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.verification.part import estimates_of, verify
from vae_lightning.evaluation.verification.verdict import CHECKS, Finding, Verdict


def linear(latent_dim: int = 2, **settings: object) -> Material:
    model = LinearGaussian(pixels=12, latent_dim=latent_dim, shift=0.2, stretch=1.2)
    return material_of(model, linear_images(model), count=24)


@pytest.mark.parametrize(
    ("material", "left_out"),
    [
        (linear, {"causality/steps", "mass/labels", "order/reported"}),
        (lambda: linear(3), {"causality/steps", "mass/labels", "order/reported", "order/exact", "order/ais_exact"}),
        (
            lambda: material_of(Halves(num_classes=2), Halves(num_classes=2).images, num_classes=2, count=48),
            {"causality/steps", "independence/labels", "order/reported"},
        ),
    ],
    ids=["exact", "three latents", "conditional"],
)
def test_likelihood_that_is_one_passes_all_that_applies(material: object, left_out: set[str]) -> None:
    assert callable(material)
    verdicts = verify(material())
    assert {v.name: v.line for v in verdicts if v.applies and not v.passed} == {}
    assert {v.name for v in verdicts if not v.applies} == left_out
    assert {v.name for v in verdicts} == set(CHECKS)


def test_estimates_hold_sizes_tolerances_and_what_does_not_apply() -> None:
    def verdict(name: str, finding: Finding | None = None, **why: str) -> Verdict:
        return Verdict(name, "it holds", "nats", finding, **why)

    verdicts = [
        verdict("a/passes", Finding(0.1, 0.2, "rounding")),
        verdict("a/fails", Finding(0.3, 0.2, "rounding")),
        verdict("a/of_few", Finding(0.0, 0.2, "rounding", images=3)),
        verdict("a/breaks", error="ValueError: no"),
        verdict("a/is_not_here", reason="no labels"),
    ]
    report = estimates_of(verdicts, linear())
    assert set(report) == {"verified", "verification/a/passes", "verification/a/fails", "verification/a/of_few"}
    assert report["verified"].value == pytest.approx(2 / 4)
    assert report["verified"].settings == {
        "passed": ["a/passes", "a/of_few"],
        "failed": {
            "a/fails": "not so that it holds: 0.3 nats, more than 0.2 (rounding)",
            "a/breaks": "could not be computed: ValueError: no",
        },
        "not applicable": {"a/is_not_here": "no labels"},
    }
    assert (report["verification/a/fails"].value, report["verification/a/fails"].num_images) == (0.3, 24)
    assert report["verification/a/of_few"].num_images == 3
    assert estimates_of(verdicts[4:], linear())["verified"].value == 0, "what does not apply has not passed"
