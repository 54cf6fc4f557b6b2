"""Random damage to what is read, and random words of commands: an answer is a result, or one line.

Seeded, so that what fails fails again; `VAE_LIGHTNING_FUZZ=<seconds>` goes on for so long with other seeds. What was found stands
in `test_bad_input.py`.
"""

import contextlib
import os
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from bad_input import check, state
from test_bad_input import GREY, TABLE, npy, npz, own_settings, picture, run

from vae_lightning import runs
from vae_lightning.data import ArrayDataModule, FolderDataModule, idx
from vae_lightning.errors import VAELightningError
from vae_lightning.runs.history import history, record

__all__ = ["run"]
pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("VAE_LIGHTNING_FUZZ", "0"))
DICTIONARY = (
    *(b"${oc.env:HOME}", b"${", b"}", b"*a", b"&a", b"!!python/object/apply:os.system", b"\x00", b"\xff\xff\xff\xff", b"\n", b": "),
    *(
        b"[",
        b"{",
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"_target_",
        b"null",
        b"'",
        b'"',
        b"\x80\x02",
        b"\r\n",
        b"../",
        b"PK\x05\x06",
    ),
)


def seeds(few: int) -> Iterator[random.Random]:
    """`few` seeds, or as many as there is time for."""
    started, seed = time.monotonic(), 0
    while seed < few or time.monotonic() - started < SECONDS:
        yield random.Random(seed)
        seed += 1


def damaged(content: bytes, chance: random.Random) -> bytes:
    """`content` with a few bits flipped, pieces cut out, repeated or replaced, or words put in."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 20))):
        at, size = chance.randrange(len(changed) + 1), chance.choice((1, 2, 4, 8, 64, 1024))
        what = chance.randrange(6)
        if what == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << chance.randrange(8)
        elif what == 1:
            del changed[at : at + size]
        elif what == 2:
            changed[at:at] = changed[at : at + size]
        elif what == 3:
            changed[at : at + size] = chance.randbytes(min(size, 16))
        elif what == 4:
            changed[at:at] = chance.choice(DICTIONARY)
        else:
            changed = changed[:at] if chance.random() < 0.3 else changed
    return bytes(changed)


def require_error_of_ours(error: VAELightningError) -> None:
    assert str(error).isprintable(), str(error)
    assert len(str(error)) < 3000


def test_run_folder(run: Path) -> None:
    names = [
        ".hydra/config.yaml",
        "checkpoints/best.ckpt",
        ".hydra/hydra.yaml",
        "metrics.json",
        "csv/metrics.csv",
        ".hydra/overrides.yaml",
    ]
    (run / "csv").mkdir()
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"cwd": "/tmp"}}}))
    (run / ".hydra" / "overrides.yaml").write_text("- model=vae\n- seed=3\n")
    (run / "metrics.json").write_text('{"format": 2, "metrics": {"val/elbo": -90.0}, "provenance": {"command": "python train.py"}}')
    (run / "csv" / "metrics.csv").write_text("step,train/elbo,val/elbo\n1,-3.0,\n2,,-2.5\n")
    whole = {name: (run / name).read_bytes() for name in names}
    digest = runs.load(*runs.find(str(run), None)).digest
    for chance in seeds(150):
        name = chance.choice(names)
        (run / name).write_bytes(damaged(whole[name], chance))
        try:
            loaded = runs.load(*runs.find(str(run), None))
            assert name != "checkpoints/best.ckpt" or loaded.digest == digest, "damage that nobody has seen"
        except VAELightningError as error:
            require_error_of_ours(error)
        record(run), history(run), runs.asked_with(run)
        (run / name).write_bytes(whole[name])


def test_data(tmp_path: Path) -> None:
    arrays = [npy(GREY), npz(x=GREY, y=np.arange(20) % 2), npy(GREY / 255), npz(x_train=GREY, x_test=GREY)]
    pictures = [picture(), picture("JPEG"), picture("GIF"), picture("TIFF"), picture("BMP"), picture("PPM"), picture("WEBP")]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(9):
        (folder / f"a{number}.png").write_bytes(picture())
    for chance in seeds(150):
        (tmp_path / "a.npz").write_bytes(damaged(chance.choice(arrays), chance))
        (folder / "odd.png").write_bytes(damaged(chance.choice(pictures), chance))
        for data in (
            ArrayDataModule(path=str(tmp_path / "a.npz"), binarization="none"),
            FolderDataModule(path=str(folder), binarization="none"),
        ):
            try:
                data.evaluation_images("test")
            except VAELightningError as error:
                require_error_of_ours(error)
        with contextlib.suppress(ValueError):
            idx.parse(damaged(idx.pack(GREY), chance))


def words_of(chance: random.Random) -> list[str]:
    """One to three words, some as they are in the catalogue, some made up of its pieces."""
    known = [word for script, words, _ in TABLE if script == "train" for word in words.split(" ")]
    made = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        word = chance.choice(known)
        if chance.random() < 0.7:
            key, _, value = chance.choice(known).partition("=")
            word = f"{key}={chance.choice(known).partition('=')[2] if chance.random() < 0.7 else value}"
        if chance.random() < 0.5:
            word = damaged(word.encode(), chance).decode("utf-8", "replace")
        made.append(word.replace("\x00", ""))
    return made


HARMFUL = ("hydra", "--", "-m", "run_dir", "ckpt_path", "root", "path", "mlflow", "wandb", "devices", "num_nodes", "static")
"""What in a made-up word would let it write elsewhere, fetch, wait for others or end the test."""


def test_words_of_a_command(
    mnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.chdir(tmp_path)
    for chance in seeds(60):
        words = words_of(chance)
        if any(part in word for part in HARMFUL for word in words) or any(word.startswith("-") for word in words):
            continue
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check(words, own_settings("train", words, tmp_path, mnist_root))
            except SystemExit as end:
                assert end.code == 2, words  # noqa: PT017
                said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
                assert len([line for line in said if line.startswith("error: ")]) == 1, (words, said)
            except Exception as error:
                raise AssertionError(f"{words}: {type(error).__name__}: {error}") from error
        assert state(tmp_path) == {}
