"""Loggers of a training that goes on in its folder: earlier rows are kept, and steps that are trained again do not stand twice."""

import csv
import io
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from vae_lightning.machine.files import write_bytes
from vae_lightning.machine.lightning import WritingCSVLogger

__all__ = ["CSVLogger", "cut_events", "set_aside"]

STARTS = {"custom_scalars__config__", *(f"{text}/text_summary" for text in ("config", "glossary", "provenance"))}
"""What the event file of every start of a training begins with."""


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
    place = _Place(steps)
    after = [place.is_before({key for key, value in row.items() if value} - {"step"}, row.get("step")) for row in rows].count(True)
    if after < len(rows):
        earlier = path.with_name("superseded.csv")
        columns, before = _read(earlier) if earlier.is_file() else ([], [])
        columns += [name for name in header if name not in columns]
        write_bytes(earlier, _table(columns, before + rows[after:]))
        write_bytes(path, _table(header, rows[:after]))


class _Place:
    """The place of a checkpoint in what was logged.

    A training step is logged under the number of steps before it, validation under the number of steps up to it; and under the
    same number, once more, the validation and test of the best weights after training.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._seen: set[str] = set()
        self._passed = False

    def is_before(self, tags: Collection[str], step: object) -> bool:
        """Whether `tags`, logged at `step` next, were logged before the checkpoint was written."""
        try:
            number = int(str(step))
        except ValueError:
            return not self._passed
        own = {tag for tag in tags if not tag.startswith(("time/", "epoch"))}
        again = bool(own) and own <= self._seen
        if number > self.steps or (number == self.steps and (again or any(map(_is_after_a_validation, own)))):
            self._passed = True
        if number == self.steps:
            self._seen |= own
        return not self._passed


def _is_after_a_validation(tag: str) -> bool:
    return tag.startswith(("train/", "lr", "test/"))


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


def cut_events(files: Iterable[Path], steps: int, *, redrawn: bool = False) -> None:
    """Remove from event files what was logged after `steps` steps, and what every start of a training writes anew.

    Of several sets of hyperparameters in a folder, TensorBoard's HParams shows the first.

    Args:
        files: all event files of a run, the earliest first.
        steps: where the checkpoint stands from which the training goes on.
        redrawn: whether the images of this step are drawn once more, as at the end of training.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    seen: set[str] = set()
    for path in files:
        content, kept = path.read_bytes(), bytearray()
        for record, data in _records(content):
            event = Event.FromString(data)
            tags = {value.tag for value in event.summary.value}
            if any(map(_is_of_a_start, tags)) or event.step > steps:
                continue
            if event.step == steps and tags:
                drawn = redrawn and any(value.HasField("image") for value in event.summary.value)
                # an epoch's number is logged beside other values
                alone = "epoch" in tags and not any(tag.startswith("val/") for tag in seen)
                if drawn or alone or tags <= seen or any(map(_is_after_a_validation, tags)):
                    continue
                seen |= tags
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
