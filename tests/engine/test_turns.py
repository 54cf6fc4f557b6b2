"""Functions that take turns have for themselves what the process has once."""

from vae_lightning.engine.turns import Own, Turn, present_turn, take_turns


def test_each_function_finds_what_it_has_put_there_and_the_caller_what_was_there_before() -> None:
    held = {"value": "caller's"}
    seen: list[tuple[int, str]] = []

    def function(number: int) -> str:
        assert held["value"] == "caller's"
        held["value"] = f"own {number}"
        for _ in range(2):
            turn = present_turn()
            assert turn is not None
            turn.wait("a turn")
            seen.append((number, held["value"]))
        return held["value"]

    def serve(turns: list[Turn]) -> None:
        assert held["value"] == "caller's"
        for turn in turns:
            turn.answer(None)

    own = Own(lambda: held["value"], lambda value: held.update(value=value))
    turns = take_turns([lambda: function(0), lambda: function(1)], serve, own=[own])
    assert [turn.error for turn in turns] == [None, None]
    assert [turn.result for turn in turns] == ["own 0", "own 1"]
    assert seen == [(0, "own 0"), (1, "own 1")] * 2
    assert held["value"] == "caller's"
