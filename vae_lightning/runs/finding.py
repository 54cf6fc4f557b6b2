"""Find the run folder and the checkpoint that a user means, and where the data of that run lie on this machine."""

import logging
import shlex
from pathlib import Path
from typing import Any

from vae_lightning.errors import CheckpointError, ConfigurationError, one_line
from vae_lightning.machine.files import at_home, is_there
from vae_lightning.machine.pretrained import WEIGHTS as WEIGHTS_FOR_OTHERS
from vae_lightning.machine.pretrained import is_pretrained
from vae_lightning.machine.reading import require_inside
from vae_lightning.machine.shell import called
from vae_lightning.runs.layout import BEST, CHECKPOINTS, CONFIG, HYDRA, LAST, PREVIOUS
from vae_lightning.runs.released import PREFIX, released
from vae_lightning.runs.yaml_files import read_yaml, resolved

__all__ = ["find", "latest", "located", "run_folder", "tested"]

log = logging.getLogger(__name__)

WEIGHTS = (BEST, LAST, PREVIOUS)
"""The checkpoints of a run that may be evaluated; the first one that exists is."""
SHOWN = 5
"""Runs that an error names, at most."""


def find(run: str | None, ckpt_path: str | None, outputs: str | Path = "outputs", key: str = "run") -> tuple[Path, Path]:
    """The run folder and the checkpoint that `run` or `ckpt_path` names.

    Args:
        run: a run folder or "latest"; also a checkpoint in a run folder, its folder `checkpoints`, or a folder above a single run;
            also a folder of `vae-export`, and `pretrained:<name>`, a model of a release.
        ckpt_path: a checkpoint file in a run folder, in place of `run`.
        outputs: the folder in which "latest" looks for runs.
        key: the user's name for `run`, for the errors.

    Raises:
        ConfigurationError: both are given, or none.
        CheckpointError: there is no such run, or it has no checkpoint.
    """
    if (run is None) == (ckpt_path is None):
        raise ConfigurationError("run: give either run=<folder>, run=latest or ckpt_path=<file>")
    if ckpt_path is not None:
        return _of_checkpoint(at_home(str(ckpt_path)), f"ckpt_path={ckpt_path}")
    if run == "latest":
        return _with_checkpoint(latest(outputs), f"{key}=latest")
    if str(run).startswith(PREFIX):
        return _with_checkpoint(released(str(run)), f"{key}={run}")
    path, named = at_home(str(run)), f"{key}={run}"
    if path.is_file():
        return _of_checkpoint(path, named)
    if not path.is_dir():
        raise CheckpointError(f"{named}: there is no such folder")
    return _with_checkpoint(run_folder(path, named, key), named)


def latest(outputs: str | Path) -> Path:
    """The run folder below `outputs` whose checkpoint is newest."""
    newest: dict[float, Path] = {}
    for path in Path(outputs).glob(f"**/{CHECKPOINTS}"):
        folder = path.parent.parent
        if path.name in (weights.name for weights in WEIGHTS) and (folder / CONFIG).is_file():
            try:
                newest[path.stat().st_mtime] = folder
            except FileNotFoundError:  # a run that still trains has just replaced it
                continue
    if not newest:
        raise CheckpointError(
            f"run=latest: there is no run with a checkpoint below {outputs}; train one first: {called('train.py')}"
        )
    return newest[max(newest)]


def _of_checkpoint(path: Path, named: str) -> tuple[Path, Path]:
    if not path.is_file():
        if path.is_dir():
            raise CheckpointError(f"{named}: is a folder; give a file, or the run: run={shlex.quote(str(path))}")
        raise CheckpointError(f"{named}: there is no such file")
    if path.name == WEIGHTS_FOR_OTHERS and is_pretrained(path.parent):
        return path.parent, path
    # a link to another run's checkpoint is of that run; one to a file elsewhere is of the run that it lies in, as the user says
    for folder in (*path.resolve().parents, *path.absolute().parents):
        if (folder / CONFIG).is_file():
            return folder, path
    raise CheckpointError(f"{named}: is not in a run folder (none above it has {CONFIG})")


def run_folder(path: Path, named: str, key: str) -> Path:
    """The run folder for `path`: a run folder or a model for others itself, its `checkpoints`, or a folder above a single run."""
    if (path / CONFIG).is_file() or is_pretrained(path):
        return path
    if path.resolve().name == BEST.parent.name and (path / ".." / CONFIG).is_file():
        return path.resolve().parent
    depths = ("*", "*/*", "*/*/*")  # as far as outputs/<name>/<sweep>/<job> is deep; more would search a whole disk
    below = sorted(config.parent.parent for depth in depths for config in path.glob(f"{depth}/{CONFIG}"))
    if len(below) == 1:
        return below[0]
    if below:
        shown = ", ".join(f"{key}={shlex.quote(str(folder))}" for folder in below[:SHOWN])
        more = ", ..." if len(below) > SHOWN else ""
        raise CheckpointError(f"{named}: is no run folder, but holds {len(below)} runs: give one of {shown}{more}")
    above = next((folder for folder in path.resolve().parents if (folder / CONFIG).is_file()), None)
    if above is not None:
        raise CheckpointError(f"{named}: is a part of a run folder: give {key}={shlex.quote(str(above))}")
    raise CheckpointError(f"{named}: is not a run folder (it has no {CONFIG})")


def tested(folder: Path) -> Path:
    """The weights that the test of the run in `folder` is of: the best, the last where nothing was validated, or an export's."""
    return next((folder / weights for weights in (BEST, LAST, WEIGHTS_FOR_OTHERS) if (folder / weights).is_file()), folder / BEST)


def _with_checkpoint(folder: Path, named: str) -> tuple[Path, Path]:
    if not (folder / CONFIG).is_file():  # then it is a model for others
        return folder, folder / WEIGHTS_FOR_OTHERS
    for weights in WEIGHTS:
        if (folder / weights).is_file():
            _require_own(folder, folder / weights, named)
            return folder, folder / weights
    others = sorted(folder.glob(CHECKPOINTS))
    if others:
        raise CheckpointError(f"{named}: has neither {BEST.name} nor {LAST.name}; choose: ckpt_path={shlex.quote(str(others[-1]))}")
    raise CheckpointError(f"{named}: has no checkpoint (no {BEST} or {LAST.name}); train it first")


def _require_own(folder: Path, checkpoint: Path, named: str) -> None:
    """Refuse a run whose checkpoint is a link to elsewhere: somebody else's folder does not say which files are read here."""
    try:
        require_inside(checkpoint, folder)
    except ValueError as error:
        own = f"if that is meant: ckpt_path={shlex.quote(str(checkpoint))}"
        raise CheckpointError(f"{named}: {checkpoint.relative_to(folder)} {error}; {own}") from None


# ---- where the data of a run lie


def located(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The data arguments of the run in `folder` with `root`, `static_root` and `path` as paths that hold on this machine.

    A relative path is taken from the directory of the training's command; if nothing is there, as after a move to another machine,
    from the directory of this command.
    """
    start = trained_in(folder)
    resolved = dict(arguments)
    for key in ("root", "static_root", "path"):
        value = arguments.get(key)
        path = at_home(value) if isinstance(value, str) else None
        if path is None or path.is_absolute() or start is None or start == Path.cwd():
            continue
        there = start / path
        if is_there(there) or not is_there(path):
            resolved[key] = str(there)
        else:
            said = one_line(str(value), 200), one_line(str(start), 200)
            log.warning("%s: data.%s=%s is not in %s, where it was trained; taken from here", folder, key, *said)
    return resolved


def trained_in(folder: Path) -> Path | None:
    """The working directory of the command that trained the run in `folder`; None if the run folder does not say."""
    try:
        start = resolved(read_yaml(folder / HYDRA, folder), "hydra", "runtime", "cwd")
    except Exception:  # yaml has many kinds of error, and all mean the same here
        return None
    return Path(start) if isinstance(start, str) else None
