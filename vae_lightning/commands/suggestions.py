"""Find the setting that was probably meant by one that does not exist, among all options in `conf/`."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vae_lightning.arguments import choose
from vae_lightning.commands.overrides import NONE
from vae_lightning.errors import ConfigurationError
from vae_lightning.plugins import is_path

__all__ = ["Catalogue", "unknown_group", "unknown_option", "unknown_setting"]

OTHER_WORDS = {
    "trainer.max_epochs": "epochs num_epochs n_epochs epoch nepochs",
    "trainer.max_steps": "steps num_steps iterations",
    "trainer.gpus": "gpu gpus device cuda num_gpus",
    "trainer.precision": "amp fp16 bf16",
    "trainer.gradient_clip_val": "grad_clip gradient_clip clip clip_norm",
    "model.optimizer.lr": "lr learning_rate",
    "model.optimizer.name": "optimizer optim",
    "model.optimizer.weight_decay": "weight_decay",
    "model.optimizer.betas": "betas",
    "model.optimizer.eps": "eps",
    "model.optimizer.momentum": "momentum",
    "model.lr_schedule.name": "scheduler lr_scheduler schedule",
    "model.latent_dim": "z_dim zdim latent latents latent_size latent_dims num_latents latent_dimension",
    "model.net.hidden": "hidden_dim hidden_dims hidden_size layers",
    "model.kl_warmup_steps": "warmup kl_warmup kl_annealing",
    "model.beta": "kl_weight kld_weight",
    "model.num_samples": "k",
    "model/net": "net network architecture",
    "model/likelihood": "likelihood loss",
    "model/prior": "prior",
    "model/objective": "objective",
    "model/posterior": "posterior",
    "data": "dataset",
    "data.batch_size": "bs batch batchsize",
    "data.root": "data_dir data_path datadir dataroot",
    "seed": "random_seed random_state",
    "hydra.run.dir": "output output_dir out_dir outdir log_dir logdir save_dir",
    "ckpt_path": "checkpoint ckpt load",
    "resume": "resume_from resume_path continue restart",
    "callbacks=early_stopping": "early_stopping patience",
    "callbacks.animation.frames": "frames",
}
"""Names of settings in other projects, by the setting here."""
MEANT = {word: key for key, words in OTHER_WORDS.items() for word in words.split()}
RENAMED = {"model.conditional_prior": "model/prior=class", "evaluation.digit": "evaluation.label"}
"""What earlier commits called a setting: what to write now."""
GO_ON = "train.py goes on with a run with resume=<folder>"
OF_THE_COMMAND_LINE = {"train": ["resume", "sweep"], "evaluate": ["sweep"]}
"""What a command line takes and no config has."""
OF_THE_OTHER_SCRIPT = {
    "train": {"run": f"is of evaluate.py; {GO_ON}"},
    "evaluate": dict.fromkeys(
        ("model", "data", "trainer", "callbacks", "logger", "experiment", "recipe", "seed", "name", "resume"),
        "is of train.py; evaluate.py takes model and data from the run's folder, run=<folder>",
    ),
}
OF_THE_OTHER_SCRIPT["train"]["evaluation"] = "is of evaluate.py: python evaluate.py run=<folder> evaluation=..."
LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""The extra of this project that a launcher of a sweep comes with, by the launcher's name."""
ROOMS = {"train": ("model", "data", "trainer", "callbacks", "logger", "experiment", "recipe", "sweep"), "evaluate": ("evaluation",)}
WITHOUT_SETTINGS = ("experiment", "recipe", "sweep")
"""Groups whose options have no settings of their own, but values of others."""


@dataclass(frozen=True)
class Catalogue:
    """The groups, options and settings in a folder of configuration files.

    Args:
        conf: the folder of the configuration files.
        name: name of the file that is composed, "train" or "evaluate".
    """

    conf: Path
    name: str

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The options of each group, by its path: `{"model": ["vae", ...], "model/net": [...]}`."""
        by_group: dict[str, list[str]] = {}
        for path in sorted(self.conf.rglob("*.yaml")):
            group = path.parent.relative_to(self.conf).as_posix()
            if group.partition("/")[0] in ROOMS[self.name]:
                by_group.setdefault(group, []).append(path.stem)
        return by_group

    @cached_property
    def settings(self) -> dict[str, list[str]]:
        """The options that have a setting, by its key: `{"model.beta": ["model=beta_vae"]}`; an empty list if all have it."""
        owners: dict[str, list[str]] = {key: [] for key in _keys(self.conf / f"{self.name}.yaml", "")}
        for group, options in self.groups.items():
            for option in options if group not in WITHOUT_SETTINGS else ():
                for key in _keys(self.conf / group / f"{option}.yaml", group.replace("/", ".")):
                    owners.setdefault(key, []).append(f"{group}={option}")
        return owners

    @cached_property
    def defaults(self) -> set[str]:
        """The options of a command without settings: `{"model=vae", "model/net=mlp", ...}`."""
        chosen: set[str] = set()
        wanted = [("", self.name)]
        while wanted:
            group, option = wanted.pop()
            for entry in _content(self.conf / group / f"{option}.yaml").get("defaults", ()):
                for key, value in entry.items() if isinstance(entry, Mapping) else ():
                    within = f"{group}/{key}" if group else str(key)
                    chosen.add(f"{within}={value}")
                    wanted.append((within, str(value)))
        return chosen

    def having(self, group: str) -> list[str]:
        """The choices that have a `group` below them: `["model=vae", ...]` of "model/objective"."""
        above, _, name = group.rpartition("/")
        return [f"{above}={option}" for option in self.groups.get(above, ()) if name in self._below(above, option)]

    def has(self, group: str, option: str, key: str) -> bool:
        """Whether `option` of `group` has the setting `key` or one below it; of an option that is no file here, nobody knows."""
        if option in NONE:
            return False
        if option not in self.groups.get(group, ()):
            return True
        package, path = group.replace("/", "."), self.conf / group / f"{option}.yaml"
        if any(f"{known}.".startswith(f"{key}.") or key.startswith(f"{known}.") for known in _keys(path, package)):
            return True
        defaults = _content(path).get("defaults", ())
        if any(isinstance(entry, Mapping) for entry in defaults):  # which has groups below it
            return True
        return any(self.has(group, str(entry), key) for entry in defaults if entry != "_self_")

    def _below(self, group: str, option: str) -> set[str]:
        """The groups that `option` has below it, some of them by another option that it is built on."""
        found: set[str] = set()
        for entry in _content(self.conf / group / f"{option}.yaml").get("defaults", ()):
            if isinstance(entry, Mapping):
                found |= {str(key).removeprefix("override ").partition("@")[0] for key in entry}
            elif entry != "_self_":
                found |= self._below(group, str(entry))
        return found

    def meant(self, key: str) -> str:
        """The setting, group or option that was probably meant by `key`; an empty string if none is near."""
        bare = key.lstrip("+")
        leaf = re.split(r"[./]", bare)[-1]
        leaves = {known.rpartition(".")[2] for known in self.settings}
        if bare in self.settings or bare in self.groups or bare in OF_THE_COMMAND_LINE[self.name]:
            return bare
        for group, options in self.groups.items():
            if bare in options and not (group == "sweep" and bare in leaves):
                return f"{group}={bare}"
        if self.name == "train" and leaf.lower() in MEANT:
            return MEANT[leaf.lower()]
        by_leaf: dict[str, str] = {}
        for known in sorted(self.settings, key=lambda k: (k.count("."), len(self.settings[k]) > 0)):
            by_leaf.setdefault(known.rpartition(".")[2], known)
        if leaf in by_leaf:
            return by_leaf[leaf]
        groups = {group.rpartition("/")[2]: group for group in reversed(self.groups)}
        if near := difflib.get_close_matches(leaf, groups, n=1, cutoff=0.75 if "/" in bare else 0.85):
            return groups[near[0]]
        if self.name == "train" and (near := difflib.get_close_matches(leaf.lower(), MEANT, n=1, cutoff=0.9)):
            return MEANT[near[0]]
        near = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.75)
        return by_leaf[near[0]] if near else ""


def _content(path: Path) -> Mapping[Any, Any]:
    """The content of a configuration file; empty if the file cannot be read, as another error is already being reported."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, YAMLError, OmegaConfBaseException):
        return {}
    return content if isinstance(content, Mapping) else {}


def _keys(path: Path, package: str) -> list[str]:
    return list(_flat(_content(path), package))


def _flat(content: Mapping[object, object], prefix: str) -> Iterable[str]:
    for key, value in content.items():
        full = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, full)
        elif key not in ("defaults", "_target_"):
            yield full


def unknown_setting(key: str, siblings: Iterable[str], catalogue: Catalogue, typed: Iterable[str] = ()) -> ConfigurationError:
    """The error for a setting that does not exist.

    Args:
        siblings: the keys that exist in the place of `key`.
        typed: the words of the command line.
    """
    prefix, _, leaf = key.rpartition(".")
    if key in RENAMED:
        return ConfigurationError(f"{key}: is {RENAMED[key]} now")
    if not prefix and key in OF_THE_OTHER_SCRIPT[catalogue.name]:
        return ConfigurationError(f"{key}: {OF_THE_OTHER_SCRIPT[catalogue.name][key]}")
    typed = list(typed)
    if brought := _brought_along(key, catalogue, typed):
        return ConfigurationError(brought)
    if owners := catalogue.settings.get(key):
        return ConfigurationError(_of_another_option(key, owners, catalogue, typed))
    typable = () if prefix else OF_THE_COMMAND_LINE[catalogue.name]
    names, above = sorted({*map(str, siblings), *typable}), f"{prefix}." if prefix else ""
    # first look for a slip of the pen, then for the setting's name in other projects
    slips = difflib.get_close_matches(leaf, names, n=1, cutoff=0.8) if leaf not in MEANT else []
    meant = f"{above}{slips[0]}" if slips else catalogue.meant(key)
    if meant.lstrip("+") == key:  # which what is chosen does not take, by whatever sign
        meant = ""
    if prefix and meant.startswith("hydra."):  # what is asked of a part is no folder
        meant = ""
    if not meant and (near := difflib.get_close_matches(leaf, names, n=1, cutoff=0.5)):
        meant = f"{above}{near[0]}"
    if not meant:
        return ConfigurationError(f"{key}: no such key; {prefix or 'the top level'} has: {', '.join(names) or 'none'}")
    owners = catalogue.settings.get(meant, []) if meant.removeprefix(above) not in names else []
    hint = f" (with {_either(owners)})" if owners and not catalogue.defaults & set(owners) else ""
    return ConfigurationError(f"{key}: no such key; did you mean {meant}{hint}?")


def _brought_along(key: str, catalogue: Catalogue, typed: Sequence[str]) -> str:
    """The message for a setting that came with another choice, and that a part of one's own does not take; "" if it did not."""
    prefix = key.rpartition(".")[0]
    given = [(word.partition("=")[0].lstrip("+"), word.partition("=")[2]) for word in typed]
    own = next((value for name, value in given if prefix and name in (prefix, f"{prefix}.name") and is_path(value)), "")
    choices = [f"{name}={value}" for name, value in given if name in catalogue.groups]
    if not own or not choices or any(name == key for name, _ in given):
        return ""
    return (
        f"{key}: comes with {' or '.join(choices)} or by default, and {own} does not take it; leave it out with ~{key}, "
        f"or all of the other {prefix} with ~{prefix}"
    )


def _of_another_option(key: str, owners: list[str], catalogue: Catalogue, typed: Iterable[str]) -> str:
    """The message for a setting that only other options of its group have, perhaps because one was chosen by `name` alone."""
    prefix = key.rpartition(".")[0]
    group = prefix.replace(".", "/")
    for word in typed:
        name = word.lstrip("+").partition(f"{prefix}.name=")[2]
        if name in catalogue.groups.get(group, ()):
            return f"{prefix}.name={name}: leaves the settings of another option beside it ({key}); choose it whole: {group}={name}"
    return f"{key}: belongs to {_either(owners)}"


def unknown_group(group: str, catalogue: Catalogue, near: str = "") -> ConfigurationError:
    """The error for `group=name` where no such group is chosen from: there is none, or what is chosen above it has none.

    Args:
        near: the places that options of the group are put to, as Hydra lists them.
    """
    if group.partition("/")[0] in OF_THE_OTHER_SCRIPT[catalogue.name]:
        return unknown_setting(group.partition("/")[0], [], catalogue)
    if "@" in group and near:
        return ConfigurationError(f"{group}: nothing that is chosen has a place for it; there is: {near}")
    if owners := catalogue.having(group):
        above, _, name = group.rpartition("/")
        return ConfigurationError(f"{group}: the {above} that is chosen has no {name}; those that have: {', '.join(owners)}")
    meant = catalogue.meant(group)
    hint = f"did you mean {meant}?" if meant else f"there are: {', '.join(catalogue.groups)}"
    return ConfigurationError(f"{group}: no such group; {hint}")


def unknown_option(file: str, options: Iterable[str], catalogue: Catalogue) -> ConfigurationError:
    """The error for `group=name` if the group has no such option; `file` is `group/name`, as Hydra gives it."""
    group = max((known for known in catalogue.groups if file.startswith(f"{known}/")), key=len, default=file.rpartition("/")[0])
    name, known = file[len(group) + 1 :], list(options)
    if group == "hydra/launcher":
        return _unknown_launcher(name, known)
    if name.endswith(".ckpt"):
        return ConfigurationError(f"{group}={name}: takes a name: {', '.join(known)}; a checkpoint is given with ckpt_path={name}")
    if group == "data" and ("/" in name or "." in name or Path(name).exists()):
        kind, an_image = ("array", "an array") if name.endswith((".npy", ".npz")) else ("folder", "a folder")
        return ConfigurationError(
            f"data={name}: takes a name: {', '.join(known)}; the folder of their files is data.root=<folder>, and {an_image} of "
            f"your own images is data={kind} data.path={name}"
        )
    try:
        choose(group, name, dict.fromkeys(known))
    except ConfigurationError as error:
        return error
    return ConfigurationError(f"{group}={name}: cannot be read")


def _unknown_launcher(name: str, known: list[str]) -> ConfigurationError:
    """The error for a launcher that Hydra does not know: there is none, or its package is missing."""
    if name in LAUNCHERS:
        extra = f"pip install 'vae_lightning[{LAUNCHERS[name]}]'"
        return ConfigurationError(
            f"hydra/launcher={name}: its package is not installed: {extra}; installed are: {', '.join(known)}"
        )
    try:
        choose("hydra/launcher", name, dict.fromkeys([*known, *(other for other in LAUNCHERS if other not in known)]))
    except ConfigurationError as error:
        return error
    return ConfigurationError(f"hydra/launcher={name}: cannot be read")


def _either(choices: Iterable[str]) -> str:
    several = list(choices)
    return " or ".join(several) if len(several) < 4 else f"{', '.join(several[:3])}, ..."
