"""What is installed is all that there is: packages, configs, templates."""

import configparser
import re
from pathlib import Path

from vae_lightning.commands.commandline import conf_of

ROOT = Path(__file__).resolve().parent.parent


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def folder_of(package: str) -> Path:
    """Where a package lies in the checkout."""
    places = dict(line.split(" = ") for line in setup()["options"]["package_dir"].split("\n") if line)
    return ROOT / places.get(package, package.replace(".", "/"))


def test_every_package_is_installed() -> None:
    listed = setup()["options"]["packages"].split()
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "vae_lightning").rglob("__init__.py")}
    assert set(listed) == {*found, "vae_lightning.conf"}
    assert all((folder_of(package) / "__init__.py").is_file() for package in listed), "Hydra wants it of a package of configs"


def test_every_file_beside_the_code_is_installed() -> None:
    for package, patterns in setup()["options.package_data"].items():
        folder = folder_of(package)
        matched = {path for pattern in patterns.split(", ") for path in folder.glob(pattern.strip())}
        beside = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".py"}
        assert matched
        assert beside == matched, package


def test_configs_are_found_where_the_package_is(tmp_path: Path) -> None:
    assert conf_of(ROOT / "vae_lightning") == ROOT / "conf"
    (tmp_path / "site-packages" / "conf").mkdir(parents=True)  # somebody else's
    installed = tmp_path / "site-packages" / "vae_lightning" / "conf"
    installed.mkdir(parents=True)
    assert conf_of(installed.parent) == installed


def test_every_requirement_is_locked_to_its_version_and_hashes() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    locked: dict[str, set[str]] = {}
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==(\S+)", entry).groups()  # type: ignore[union-attr]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
        locked.setdefault(name.lower(), set()).add(version)
    assert len(pinned) > 50
    for name, version in pinned.items():
        assert version in locked[re.sub(r"[-_.]+", "-", name).lower()], name


def test_malicious_releases_are_left_out() -> None:
    (lightning,) = (line for line in setup()["options"]["install_requires"].splitlines() if line.startswith("pytorch-lightning"))
    assert {"!=2.6.2", "!=2.6.3"} <= set(re.split(r"[,\s]+", re.sub(r"^[\w-]+", "", lightning)))
