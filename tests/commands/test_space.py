"""What a search tries, in Hydra's own grammar."""

from collections.abc import Sequence
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vae_lightning.commands.space import Space
from vae_lightning.errors import ConfigurationError


class Lowest:
    """Draws the lowest values and the last choices, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[Any, ...]] = {}

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        self.asked[name] = ("float", low, high, step, log)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.asked[name] = ("int", low, high, step, log)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = tuple(choices)
        return choices[-1]


def space(*words: str) -> Space:
    return Space.of(words, OverridesParser.create())


@pytest.mark.parametrize(
    ("word", "asked", "drawn"),
    [
        ("x=interval(1,10)", ("float", 1.0, 10.0, None, False), "x=1.0"),
        ("x=tag(log,interval(1e-5,1e-2))", ("float", 1e-5, 1e-2, None, True), "x=1e-05"),
        ("x=int(interval(1,10))", ("int", 1, 10, 1, False), "x=1"),
        ("x=tag(log,int(interval(2,100)))", ("int", 2, 100, 1, True), "x=2"),
        ("x=tag(log,int,interval(2,100))", ("int", 2, 100, 1, True), "x=2"),
        ("x=range(2,51)", ("int", 2, 50, 1, False), "x=2"),
        ("x=range(2,10,3)", ("int", 2, 8, 3, False), "x=2"),
        ("x=range(10,0,-3)", ("int", 1, 10, 3, False), "x=1"),
        ("x=tag(log,range(2,65))", ("int", 2, 64, 1, True), "x=2"),
        ("x=range(0,1,0.25)", ("float", 0.0, 0.75, 0.25, False), "x=0.0"),
        ("x=range(4,5)", ("int", 4, 4, 1, False), "x=4"),
        ("x=1,4,10", (1, 4, 10), "x=10"),
        ("x=choice(1,0.5)", (1, 0.5), "x=0.5"),
        ("x=relu,null", ("relu", None), "x=null"),
        ("x='a b',\"c,d\"", ("a b", "c,d"), 'x="c,d"'),
        ("x=[100],[64,64]", ("[100]", "[64,64]"), "x=[64,64]"),
        ("x=shuffle(5,4,3,2,1,0)", (5, 4, 3, 2, 1, 0), "x=0"),
        ("x=shuffle(range(9))", ("int", 0, 8, 1, False), "x=0"),
        ("x=true,false", (True, False), "x=False"),
        ("+x.y=1.0,2.0", (1.0, 2.0), "+x.y=2.0"),
        ("model/prior=mog,vamp", ("mog", "vamp"), "model/prior=vamp"),
    ],
)
def test_words_are_what_optuna_is_asked_for(word: str, asked: tuple[Any, ...], drawn: str) -> None:
    trial = Lowest()
    assert space(word, "y=3").runs(trial) == [["y=3", drawn]]
    (key,) = trial.asked
    assert key == word.partition("=")[0].lstrip("+")
    assert trial.asked[key] == asked
    assert [type(value) for value in trial.asked[key]] == [type(value) for value in asked]


def test_seeds_are_averaged_over_and_not_searched() -> None:
    searched = space("model.beta=interval(0,1)", "seed=range(0,3)", "trainer.max_epochs=2")
    assert searched.keys == ["model.beta", "seed"]
    assert searched.runs(Lowest()) == [["trainer.max_epochs=2", "model.beta=0.0", f"seed={seed}"] for seed in range(3)]
    assert space("model.beta=1,2", "seed=7").runs(Lowest()) == [["seed=7", "model.beta=2"]]
    assert space("model.beta=1,2", "seed=shuffle(range(9))").seeds == tuple(f"seed={seed}" for seed in range(9))
    assert space("model.beta=1,2", "seed=0,1,0").seeds == ("seed=0", "seed=1")


def test_later_word_of_a_key_counts() -> None:
    assert space("x=1,2", "y=3,4", "x=5").runs(Lowest()) == [["x=5", "y=4"]]


def test_each_end_and_each_choice_stands_in_a_run_once() -> None:
    runs = [*space("x=interval(1,10)", "y=a,b,c", "seed=0,1").ends()]
    assert runs == [
        ["x=1.0", "y=a", "seed=0"],
        ["x=10.0", "y=a", "seed=0"],
        ["x=1.0", "y=b", "seed=0"],
        ["x=1.0", "y=c", "seed=0"],
        ["x=1.0", "y=a", "seed=1"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x=1", "seed=0,1"], "hydra/sweeper=optuna: nothing to search; give a setting several values"),
        (["x=interval(3,1)"], "x=interval(3,1): ends before it begins"),
        (["x=tag(log,interval(0,1))"], "x=tag(log,interval(0,1)): the tag log needs a range above 0"),
        (["x=tag(log,range(0,9))"], "x=tag(log,range(0,9)): the tag log needs a range above 0"),
        (["x=tag(lg,interval(1,9))"], "x=tag(lg,interval(1,9)): no tag lg; tags are int and log"),
        (["x=tag(log,mine,choice(1,9))"], "x=tag(log,mine,choice(1,9)): no tag mine"),
        (["x=tag(log,range(2,9,2))"], "x=tag(log,range(2,9,2)): a range with the tag log has steps of 1"),
        (["x=interval(0,inf)"], "x=interval(0,inf): has no two ends that are numbers"),
        (["x=range(3,3)"], "x=range(3,3): has no values"),
        (["x=1,2", "seed=interval(0,1)"], "seed=interval(0,1): a trial is averaged over seeds, so name them: seed=0,1,2"),
    ],
)
def test_what_is_no_space_is_refused_by_its_word(words: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        space(*words)
    assert str(error.value).startswith(message)
