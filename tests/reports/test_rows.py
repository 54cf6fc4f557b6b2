"""What a page shows of estimates, yardsticks and names is what they hold."""

import dataclasses

import pytest

from vae_lightning.glossary import METRICS, Metric
from vae_lightning.reports.reading import Standing
from vae_lightning.reports.rows import WORDS, formatted, standing_row, terms
from vae_lightning.reports.yardsticks import Source, Yardstick

PLAIN = {"value": 90.123, "standard_error": 0.25, "num_images": 10_000, "num_samples": 5000, "estimator": "by sampling"}
PLAIN |= {"settings": {"step_size": 0.5}, "seconds": None, "seed": 3}


def test_estimate_is_told_with_its_settings_and_seed() -> None:
    row = formatted("nll", PLAIN)
    assert (row["value"], row["error"], row["images"], row["samples"], row["seconds"]) == ("90.12", "0.25", "10,000", "5000", "")
    assert row["settings"] == "step size: 0.5; seed: 3"


def test_standing_has_the_run_at_its_place_among_others() -> None:
    paper = Source("T", "A, B", 2018, "https://a.org")
    others = [
        Yardstick("best", "net", 80.0, 0.1, 100, source=paper),
        Yardstick("last", "net", 100.0, command="train", date="today"),
    ]
    shown = standing_row(Standing("nll", PLAIN, others))
    assert [row["name"] for row in shown["rows"]] == ["best", "this run", "last"]
    assert [row["own"] for row in shown["rows"]] == [False, True, False]
    best, this, last = shown["rows"]
    assert (best["value"], best["error"], best["whose"], best["url"]) == ("80.00", "0.10", "A and B, 2018", "https://a.org")
    assert best["details"] == "net; K = 100"
    assert (this["details"], this["place"]) == ("10,000 test images, K = 5,000", "50.6")
    assert (last["error"], last["whose"], last["url"], last["details"]) == ("", "this project", "", "net; train (today)")
    assert [(row["how"], row["name"]) for row in shown["neighbours"]] == [("next better", "best"), ("next worse", "last")]
    assert shown["better"] == "lower"


def test_terms_are_those_of_the_names_and_each_is_told_once() -> None:
    names = [term["name"] for term in terms(["elbo", "elbo", "kl_per_dimension/00", "kl_per_dimension/01", "mine"])]
    assert names == [*WORDS, "elbo", "kl_per_dimension"]
    elbo = terms(["elbo"])[-1]
    assert (elbo["anchor"], elbo["paper"], elbo["url"]) == (
        "about-elbo",
        "Kingma and Welling, 2014",
        "https://arxiv.org/abs/1312.6114",
    )
    assert elbo["meaning"].endswith("Higher is better.")


@pytest.mark.parametrize("source", ["", "my thesis, 2020", "a, javascript:alert(1)"])
def test_source_without_an_address_is_no_link(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    metric = dataclasses.replace(METRICS["kl"], name="mine", source=source)
    assert isinstance(metric, Metric)
    monkeypatch.setitem(METRICS, "mine", metric)
    term = terms(["mine"])[-1]
    assert (term["paper"], term["url"]) == (source, "")
