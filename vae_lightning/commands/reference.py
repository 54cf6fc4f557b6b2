"""Generate the tables of README.md, docs/ and the help texts from registries, the comments in `conf/`, and docstrings.

`python -m vae_lightning.commands.reference --write` (`make docs`) replaces the text between these two lines of a Markdown file,

    <!-- generated: figures -->
    <!-- end -->

and, in the help texts of `conf/hydra/`, the text from a heading of `HELP` to the next empty line. Without `--write` the command
names the files that are not fresh, and ends with status 1.
"""

import argparse
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.parts import PARTS
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.glossary import GLOSSARY, LOGGED
from vae_lightning.machine.files import write_bytes
from vae_lightning.plugins import locate

__all__ = ["BLOCKS", "HELP", "REGISTRIES", "Setting", "fresh", "settings_of", "stale", "with_blocks"]

ROOT = Path(__file__).resolve().parents[2]
CONF = next(path for path in (ROOT / "vae_lightning" / "conf", ROOT / "conf") if path.is_dir())
COMMAND = "python -m vae_lightning.commands.reference --write"
BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

REGISTRIES = {
    "model.net.name": "vae_lightning.nets.building.NETS",
    "model.net.name (classifiers)": "vae_lightning.nets.building.CLASSIFIERS",
    "model.likelihood.name": "vae_lightning.distributions.likelihoods.LIKELIHOODS",
    "model.prior.name": "vae_lightning.distributions.priors.PRIORS",
    "model.posterior.name": "vae_lightning.distributions.posteriors.POSTERIORS",
    "model.objective.name": "vae_lightning.objectives.goals.OBJECTIVES",
    "model.optimizer.name": "vae_lightning.models.optimization.OPTIMIZERS",
    "model.lr_schedule.name": "vae_lightning.models.schedules.SCHEDULES",
}
"""Import paths of the tables of names for parts of a model, by the setting that takes the name."""

COMMON = (
    *("seed", "name", "ckpt_path", "trainer.gpus", "trainer.compile", "trainer.max_epochs", "trainer.precision", "trainer.threads"),
    *("model.latent_dim", "model.num_samples", "model.kl_warmup_steps", "model.optimizer.name", "model.optimizer.lr"),
    *("model.lr_schedule.name", "model.net.hidden", "model.net.activation", "data.root", "data.binarization", "data.batch_size"),
    *("data.num_labels", "callbacks.animation.frames"),
)
"""The settings that the help text of train.py shows."""
RESUME = (
    "resume=<run folder>",
    "or latest: go on with this run in its own folder, wherever it was stopped, to what it would have been; settings beside it win",
)
SWEEP = (
    "sweep=<folder>",
    "or latest: go on with this sweep; new: begin another one of the same command; settings beside it extend it",
)
"""`RESUME` and `SWEEP` are what no configuration file has, because a command line alone takes it."""


# ---- the comments in conf/


class Setting(NamedTuple):
    """A setting in a configuration file.

    >>> Setting("seed", "0", "fixes all noise").assigned
    'seed=0'
    """

    key: str
    """The path of the setting: `evaluation.images.estimators`."""
    default: str
    """The value in the file, as it is written there."""
    comment: str
    """The comment on the same line; empty if there is none."""

    @property
    def assigned(self) -> str:
        """The setting with its default as a command line has it."""
        return f"{self.key}={self.default}".replace(", ", ",")


def settings_of(text: str, package: str = "") -> list[Setting]:
    """The settings in the text of a YAML file of `conf/`.

    >>> settings_of("images: # how many\\n  probes: 10 # training images", "evaluation")
    [Setting(key='evaluation.images.probes', default='10', comment='training images')]
    """
    read: list[Setting] = []
    above: list[tuple[int, str]] = [(-1, package)] if package else []
    for line in text.splitlines():
        match = re.match(r"( *)(\w+):(?: +([^#\s].*?))?(?:\s+# (.*))?$", line)
        if match is None:
            continue
        depth, key, value, comment = len(match[1]), match[2], match[3], match[4]
        above = [(level, name) for level, name in above if level < depth]
        path = ".".join([*(name for _, name in above), key])
        if value is None:
            above.append((depth, key))
        else:
            read.append(Setting(path, value.strip("'\""), (comment or "").strip()))
    return read


def _settings(*files: tuple[str, str]) -> list[Setting]:
    return [setting for file, package in files for setting in settings_of((CONF / file).read_text(), package)]


def _options(group: str) -> dict[str, str]:
    """The first sentence of the comment at the top of each option's file, by option of a group."""
    described = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        lines = path.read_text().splitlines()
        comments = [line[2:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
        described[path.stem] = _first(" ".join(line for line in comments if not line.startswith(("@package", "python train.py"))))
    return described


def _groups() -> list[str]:
    folders = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    return sorted(folder for folder in folders if folder.partition("/")[0] not in (".", "hydra"))


# ---- what docstrings say


def first_sentence(documented: object) -> str:
    """The first sentence of the docstring of a class or function.

    >>> first_sentence(first_sentence)
    'The first sentence of the docstring of a class or function.'
    """
    sentence = _first(" ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split()))
    return f"{sentence}." if sentence else ""


def _first(text: str) -> str:
    """The first sentence of a text, without its full stop."""
    return re.split(r"(?<!\.)(?<!et al)\. ", text)[0].rstrip(".:,")


def _described(registered: Any) -> str:
    """The first sentence of the docstring of an entry of a registry; of a pair of nets, that of the encoder."""
    return first_sentence(getattr(registered, "encoder", registered))


# ---- the blocks


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table.

    >>> print(table(["name", "what"], [["kl", "KL(q | p)"]]), end="")
    | name | what |
    |---|---|
    | kl | KL(q \\| p) |
    """
    names = list(header)
    lines = [names, *([_escaped(cell) for cell in row] for row in rows)]
    written = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([written[0], f"|{'---|' * len(names)}", *written[1:]]) + "\n"


def _escaped(cell: str) -> str:
    """`cell` escaped, so that Markdown shows `|`, and `<` outside of code, as they are."""
    spans = cell.replace("|", "\\|").split("`")
    return "`".join(span if number % 2 else span.replace("<", "\\<") for number, span in enumerate(spans))


def _figures() -> str:
    rows = ((spec.section, f"`{spec.name}`", spec.description, _coded(spec.settings, "evaluation.")) for spec in CATALOG.values())
    return table(["section", "figure", "what one sees", "depends on"], rows)


def _evaluation() -> str:
    files = (("evaluate.yaml", ""), ("evaluation/default.yaml", "evaluation"), ("evaluation/ais/default.yaml", "evaluation.ais"))
    return _commented(_settings(*files))


def _commented(settings: Iterable[Setting]) -> str:
    return table(["setting and default", "what it is"], ((f"`{s.assigned}`", s.comment) for s in settings if s.comment))


def _training() -> str:
    settings = [setting for setting in _training_settings().values() if setting.comment]
    return table(["setting and default", "what it is"], ((f"`{name}`", said) for name, said in _typed_first(settings)))


def _typed_first(settings: Iterable[Setting]) -> Iterator[tuple[str, str]]:
    """Each setting and what it is; before `ckpt_path`, what a command line alone takes."""
    for setting in settings:
        if setting.key == "ckpt_path":
            yield RESUME
            yield SWEEP
        yield setting.assigned, setting.comment


def _training_settings() -> dict[str, Setting]:
    """The settings of `python train.py`, by key."""
    files = (("model/vae", "model"), ("model/net/mlp", "model.net"), ("data/mnist", "data"), ("trainer/default", "trainer"))
    named = [("train.yaml", ""), *((f"{file}.yaml", package) for file, package in files), ("callbacks/default.yaml", "callbacks")]
    return {setting.key: setting for setting in _settings(*named)}


def _choices() -> str:
    rows = ((f"`{group}=`", ", ".join(f"`{option}`" for option in _options(group))) for group in _groups())
    return table(["group", "options"], rows)


def _choices_described() -> str:
    rows = ((f"`{group}={option}`", said) for group in _groups() for option, said in _options(group).items())
    return table(["option", "what it is"], rows)


def _components() -> str:
    rows = []
    for key, path in REGISTRIES.items():
        registry: Mapping[str, Any] = locate(path)
        rows += [(f"`{key}`", f"`{name}`", _described(registered)) for name, registered in registry.items()]
    return table(["setting", "name", "what it is"], rows)


def _data() -> str:
    rows = []
    for path in sorted((CONF / "data").glob("*.yaml")):
        target = re.search(r"^_target_: (\S+)", path.read_text(), re.MULTILINE)
        if target is not None:
            rows.append((f"`data={path.stem}`", f"`{target[1]}`", first_sentence(locate(target[1]))))
    return table(["option", "class", "what it is"], rows)


def _metrics() -> str:
    # estimates by name, as they come into the glossary in whichever order their modules are imported
    names = [*LOGGED, *sorted(GLOSSARY.keys() - set(LOGGED))]
    return table(["metric", "what it is"], ((f"`{name}`", GLOSSARY[name]) for name in names))


def _parts() -> str:
    return table(["part", "what it measures"], ((f"`{name}`", getattr(part, "description", "")) for name, part in PARTS.items()))


def _coded(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f"`{prefix}{name}`" for name in names)


BLOCKS: dict[str, Callable[[], str]] = {
    "choices": _choices,
    "choices-described": _choices_described,
    "components": _components,
    "data": _data,
    "evaluation": _evaluation,
    "figures": _figures,
    "metrics": _metrics,
    "parts": _parts,
    "training": _training,
}
"""The functions that render a block of a Markdown file, by name of the block."""


# ---- the help texts


def _listed(names: Iterable[str]) -> str:
    return textwrap.fill(", ".join(names), COLUMNS, initial_indent="  ", subsequent_indent="  ")


COLUMNS = 78
"""How wide help texts are, which terminals of 80 columns show whole."""


def _aligned(rows: Iterable[tuple[str, str]]) -> str:
    pairs = list(rows)
    width = min(32, max(len(left) for left, _ in pairs))
    lines: list[str] = []
    for left, right in pairs:
        first, *rest = textwrap.wrap(right, COLUMNS - width - 4) or [""]
        if len(left) > width:  # a long setting stands on a line of its own
            lines += [f"  {left}", f"  {'':<{width}}  {first}"]
        else:
            lines.append(f"  {left:<{width}}  {first}")
        lines += [f"  {'':<{width}}  {line}" for line in rest]
    return "\n".join(line.rstrip() for line in lines)


def _help_of_evaluation() -> str:
    files = (("evaluate.yaml", ""), ("evaluation/default.yaml", "evaluation"))
    return _aligned((s.assigned, s.comment) for s in _settings(*files) if s.comment)


def _help_of_training() -> str:
    settings = _training_settings()
    return _aligned(_typed_first(settings[key] for key in COMMON if key in settings))


HELP: dict[str, dict[str, Callable[[], str]]] = {
    "hydra/evaluate.yaml": {
        "Settings and their defaults:": _help_of_evaluation,
        "Choices (evaluation=...):": lambda: _aligned([*_options("evaluation").items()]),
        "Parts (evaluation.parts=[...]):": lambda: _listed(PARTS),
        "Figures (evaluation.figures=[...]):": lambda: _listed(CATALOG),
    },
    "hydra/train.yaml": {"Some settings and their defaults:": _help_of_training},
}
"""The functions that render a block of a help text in `conf/`, by file and by the heading above the block."""


def _with_help(text: str, headings: Mapping[str, Callable[[], str]]) -> str:
    for heading, render in headings.items():
        match = re.search(rf"(?m)^( *){re.escape(heading)}\n((?: *\S.*\n)*)", text)
        if match is None:
            raise ConfigurationError(f"{heading} is missing from a help text; see {__name__}")
        text = f"{text[: match.start(2)]}{_plain(textwrap.indent(render(), match[1]))}\n{text[match.end(2) :]}"
    return text


def _plain(text: str) -> str:
    """`text` without interpolations, which OmegaConf and Python's templates would fill in."""
    return re.sub(r"\$\{(\w+)\}", r"<\1>", text).replace("$", "")


# ---- reading and writing


def with_blocks(text: str, where: str = "text") -> str:
    """A Markdown text with its blocks rendered anew.

    Raises:
        ConfigurationError: a block has an unknown name or no end.
    """
    for name in re.findall(r"<!-- generated: (.*?) -->", text):
        if name not in BLOCKS:
            raise ConfigurationError(f"{where}: generated: {name}: unknown; choose from: {', '.join(BLOCKS)}")
    if len(re.findall("<!-- generated: ", text)) != len(BLOCK.findall(text)):
        raise ConfigurationError(f"{where}: a generated block has no <!-- end -->")
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}{match[4]}", text)


def fresh() -> Iterator[tuple[Path, str]]:
    """Every file that has a generated part, with the text that the file should hold."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        if "<!-- generated: " in text:
            yield path, with_blocks(text, path.name)
    for name, headings in HELP.items():
        yield CONF / name, _with_help((CONF / name).read_text(), headings)
    from vae_lightning.commands.schemas import schemas  # which imports this module

    files = [
        (path.relative_to(CONF).as_posix(), group)
        for group in ("model", "data", "trainer")
        for path in (CONF / group).glob("*.yaml")
    ]
    for name, text in schemas({setting.key: setting for setting in _settings(*sorted(files))}):
        yield ROOT / "docs" / "schemas" / name, text


def stale() -> list[Path]:
    """The files whose generated parts are not fresh."""
    return [path for path, wanted in fresh() if not path.is_file() or path.read_text() != wanted]


def main(arguments: list[str] | None = None) -> int:
    """Write the generated parts, or print which files are not fresh; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vae_lightning.commands.reference", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace what is not fresh")
    write = parser.parse_args(arguments).write
    old = stale()
    for path, wanted in fresh():
        if write and path in old:
            write_bytes(path, wanted.encode())
        if path in old:
            print(f"{path.relative_to(ROOT)}: {'written' if write else f'is not fresh: {COMMAND}'}")
    return 0 if write or not old else 1


if __name__ == "__main__":
    sys.exit(main())
