"""One place says what each metric is, and the documentation has them all."""

import re
from pathlib import Path

import pytest

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation import parts
from vae_lightning.glossary import GLOSSARY, LOGGED, METRICS, Metric, define, described

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "glossary.md"


def test_documentation_names_every_metric() -> None:
    assert {metric.name for part in parts.PARTS.values() for metric in part.metrics} <= set(GLOSSARY)
    named = {name for key in re.findall(r"`([a-z_/]+)", DOCUMENT.read_text()) for name in key.split("/")}
    assert set(GLOSSARY) <= named


def test_each_is_one_plain_sentence() -> None:
    for name, sentence in GLOSSARY.items():
        assert sentence.isascii(), name
        assert sentence.endswith("."), name
        assert "|" not in sentence, "it stands in tables"


def test_a_name_means_one_thing() -> None:
    known = METRICS["elbo"]
    assert define(known) == (known,), "the same again changes nothing"
    with pytest.raises(ConfigurationError, match=r"^elbo: is a metric already"):
        define(Metric("elbo", "Something else"))


def test_what_is_logged_is_known_without_an_evaluation() -> None:
    assert {"elbo", "loss", "lr", "active_units"} <= set(LOGGED)
    assert "nll" not in LOGGED
    assert described("frechet_distance_real") == GLOSSARY["frechet_distance"]
    assert described("mine") == ""
