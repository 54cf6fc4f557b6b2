"""The command `vae-explore`: a trained model as one page for a browser. It is `python -m vae_lightning.commands.explore` too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vae_lightning.commands.words import asked_for, list_of, settings_of
from vae_lightning.errors import ConfigurationError, StorageError, kind_of, printable
from vae_lightning.machine.files import at_home, is_there, write_bytes

if TYPE_CHECKING:
    from vae_lightning.explorer.explored import Explored

__all__ = ["explore", "main"]

HELP = """A trained model as one page for a browser: move its latents, draw, complete, sample; offline, on a phone too.

  vae-explore run=<folder>        or python -m vae_lightning.commands.explore run=<folder>; run=latest is the newest
  vae-explore run=... with=<folder>
                                  two runs beside each other, of images of the same shape
  vae-explore run=... to=<file>   where to; without it, evaluation/explorer.html in the run folder; a file that is
                                  there is replaced only if it is such a page
  ckpt_path=<file>                a checkpoint in a run folder, in place of run
  root=<folder>                   where the data lie on this machine; static_root= and path= likewise
  dtype=float32                   weights of twice the size, as they were trained; without it, float16, if that moves
                                  no mean of a pixel by more than 0.001
  trust=[mypkg]                   packages whose code the runs may use"""
KEYS = {
    "run": "<folder>|latest",
    "with": "<folder>",
    "ckpt_path": "<file>",
    "to": "<file>",
    "root": "<folder>",
    "static_root": "<folder>",
    "path": "<folder>",
    "dtype": "float32",
    "trust": "[mypkg]",
}
PLACES = ("root", "static_root", "path")
DTYPES = ("float16", "float32")
FAR = 1e-3
"""How far smaller weights may move the mean of a pixel; beyond that they stay as they were trained."""
IMAGES = 1000
"""How many test images are looked at."""
FEWEST = 3
"""How many a page needs at least."""


def main(words: Sequence[str] | None = None) -> None:
    """Write the page that the words of a command line ask for; a command that is wrong ends with status 2."""
    with asked_for(words, HELP) as given:
        if given is None:
            return
        for line in explore(settings_of(given, KEYS)):
            print(printable(line))


def explore(settings: Mapping[str, str]) -> list[str]:
    """Write the page of one run, or of two.

    Args:
        settings: values by the keys of `KEYS`.

    Returns:
        What came of it, a line each.

    Raises:
        ConfigurationError: a setting is wrong, or the page cannot compute the model.
        CheckpointError: a run cannot be used.
        DataError: its data are missing or altered.
        StorageError: the page cannot be written, or would replace a file that is none.
    """
    if settings.get("dtype", DTYPES[0]) not in DTYPES:
        raise ConfigurationError(f"dtype={settings['dtype']}: must be one of {', '.join(DTYPES)}")
    trust = list_of("trust", settings["trust"]) if "trust" in settings else []
    from vae_lightning import runs  # torch and Lightning take seconds to import, which --help should not wait for
    from vae_lightning.explorer.page import explorer_page
    from vae_lightning.plugins import load_declared
    from vae_lightning.runs.released import PREFIX

    load_declared()
    run = settings.get("run")
    if run is not None and run.startswith(PREFIX) and "to" not in settings:
        raise ConfigurationError(f"run={run}: its folder is no place for a page; say where it goes: to=<file>")
    asked = [_Asked("ckpt_path" if run is None else "run", *runs.find(run, settings.get("ckpt_path")))]
    target = _target(asked[0].folder, settings.get("to"))
    if "with" in settings:
        asked.append(_Asked("with", *runs.find(settings["with"], None, key="with")))
    moved = _places(asked, settings, trust)
    models, lines = zip(*(_explored(*each, settings, trust) for each in zip(asked, moved, strict=True)), strict=True)
    page = explorer_page(models).encode("utf-8", "backslashreplace")
    write_bytes(target, page)
    return [*lines, f"explorer: {target} ({len(page) / 1e6:.1f} MB); open it in a browser"]


class _Asked(NamedTuple):
    """A run that was asked for."""

    key: str
    """The key that names it."""
    folder: Path
    checkpoint: Path

    @property
    def named(self) -> str:
        return f"{self.key}={self.checkpoint if self.key == 'ckpt_path' else self.folder}"


def _places(asked: Sequence[_Asked], settings: Mapping[str, str], trust: Sequence[str]) -> list[dict[str, str]]:
    """Where the data of each run lie: of two runs, each is told the places that its data have."""
    given = {key: settings[key] for key in PLACES if key in settings}
    if len(asked) == 1 or not given:
        return [given for _ in asked]
    known = [_known(one, trust) for one in asked]
    if "path" in given and all("path" in names for names in known):
        raise ConfigurationError(
            f"path={given['path']}: both runs are of files of your own, and one path cannot say where those of each are; "
            "leave it out, with the files where they were in training"
        )
    # a place that neither has is told to both, which refuses it
    return [{key: place for key, place in given.items() if key in own or key not in {*known[0], *known[1]}} for own in known]


def _known(one: _Asked, trust: Sequence[str]) -> set[str]:
    """The keys of `PLACES` that the data of a run have; none of a run that cannot be read, which `runs.load` refuses."""
    from vae_lightning.arguments import parameters
    from vae_lightning.machine.pretrained import is_pretrained, read_config
    from vae_lightning.plugins import locate, trusting
    from vae_lightning.runs.layout import CONFIG
    from vae_lightning.runs.yaml_files import read_yaml

    try:
        with trusting(trust):
            whole = read_config(one.folder) if is_pretrained(one.folder) else read_yaml(one.folder / CONFIG, one.folder)
            names, takes_any = parameters(locate(str(whole["data"]["_target_"])))
    except Exception:  # of yaml and of code of a trusted package, which may raise anything
        return set()
    return {key for key in PLACES if takes_any or key in names}


def _explored(asked: _Asked, moved: dict[str, str], settings: Mapping[str, str], trust: Sequence[str]) -> "tuple[Explored, str]":
    """The model of a run, ready for the page, and a line on the precision of its weights there."""
    from vae_lightning import runs
    from vae_lightning.abilities import labels_of
    from vae_lightning.commands.gallery import model_of_images
    from vae_lightning.explorer.explored import Source, explored
    from vae_lightning.types import LatentVariableModel

    run = runs.load(asked.folder, asked.checkpoint, moved, trust)
    if not isinstance(run.model, LatentVariableModel):
        raise ConfigurationError(f"{asked.named}: {kind_of(run.model)} has no latent to explore; give the run of a VAE")
    x, y = _test_images(run, asked.named)
    place = asked.folder.resolve()  # as run=. has no name
    source = Source(
        title=f"{place.parent.name}/{place.name}".lstrip("/"),
        kind=type(run.model).__name__,
        weights=f"{asked.checkpoint.name}, epoch {run.epoch + 1}, step {run.step:,}",
        digest=run.digest,
        dataset=str(getattr(run.data, "dataset", type(run.data).__name__)),
    )
    model: Any = model_of_images(run.model, run.data)

    def in_width(width: Any) -> "Explored":
        try:
            return explored(model, run.data, x, y, labels_of(run.data, y), source, width)
        except ConfigurationError as error:
            raise ConfigurationError(f"{asked.named}: {error}") from error

    return _small_enough(in_width, settings.get("dtype"), asked.named)


def _small_enough(in_width: "Callable[[str], Explored]", asked: str | None, named: str) -> "tuple[Explored, str]":
    """The model with weights as they were asked for, or as float16 if that moves no pixel far, and a line on their precision."""
    width, reason = asked or DTYPES[0], ""
    found = in_width(width)
    if asked is None and not (found.rounding.is_finite and found.rounding.mean <= FAR):
        reason = f"; as {width}, by {found.rounding.mean:.1e}, which is too much, so they are not"
        width = DTYPES[1]
        found = in_width(width)
    if not found.rounding.is_finite:
        raise ConfigurationError(f"{named}: with weights as {width} the model gives values that are not finite")
    return found, _precision(found, width) + reason


def _test_images(run: Any, named: str) -> tuple[Any, Any]:
    """Test images of a run with their pixels in place, and their labels."""
    from vae_lightning.abilities import permutation_of
    from vae_lightning.commands.evaluate import require_images_of_training

    data = run.data
    if not callable(getattr(data, "evaluation_images", None)):
        raise ConfigurationError(f"{named}: its data module is {kind_of(data)}, which has no evaluation_images")
    data.prepare_data()
    data.setup("test")
    require_images_of_training(run)
    x, y = data.evaluation_images("test", IMAGES)
    if len(x) < FEWEST:
        raise ConfigurationError(f"{named}: its data have {len(x)} test images, and the page needs {FEWEST}")
    permutation = permutation_of(data)
    return (permutation.unpermute(x) if permutation else x), y


def _target(folder: Path, asked: str | None) -> Path:
    """The file of the page."""
    from vae_lightning.explorer.page import BEGINNING, PAGE, weights_of_page
    from vae_lightning.runs.layout import EVALUATION

    if asked is not None:
        if not asked.strip():
            raise ConfigurationError("to: give a file, or leave it out to write into the run's evaluation/")
        target = at_home(asked)
        if target.is_dir():
            raise ConfigurationError(f"to={asked}: is a folder; give a file, to={target / PAGE}")
        if is_there(target) and (not target.is_file() or weights_of_page(_beginning(target, BEGINNING)) is None):
            raise StorageError(f"to={asked}: is there and is no explorer's page, which alone is replaced; give another file")
        return target
    for place in (folder / EVALUATION, folder / EVALUATION / PAGE):
        if place.is_symlink():
            raise StorageError(f"{place}: is a link, which is not written through; write elsewhere: to=<file>")
    return folder / EVALUATION / PAGE


def _beginning(file: Path, count: int) -> bytes:
    """The first `count` bytes of a file."""
    try:
        with file.open("rb") as opened:
            return opened.read(count)
    except OSError as error:
        raise StorageError(f"to={file}: is there and cannot be read ({error.strerror}); give another file") from error


def _precision(model: "Explored", width: str) -> str:
    return (
        f"{model.plain['title']}: weights as {width} move a pixel's mean by at most {model.rounding.mean:.1e} "
        f"and an ELBO by at most {model.rounding.elbo:.3f} nats"
    )


if __name__ == "__main__":
    main()
