"""Build the wheel and the source distribution, try both in an environment of their own, and date the changelog's section.

    make release                            # into dist/; the data for a short training: VAE_LIGHTNING_DATA, or fetched
    make release ARGS="--keep-changelog"    # only build and try

Nothing is uploaded.
"""

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORT = ("model=cvae_cnn3", "trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.gpus=0", "trainer.threads=1")
QUICK = ("evaluation.num_images=100", "evaluation.train_images=100", "evaluation.figures=[samples]")
COMMANDS = ("vae-train", "vae-evaluate", "vae-sweep", "vae-export", "vae-explore")
HELP_WITHIN = 1.0
"""Seconds of a processor core within which every command prints its help, the least of three."""


def build(folder: Path) -> list[Path]:
    """The wheel and the source distribution of the checkout, in `folder`; the wheel is built from the other, which so is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in (*folder.glob("vae_lightning-*.whl"), *folder.glob("vae_lightning-*.tar.gz")):
        earlier.unlink()
    backend = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", backend], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (source,) = folder.glob("vae_lightning-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("vae_lightning-*.whl")
    return [wheel, source]


def environment(folder: Path, requirements: Path | None) -> Path:
    """The folder of programs of a new environment; without requirements, it sees the packages of this one."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    if requirements is None:
        (site,) = folder.glob("lib/python*/site-packages")
        (here,) = {path for path in sys.path if path.endswith("site-packages")}
        (site / "here.pth").write_text(here + "\n")
    else:
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", requirements], check=True)
    return programs


def install(programs: Path, distribution: Path) -> None:
    """Install a distribution into an environment that has what it needs."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall", "--disable-pip-version-check"]
    subprocess.run([programs / "python", "-m", "pip", "install", *options, str(distribution)], check=True)


def try_out(programs: Path, folder: Path, root: Path) -> None:
    """Train, evaluate, export and sum up with the installed commands in `folder`, which is empty, on MNIST in `root`.

    Raises:
        AssertionError: a command does not do what it should, or takes longer over its help than `HELP_WITHIN`.
        subprocess.CalledProcessError: a command fails.
    """
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VAE_LIGHTNING_JOB"))}
    variables |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        ended = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=600, check=False)
        if ended.returncode:
            sys.stderr.write(ended.stdout + ended.stderr)
        ended.check_returncode()
        return ended.stdout

    for command in COMMANDS:
        seconds = min(core_seconds(run, command, "--help") for _ in range(3))
        print(f"{command} --help: {seconds:.2f} s")
        assert seconds < HELP_WITHIN, f"{command} --help takes {seconds:.2f} s"
    at = f"data.root={root}"
    assert "evaluate:   vae-evaluate run=outputs/cvae_cnn3/" in run("vae-train", *SHORT, at)
    assert "report:" in run("vae-evaluate", "run=latest", *QUICK)
    assert "exported: " in run("vae-export", "run=latest", "format=safetensors", "to=exported")
    assert (folder / "exported" / "model.safetensors").is_file()
    assert "report:" in run("vae-evaluate", "run=exported", f"root={root}", *QUICK)
    assert "explorer: " in run("vae-explore", "run=latest", f"root={root}", "to=explorer.html")
    assert (folder / "explorer.html").is_file()
    assert "sweep.html" in run("vae-train", "-m", "seed=0,1", *SHORT, at)
    assert "mean over 2 seeds" in run("vae-sweep", "sweep=latest")


def core_seconds(run: Callable[..., object], *words: str) -> float:
    """Seconds of a core that a command takes, which do not depend on what else the machine does."""
    before = os.times()
    run(*words)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def dated(changelog: str, version: str, day: datetime.date) -> str:
    """The changelog with the section of `version` dated, which it is to have as its first.

    Raises:
        SystemExit: the first section is another one.
    """
    match = re.search(r"^## (\S+) \((.*?)\)$", changelog, re.MULTILINE)
    if match is None or match[1] != version:
        raise SystemExit(f"CHANGELOG.md: its first section is not ## {version} (unreleased), of vae_lightning/version.py")
    if match[2] != "unreleased":
        return changelog
    return changelog.replace(match[0], f"## {version} ({day.isoformat()})", 1)


def main() -> None:
    """The command of the release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep-changelog", action="store_true", help="leave CHANGELOG.md as it is")
    arguments = parser.parse_args()
    distributions = build(ROOT / "dist")
    root = Path(os.environ.get("VAE_LIGHTNING_DATA", ROOT / "data")).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        programs = environment(Path(scratch, "environment"), ROOT / "requirements.txt")
        for distribution in distributions:
            print(f"trying {distribution.name}")
            install(programs, distribution)
            folder = Path(scratch, distribution.suffix)
            folder.mkdir()
            try_out(programs, folder, root)
    if not arguments.keep_changelog:
        version = distributions[0].name.split("-")[1]
        log = ROOT / "CHANGELOG.md"
        log.write_text(dated(log.read_text(), version, datetime.date.today()))
    print("built and tried:", *(path.relative_to(ROOT) for path in distributions))


if __name__ == "__main__":
    main()
