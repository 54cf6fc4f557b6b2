"""Disks that are full or may not be written to, and mirrors that fail: real ones, on this machine."""

import gzip
import hashlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision

from vae_lightning.data import downloading, idx, sources

Mount = Callable[..., Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mount something on a folder, until the test ends."""
    places: list[Path] = []

    def mount(*words: str | Path, on: Path) -> None:
        result = subprocess.run(["mount", *map(str, words), str(on)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"this user may not mount: {result.stderr.strip()}")
        if on not in places:
            places.append(on)

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small_disk(mounted: Callable[..., None], tmp_path: Path) -> Mount:
    """A disk of so many KiB."""

    def make(kilobytes: int, name: str = "disk") -> Path:
        (tmp_path / name).mkdir()
        mounted("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", on=tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def read_only(mounted: Callable[..., None]) -> Callable[[Path], None]:
    """Forbid everybody, the superuser too, to write into a folder."""

    def make(folder: Path) -> None:
        mounted("--bind", folder, on=folder)
        mounted("-o", "remount,ro,bind", on=folder)

    return make


def fill(disk: Path) -> Path:
    """A file that takes what is left of a disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@dataclass
class Mirror:
    """A web server that serves the four archives of a small data set in one of several ways."""

    archives: dict[str, bytes]
    way: str = "well"
    asked: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        self.asked.append(name)
        content = self.archives[name]
        getattr(self, f"_{self.way}")(request, content)

    def _well(self, request: BaseHTTPRequestHandler, content: bytes, kind: str = "application/gzip", claimed: int = 0) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(claimed or len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _slowly(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        time.sleep(0.1)
        self._well(request, content)

    def _page(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        self._well(request, b"<html><body>Please log in</body></html>", "text/html; charset=utf-8")

    def _refused(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        request.send_error(403)

    def _gone(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        request.send_error(404)

    def _cut(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        self._well(request, content[: len(content) // 2], claimed=len(content))

    def _endless(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(1 << 16))

    def _altered(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        self._well(request, content[:100] + bytes([content[100] ^ 1]) + content[101:])

    def _silent(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        time.sleep(2)

    def _stalling(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        self._well(request, content[:100], claimed=len(content))
        request.wfile.flush()
        time.sleep(2)

    def _dripping(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        self._well(request, content[:1], claimed=len(content))
        for place in range(1, 40):
            request.wfile.write(content[place : place + 1])
            request.wfile.flush()
            time.sleep(0.1)


def small_archives() -> dict[str, bytes]:
    """Archives of 20 training and 10 test images."""
    archives = {}
    for count, (images, labels) in zip((20, 10), sources.FILES.values(), strict=True):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28)).astype(np.uint8)
        archives[f"{images}.gz"] = gzip.compress(idx.pack(pixels))
        archives[f"{labels}.gz"] = gzip.compress(idx.pack(np.arange(count, dtype=np.uint8) % 10))
    return archives


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """The only mirror of Fashion-MNIST, of which there are 30 images in this test."""
    served = Mirror(small_archives())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                served.answer(self)
            except OSError:  # the other side has had enough
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(sources, "COUNTS", {"train": 20, "test": 10})
    monkeypatch.setattr(downloading, "SECONDS", 0.4)
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in served.archives.items()]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
        yield served
        server.shutdown()
        thread.join()
