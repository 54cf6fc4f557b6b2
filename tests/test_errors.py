"""Every error of the project is caught as one, and as the built-in error it is a kind of."""

import pytest

from vae_lightning import errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigurationError", ValueError),
        ("DataError", OSError),
        ("CheckpointError", RuntimeError),
        ("StorageError", OSError),
        ("LostRankError", RuntimeError),
    ],
)
def test_error_is_the_projects_own_and_a_builtin(name: str, builtin: type[Exception]) -> None:
    error = getattr(errors, name)
    for family in (errors.VAELightningError, builtin):
        with pytest.raises(family, match="what to do"):
            raise error("what to do")


def test_every_error_is_listed() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__}
    assert defined == set(errors.__all__) - {"kind_of", "one_line", "printable"}


def test_kinds_are_told_apart() -> None:
    # an unknown key, and trainings that are no stack, are wrong configurations that somebody may want to tell from others
    others = ("VAELightningError", "UnknownKeyError", "StackError", "kind_of", "one_line", "printable")
    kinds = [getattr(errors, name) for name in errors.__all__ if name not in others]
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)


def test_words_of_an_error_are_on_one_line() -> None:
    assert errors.one_line(ValueError("  two\n lines\tof  it ")) == "two lines of it"
    assert errors.one_line(ValueError("two\nlines"), 5) == "two l"
    assert errors.one_line(KeyboardInterrupt(), 5) == "KeyboardInterrupt"


def test_words_hold_nothing_that_a_terminal_obeys() -> None:
    assert errors.one_line("a\x1b]0;title\x07 \u202eb") == r"a\x1b]0;title\x07 \u202eb"
    assert errors.printable("Ångström ± 1 – ✓ \udce9") == "Ångström ± 1 – ✓ \udce9", "letters, signs, and bytes of file names stay"


def test_class_has_its_article() -> None:
    assert [errors.kind_of(value) for value in (3, [], "", errors)] == ["an int", "a list", "a str", "a module"]
