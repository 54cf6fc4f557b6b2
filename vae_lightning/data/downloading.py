"""Download a file of known length at most, and give up on a server that says nothing, or next to nothing.

A timeout of a connection waits for the next byte, so a server that sends one byte a second would be waited for all day.
"""

import sys
import threading
import time
import urllib.request

from vae_lightning.errors import DataError

__all__ = ["downloaded"]

CHUNK = 1 << 16
SECONDS = 20.0
"""How long is waited for an answer, and the time over which the least speed is measured."""
LEAST = 1024.0
"""Bytes a second below which a server is taken for one that has stalled."""


def downloaded(url: str, most: int) -> bytes:
    """The bytes behind `url`, whose progress is printed on standard error.

    Raises:
        DataError: it is larger than `most` bytes, a page, cut short, or too slow; the message says which.
        OSError, http.client.HTTPException: the server cannot be reached, or refuses.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "vae_lightning"})
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        length = response.length
        if length is not None and length > most:
            raise DataError(f"{url}: is {length:,} bytes long, which no such file is")
        content = _read(response, url, most)
        kind = response.headers.get_content_type()
    if length is not None and len(content) < length:
        raise DataError(f"{url}: broke off after {len(content):,} of {length:,} bytes")
    if kind == "text/html":
        raise DataError(f"{url}: is a page, and not the file")
    return content


def _read(response: object, url: str, most: int) -> bytes:
    from tqdm import tqdm  # which Lightning needs anyway

    class Bar(tqdm):  # type: ignore[misc]
        _lock = threading.RLock()  # tqdm's is shared with forked processes, and one killed as it draws keeps it

    content, since, before = bytearray(), time.monotonic(), 0
    with Bar(total=getattr(response, "length", None), unit="B", unit_scale=True, file=sys.stderr) as bar:
        while chunk := response.read1(CHUNK):  # type: ignore[attr-defined]
            content += chunk
            bar.update(len(chunk))
            if len(content) > most:
                raise DataError(f"{url}: does not end after {most:,} bytes, as such a file does")
            now = time.monotonic()
            if now - since >= SECONDS:
                if len(content) - before < LEAST * (now - since):
                    raise DataError(f"{url}: sends less than {LEAST / 1024:.0f} KB a second")
                since, before = now, len(content)
    return bytes(content)
