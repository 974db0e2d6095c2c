"""One file from a URL to the disk: whole or not at all, of a bounded size, over https where the URL says so."""

from __future__ import annotations

import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

from tqdm import tqdm

CONNECT_SECONDS = 10
LIMIT_BYTES = 16 * 2**30  # no data set here has a larger file, unpacked or not
CHUNK_BYTES = 1 << 20


class Unreachable(Exception):
    """One way of fetching did not work; the next one is tried."""


def download(url: str, target: Path) -> None:
    """Fetch a file.

    Raises:
        Unreachable: the server does not give it, whole.
        OSError: our own disk does not take it.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "deepgnn"})
    try:
        response = urllib.request.build_opener(_NoDowngrade).open(request, timeout=CONNECT_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}") from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise Unreachable(f"{url} answers with a web page, not with the file")
        length = response.headers.get("Content-Length")
        write_whole(target, _chunks(response, url), int(length) if length else None)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent from https to an address that anybody on the way may answer for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"it points on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _chunks(response: IO[bytes], url: str) -> Iterator[bytes]:
    """What a server sends; its failures become `Unreachable`, unlike those of our own disk."""
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{url} broke off: {error!r}") from None
        if not chunk:
            return
        yield chunk


def write_whole(target: Path, chunks: Iterator[bytes], size: int | None) -> None:
    """Write a new file of a name of its own, and rename it once it has `size` bytes and is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"{target.name}*.part"):  # by a kill; the folder's lock is ours
        left.unlink()
    handle, name = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent)  # follows no link
    part = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            tqdm(total=size, desc=target.name, unit="B", unit_scale=True, disable=None, leave=False) as bar,
        ):
            for chunk in chunks:
                if file.tell() + len(chunk) > LIMIT_BYTES:
                    raise Unreachable(f"{target.name} is larger than {LIMIT_BYTES / 2**30:g} GiB")
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if size is not None and part.stat().st_size != size:
            raise Unreachable(f"{target.name} broke off at {part.stat().st_size} of {size} bytes")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
