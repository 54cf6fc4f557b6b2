"""What `make gpu-pack` packed, made usable on a machine without a network: missing packages, and MNIST."""

import gzip
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from running import run

STATIC = "binarized_mnist"
"""The folder in `data.root` of Larochelle's binarized images."""


def missing(wheels: Path) -> tuple[list[Path], list[str]]:
    """The wheels of packages that this Python lacks, and the names of those that it lacks and for which no wheel fits."""
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    rank = {tag: place for place, tag in enumerate(sys_tags())}
    fitting: dict[str, list[tuple[int, Path]]] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        name, _, _, tags = parse_wheel_filename(wheel.name)
        places = [rank[tag] for tag in tags if tag in rank]
        if not _installed(name):
            fitting.setdefault(name, []).extend((place, wheel) for place in places[:1])
    return [min(found)[1] for found in fitting.values() if found], [name for name, found in fitting.items() if not found]


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def install(wheels: list[Path], target: Path) -> dict[str, str]:
    """Install `wheels` into the folder `target`, together, or one by one if that fails; why by wheel, of those that cannot be."""
    why = _pip(wheels, target) if wheels else None
    if why is None:
        return {}
    alone = {wheel.name: _pip([wheel], target) for wheel in wheels}
    return {name: reason for name, reason in alone.items() if reason is not None}


def _pip(wheels: list[Path], target: Path) -> str | None:
    words = ["install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words, *map(str, wheels)]
    return run(command, 120).why


def unpack_images(packed: Path, target: Path) -> Path:
    """`data.root` with MNIST unpacked, as other programs read it, from `packed`: a `data.root` with packed or unpacked files."""
    raw = target / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for archive in sorted((packed / "MNIST" / "raw").glob("*-ubyte.gz")):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    for file in sorted((packed / "MNIST" / "raw").glob("*-ubyte")):
        (raw / file.name).unlink(missing_ok=True)
        (raw / file.name).symlink_to(file.resolve())
    if len(list(raw.iterdir())) < 4:
        raise FileNotFoundError(f"{packed}: has no MNIST/raw with four files; make gpu-pack packs them where there is a network")
    if (packed / STATIC).is_dir():
        shutil.copytree(packed / STATIC, target / STATIC)
    return target
