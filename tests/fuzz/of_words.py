"""Words of commands, made up: what is put before the checker of a training and of an evaluation."""

import contextlib
from pathlib import Path

from bad_input import check, give
from conftest import data_root
from fuzz.answers import Target, refused_in_one_line, unchanged
from fuzz.generated import words_of
from test_bad_input import TABLE, own_settings, untrained

__all__ = ["words", "words_of_an_evaluation"]


def typed(script: str) -> list[str]:
    """The words of the catalogue's commands."""
    return [word for of, words, _ in TABLE if of == script for word in words.split(" ")]


def words(folder: Path) -> Target:
    """Words of a training: as the catalogue has them, made of real keys and options, or any text."""
    root = data_root()

    def examine(words: list[str]) -> None:
        with unchanged(folder), contextlib.chdir(folder):
            refused_in_one_line(lambda: check(words, own_settings("train", words, folder, root)))

    return Target({"words": words_of("train", typed("train"))}, examine)


def words_of_an_evaluation(folder: Path) -> Target:
    """Words of an evaluation, of a run whose data are not there, so that it ends before it writes."""
    run = untrained(folder)

    def examine(words: list[str]) -> None:
        with unchanged(folder), contextlib.chdir(folder):
            refused_in_one_line(lambda: give("evaluate", [f"run={run}", *words], own_settings("evaluate", words, folder, folder)))

    return Target({"words": words_of("evaluate", typed("evaluate"))}, examine)
