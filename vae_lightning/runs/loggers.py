"""Loggers of a training that goes on in its folder: earlier rows are kept, and steps that are trained again do not stand twice."""

import csv
import io
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger as LightningsTensorBoardLogger

from vae_lightning.machine.files import write_bytes
from vae_lightning.machine.lightning import WritingCSVLogger

__all__ = ["CSVLogger", "TensorBoardLogger", "cut_events", "set_aside"]

STARTS = {"custom_scalars__config__", *(f"{text}/text_summary" for text in ("config", "glossary", "provenance"))}
"""What the event file of every start of a training begins with."""


BARE = re.compile(r"epoch|lr(-.*)?")
"""What Lightning logs under a name without a split."""


class TensorBoardLogger(LightningsTensorBoardLogger):
    """Lightning's TensorBoardLogger, with `epoch` and the learning rate under `train/`.

    TensorBoard's HParams takes its columns of metrics by the alphabet, in which these two would come before `test/elbo`.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({f"train/{key}" if BARE.fullmatch(key) else key: value for key, value in metrics.items()}, step)


class CSVLogger(WritingCSVLogger):
    """Lightning's CSVLogger, which keeps the rows of a `metrics.csv` that is there and adds its own."""

    def columns_of(self, path: Path) -> list[str]:
        if not path.is_file():
            return []
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):  # a killed training left half a line
            write_bytes(path, content + b"\r\n")
        header, _ = _read(path)
        if not header:
            path.unlink()
        return header


def set_aside(path: Path, steps: int) -> None:
    """Move the rows of `path` after `steps` steps to `superseded.csv` beside it, as these steps are trained once more."""
    if not path.is_file():
        return
    header, rows = _read(path)
    cut = next((place for place, row in enumerate(rows) if _is_after(row, steps)), len(rows))
    if cut < len(rows):
        earlier = path.with_name("superseded.csv")
        columns, before = _read(earlier) if earlier.is_file() else ([], [])
        columns += [name for name in header if name not in columns]
        write_bytes(earlier, _table(columns, before + rows[cut:]))
        write_bytes(path, _table(header, rows[:cut]))


def _is_after(row: dict[str, str], steps: int) -> bool:
    """Whether `row` was logged after `steps` steps.

    Lightning logs a training step under the number of steps before it, and so the validation after it; the validation and test of
    the best weights, which end a training, under the number of all steps. A callback logs under the number of steps so far.
    """
    try:
        step = int(row["step"])
    except (KeyError, TypeError, ValueError):
        return False
    return step > steps or (step == steps and any(value for key, value in row.items() if _is_of_a_step(str(key))))


def _is_of_a_step(tag: str) -> bool:
    """Whether `tag` is logged by Lightning, or with a training step that is to come."""
    return tag == "epoch" or tag.startswith(("train/", "lr", "test/"))


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def _table(header: list[str], rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def cut_events(files: Iterable[Path], steps: int, written: float | None = None) -> None:
    """Remove from event files what was logged after `steps` steps, and what every start of a training writes anew.

    Of several sets of hyperparameters in a folder, TensorBoard's HParams shows the first.

    Args:
        files: all event files of a run.
        steps: where the checkpoint stands from which the training goes on.
        written: `time.time()` when that was written, by which records of the same step are told apart.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    for path in files:
        content, kept = path.read_bytes(), bytearray()
        for record, data in _records(content):
            event = Event.FromString(data)
            tags = [value.tag for value in event.summary.value]
            if written is None or any(tag.startswith("time/") for tag in tags):  # which is not measured again
                later = any(map(_is_of_a_step, tags))
            else:
                later = event.wall_time > written
            after = event.step > steps or (event.step == steps and bool(tags) and later)
            if not after and not any(map(_is_of_a_start, tags)):
                kept += record
        if len(kept) < len(content):
            write_bytes(path, bytes(kept))


def _is_of_a_start(tag: str) -> bool:
    return tag.startswith("_hparams_/session") or tag in STARTS


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a TFRecord file: the bytes of the whole record, and its data alone. A cut record at the end is left out."""
    place = 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)  # 4 bytes of checksum follow the length, and 4 the data
        end = place + 12 + length + 4
        if end > len(content):
            return
        yield content[place:end], content[place + 12 : end - 4]
        place = end
