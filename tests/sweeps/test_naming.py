"""Names of jobs tell them apart, and every file system takes them."""

import pytest

from vae_lightning.sweeps.naming import folder_name, labelled, short_keys, shown


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["model.latent_dim", "model.beta"], ["latent_dim", "beta"]),
        (["model.optimizer.name", "model.net.name"], ["optimizer.name", "net.name"]),
        (["model", "model/net", "model.net.hidden"], ["model", "net", "hidden"]),
        (["seed", "data.seed"], ["seed", "data.seed"]),
        ([], []),
    ],
)
def test_short_keys_are_endings_that_no_other_key_has(keys: list[str], short: list[str]) -> None:
    assert [short_keys(keys)[key] for key in keys] == short


@pytest.mark.parametrize(
    "value", ["a/b", "..", "$(rm)", "a b;c", "Ж", "", "=", "a=b", "x" * 400, [1, 2], {"a": 1}, None, True, 1e-5, "~"]
)
def test_folder_name_is_one_folder_whatever_the_value(value: object) -> None:
    name = folder_name({"key": value, "seed": 1}, {})
    assert 0 < len(name.encode()) <= 200
    assert not {*"/\\;$ ~\n"} & {*name.partition("~")[0]}
    assert name not in (".", "..")
    assert not name.startswith((".", "-"))


def test_folder_names_differ_where_a_file_system_tells_no_capitals_apart() -> None:
    taken: list[str] = []
    for value in ("a b", "a_b", "A_B", "a/b", "a b "):
        taken.append(folder_name({"name": value}, {}, taken))
    assert len({name.casefold() for name in taken}) == 5
    long = [folder_name({"name": "x" * 400 + end}, {}) for end in "ab"]
    assert long[0] != long[1]


def test_values_are_shown_as_they_are_written() -> None:
    assert [shown(value) for value in (1e-5, 10, "mlp", [2, 3], None, False)] == ["1e-05", "10", "mlp", "[2,3]", "null", "false"]
    assert labelled({}, {}) == "the only setting"
