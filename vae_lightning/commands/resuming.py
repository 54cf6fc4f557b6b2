"""`python train.py resume=<run folder>`: the words that go on with a run in its own folder, from where it stopped.

The run's own words come first, then those typed now, of which the later wins by key; then the run's folder and its newest whole
checkpoint. A run that was killed before its first checkpoint begins anew in its folder.

This module is imported before a command's arguments are read; it imports torch only where there is a `resume=`.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yaml import YAMLError

from vae_lightning.arguments import each_setting
from vae_lightning.commands.overrides import flags_first, prepared, takes_a_path
from vae_lightning.commands.suggestions import Catalogue
from vae_lightning.commands.trusted import TRUSTS, is_trust, named_in, require_trusted_configs
from vae_lightning.errors import ConfigurationError, one_line, printable
from vae_lightning.machine.files import at_home, is_there
from vae_lightning.machine.shell import called, path_setting, setting, shell_quoted, unquoted

__all__ = ["is_finished", "is_resume", "merged", "resumes", "with_begun", "with_resumed"]

RESUMES = "VAE_LIGHTNING_RESUMES"
"""An environment variable with the folder that this command resumes, which processes that Lightning starts have to know too."""
CONFIG, OVERRIDES, HYDRA = (Path(".hydra", f"{name}.yaml") for name in ("config", "overrides", "hydra"))
METRICS, CHECKPOINTS = Path("metrics.json"), Path("checkpoints")
STANDS = ("last.ckpt", "last.previous.ckpt")
WORD = re.compile(r"(?P<sign>\+{0,2}|~)(?P<key>[A-Za-z_][^=\s]*)(?:=(?P<value>.*))?", re.DOTALL)
RESUME = re.compile(r"\+{0,2}resume=(?P<path>.*)", re.DOTALL)
GIVEN = {
    "ckpt_path": "goes on from its newest checkpoint; to go on from another one, give ckpt_path= and the settings without resume=",
    "hydra.run.dir": "goes on in its own folder; to go on in another one, give ckpt_path= and the settings without resume=",
    "run_dir": "goes on in its own folder",
}
"""What cannot be set beside `resume=`, and why not."""
CARRIED = ("hydra.searchpath", "hydra.job.chdir")
"""Settings of Hydra's own that a run goes on with."""
DIRECTORY, NAME = {"--config-dir", "-cd"}, {"--config-name", "-cn"}


def is_resume(word: str) -> bool:
    """Whether a word of a command line says which run is resumed."""
    match = RESUME.fullmatch(word)
    return match is not None and match["path"].strip().lower() != "null"


def with_resumed(words: Sequence[str], catalogue: Catalogue) -> list[str]:
    """The words of a command line as Hydra reads them; `resume=` in them is replaced by what it means.

    Args:
        words: as they were typed, without the script's name.

    Raises:
        ConfigurationError: the run cannot be resumed; nothing was changed.
        CheckpointError: there is no such run, or its checkpoints are damaged.
    """
    named = [match for match in map(RESUME.fullmatch, words) if match]
    asked = any(map(is_resume, words))
    own = [word for word in words if not (RESUME.fullmatch(word) or (asked and is_trust(word)))]
    rest = prepared(own, catalogue.groups, catalogue.meant)
    if "LOCAL_RANK" not in os.environ:
        for variable in (RESUMES, TRUSTS):
            os.environ.pop(variable, None)
    if not asked:
        return rest
    if len(named) > 1:
        raise ConfigurationError(f"{named[1][0]}: one run is resumed at a time")
    flags, typed = flags_first(rest, catalogue.meant)
    _refuse(named[0][0], flags, typed)
    folder = _folder(named[0]["path"], bool(typed))
    resumed = _Resumed(folder)
    if not typed:
        resumed.require_unfinished(path_setting("resume", named[0]["path"]))
    before, trust = resumed.words(), named_in(words)
    require_trusted_configs(before, trust)
    own, left_out = _fitting(before, typed, catalogue)
    for word in left_out:
        _say(f"{word} is left out, as what is chosen now has no such setting")
    os.environ[RESUMES], os.environ[TRUSTS] = str(folder), ",".join(trust)
    place = [setting("hydra.run.dir", folder), *resumed.stands()]
    return [*resumed.flags(flags), *flags, *merged(own, typed), *place]


def with_begun(words: Sequence[str], folder: Path) -> list[str]:
    """The words of a job of a sweep, whose run folder is `folder`; they go on with its run if that has begun."""
    if not (folder / CONFIG).is_file():
        return list(words)
    os.environ[RESUMES] = str(folder)
    return [*words, *_Resumed(folder).stands()]


def resumes(folder: Path) -> bool:
    """Whether this command resumes the run in `folder`."""
    return RESUMES in os.environ and Path(os.environ[RESUMES]).resolve() == folder.resolve()


def is_finished(folder: Path) -> bool:
    """Whether the training of the run in `folder` came to its end, and was neither interrupted nor stopped by a search."""
    record = _record(folder)
    return bool(record) and not record.get("interrupted", False) and not record.get("pruned", False)


def _refuse(word: str, flags: Sequence[str], typed: Sequence[str]) -> None:
    if any(flag in ("-m", "--multirun") for flag in flags) or "hydra.mode=MULTIRUN" in typed:
        raise ConfigurationError(f"-m: one run is resumed at a time; leave -m out, or start a sweep without {word}")
    for match in filter(None, map(WORD.fullmatch, typed)):
        if match["key"] in GIVEN:
            raise ConfigurationError(f"{match['key']}: {word} {GIVEN[match['key']]}")


# ---- which run


def _folder(path: str, asks_for_more: bool) -> Path:
    from vae_lightning.errors import CheckpointError
    from vae_lightning.runs.finding import run_folder

    text = unquoted(path)
    if text == "latest":
        return _latest(asks_for_more)
    named, folder = f"resume={path}", at_home(text)
    if not text:
        raise ConfigurationError("resume=: give a run folder, or latest")
    if folder.is_file():
        raise CheckpointError(f"{named}: is a file; give the run folder that it is in, or go on from it with ckpt_path=")
    if not folder.is_dir():
        raise CheckpointError(f"{named}: there is no such folder")
    found = run_folder(folder, named, "resume").resolve()
    if not (found / CONFIG).is_file():
        raise CheckpointError(f"{named}: is a model for others, of vae-export, which holds no state of a training to go on from")
    return found


def _latest(asks_for_more: bool) -> Path:
    """The run below outputs/ that was trained last."""
    from vae_lightning.errors import CheckpointError

    found = {config.parent.parent: _touched(config.parent.parent) for config in Path("outputs").glob(f"**/{CONFIG}")}
    if not found:
        raise CheckpointError(f"resume=latest: there is no run below outputs; start one: {called('train.py')}")
    newest, *others = sorted(found, key=lambda folder: found[folder], reverse=True)
    if not asks_for_more and is_finished(newest):
        unfinished = next((folder for folder in others if not is_finished(folder)), None)
        hint = f"; of those that are not, the newest is {shell_quoted(path_setting('resume', unfinished))}" if unfinished else ""
        more = f"ask for more, such as {_more(_read(newest / CONFIG))}"
        raise ConfigurationError(f"resume=latest: {newest} is finished; {more}{hint}")
    return newest.resolve()


def _touched(folder: Path) -> float:
    times = [0.0]
    for path in (folder / CONFIG, *(folder / CHECKPOINTS / name for name in STANDS)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # a run that still trains has just replaced it
            continue
    return max(times)


# ---- what the run was asked


class _Resumed:
    """What the folder of a run says of the command that it was started with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, overrides, hydra = (_read(folder / name) for name in (CONFIG, OVERRIDES, HYDRA))
        self.overrides = _words(folder / OVERRIDES, overrides)
        self.hydra = hydra.get("hydra") if isinstance(hydra, Mapping) else None
        if not isinstance(self.config, Mapping) or not isinstance(self.hydra, Mapping):
            wrong = HYDRA if isinstance(self.config, Mapping) else CONFIG
            raise ConfigurationError(f"{folder / wrong}: is damaged, so the run cannot be resumed by its folder alone")
        self.sources: list[Mapping[str, Any]] = self._listed("runtime.config_sources", Mapping)
        self.flagged: list[str] = self._listed("overrides.hydra", str)
        start = _get(self.hydra, "runtime.cwd")
        self.start = Path(start) if isinstance(start, str) else Path.cwd()
        """The working directory of the command, from which its relative paths are taken."""

    def _listed(self, key: str, kind: type) -> list[Any]:
        """A list in what Hydra has recorded of the command; empty where there is none."""
        value = _get(self.hydra, key)
        if value is not None and not (isinstance(value, list) and all(isinstance(entry, kind) for entry in value)):
            raise ConfigurationError(f"{self.folder / HYDRA}: is damaged: its {key} is {one_line(repr(value), 80)}")
        return value or []

    def require_unfinished(self, named: str) -> None:
        """Refuse to resume a run that came to its end, of which no more is asked."""
        if not is_finished(self.folder):
            return
        lost = _record(self.folder).get("not_finite")
        if isinstance(lost, Mapping):
            what = one_line(str(lost.get("what")), 80)
            way_out = "ask for what would keep it finite, such as a smaller model.optimizer.lr"
            raise ConfigurationError(f"{named}: was ended by {what}, which was not finite, and would be again; {way_out}")
        raise ConfigurationError(f"{named}: is finished; ask for more, such as {shell_quoted(named)} {_more(self.config)}")

    def flags(self, typed: Sequence[str]) -> list[str]:
        """Hydra's flags that say where the run's configs are, but for those that were typed."""
        given = {flag.partition("=")[0] for flag in typed}
        flags: list[str] = []
        for source in self.sources:
            if source.get("provider") == "command-line" and not DIRECTORY & given:
                path = str(source.get("path"))
                if not Path(path).is_dir():
                    raise ConfigurationError(
                        f"--config-dir {path}: is gone; say where the run's configs are, --config-dir <folder>"
                    )
                flags += ["--config-dir", path]
        name, job = _get(self.hydra, "job.config_name"), _get(self.hydra, "job.name")
        return [*flags, "--config-name", str(name)] if name not in (None, job) and not NAME & given else flags

    def words(self) -> list[str]:
        """The run's settings, with paths that hold in this working directory."""
        carried = [word for word in self.flagged if _key(word) in CARRIED]
        elsewhere = self.start.resolve() != Path.cwd()
        if elsewhere:
            carried = [re.sub(r"file://(?!/)", f"file://{self.start}/", word) for word in carried]
        own = [self._without_environment(word) for word in self.overrides if _key(word) != "ckpt_path"]
        return [*carried, *own, *(self._paths() if elsewhere else ())]

    def _without_environment(self, word: str) -> str:
        """`word` with the value that it had then, if it asks for more than other keys: the environment is another one now."""
        from vae_lightning.runs.yaml_files import asks_for_more

        if not asks_for_more(word):
            return word
        value = _get(self.config, _key(word))
        if value is None or isinstance(value, Mapping | list) or (isinstance(value, str) and asks_for_more(value)):
            raise ConfigurationError(f"{word}: was taken from the environment; say it anew beside resume=")
        told = setting("", value)[1:] if isinstance(value, str) else json.dumps(value)
        return f"{word.partition('=')[0]}={told}"

    def _paths(self) -> Iterator[str]:
        """Settings for the relative paths in the run's config, as the command that it was started with understood them."""
        for key, value in each_setting(self.config):
            if not takes_a_path(key) or key in ("name", *GIVEN) or not isinstance(value, str):
                continue
            path = at_home(value)
            there = self.start / path
            if not path.is_absolute() and (is_there(there) or not is_there(path)) and is_there(self.start):
                yield setting(key, there)

    def stands(self) -> list[str]:
        """The setting for the checkpoint to go on from; none if the run has to begin anew."""
        kept = self._checkpoints()
        if any((kept / name).is_file() for name in STANDS):
            from vae_lightning.machine.checkpoints import newest_whole

            path, damaged = newest_whole(kept)
            if damaged:
                _say(damaged)
            return [setting("ckpt_path", path)]
        before = self.config.get("ckpt_path")
        if isinstance(before, str):
            path = self.start / before
            if path.parent.resolve() == kept.resolve() or self.folder.resolve() in path.resolve().parents:
                raise ConfigurationError(f"{path}: the checkpoint that the run went on from is gone, and there is no newer one")
            _say(f"{self.folder} has no checkpoint yet, so it goes on from {path} once more")
            return [setting("ckpt_path", path)]
        _say(f"{self.folder} has no checkpoint yet, so it begins anew")
        return []

    def _checkpoints(self) -> Path:
        """The folder of last.ckpt, which a setting may have put elsewhere."""
        callbacks = self.config.get("callbacks")
        for callback in callbacks.values() if isinstance(callbacks, Mapping) else ():
            if isinstance(callback, Mapping) and str(callback.get("_target_")).endswith(".LastCheckpoint"):
                return _moved(self.start / str(callback.get("dirpath")), str(self.config.get("run_dir")), self.folder)
        return self.folder / CHECKPOINTS


def _moved(path: Path, before: str, folder: Path) -> Path:
    """`path`, in `folder` if it was in the folder `before`, which is at `folder` now."""
    return folder / path.relative_to(before) if path.is_relative_to(before) else path


def _read(path: Path) -> Any:
    """The content of a YAML file in .hydra, with nothing in it resolved."""
    from vae_lightning.runs.yaml_files import read_yaml

    try:
        return read_yaml(path, path.parent.parent)
    except FileNotFoundError:
        way_out = "so the run cannot be resumed by its folder alone; give its settings and ckpt_path=<folder>/checkpoints/last.ckpt"
        raise ConfigurationError(f"{path}: is missing, {way_out}") from None
    except (OSError, ValueError, YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is damaged ({one_line(error, 120)})") from None


def _words(path: Path, content: Any) -> list[str]:
    if not isinstance(content, list):
        raise ConfigurationError(f"{path}: is damaged: it is no list of settings")
    for word in content:
        match = WORD.fullmatch(word) if isinstance(word, str) else None
        if match is None or _key(word).startswith("hydra") or (match["value"] is None and match["sign"] != "~"):
            raise ConfigurationError(f"{path}: is damaged: {one_line(repr(word), 80)} is no setting")
    return content


def _record(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json`; empty if the training has not come to its end, or the file is damaged."""
    try:
        content = json.loads((folder / METRICS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    metrics = content.get("metrics") if isinstance(content, dict) else None
    whole = isinstance(metrics, dict) and all(value is None or isinstance(value, int | float) for value in metrics.values())
    return content if whole else {}


def _more(config: Any) -> str:
    """Settings that ask for twice as much as `config` does, whichever of its limits it was that ended the training."""
    from omegaconf import OmegaConf

    from vae_lightning.commands.typed import to_trust

    words = []
    for key in ("trainer.max_steps", "trainer.max_epochs", "callbacks.early_stopping.patience"):
        limit = _get(config, key)
        if isinstance(limit, int) and limit > 0:
            words.append(f"{key}={2 * limit}")
    if _get(config, "trainer.max_time") is not None:
        words.append("trainer.max_time=<more>")
    words = words or ["trainer.max_epochs=<more>"]
    packages = to_trust(OmegaConf.create(dict(config)), all_parts=True) if isinstance(config, Mapping) else []
    return " ".join([*words, *([f"'trust=[{','.join(packages)}]'"] if packages else [])])


# ---- the run's settings and those typed now


def merged(before: Sequence[str], typed: Sequence[str]) -> list[str]:
    """The settings `before` and then those `typed`, of which the later wins by key.

    >>> merged(["model=cvae", "+model.optimizer.eps=1e-6", "seed=1"], ["seed=2", "model.optimizer.eps=1e-7"])
    ['model=cvae', '+model.optimizer.eps=1e-6', 'seed=2', 'model.optimizer.eps=1e-7']
    """
    words = list(before)
    for word in typed:
        match = WORD.fullmatch(word)
        if match is None:
            words.append(word)
            continue
        sign, key, value = match["sign"], match["key"], match["value"]
        earlier = [old for old in words if _key(old) == key]
        added = [old for old in earlier if old.startswith("+")]
        words = [old for old in words if old not in earlier or (old in added and "." in key and sign != "~")]
        if sign == "~":
            words += [] if added else [word]
        elif added:
            words.append(f"{key}={value}" if "." in key else f"+{key}={value}")
        else:
            words.append(word)
    return words


def _fitting(before: Sequence[str], typed: Sequence[str], catalogue: Catalogue) -> tuple[list[str], list[str]]:
    """The settings `before` without those of an option that is replaced by one typed now, and what was left out."""
    chosen = dict(word.split("=", 1) for word in typed if word.partition("=")[0] in catalogue.groups)
    kept: list[str] = []
    left_out: list[str] = []
    for word in before:
        group = next((group for group in chosen if _key(word).startswith(f"{group.replace('/', '.')}.")), None)
        fits = group is None or word.startswith("+") or catalogue.has(group, chosen[group], _key(word))
        (kept if fits else left_out).append(word)
    return kept, left_out


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _get(content: Any, path: str) -> Any:
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _say(line: str) -> None:
    print(f"resume: {printable(line)}", file=sys.stderr)
