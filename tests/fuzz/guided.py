"""Fuzzing that is guided by coverage: atheris chooses what hypothesis makes up, by the code of this project that it reaches.

    make fuzz ARGS="--seconds 1500"
    make fuzz ARGS="words --seconds 300 --corpus /tmp/corpus"

Each target runs in a process of its own, as libFuzzer ends its process. What it chose, and what failed, is kept in the corpus; the
failing example is printed, and belongs in the catalogue of `test_bad_input.py` once it is mended.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]
INSTRUMENTED = ["vae_lightning", "omegaconf", "hydra", "yaml", "PIL"]
MEMORY_MB = 6000
FIRST, LENGTH = 100, 2048
"""How many random bytes there are to begin with, and how many in each: of fewer, hypothesis makes no example."""


def target_of(name: str, folder: Path) -> Callable[[bytes], object]:
    """What hypothesis makes of bytes, put before a target."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz.targets import TARGETS
    from hypothesis import given, settings
    from session import same_examples_every_time

    same_examples_every_time()
    target = TARGETS[name](folder)
    examine: Callable[[bytes], object] = settings()(given(**target.given)(target.examine)).hypothesis.fuzz_one_input
    return examine


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one target; ends the process."""
    import logging

    import atheris

    logging.disable(logging.CRITICAL)
    corpus.mkdir(parents=True, exist_ok=True)
    for number in range(FIRST):
        (corpus / f"first_{number}").write_bytes(random.Random(number).randbytes(LENGTH))
    with tempfile.TemporaryDirectory() as folder:
        options = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", "-timeout=120", "-max_len=8192", "-len_control=0"]
        examine = target_of(name, Path(folder))
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus}/", str(corpus)], examine)
        atheris.Fuzz()


def main() -> int:
    """Fuzz the targets that the command names, or all, one after the other; 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="names of fuzz/targets.py; all of them if none is named")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument(
        "--corpus", type=Path, default=None, help="a folder that what was chosen is kept in; a temporary one by default"
    )
    parser.add_argument("--alone", action="store_true", help="in this process; of one target")
    options = parser.parse_args()
    if options.alone:
        fuzz(options.targets[0], options.seconds, options.corpus / options.targets[0])
        return 0
    from fuzz.targets import TARGETS

    names = options.targets or [*TARGETS]
    if unknown := set(names) - set(TARGETS):
        parser.error(f"{', '.join(sorted(unknown))}: unknown; choose from: {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as temporary:
        corpus = options.corpus or Path(temporary)
        each = max(1, options.seconds // len(names))
        ends = {name: _alone(name, each, corpus) for name in names}
    found = [name for name, end in ends.items() if end]
    print(f"fuzzed {len(names)} targets for {each} s each; found something in: {', '.join(found) or 'none'}")
    return int(bool(found))


def _alone(name: str, seconds: int, corpus: Path) -> int:
    print(f"---- {name}", flush=True)
    command = [sys.executable, __file__, name, "--alone", "--seconds", str(seconds), "--corpus", str(corpus)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
