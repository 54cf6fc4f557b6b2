"""Copies of optimizers step as the optimizer does, and for other tensors."""

import torch

from vae_lightning.engine.update.twin import call_step, copied, stand_in, twin_of


def trained() -> tuple[torch.optim.Adam, list[torch.nn.Parameter]]:
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(3))]
    optimizer = torch.optim.Adam([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}], lr=0.1)
    give(parameters, 1.0)
    optimizer.step()
    return optimizer, parameters


def give(parameters: list[torch.nn.Parameter], size: float) -> None:
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, size)


def test_twin_steps_alike_and_leaves_the_optimizer_as_it_is() -> None:
    optimizer, parameters = trained()
    twin, copies = twin_of(optimizer, parameters)
    before = [copied(parameter) for parameter in parameters]
    give(copies, 2.0)  # type: ignore[arg-type]
    call_step(twin)
    assert all(torch.equal(parameter, value) for parameter, value in zip(parameters, before, strict=True))
    assert optimizer.state[parameters[0]]["step"].item() == 1
    give(parameters, 2.0)
    optimizer.step()
    assert all(torch.equal(copy, parameter) for copy, parameter in zip(copies, parameters, strict=True))
    assert twin.state[copies[0]]["step"].item() == 2


def test_stand_in_trains_those_parameters_alone_with_the_state_given() -> None:
    optimizer, parameters = trained()
    tensor, state = torch.nn.Parameter(torch.full((3,), 7.0)), {"step": torch.tensor(5.0)}
    other = stand_in(optimizer, parameters[1:], [tensor], [state])
    assert [group["params"] for group in other.param_groups] == [[], [tensor]]
    assert other.param_groups[1]["lr"] == 0.5
    assert other.state[tensor] is state
    other.param_groups[1]["lr"] = 0.25
    assert optimizer.param_groups[1]["lr"] == 0.5


def test_step_of_a_schedule_is_not_counted() -> None:
    optimizer, parameters = trained()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)  # which puts a `step` of its own into the optimizer
    twin, copies = twin_of(optimizer, parameters)
    assert "step" not in vars(twin)
    give(copies, 1.0)  # type: ignore[arg-type]
    count = getattr(optimizer, "_step_count", None)
    call_step(twin)
    assert getattr(optimizer, "_step_count", None) == count
    assert schedule.last_epoch == 0


def test_copy_is_of_tensors_alone_and_laid_out_as_they_are() -> None:
    turned = torch.arange(6.0).reshape(2, 3).T
    copy = copied(turned)
    assert torch.equal(copy, turned)
    assert copy.stride() == turned.stride()
    assert copy.data_ptr() != turned.data_ptr()
    assert copied("name") == "name"
