"""What is said of a report's numbers follows from them."""

from typing import Any

import pytest

from vae_lightning.evaluation.parts import PARTS
from vae_lightning.reports.reading import COVERS, COVERS_SHORT, ENOUGH, Standing, headline, remarks, standings
from vae_lightning.reports.yardsticks import Yardstick
from vae_lightning.treatment import Treatment

MNIST = Treatment("mnist", "dynamic")


def plain(value: float | None, num_samples: int = 1000, num_images: int = 10_000) -> dict[str, Any]:
    return {"value": value, "num_samples": num_samples, "num_images": num_images}


@pytest.mark.parametrize(
    ("name", "value", "better", "worse"), [("nll", 87.0, (85.0, 86.0), (90.0,)), ("elbo", -87.0, (-85.0, -86.0), (-90.0,))]
)
def test_standing_is_between_what_is_better_and_what_is_worse(
    name: str, value: float, better: tuple[float, ...], worse: tuple[float, ...]
) -> None:
    standing = Standing(name, plain(value), [Yardstick("", "", figure) for figure in (*better, *worse)])
    assert tuple(y.value for y in standing.better) == better
    assert tuple(y.value for y in standing.worse) == worse
    assert {how: y.value for how, y in standing.neighbours.items()} == {
        "the best": better[0],
        "next better": better[1],
        "next worse": worse[0],
    }
    assert [standing.place(each) for each in (better[0], value, worse[0])] == [0, 40, 100]


def test_first_and_last_have_no_neighbour_beyond() -> None:
    figures = [Yardstick("", "", 86.0)]
    assert [*Standing("nll", plain(80.0), figures).neighbours] == ["next worse"]
    assert [*Standing("nll", plain(90.0), figures).neighbours] == ["next better"]
    assert Standing("nll", plain(86.0), figures).place(86.0) == 0


def test_standings_are_of_what_was_measured_and_compares() -> None:
    estimates = {"elbo": plain(-99.0), "nll": plain(95.0), "kl": plain(25.0)}
    assert [standing.name for standing in standings(estimates, MNIST)] == ["nll", "elbo"]
    assert not list(standings({"nll": plain(None)}, MNIST)), "not finite"
    assert not list(standings(estimates, Treatment("mnist", "threshold")))


def test_headline_has_the_nll_first() -> None:
    assert [*headline({"kl": plain(1.0), "log_likelihood": plain(1.0), "nll": plain(1.0)})] == ["nll", "kl"]


def test_few_effective_samples_are_named_with_the_bias_and_with_what_was_measured() -> None:
    estimates = {"nll": plain(95.0, 20), "effective_sample_size": plain(4.0, 20)}
    (said,) = remarks(estimates)
    assert "effective_sample_size is 4.0 of 20, below 10" in said
    assert "by at least 0.10 nats" in said, "(1 / 4 - 1 / 20) / 2"
    assert "fell" not in said
    assert "annealing finds" not in said
    estimates |= {"nll/k_1": plain(99.0, 1), "nll/k_10": plain(96.25, 10), "nll/k_15": plain(96.0, 15, 500)}
    estimates |= {"nll/importance": plain(94.0, 20, 30), "nll/ais": plain(93.25, 16, 30)}
    (said,) = remarks(estimates)
    assert "From K = 10 to 20 it fell by 1.25." in said, "of the same images"
    assert "On 30 images, annealing finds 0.75 less." in said
    assert "evaluation.parts=[ais]" not in said, "it was measured"
    estimates |= {"nll/ais": plain(95.0, 16, 30), "nll/ais_from_encoder": plain(93.5, 16, 30)}
    assert "annealing finds 0.50 less" in remarks(estimates)[0], "by the tighter of the two"
    estimates["nll_less_exact/importance"] = {**plain(2.0, 20, 30), "standard_error": 0.5}
    assert "On 30 images, the exact value is 2.00 +- 0.50 less." in remarks(estimates)[0]


def test_enough_effective_samples_are_named_too() -> None:
    (said,) = remarks({"nll": plain(95.0), "effective_sample_size": plain(ENOUGH)})
    assert "10.0 of 1,000: enough (10)" in said
    assert "below" not in said
    assert "evaluation.parts=[ais] looks for it" in said
    distance = {"nll/importance": plain(95.0, 1000, 30), "nll/ais": plain(92.0, 16, 30)}
    (said,) = remarks({"nll": plain(95.0), "effective_sample_size": plain(ENOUGH), **distance})
    assert said.endswith("On 30 images, annealing finds 3.00 less.")


def test_annealing_of_other_images_is_not_compared() -> None:
    """A merged report keeps estimates of as many images as each evaluation was asked for."""
    estimates = {"nll": plain(95.0), "effective_sample_size": plain(ENOUGH), "nll/importance": plain(95.0, 1000, 30)}
    estimates |= {"nll/ais": plain(90.0, 16, 2), "nll/ais_from_encoder": {**plain(91.0, 16, 30), "seed": 1}}
    assert "annealing finds" not in remarks(estimates)[0]
    estimates["nll/ais_from_encoder"] = plain(94.0, 16, 30)
    assert "annealing finds 1.00 less" in remarks(estimates)[0], "by the one of the same images"


def test_threshold_is_that_of_the_glossary() -> None:
    (said,) = {m.definition for part in PARTS.values() for m in part.metrics if m.name == "effective_sample_size"}
    assert f"below {ENOUGH:g}," in said
    assert f"by {1 / ENOUGH / 2:.2f} nats" in said


def test_a_collapsed_posterior_and_annealing_out_of_step_are_named() -> None:
    assert not remarks({"kl": plain(25.0), "acceptance/ais": plain(0.65)})
    said = remarks({"kl": plain(0.05), "acceptance/ais": plain(0.3), "acceptance/ais_from_encoder": plain(0.9)})
    assert len(said) == 3
    assert "collapsed" in said[0]
    assert "acceptance/ais is 0.30" in said[1]
    assert "too long" in said[1]
    assert "too short" in said[2]
    assert not remarks({"nll": plain(None), "effective_sample_size": plain(None)}), "not finite"


@pytest.mark.parametrize("text", [COVERS, COVERS_SHORT])
def test_errors_are_said_to_leave_out_the_seed_and_the_estimator(text: str) -> None:
    assert "images" in text
    assert "seed" in text
    assert "estimator" in text
