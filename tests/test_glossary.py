"""One place says what each metric is, and the documentation has them all."""

import re
from pathlib import Path

from vae_lightning.glossary import GLOSSARY

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "glossary.md"


def test_documentation_names_every_metric() -> None:
    named = {name for key in re.findall(r"`([a-z_/]+)", DOCUMENT.read_text()) for name in key.split("/")}
    assert set(GLOSSARY) <= named


def test_each_is_one_plain_sentence() -> None:
    for name, sentence in GLOSSARY.items():
        assert sentence.isascii(), name
        assert sentence.endswith("."), name
        assert "|" not in sentence, "it stands in tables"
