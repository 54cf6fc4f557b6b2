"""The command `vae-compress`: test images to a file and back. It is `python -m vae_lightning.commands.compress` too."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_lightning.commands.words import asked_for, list_of, settings_of
from vae_lightning.errors import CheckpointError, ConfigurationError, DataError, StorageError, kind_of, printable
from vae_lightning.machine.files import at_home, is_there

if TYPE_CHECKING:
    from torch import Tensor

    from vae_lightning.compression.measuring import Compressed
    from vae_lightning.runs import LoadedRun

__all__ = ["compress", "main"]

HELP = """The test images of a run through its model to a file and back, lossless: bits-back coding.

  vae-compress run=<folder>       or python -m vae_lightning.commands.compress run=<folder>; run=latest is the newest:
                                  compress, decompress again, and say how many bits a pixel costs
  vae-compress run=... to=<file>  where to; without it, test.vaebits in the run folder; a file that is there is
                                  replaced only if it is such a file
  vae-compress run=... from=<file>
                                  decompress a file, and say whether it holds the test images
  num_images=100                  so many test images, at equal distances; without it, all
  chains=100                      stacks that the images are on: the more, the faster, and the more initial bits
  latent_bits=12                  log2 of the buckets of a latent dimension
  batch=10                        chains that are computed at once; changes no bit of what comes out
  ckpt_path=<file>                a checkpoint in a run folder, in place of run
  root=<folder>                   where the data lie on this machine; static_root= and path= likewise
  trust=[mypkg]                   packages whose code the run may use

The model must have a Bernoulli likelihood, a diagonal Gaussian posterior and the prior N(0, I), and any net of operations that
have fixed arithmetic; another operation is refused by name. The file is of this model alone. All arithmetic is fixed to the bit, so
that another machine can decompress it."""
PLACES = ("root", "static_root", "path")
COUNTS = ("num_images", "chains", "latent_bits", "batch")
KEYS = {
    "run": "<folder>|latest",
    "ckpt_path": "<file>",
    "to": "<file>",
    "from": "<file>",
    "num_images": "100",
    "chains": "100",
    "latent_bits": "12",
    "batch": "10",
    "root": "<folder>",
    "static_root": "<folder>",
    "path": "<folder>",
    "trust": "[mypkg]",
}
NAME = "test.vaebits"
"""The file in the run folder."""


def main(words: Sequence[str] | None = None) -> None:
    """Compress or decompress what the words of a command line ask for; a command that is wrong ends with status 2."""
    with asked_for(words, HELP) as given:
        if given is None:
            return
        for line in compress(settings_of(given, KEYS)):
            print(printable(line))


def compress(settings: Mapping[str, str]) -> list[str]:
    """Compress the test images of a run, or decompress a file.

    Args:
        settings: values by the keys of `KEYS`.

    Returns:
        What came of it, a line each.

    Raises:
        ConfigurationError: a setting is wrong, or the model cannot code.
        CheckpointError: the run cannot be used, or the file is of another model.
        DataError: the file is damaged, or the run's data are missing or altered.
        StorageError: the file cannot be written, or would replace another.
    """
    counts = {key: _count(key, settings[key]) for key in COUNTS if key in settings}
    trust = list_of("trust", settings["trust"]) if "trust" in settings else []
    for key in ("num_images", "chains", "latent_bits", "to"):
        if "from" in settings and key in settings:
            raise ConfigurationError(f"{key}={settings[key]}: is for compressing, so it does not go with from=")
    from vae_lightning import runs  # torch and Lightning take seconds to import, which --help should not wait for
    from vae_lightning.plugins import load_declared
    from vae_lightning.runs.released import PREFIX

    load_declared()
    folder, checkpoint = runs.find(settings.get("run"), settings.get("ckpt_path"))
    if "from" not in settings and "to" not in settings and str(settings.get("run")).startswith(PREFIX):
        raise ConfigurationError(f"run={settings['run']}: say where to: to=<file>")
    target = _target(folder, settings.get("to")) if "from" not in settings else None
    run = runs.load(folder, checkpoint, {key: settings[key] for key in PLACES if key in settings}, trust)
    if target is None:
        return _decompress(run, at_home(settings["from"]), counts.get("batch"))
    x, y = _test_images(run, counts.pop("num_images", None))
    return _compress(run, x, y, target, counts)


def _compress(run: "LoadedRun", x: "Tensor", y: "Tensor", target: Path, counts: Mapping[str, int]) -> list[str]:
    from vae_lightning.compression.format import read_file, write_file
    from vae_lightning.compression.measuring import compress, decompress

    compressed = compress(run.model, x, y, run.digest, **counts)
    size = write_file(target, compressed.header, compressed.message)
    seconds = decompress(run.model, *read_file(target), batch=counts.get("batch"))[2]  # which refuses any other images
    return [
        f"{_described(x)}: {x.numel():,} pixels in {size:,} bytes",
        *_lengths(run.model, x, y, compressed, size),
        f"{len(x) / compressed.seconds:,.0f} images a second there, {len(x) / seconds:,.0f} back, the same to the bit",
        f"compressed: {target}",
    ]


def _lengths(model: Any, x: "Tensor", y: "Tensor", compressed: "Compressed", size: int) -> list[str]:
    """Bits a pixel by the model, by its ELBO, and by general compressors."""
    from vae_lightning.abilities import classes_of
    from vae_lightning.compression.measuring import promised_bits
    from vae_lightning.compression.rivals import sizes_of

    pixels, classes = x[0].numel(), classes_of(model)
    promised = float(promised_bits(model, x, y).mean()) / pixels
    above = 100 * (compressed.bits_per_pixel / promised - 1)
    label = f" + log2({classes}) / {pixels}" if classes else ""
    rivals = {name: f"{8 * bytes / x.numel():.4f}" for name, bytes in sizes_of(x).items()}
    return [
        f"bits a pixel: {compressed.bits_per_pixel:.4f}; -ELBO / ({pixels} ln 2){label}: {promised:.4f}, so {above:+.2f} %",
        f"initial bits a pixel: {compressed.initial_bits_per_pixel:.4f}; the whole file: {8 * size / x.numel():.4f}",
        f"others, bits a pixel: {', '.join(f'{name} {value}' for name, value in rivals.items())}",
    ]


def _decompress(run: "LoadedRun", path: Path, batch: int | None) -> list[str]:
    import torch

    from vae_lightning.compression.format import read_file
    from vae_lightning.compression.measuring import decompress

    header, message = read_file(path)
    if header.weights != run.digest:
        raise CheckpointError(
            f"from={path}: was compressed with other weights ({header.weights[:12]}) than those of {run.checkpoint} "
            f"({run.digest[:12]}); give the run that it was compressed with"
        )
    try:
        x, _, seconds = decompress(run.model, header, message, batch)
    except DataError as error:
        raise DataError(f"from={path}: {error}") from error
    expected, _ = _test_images(run, header.num_images)
    same = "they are" if torch.equal(x, expected) else "they are not"
    return [f"{_described(x)}, {len(x) / seconds:,.0f} a second; {same} the test images of {run.folder}"]


def _described(x: "Tensor") -> str:
    return f"{len(x):,} images of {'x'.join(map(str, x.shape[1:]))}"


def _test_images(run: "LoadedRun", count: int | None) -> tuple["Tensor", "Tensor"]:
    """Test images and labels of a run, as its model was trained on them."""
    from vae_lightning.commands.evaluate import require_images_of_training

    data: Any = run.data
    if not callable(getattr(data, "evaluation_images", None)):
        raise ConfigurationError(f"run={run.folder}: its data module is {kind_of(data)}, which has no evaluation_images")
    data.prepare_data()
    data.setup("test")
    require_images_of_training(run)
    x, y = data.evaluation_images("test", count)
    return x, y


# ---- settings and places


def _count(key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ConfigurationError(f"{key}={value}: must be a whole number from 1 on, such as {KEYS[key]}")
    return int(value)


def _target(folder: Path, asked: str | None) -> Path:
    """The file to write, which must not be another file."""
    from vae_lightning.compression.format import MAGIC

    if asked is not None and not asked.strip():
        raise ConfigurationError("to: give a file, or leave it out to write into the run's folder")
    target = folder / NAME if asked is None else at_home(asked)
    if target.is_dir():
        raise ConfigurationError(f"to={asked}: is a folder; give a file, to={target / NAME}")
    if is_there(target) and not (target.is_file() and _begins(target, MAGIC)):
        raise StorageError(f"to={target}: is there and holds no compressed images, which alone are replaced; give another file")
    return target


def _begins(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


if __name__ == "__main__":
    main()
