"""A speedrun times whole commands, chains its trainings, and fails where the target is missed or a likelihood is not one."""

import json
import sys
from pathlib import Path
from typing import Any

import hydra
import pytest

from vae_lightning.commands.commandline import register_resolvers

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_words_of_every_target_are_settings_that_there_are_and_keep_the_net() -> None:
    from speedrun import ESTIMATOR, TARGETS, arguments, commands

    register_resolvers()
    options = arguments().parse_args([])
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for target in TARGETS.values():
            for words in commands(target, options, 3, Path("/runs")):
                cfg = hydra.compose("train", ["run_dir=run", *(word for word in words if not word.startswith("hydra."))])
                assert (list(cfg.model.net.hidden), cfg.model.latent_dim, cfg.seed) == ([200, 200], 50, 3)
                assert cfg.data.binarization == "dynamic"
        assert hydra.compose("evaluate", ESTIMATOR).evaluation.num_samples == 5000


def test_trainings_of_a_seed_go_on_from_one_another() -> None:
    from speedrun import Target, arguments, commands

    options = arguments().parse_args(["--device", "cuda", "vae", "model.optimizer.lr=0.01"])
    first, second = commands(Target(1.0, "", (("a=1",), ("a=2",))), options, 5, Path("/runs/seed5"))
    assert first[0] == "a=1"
    assert not any(word.startswith("ckpt_path=") for word in first)
    assert "ckpt_path=/runs/seed5/0/checkpoints/last.ckpt" in second
    assert {"model.optimizer.lr=0.01", "seed=5", "trainer.gpus=1"} < set(first) & set(second)


@pytest.fixture
def speedrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`benchmarks/speedrun.py` with commands of its own: training takes 10 s a seed, and evaluation finds the NLL that is asked for."""
    import speedrun
    from running import Ended

    def of(nll: float, status: int = 0) -> Any:
        def run(command: list[str], limit: float, **others: Any) -> Ended:
            folder = Path(next(word for word in command if "run.dir=" in word or word.startswith("run=")).split("=")[1])
            if command[1].endswith("evaluate.py"):
                (folder / "evaluation").mkdir(parents=True)
                found = {"nll": {"value": nll}, "elbo": {"value": -nll - 3}}
                (folder / "evaluation" / "report.json").write_text(json.dumps({"splits": {"test": found}}))
                return Ended(status, ["error: not verified: independence"] if status else [], 99.0, 99.0)
            return Ended(0, [], 10.0, 12.0)

        monkeypatch.setattr(speedrun, "run", run)
        words = ["--out", str(tmp_path / "out"), "--results", str(tmp_path / "results"), "--seeds", "0", "1"]
        monkeypatch.setattr(sys, "argv", ["speedrun.py", *words])
        return speedrun

    return of


def test_record_has_the_time_of_training_alone(speedrun: Any, tmp_path: Path) -> None:
    speedrun(86.5).main()
    (table,) = (tmp_path / "results").glob("*_speedrun_vae.md")
    text = table.read_text()
    assert "| 1 | 10 | 12 | 86.50 | -89.50 | yes |" in text
    assert "| mean | 10 | 12 | 86.50 +- 0.00 | -89.50 +- 0.00 | yes |" in text


def test_missed_target_is_written_and_is_no_success(speedrun: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: the mean NLL is 86.80, and 86.76 was to be reached"):
        speedrun(86.8).main()
    assert list((tmp_path / "results").glob("*_speedrun_vae.md"))


def test_no_number_is_no_success(speedrun: Any) -> None:
    with pytest.raises(SystemExit, match="error: seed 0: its NLL is no number"):
        speedrun(float("nan")).main()


@pytest.mark.parametrize("words", [["--seeds", "0", "0"], ["--seeds", "1", "7"]])
def test_seed_that_was_trained_already_is_refused_before_any_training(
    speedrun: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / "out" / "seed7").mkdir(parents=True)
    module = speedrun(86.5)
    monkeypatch.setattr(sys, "argv", [*sys.argv, *words])
    with pytest.raises(SystemExit, match=r"error: .*seed[07]: is there already, or twice"):
        module.main()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seed7"]


def test_likelihood_that_is_not_verified_is_no_record(speedrun: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: seed 0: error: not verified: independence"):
        speedrun(80.0, status=1).main()
    assert not (tmp_path / "results").exists()
