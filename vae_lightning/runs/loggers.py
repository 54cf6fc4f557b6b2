"""Loggers of a training that goes on in its folder: earlier rows are kept, and steps that are trained again do not stand twice."""

import csv
import io
import struct
from collections.abc import Iterator
from pathlib import Path

from vae_lightning.machine.files import write_bytes
from vae_lightning.machine.lightning import WritingCSVLogger

__all__ = ["CSVLogger", "drop_hyperparameters", "set_aside"]


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

    A training step is logged under the number of steps before it, validation under the number of steps up to it.
    """
    try:
        step = int(row["step"])
    except (KeyError, TypeError, ValueError):
        return False
    return step > steps or (step == steps and any(value for key, value in row.items() if str(key).startswith(("train/", "lr"))))


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


def drop_hyperparameters(events: Path) -> None:
    """Remove a run's hyperparameters from an event file: of several sets in a folder, TensorBoard's HParams shows the first."""
    from tensorboard.compat.proto.event_pb2 import Event

    content, kept = events.read_bytes(), bytearray()
    for record, data in _records(content):
        values = Event.FromString(data).summary.value
        if not any(value.tag.startswith("_hparams_/session") for value in values):
            kept += record
    if len(kept) < len(content):
        write_bytes(events, bytes(kept))


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
