"""Files of every format that there was are known, and of none that there will be."""

import pytest

from vae_lightning.machine.formats import FORMAT, format_of, too_new


@pytest.mark.parametrize("content", [{}, {"format": 1}, {"format": FORMAT}, {"format": "odd"}, {"format": True}, [], None, "text"])
def test_known_or_no_such_file(content: object) -> None:
    assert too_new(content) is None


def test_later_format() -> None:
    assert str(too_new({"format": FORMAT + 1})).startswith(f"is of format {FORMAT + 1}, and this version")
    assert format_of({"format": FORMAT + 1}) == FORMAT + 1
