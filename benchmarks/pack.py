"""`make gpu-pack`: what `make gpu` needs on a machine without a network, in one folder that git ignores.

Wheels of what the machine may lack, for each Python it may have, and MNIST, packed. The folder and the repository together stay
below the size that a machine is lent with; what does not fit is left out from the end of `requirements-gpu.txt`, and said.
"""

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from host import commit
from packed import STATIC

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
FOLDER = REPOSITORY / ".gpu"
MIB = 2**20
LIMIT = 62 * MIB
"""Bytes of the folder and the repository together."""
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def parts() -> list[list[str]]:
    """`name==version` of what travels, in parts, most needed first."""
    pins = dict(line.split("==") for line in _lines(REPOSITORY / "requirements.txt"))
    texts = (HERE / "requirements-gpu.txt").read_text().split("# part:")[1:]
    lines = [_contents(text.splitlines()[1:]) for text in texts]
    return [[line if "==" in line else f"{line}=={pins[line]}" for line in part] for part in lines]


def _lines(path: Path) -> list[str]:
    return _contents(path.read_text().splitlines())


def _contents(lines: list[str]) -> list[str]:
    return [content for line in lines if (content := line.partition("#")[0].strip())]


def wheel_of(requirement: str, python: str, folder: Path) -> Path | None:
    """The wheel of `requirement`, pure Python where there is one; None if there is none for this Python."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    common = ["download", "--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    compiled = [word for platform in PLATFORMS for word in ("--platform", platform)]
    own = ["wheel", "--no-deps", "--no-build-isolation"]  # of a source, which may be for this Python alone
    for words in ([*common, "--platform", "any"], [*common, *compiled], own):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            target = ["--dest" if words[0] == "download" else "--wheel-dir", scratch]
            subprocess.run([*pip, *words, *target, requirement], capture_output=True, check=False)
            for wheel in Path(scratch).glob("*.whl"):
                if words is not own or wheel.name.endswith("-none-any.whl"):
                    return wheel.replace(folder / wheel.name)
    return None


def pack_wheels(folder: Path, pythons: list[str], without: list[str], room: int) -> list[str]:
    """Put wheels into `folder` for as long as there is room; what was left out though it is not in `without`, in words."""
    left_out = []
    for part, python in product(parts(), pythons):
        for requirement in part:
            name = requirement.partition("==")[0].lower().replace("-", "_")
            packed = any(wheel.name.lower().startswith(f"{name}-") for wheel in folder.glob("*-none-any.whl"))
            if packed or name in {known.lower().replace("-", "_") for known in without}:
                continue
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                wheel = wheel_of(requirement, python, Path(scratch))
                if wheel is None:
                    left_out.append(f"{requirement} for Python {python} (there is no wheel)")
                elif wheel.stat().st_size > room:
                    left_out.append(f"{requirement} for Python {python} ({wheel.stat().st_size / MIB:.1f} MiB: no room)")
                else:
                    room -= wheel.stat().st_size
                    print(wheel.name, flush=True)
                    wheel.replace(folder / wheel.name)
    return left_out


def pack_images(root: Path, folder: Path) -> None:
    """MNIST's four raw files, packed without a date, so that the same files give the same bytes."""
    raw, packed = root / "MNIST" / "raw", folder / "MNIST" / "raw"
    packed.mkdir(parents=True)
    for archive in raw.glob("*-ubyte.gz"):
        shutil.copy(archive, packed / archive.name)
    for path in raw.glob("*-ubyte"):
        (packed / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def size_of(paths: Iterator[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def travelling() -> Iterator[Path]:
    """Files of the repository that git tracks or does not ignore."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return (REPOSITORY / name for name in listed.split("\0") if name)


def pack_static(root: Path, folder: Path, room: int) -> list[str]:
    """Larochelle's binarized images, if they are in `root` and there is room; what was left out, in words."""
    size = size_of((root / STATIC).rglob("*"))
    if size == 0 or size > room:
        return [f"{STATIC} ({f'{size / MIB:.1f} MiB: no room' if size else f'not in {root}'})"]
    shutil.copytree(root / STATIC, folder / STATIC)
    return []


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(REPOSITORY / "data"), type=os.path.abspath)
    parser.add_argument("--folder", default=FOLDER, type=Path)
    parser.add_argument("--python", nargs="+", default=["3.12", "3.11"], help="versions that the machine may have, likeliest first")
    parser.add_argument("--without", nargs="+", default=[], help="packages that the machine is known to have")
    return parser


def main() -> None:
    options = arguments().parse_args()
    from vae_lightning.data.sources import raw_folder

    root = raw_folder("mnist", options.data).parents[1]
    new = options.folder.with_name(f"{options.folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "wheels").mkdir(parents=True)
    pack_images(root, new / "data")
    (new / "commit").write_text(f"{commit()}\n")
    repository = size_of(travelling())
    left_out = pack_wheels(new / "wheels", options.python, options.without, LIMIT - repository - size_of(new.rglob("*")))
    left_out += pack_static(root, new / "data", LIMIT - repository - size_of(new.rglob("*")))
    shutil.rmtree(options.folder, ignore_errors=True)
    new.rename(options.folder)
    packed = size_of(options.folder.rglob("*"))
    print(f"{options.folder}: {packed / MIB:.1f} MiB, with the repository {(packed + repository) / MIB:.1f} MiB")
    for line in left_out:
        print(f"left out: {line}")


if __name__ == "__main__":
    main()
