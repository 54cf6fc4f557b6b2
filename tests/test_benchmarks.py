"""Benchmarks lose nothing to a contender that fails, and a session on a GPU loses nothing to a stage that does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_lightning as L
from packaging.requirements import Requirement

from vae_lightning.commands.commandline import register_resolvers

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
BENCH = BENCHMARKS / "bench.py"


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "contenders"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


# ---- make bench


def test_peers_are_called_by_a_path_that_holds_from_anywhere(tmp_path: Path) -> None:
    # a link, as an environment's python is: what it leads to has none of the environment's packages
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "python").symlink_to(sys.executable)
    command = [sys.executable, str(BENCH), "--peers", "peers/python", "--list"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"pythae 0.1.2, binarized once: {tmp_path}/peers/python pythae_trainer.py" in listed
    assert f"ours, default: {sys.executable} ours.py" in listed


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_contenders_are_there_and_compared_to_one_of_the_list(device: str) -> None:
    from roster import contenders, stacks_on_a_gpu

    chosen = contenders("data", 2, device=device)
    for name, contender in {**chosen, **stacks_on_a_gpu("data")}.items():
        assert (BENCHMARKS / "contenders" / contender.script).is_file(), name
        assert contender.reference in {**chosen, **stacks_on_a_gpu("data")}, name
    assert {"ours, default", "ours, cvae_cnn3", "ours, precision=bf16-mixed"} < set(chosen)
    # what a contender is compared to takes its turn before it, so that a session that is cut off knows the ratio
    taking_turns = stacks_on_a_gpu("data") if device == "cuda" else chosen
    names = list(taking_turns)
    assert all(names.index(contender.reference) <= names.index(name) for name, contender in taking_turns.items())


def results(*speeds: float | None) -> list[Any]:
    from turns import Result

    return [
        Result(None, "ValueError: a | b") if s is None else Result({"images_per_second": s, "train_loss": 1.0}, None, 1.9, 5.0)
        for s in speeds
    ]


def test_contender_that_fails_costs_its_own_row() -> None:
    from roster import OURS, REFERENCE, Contender
    from tables import failures, table

    chosen = {name: Contender("ours", "x.py", []) for name in (REFERENCE, OURS, "third", "fourth")}
    rounds = {
        REFERENCE: results(100, 200, None),
        OURS: results(None, 500, 700),
        "third": results(None, None, None),
        "fourth": results(1, 2, 3),
    }
    lines = table(rounds, chosen)
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.replace(r"\|", "").split("|")[2:-1]] for line in lines[2:]}
    assert rows[REFERENCE][:2] == ["150 (100 to 200); failed in 1 of 3 rounds: ValueError: a  b", "1.00"]
    # the one round in which both succeeded
    assert rows[OURS][:2] == ["600 (500 to 700); failed in 1 of 3 rounds: ValueError: a  b", "2.50"]
    assert rows["third"][:2] == ["failed in 3 of 3 rounds: ValueError: a  b", ""]
    assert rows["fourth"][1:] == ["0.01", "1.00", "1.9", "5"]
    assert all(line.replace(r"\|", "").count("|") == lines[0].count("|") for line in lines)
    assert failures(rounds) == 5


def test_last_ratio_is_of_the_newest_table_that_has_one(tmp_path: Path) -> None:
    from tables import last_ratio

    assert last_ratio(tmp_path) is None
    (tmp_path / "2026-01-01.md").write_text("| ours, default | 30 (20 to 40) | 3.62 | 107.30 |\n")
    (tmp_path / "2026-01-02.md").write_text("| ours, default | failed: no | | | | |\n")
    (tmp_path / "2026-01-03_cuda.md").write_text("| ours, default | 30 (20 to 40) | 99.00 | 107.30 |\n")
    assert last_ratio(tmp_path) == 3.62


def test_bench_writes_the_table_although_a_contender_fails(
    tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench
    import turns
    from roster import OURS, REFERENCE, Contender

    raw = mnist_root / "MNIST" / "raw"
    (tmp_path / "data" / "MNIST").mkdir(parents=True)
    (tmp_path / "data" / "MNIST" / "raw").symlink_to(raw.resolve(), target_is_directory=True)
    code = {"good.py": """print('{"images_per_second": 3, "train_loss": 107.5}')""", "bad.py": "raise ValueError('no')"}
    for name, text in code.items():
        (tmp_path / name).write_text(text)
    chosen = {
        name: Contender("ours", script, []) for name, script in ((REFERENCE, "good.py"), (OURS, "bad.py"), ("third", "good.py"))
    }
    monkeypatch.setattr(turns, "CONTENDERS", tmp_path)
    monkeypatch.setattr(bench, "contenders", lambda *_: chosen)
    words = ["--data", str(tmp_path / "data"), "--rounds", "2", "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["bench.py", *words])
    with pytest.raises(SystemExit, match="error: 2 turns failed, see the table"):
        bench.main()
    assert "round 2: third: 3 images/s" in capsys.readouterr().out
    (table,) = (tmp_path / "results").glob("*.md")
    text = table.read_text()
    assert "| ours, default | failed in 2 of 2 rounds: ValueError: no | | | | |" in text.replace("  ", " ")
    assert re.search(r"^\| third \| 3 \(3 to 3\) \| 1\.00 \| 107\.50 \| \d\.\d \| \d \|$", text, re.MULTILINE)
    assert re.search(r"^\d+ cores, .*; (no GPU|.* GiB, .*); torch 2.*; 2 rounds, 5 epochs each\.$", text, re.MULTILINE)
    assert re.search(
        r"^Load average at the start of each round: [\d.]+, [\d.]+\. CPU seconds over wall seconds, of what", text, re.MULTILINE
    )


def test_clock_of_epochs_leaves_the_fast_path_to_what_is_timed(tmp_path: Path) -> None:
    from epoch_clock import EpochClock

    from vae_lightning import VAE
    from vae_lightning.engine.eligibility import reason_against

    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[EpochClock(str(tmp_path / "epochs"))]
    )
    assert reason_against(trainer, VAE()) is None


# ---- one program with a limit


def test_reason_is_the_line_that_says_why() -> None:
    from running import run

    def why(code: str, limit: float = 60) -> str | None:
        return run([sys.executable, "-c", code], limit).why

    assert why("print('{}')") is None
    assert why("import sys; print('Warning: no'); sys.exit('error: model=x: no such model')") == "error: model=x: no such model"
    assert why("raise ValueError('first\\nsecond')") == "ValueError: first"
    assert why("import os; os.kill(os.getpid(), 9)") == "ended with signal SIGKILL"
    assert why("import os; print('a warning', flush=True); os.kill(os.getpid(), 9)") == "ended with signal SIGKILL"
    assert why("import sys; sys.exit(3)") == "ended with status 3"
    assert why("import time; time.sleep(60)", 0.5) == "took longer than 1 s"


@pytest.mark.slow
def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    from running import run

    child = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); print('started', flush=True); time.sleep(60)"
    heard: list[str] = []
    ended = run([sys.executable, "-c", code], 1, hear=heard.append)
    assert (ended.timed_out, heard, ended.seconds < 2.5) == (True, ["started"], True)
    time.sleep(3)
    assert not (tmp_path / "alive").exists()


# ---- make gpu


Sessions = Callable[..., Any]


@pytest.fixture
def session(tmp_path: Path) -> Sessions:
    from budget import Budget
    from record import Record
    from stages import Session

    def of(seconds: float = 60, device: str = "cuda", tiny: bool = False) -> Any:
        data, scratch = tmp_path / "data", tmp_path / "scratch"
        return Session(data, device, tiny, scratch, Budget(seconds), Record(tmp_path / "out", seconds, device))

    return of


def content(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / "gpu.json").read_text())
    return found


def test_stages_that_crash_or_find_no_time_leave_the_others_as_they_are(session: Sessions, tmp_path: Path) -> None:
    from budget import OutOfTimeError, Stage, go_through

    now = session(30)

    def crash() -> None:
        now.record.row("before", value=float("nan"), speed=2.5)
        raise ValueError("first\nsecond")

    def late() -> None:
        raise OutOfTimeError("no time was left for it")

    seen = []
    states = [Stage("crash", crash, 10, 1), Stage("late", late, 10, 1), Stage("long", crash, 100, 40)]
    go_through(
        [*states, Stage("last", lambda: seen.append(content(tmp_path)["stages"][-1]["state"]), 5, 1)], now.budget, now.record
    )
    found = content(tmp_path)
    assert [stage["state"] for stage in found["stages"]] == ["failed", "out of time", "skipped", "done"]
    assert [stage["why"] for stage in found["stages"]] == [
        "ValueError: first",
        "no time was left for it",
        "30 s are left, and it needs 40",
        None,
    ]
    assert found["stages"][0]["rows"] == [{"name": "before", "value": None, "speed": 2.5}]
    assert seen == ["running"]
    assert not found["finished"]
    assert "Traceback" in (tmp_path / "out" / "gpu.log").read_text()


def test_turns_are_rows_with_ratios_reasons_and_notes(session: Sessions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import stages
    from turns import Result

    speeds = {"typical_lightning.py": 5_000.0, "ours.py": 500_000.0, "limit.py": 1.0}
    warmed = []

    def turn(contender: Any, python: str, limit: float, hear: Any = None) -> Any:
        warmed.extend(word for word in contender.arguments if word == f"trainer.limit_train_batches={stages.WARM_BATCHES}")
        speed = speeds.get(contender.script)
        if speed is None:
            return Result(None, "ModuleNotFoundError: No module named 'jax'")
        return Result({"images_per_second": speed, "train_loss": 107.0}, None, 1.0, 9.0, ("goes on without compiling (x)",))

    monkeypatch.setattr(stages, "turn", turn)
    now = session(600)
    now.record.begin("contenders")
    stages.take_turns(now, stages._contenders(now))
    rows = {row["name"]: row for row in content(tmp_path)["stages"][0]["rows"]}
    assert len(warmed) == 4
    assert rows["ours, default"]["ratio"] == rows["ours, cvae_cnn3"]["ratio"] == 100
    assert rows["ours, default"]["notes"] == ["goes on without compiling (x)"]
    assert rows["JAX, lax.scan, TF32"]["why"] == "ModuleNotFoundError: No module named 'jax'"
    # 500,000 images a second in batches of 128 are 3,906 steps a second
    recipe = stages.RECIPES[0]
    assert stages._affordable(now, recipe) == recipe.epochs
    assert stages._affordable(now._replace(budget=session(60).budget), recipe) == pytest.approx(15 / (550 / 3906 * 1.3), abs=3)
    assert stages._affordable(now._replace(budget=session(40).budget), recipe) == 0


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("tests/test_gpu.py::test_a[x y] PASSED       [ 10%]", ("tests/test_gpu.py::test_a[x y]", "passed")),
        ("[gw3] [ 20%] FAILED tests/test_gpu.py::test_a[vae, dropout] ", ("tests/test_gpu.py::test_a[vae, dropout]", "failed")),
        ("tests/test_gpu.py::test_b ", None),
        ("FAILED tests/test_gpu.py::test_b - ValueError: x", None),
        ("SKIPPED [1] tests/test_gpu.py:103: no GPU", None),
    ],
)
def test_outcome_of_a_test_is_read_as_it_ends(line: str, outcome: tuple[str, str] | None) -> None:
    from stages import outcome_of

    assert outcome_of(line) == outcome


@pytest.mark.slow
def test_words_for_train_and_evaluate_are_settings_that_there_are(session: Sessions) -> None:
    from recipes import RECIPES
    from roster import contenders
    from stages import _contenders

    every = [
        *contenders("data", 2).values(),
        *contenders("data", 2, device="cuda").values(),
        *_contenders(session(tiny=True)).values(),
    ]
    ours = [contender.arguments[2:] for contender in every if contender.script == "ours.py"]
    register_resolvers()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for words in [*ours, *(recipe.train for recipe in RECIPES)]:
            assert hydra.compose("train", ["run_dir=run", *words]).model
        for recipe in RECIPES:
            assert hydra.compose("evaluate", list(recipe.evaluate)).evaluation.num_samples == 5000
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)


def test_packed_requirements_are_whole() -> None:
    """Every package that one on the list needs is on it too, or is one that the machine has."""
    from pack import parts

    there = {"torch", "numpy", "scipy", "jax", "jaxlib", "setuptools"}
    not_wanted = {"grpcio", "tensorboard-data-server"}  # of TensorBoard's own server alone
    listed = {name.partition("==")[0].lower().replace("_", "-") for part in parts() for name in part}
    for name in sorted(listed):
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # of the peers
            continue
        needed = {
            need.name.lower().replace("_", "-") for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
        }
        assert needed <= listed | there | not_wanted, name
    direct = {need.name.lower() for need in map(Requirement, requires("vae_lightning") or []) if "extra" not in str(need.marker)}
    assert direct <= listed | there | {"pytorch-lightning"}


def test_wheels_are_chosen_by_what_is_missing_and_what_fits(tmp_path: Path) -> None:
    from packed import missing

    ours = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    names = [
        "torch-1-py3-none-any",
        "absent-1-py3-none-any",
        f"compiled-1-{ours}-{ours}-manylinux_2_17_x86_64",
        "compiled-1-cp27-cp27m-win32",
    ]
    for name in [*names, "other_python-1-cp27-cp27m-win32"]:
        (tmp_path / f"{name}.whl").touch()
    wheels, without = missing(tmp_path)
    assert {wheel.name for wheel in wheels} <= {f"{names[1]}.whl", f"{names[2]}.whl"}
    assert f"{names[1]}.whl" in {wheel.name for wheel in wheels}
    assert without == ["other-python"]


def test_wheel_that_is_damaged_costs_itself_alone(tmp_path: Path) -> None:
    import zipfile

    from packed import install

    (tmp_path / "broken-1-py3-none-any.whl").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "whole-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("whole.py", "")
        wheel.writestr("whole-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: whole\nVersion: 1\n")
        wheel.writestr("whole-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("whole-1.dist-info/RECORD", "")
    failed = install(sorted(tmp_path.glob("*.whl")), tmp_path / "site")
    assert list(failed) == ["broken-1-py3-none-any.whl"]
    assert (tmp_path / "site" / "whole.py").is_file()


def test_images_travel_packed(mnist_root: Path, tmp_path: Path) -> None:
    from pack import pack_images, pack_static
    from packed import unpack_images

    few = tmp_path / "few" / "MNIST" / "raw"
    few.mkdir(parents=True)
    for path in (mnist_root / "MNIST" / "raw").glob("*-ubyte"):
        (few / path.name).write_bytes(path.read_bytes()[:5000])
    (tmp_path / "few" / "binarized_mnist").mkdir()
    (tmp_path / "few" / "binarized_mnist" / "x.amat").write_bytes(b"1234")
    pack_images(tmp_path / "few", tmp_path / "packed")
    assert pack_static(tmp_path / "few", tmp_path / "packed", room=3) == ["binarized_mnist (0.0 MiB: no room)"]
    assert pack_static(tmp_path / "few", tmp_path / "packed", room=4) == []
    root = unpack_images(tmp_path / "packed", tmp_path / "unpacked")
    assert {path.name: path.read_bytes() for path in (root / "MNIST" / "raw").iterdir()} == {
        p.name: p.read_bytes() for p in few.iterdir()
    }
    assert (root / "binarized_mnist" / "x.amat").read_bytes() == b"1234"
    with pytest.raises(FileNotFoundError, match="make gpu-pack packs them"):
        unpack_images(tmp_path / "nothing", tmp_path / "empty")


GPU = [sys.executable, str(BENCHMARKS / "gpu.py")]


def test_stage_that_there_is_not_is_refused() -> None:
    ended = subprocess.run([*GPU, "--only", "tests,contender"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.endswith("--only: there is no stage contender; there are tests, contenders, stack, evaluation, recipes\n")


def test_machine_without_a_gpu_is_told_so_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OUT": str(tmp_path / "out")}
    ended = subprocess.run(GPU, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: torch cannot compute on a GPU here (")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_session_that_is_ended_leaves_what_it_found(mnist_root: Path, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--data", str(mnist_root), "--only", "contenders", "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*GPU, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "== contenders" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    found = content(tmp_path)
    assert not found["finished"]
    assert [stage["state"] for stage in found["stages"]] == ["running"]
    assert found["machine"]["torch"]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_whole_session_runs_on_a_cpu(mnist_root: Path, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--seconds", "300", "--data", str(mnist_root)]
    environment = os.environ | {"OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*GPU, *words], env=environment, capture_output=True, text=True, check=False)
    found = content(tmp_path)
    assert found["finished"], ended.stderr
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == ["tests", "contenders", "stack", "evaluation", "recipes"]
    assert {stage["state"] for stage in stages.values()} == {"done"}, stages
    rows = {row["name"]: row for stage in stages.values() for row in stage["rows"]}
    assert rows["all tests"]["passed"] >= 5
    assert rows["all tests"]["failed"] == rows["all tests"]["error"] == 0
    assert rows["ours, default"]["images_per_second"] > 0
    assert rows["NLL, K = 20"]["to_products"] > 0
    assert rows["VAE, k = 1, dynamic"]["nll"] > 0
    failed = [name for name, row in rows.items() if row.get("why")]
    assert ended.returncode == bool(failed)
    assert set(failed) <= {"JAX, lax.scan", "64 models 784-400-20, stacked"}


# ---- sweeps


def test_table_of_sweeps_counts_the_time_in_which_no_job_trains_once() -> None:
    from running import Ended
    from sweeps import Row, row, table

    clocks = [[("fit", 12.0, 20.0), ("test", 20.0, 21.0)], [("fit", 18.0, 24.0)]]
    result = row(Ended(0, [], 18.0, 30.0), 10.0, clocks)
    assert result == Row(jobs=2, seconds=18.0, training=12.0, start_up=2.0)
    assert (result.beyond, result.beyond_after_start_up) == (3.0, 2.0)
    lines = table({"basic": result, "joblib": "error: not there"})
    assert lines[2] == "| basic | 400 | 18 | 12 | 3.00 | 2.00 | 2.00 |"
    assert {line.count("|") for line in lines} == {8}
