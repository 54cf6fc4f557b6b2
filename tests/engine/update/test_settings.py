"""Numbers of an optimizer as tensors: the same tensors at every call, with the values of the moment."""

import torch

from vae_lightning.engine.update.settings import Setting, Settings, computed_once

CPU = torch.device("cpu")


def adam() -> tuple[torch.optim.Adam, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.ones(2))
    return torch.optim.Adam([weight], lr=0.1, betas=(0.9, 0.99)), weight


def settings_of(optimizer: torch.optim.Optimizer) -> Settings:
    return Settings(optimizer, [Setting(0, "lr"), Setting(0, "betas", 1)], CPU)


def test_tensors_follow_a_schedule_and_stay_the_same_tensors() -> None:
    optimizer, _ = adam()
    settings = settings_of(optimizer)
    first = settings.tensors()
    assert [value.item() for value in first] == [0.1, 0.99]
    assert {value.dtype for value in first} == {torch.float64}
    optimizer.param_groups[0]["lr"] = 0.05
    assert [value.item() for value in settings.tensors()] == [0.05, 0.99]
    assert all(now is before for now, before in zip(settings.tensors(), first, strict=True))
    optimizer.param_groups[0]["betas"] = (0.9, 0.5)
    assert settings.values() == [0.05, 0.5]
    assert settings.tensors()[1].item() == 0.5


def test_rate_that_is_a_tensor_is_read_at_every_call() -> None:
    optimizer, _ = adam()
    rate = optimizer.param_groups[0]["lr"] = torch.tensor([0.2])
    settings = settings_of(optimizer)
    assert settings.tensors()[0].item() == torch.tensor(0.2).item()
    rate.fill_(0.4)
    assert settings.tensors()[0].item() == torch.tensor(0.4).item()
    optimizer.param_groups[0]["lr"] = 0.3
    assert settings.tensors()[0].item() == 0.3


def test_counters_of_the_state_come_after_the_settings() -> None:
    optimizer, weight = adam()
    optimizer.state[weight]["count"] = 4
    settings = Settings(optimizer, [Setting(0, "lr")], CPU, [(weight, "count")])
    assert settings.values() == [0.1, 4]
    assert [value.item() for value in settings.tensors()] == [0.1, 4.0]


def test_other_tensors_can_hold_the_numbers() -> None:
    settings = settings_of(adam()[0])
    settings.tensors()
    places = [torch.zeros((), dtype=torch.float64) for _ in range(2)]
    settings.reside(places)
    assert all(now is place for now, place in zip(settings.tensors(), places, strict=True))
    assert [place.item() for place in places] == [0.1, 0.99]


def test_form_is_all_but_the_numbers() -> None:
    optimizer, weight = adam()
    settings = settings_of(optimizer)
    before = settings.form()
    optimizer.param_groups[0]["lr"] = 0.5
    assert settings.form() == before
    optimizer.param_groups[0]["weight_decay"] = 0.1
    assert settings.form() != before
    optimizer.param_groups[0]["weight_decay"] = 0
    assert settings.form() == before
    optimizer.param_groups[0]["params"] = [torch.nn.Parameter(weight.detach().clone())]
    assert settings.form() != before
    held = optimizer.param_groups[0]["held"] = torch.zeros(2)
    with_tensor = settings.form()
    held.add_(1)
    assert settings.form() != with_tensor


def test_numbers_by_way_of_memory_are_the_numbers() -> None:
    assert [value.item() for value in computed_once([torch.tensor(1.5), torch.tensor(-2.0)])] == [1.5, -2.0]
