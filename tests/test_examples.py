"""The examples run, and stay as small as they promise to be."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

MINIMAL = Path(__file__).resolve().parent.parent / "examples" / "minimal.py"


def elbo_after(steps: int, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[float, float]:
    """What the example prints last."""
    monkeypatch.setattr(sys, "argv", [str(MINIMAL), "--root", str(root), "--steps", str(steps)])
    runpy.run_path(str(MINIMAL), run_name="__main__")
    number = r"(-?\d+\.\d\d)"
    line = re.search(
        rf"^test ELBO after {steps} steps: {number} \+- {number} nats an image$", capsys.readouterr().out, re.MULTILINE
    )
    assert line
    return float(line[1]), float(line[2])


def test_a_few_steps_raise_the_test_elbo(
    mnist_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = elbo_after(0, mnist_root, monkeypatch, capsys)
    after, error = elbo_after(30, mnist_root, monkeypatch, capsys)
    assert after > before + 100 * error
    assert elbo_after(30, mnist_root, monkeypatch, capsys) == (after, error)


def test_it_is_one_screen_without_lightning_and_hydra() -> None:
    text = MINIMAL.read_text()
    assert len(text.splitlines()) <= 60
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {name for node in imports for name in [getattr(node, "module", None), *(alias.name for alias in node.names)] if name}
    assert {module.partition(".")[0] for module in modules if module.islower()} <= {
        "argparse",
        "torch",
        "vae_lightning",
        "sources",
        "elbo",
    }
