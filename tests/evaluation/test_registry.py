"""A part of an evaluation registers itself where it is defined; a user's own is named by its import path."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation import registry
from vae_lightning.evaluation.material import ImageCounts, Material, PartSettings
from vae_lightning.evaluation.parts import PARTS, check_parts, measure
from vae_lightning.evaluation.registry import Part, part, part_of
from vae_lightning.glossary import METRICS, Metric, described
from vae_lightning.inference.ais import AISSettings
from vae_lightning.inference.svi import SVISettings
from vae_lightning.types import Estimate

OWN = '''
"""Parts of a researcher's own."""

import torch
from vae_lightning.types import Estimate


def darkness(material):
    """How dark the images are."""
    x, _ = material.images("test", 10)
    return {"darkness": material.estimate(x.flatten(1).mean(1), "mean of all pixels")}


def tensors(material):
    return {"norm": Estimate(torch.tensor(2.0), torch.tensor(0.5), torch.tensor(3), 0, "none", "a tensor for a number")}


def fails(material):
    raise RuntimeError("no\\nway")


def not_a_dict(material):
    return [1]


def numbers(material):
    return {"darkness": 0.5}


def tensor_in_settings(material):
    return {"odd": Estimate(1.0, 0.1, 3, 0, "none", "", {"weights": torch.zeros(2)})}


def named_elbo(material):
    return {"elbo": Estimate(1.0, 0.1, 3, 0, "none", "")}


NOT_A_FUNCTION = 3
'''


class Shaded(nn.Module):
    """Binary images of any shape whose pixels are as bright as z_0 says: it speaks the protocol, and is no class of ours."""

    latent_dim = 2

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def prior(self, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        loc = x.flatten(1).mean(1).logit(1e-2)
        return Independent(Normal(torch.stack([loc, 0 * loc], -1), 0.3), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        logits = z[..., :1, None, None].expand(*z.shape[:-1], *self.shape)
        return Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)


def material(*shape: int, has_labels: bool = True) -> Material:
    model = Shaded(*shape)

    def images(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(len(split))
        x = (torch.rand(count or 30, *shape, generator=source) < torch.rand(count or 30, 1, 1, 1, generator=source)).float()
        return x, torch.arange(len(x)) % 3 if has_labels else torch.zeros(len(x), dtype=torch.int64)

    counts = ImageCounts(estimators=2, structured=2, samples=24, probes=30)
    own = (counts, AISSettings(num_chains=2, num_distributions=3, leapfrog_steps=2))
    settings = PartSettings(num_samples=20, svi=SVISettings(max_steps=3), of_parts=own)
    bound = {name: Estimate(1.0, 0.1, 10, 1, "none", "") for name in ("elbo", "kl", "log_likelihood", "nll")}
    return Material(model, images, bound, "none", 0, settings, has_labels=has_labels)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of a researcher's own."""
    name = f"parts_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 5, 9)])
def test_every_part_takes_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    names = [name for name in PARTS if name not in ("samples", "disentanglement")]
    measured = dict(measure(material(*shape), names))
    assert {name: report for name, report in measured.items() if isinstance(report, str)} == {}


def test_images_without_labels_leave_out_what_needs_them() -> None:
    measured = dict(measure(material(3, 8, 8, has_labels=False), ["probes", "samples", "dimensions"]))
    assert measured["probes"] == measured["samples"] == "the images have no labels"
    assert isinstance(measured["dimensions"], dict)


def test_part_of_ones_own_is_measured_and_what_fails_costs_one_line(mine: str) -> None:
    bad = ["fails", "not_a_dict", "numbers", "tensor_in_settings", "named_elbo"]
    names = [f"{mine}.{name}" for name in ("darkness", *bad, "tensors", "darkness")]
    check_parts(material(1, 4, 4), names)
    measured = list(measure(material(1, 4, 4), [*names, "rate_distortion"]))
    reports = [report for _, report in measured]
    assert [name for name, _ in measured] == [*names, "rate_distortion"]
    own = reports[0]
    assert isinstance(own, dict)
    assert own["darkness"].section == "darkness"
    assert own["darkness"].value == pytest.approx(material(1, 4, 4).images("test", 10)[0].mean().item())
    assert own["darkness"].seconds >= 0
    reasons = dict(zip(bad, reports[1:], strict=False))
    assert reasons["fails"] == "failed (RuntimeError: no way)"
    assert reasons["not_a_dict"] == "gave a list, and not a dict of Estimates by name"
    assert "'darkness': float" in str(reasons["numbers"])
    assert str(reasons["tensor_in_settings"]).startswith("odd: its settings must be plain values")
    assert reasons["named_elbo"] == "elbo: is an estimate of every evaluation already; give it another name"
    assert all("\n" not in str(reason) for reason in reasons.values())
    plain = reports[6]
    assert isinstance(plain, dict)
    assert (type(plain["norm"].value), type(plain["norm"].num_images), plain["norm"].value) == (float, int, 2.0)
    assert f"an estimate of {mine}.darkness already" in str(reports[7])
    assert isinstance(reports[8], dict), "the rest goes on"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_package.part", "there is no package no_such_package"),
        ("{mine}.nothing", "has no nothing"),
        ("{mine}.NOT_A_FUNCTION", "is an int, and no function"),
        ("vae_lightning.types.Estimate", "is a type, and no function"),
        ("gap", "did you mean gaps"),
        (3, "unknown"),
    ],
)
def test_what_is_no_part_is_refused_by_name(mine: str, name: object, reason: str) -> None:
    name = name.format(mine=mine) if isinstance(name, str) else name
    with pytest.raises(ConfigurationError, match=f"^parts={name}: .*{reason}"):
        part_of(name)


def test_decorated_function_is_a_part_with_needs_words_and_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PARTS", dict(PARTS))
    monkeypatch.setattr(registry, "define", lambda *metrics: metrics)

    @part("early", needs=(lambda m: "needs more",), metrics=(Metric("dark", "How dark"),), section="light", place=1)
    def early(m: Material) -> dict[str, Estimate]:
        """How dark it is.

        More of it.
        """
        return {}

    assert isinstance(early, Part)
    assert (early.description, early.heading, early.unfit(material(1, 2, 2))) == ("How dark it is.", "light", "needs more")
    assert next(iter(registry.PARTS)) == "early"
    with pytest.raises(ConfigurationError, match=r"^gaps: is a part already, of vae_lightning\.evaluation\.gaps"):
        part("gaps")(early.measure)


def test_every_estimate_of_a_part_is_in_the_glossary_and_says_what_it_measures() -> None:
    for entry in PARTS.values():
        assert entry.description.endswith("."), entry.name
        assert entry.section, entry.name
        assert all(METRICS[metric.name] == metric for metric in entry.metrics), entry.name
    measured = dict(measure(material(1, 6, 6), list(PARTS)))
    unfit = {name for name, report in measured.items() if not isinstance(report, dict)}
    assert unfit == {"samples", "disentanglement"}, "which need a judge, and factors of variation"
    for name in measured.keys() - unfit:
        assert all(described(estimate) for estimate in measured[name]), name


def test_settings_of_a_part_have_defaults() -> None:
    assert PartSettings().of(AISSettings) == AISSettings()


def test_what_parts_share_is_computed_once() -> None:
    calls = []
    whole = material(1, 2, 2)

    def compute(m: Material) -> int:
        calls.append(m)
        return len(calls)

    assert [whole.shared(compute), whole.shared(compute)] == [1, 1]
