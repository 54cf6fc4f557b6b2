"""Which jobs of a sweep can train together, and which setting is named where they cannot."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from omegaconf import DictConfig

from vae_lightning.commands.stacking import grouped
from vae_lightning.commands.tasks import Task

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[8]", "model.latent_dim=2")


def tasks(compose: Compose, jobs: Sequence[Sequence[str]], words: Sequence[str] = ()) -> list[Task]:
    def of(number: int) -> Task:
        def config() -> DictConfig:
            return compose(*SMALL, *jobs[number], folder=f"run_{number}")

        return Task("train.py", tuple(words), {}, Path(f"{number}.log"), nullcontext, lambda: None, config)  # type: ignore[arg-type]

    return [of(number) for number in range(len(jobs))]


def test_jobs_that_differ_in_numbers_are_one_stack_and_those_of_other_shapes_another(compose: Compose) -> None:
    jobs = [
        ["seed=0"],
        ["model.net.hidden=[9]"],
        ["seed=1", "model.optimizer.lr=0.01", "trainer.max_epochs=3", "model.kl_warmup_steps=5"],
        ["model.net.hidden=[9]", "seed=3"],
        ["data.batch_size=16"],
    ]
    plan = grouped(tasks(compose, jobs), "auto")
    assert plan.stacks == [[0, 2], [1, 3]]
    assert plan.alone == {4: "data.batch_size: 32 and 16"}


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("trainer.compile=false", "trainer.compile=false"),
        ("trainer.threads=1", "trainer.threads: auto and 1"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches is not 1"),
        ("data.val_size=6000", "data.val_size: 5000 and 6000"),
        ("model.latent_dim=3", "model.latent_dim: 2 and 3"),
        ("model=beta_vae", "model: VAE and BetaVAE"),
    ],
)
def test_job_that_is_like_no_other_is_alone_with_the_setting_that_differs(compose: Compose, setting: str, reason: str) -> None:
    plan = grouped(tasks(compose, [["seed=0"], ["seed=1"], [setting]]), "auto")
    assert plan.stacks == [[0, 1]]
    assert plan.alone == {2: reason}


def test_stacks_are_no_larger_than_asked_for_and_as_many_as_run_at_once(compose: Compose) -> None:
    jobs = tasks(compose, [[f"seed={seed}"] for seed in range(5)])
    assert grouped(jobs, 3).stacks == [[0, 1, 2], [3, 4]]
    assert grouped(jobs, "auto", at_once=2).stacks == [[0, 1, 2], [3, 4]]


def test_a_working_directory_of_its_own_keeps_a_job_from_every_stack(compose: Compose) -> None:
    plan = grouped(tasks(compose, [["seed=0"], ["seed=1"]], ["hydra.job.chdir=true"]), "auto")
    assert not plan.stacks
    assert set(plan.alone.values()) == {"hydra.job.chdir=true is of a process as a whole"}
