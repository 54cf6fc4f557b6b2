"""A test that cannot fail is an error."""

import pytest
from nothing import all_of_some


def test_all_is_pythons_but_of_nothing() -> None:
    for values in ([True], [False], [1, 0], [0, 1], ["a", "b"], iter([1, 1, 0])):
        listed = list(values)
        assert all_of_some(iter(listed)) is all(listed)
    with pytest.raises(AssertionError, match="a test that cannot fail"):
        all_of_some(value for value in ())


def test_files_of_tests_have_it() -> None:
    assert all is all_of_some
