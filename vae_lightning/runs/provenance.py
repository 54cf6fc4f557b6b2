"""The provenance of a training's metrics: command, code, versions, data and machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vae_lightning.version import __version__

__all__ = ["VERSIONS", "machine", "provenance"]

VERSIONS = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


def provenance(command: str, seed: int, data_checksums: dict[str, str]) -> dict[str, Any]:
    """All that is needed to know where a training's metrics came from, and to get the same metrics again.

    Args:
        command: the command line of the training.
        seed: the seed of the training.
        data_checksums: MD5 of each data file, by file name.
    """
    return {
        "command": command,
        "seed": seed,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "versions": {"python": platform.python_version(), "vae_lightning": __version__, **_versions()},
        "data_checksums": data_checksums,
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """This machine's `platform`, `processor`, `cores` and `gpus`."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count(), "gpus": gpus}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    installed = {}
    for name in VERSIONS:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _git(*arguments: str) -> str | None:
    """Git's answer about the running code; None if the code is not in a git repository."""
    here = Path(__file__).resolve().parent
    try:
        result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
