"""The stages of `make gpu`: each runs programs of its own, for no longer than the budget allows, and records what they say."""

import json
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from budget import Budget, OutOfTimeError, Stage
from recipes import RECIPES, Recipe
from record import Record
from roster import OURS, Contender, contenders, stacks_on_a_gpu
from running import run
from turns import Result, turn

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_BATCHES = 60
TINY = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
STAGES = {"tests": (150, 20), "contenders": (190, 20), "stack": (100, 20), "evaluation": (100, 20), "recipes": (1e9, 60)}
"""Seconds that a stage may take, and seconds without which it is not begun."""
TURN = 90.0
"""Seconds that a contender may take."""
STEPS = 500
"""Steps a second that are counted on where the contenders have not said how many there are."""
SLOWER = 1.3
"""Times that a step of a recipe may take longer than one of the benchmark's own net."""
STEPS = 500
"""Steps a second that are counted on where the contenders have not said how many there are."""
SLOWER = 1.3
"""Times that a step of a recipe may take longer than one of the benchmark's own net."""
SECONDS_AROUND = 45.0
"""What a recipe takes beside its epochs: imports, compiling, and the evaluation."""


class Session(NamedTuple):
    """What every stage needs."""

    data: Path
    """`data.root`, with the files unpacked."""
    device: str
    tiny: bool
    """Sizes that only show that all of it runs."""
    scratch: Path
    """A folder that is thrown away."""
    budget: Budget
    record: Record

    def seconds(self, at_most: float, needs: float = 5.0, what: str = "") -> float:
        """Seconds for the next program.

        Raises:
            OutOfTimeError: fewer than it `needs` are left.
        """
        if self.budget.left < needs:
            raise OutOfTimeError(f"no time was left for {what}")
        return min(at_most, self.budget.left)


def stages(session: Session) -> list[Stage]:
    """All stages, in the order of how much is wanted of what they find."""
    works = {
        "tests": lambda: tests(session),
        "contenders": lambda: take_turns(session, _contenders(session)),
        "stack": lambda: take_turns(session, _stacks(session)),
        "evaluation": lambda: take_turns(session, _evaluation(session)),
        "recipes": lambda: train_recipes(session),
    }
    return [Stage(name, work, *STAGES[name]) for name, work in works.items()]


# ---- tests


def tests(session: Session) -> None:
    """The tests marked `gpu`, each a row with its outcome as soon as it is known."""
    at_once = ["-n", "8", "--dist", "load"] if find_spec("xdist") and not session.tiny else ["-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-vv", "--tb=short", "-p", "no:cacheprovider", *at_once, *_files()]
    if session.tiny:
        command += ["-k", "noise or (plain_ones and beta)"]
    environment = {"VAE_LIGHTNING_GPU_TESTS": session.device, "VAE_LIGHTNING_DATA": str(session.data)}
    environment |= {"TORCHINDUCTOR_COMPILE_THREADS": "2", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "COLUMNS": "200"}
    outcomes: dict[str, str] = {}

    def hear(line: str) -> None:
        session.record.log(line)
        if (outcome := outcome_of(line)) and outcomes.get(outcome[0]) != outcome[1]:
            outcomes[outcome[0]] = outcome[1]
            session.record.row(outcome[0], outcome=outcome[1])

    ended = run(command, session.seconds(150), folder=REPOSITORY, environment=environment, hear=hear)
    counts = {kind: list(outcomes.values()).count(kind) for kind in ("passed", "failed", "error", "skipped")}
    session.record.row("all tests", **counts, why=None if ended.status in (0, 1) else ended.why)
    if ended.timed_out:
        raise OutOfTimeError("the tests that had not ended by then")
    if ended.status not in (0, 1) or not counts["passed"]:
        raise RuntimeError(ended.why or "no test passed")


def _files() -> list[str]:
    """The files with tests for a GPU: others may import what this machine lacks, and take half a minute to be looked through."""
    files = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [str(path.relative_to(REPOSITORY)) for path in files if "pytest.mark.gpu" in path.read_text()]


def outcome_of(line: str) -> tuple[str, str] | None:
    """Name and outcome of a test, from a line that pytest writes when the test has ended."""
    among_several = re.match(r"\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|ERROR|SKIPPED) (\S+::.+?) *$", line)
    if among_several:
        return among_several[2], among_several[1].lower()
    alone = re.match(r"(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", line)
    return (alone[1], alone[2].lower()) if alone else None


# ---- contenders


def _contenders(session: Session) -> dict[str, Contender]:
    data = str(session.data)
    if session.tiny:
        every = contenders(data, 2)
        words = ["model.net.hidden=[16]", *TINY]
        ours = every[OURS]._replace(arguments=[*every[OURS].arguments, *words])
        jax = every["JAX, lax.scan"]
        return {OURS: ours, "JAX, lax.scan": jax._replace(arguments=[*jax.arguments, "--batches", "2"])}
    return contenders(data, 2, device="cuda")


def _stacks(session: Session) -> dict[str, Contender]:
    chosen = stacks_on_a_gpu(str(session.data))
    if not session.tiny:
        return chosen
    more = ["--device", "cpu", "--batches", "2", "--epochs", "2", "--models", "2"]
    stacked = {name: c._replace(arguments=[*c.arguments, *more]) for name, c in chosen.items() if "stacked" in name}
    return dict(list(stacked.items())[:1])


def _evaluation(session: Session) -> dict[str, Contender]:
    usual = ["--data", str(session.data), "--device", session.device, "--epochs", "1"]
    if session.tiny:
        few = [*usual, "--samples", "20", "--images", "50"]
        return {"NLL, K = 20": Contender("ours", "evaluation.py", few)}
    return {"NLL of 10,000 images, K = 5,000": Contender("ours", "evaluation.py", usual)}


def take_turns(session: Session, chosen: Mapping[str, Contender]) -> None:
    """A row for each contender, with its speed or why it has none, and its ratio to what it is compared to."""
    if not session.tiny:
        _warm(session, chosen)
    found: dict[str, Result] = {}
    for name, contender in chosen.items():
        seconds = session.seconds(TURN, what=f"{name} and what comes after it")
        session.record.log(f"-- {name}: {contender.script} {' '.join(contender.arguments)}")
        found[name] = result = turn(contender, sys.executable, seconds, session.record.log)
        reference = found.get(contender.reference)
        ratio = result.speed / reference.speed if result.speed and reference is not None and reference.speed else None
        facts = {**(result.measured or {}), "ratio": ratio, "compared_to": contender.reference if ratio else None}
        session.record.row(name, **facts, seconds_in_all=round(result.seconds, 1), why=result.why, notes=list(result.notes))


def _warm(session: Session, chosen: Mapping[str, Contender]) -> None:
    """Compile what the contenders of `train.py` compile, all at once, so that their turns find it cached on the disk."""
    few = f"trainer.limit_train_batches={WARM_BATCHES}"
    ours = {name: c for name, c in chosen.items() if c.script == "ours.py"}
    if not ours:
        return
    limit = session.seconds(60, what="warming up")
    with ThreadPoolExecutor(len(ours)) as pool:
        warm = {
            name: pool.submit(turn, c._replace(arguments=[c.arguments[0], "2", *c.arguments[2:], few]), sys.executable, limit)
            for name, c in ours.items()
        }
    for name, future in warm.items():
        session.record.log(f"-- warmed up: {name}: {future.result().said}")


# ---- recipes


def train_recipes(session: Session) -> None:
    """As many of the long recipes as there is time for, each with as many of its epochs."""
    for recipe in RECIPES[:1] if session.tiny else RECIPES:
        if recipe.static and not (session.data / "binarized_mnist").is_dir():
            session.record.row(recipe.name, skipped="Larochelle's binarized images did not travel")
            continue
        epochs = _affordable(session, recipe)
        if not epochs:
            raise OutOfTimeError(f"{recipe.name} and what comes after it")
        _train_recipe(session, recipe, epochs)


def _affordable(session: Session, recipe: Recipe) -> int:
    """How many of a recipe's epochs there is time for, at the steps a second that `ours` has taken so far."""
    if session.tiny:
        return 1
    rows = [row for stage in session.record.content["stages"] for row in stage["rows"]]
    speed = next((row["images_per_second"] for row in rows if row["name"] == OURS and row["why"] is None), None)
    steps = STEPS if speed is None else speed / 128
    epoch = 55_000 / recipe.batch / steps * SLOWER
    return max(0, min(recipe.epochs, int((session.budget.left - SECONDS_AROUND) / epoch)))


def _train_recipe(session: Session, recipe: Recipe, epochs: int) -> None:
    folder = session.scratch / re.sub(r"\W+", "_", recipe.name)
    gpus = int(session.device == "cuda")
    train = [*recipe.train, f"trainer.max_epochs={epochs}", f"trainer.gpus={gpus}", f"data.root={session.data}"]
    train += [f"hydra.run.dir={folder}", "trainer.enable_progress_bar=false"]
    evaluate = [f"run={folder}", f"gpus={gpus}", *recipe.evaluate]
    if session.tiny:
        train += TINY
        evaluate += ["evaluation.num_samples=2", "evaluation.num_images=20", "evaluation.train_images=1"]
    why = _command(session, "train.py", train) or _command(session, "evaluate.py", evaluate)
    facts = {"published": recipe.published, "epochs": epochs, "of_epochs": recipe.epochs, "train": " ".join(recipe.train)}
    report = folder / "evaluation" / "report.json"
    if why is None:
        test = json.loads(report.read_text())["splits"]["test"]
        facts |= {key: test[key]["value"] for key in ("nll", "elbo")} | {"standard_error": test["nll"]["standard_error"]}
        facts |= {"training_seconds": json.loads((folder / "metrics.json").read_text())["timing"]["seconds"]}
    session.record.row(recipe.name, **facts, why=why)


def _command(session: Session, script: str, words: list[str]) -> str | None:
    """Run one of this project's commands; why it failed, or None."""
    session.record.log(f"-- python {script} {' '.join(words)}")
    command = [sys.executable, str(REPOSITORY / script), *words]
    return run(command, session.seconds(1e9, what=script), folder=session.scratch, hear=session.record.log).why
