"""Fetches a file of a web server, unless the server says that the copy of the last time is still what it has (RFC 9110, 13.1).

A copy is only relied on where its SHA-256 is that of the last fetch, and where the server has named it so that no other content
may have the same name: by a strong entity tag, or by a Last-Modified that was a minute old when it was sent. A server that knows
no conditional requests sends the file anew.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

from aeops.errors import DataError, TransientError
from aeops.files import file_sha256
from aeops.machine.network import open_url

TIMEOUT = 60.0  # seconds without a byte after which a server is given up
CHUNK_BYTES = 1 << 20
ABSENT_STATUS = (404, 410)
NOT_MODIFIED = 304
WEAK_TAG = "W/"  # how a tag begins that two contents may have
SETTLED = timedelta(seconds=60)  # a younger file may be written again within the second that Last-Modified names
COMPRESSED_ENDINGS = (".gz", ".tgz")  # files that servers name compressed and that are meant to stay so
GZIP_WINDOW = 32 + zlib.MAX_WBITS  # of zlib: gzip and zlib headers alike


@dataclass(frozen=True)
class WebFile:
    """A file as a server has described it when it was fetched.

    Attributes:
        tag: its strong entity tag; empty where it has none.
        modified: its Last-Modified, where no other content can have the same; else empty.
        sha256: of what was fetched.
        size: in bytes, of the same.
    """

    tag: str
    modified: str
    sha256: str
    size: int

    @property
    def conditions(self) -> dict[str, str]:
        """Headers by which a server says whether it is as it was; none where it cannot."""
        if self.tag:
            return {"If-None-Match": self.tag}
        return {"If-Modified-Since": self.modified} if self.modified else {}


def parse_web_file(document: Any) -> WebFile | None:
    """Return the description that was stored; None for anything else."""
    if not isinstance(document, dict) or document.keys() != WebFile.__annotations__.keys():
        return None
    return WebFile(**document)


def usable_copy(copy: Path, known: WebFile | None) -> WebFile | None:
    """Return the description of the copy of the last time; None where there is none to ask about, or it was altered."""
    if known is None or not known.conditions or not copy.is_file() or copy.stat().st_size != known.size:
        return None
    return known if file_sha256(copy) == known.sha256 else None


def fetch_web_file(
    address: str, known: WebFile | None, open_target: Callable[[], IO[bytes]], count: Callable[[int], None]
) -> WebFile | None:
    """Fetch a file, or find that it is as it was.

    Args:
        address: http or https.
        known: a description by which the server is asked whether the file has changed; None: it is fetched.
        open_target: opens the file to write; called where something is fetched.
        count: called with numbers of bytes as they come; raises where they are too many.

    Returns:
        Its description; None where it is as it was.

    Raises:
        DataError: nothing lies there.
        TransientError: not all of it comes.
        OSError, HTTPException: the server cannot be reached, or refuses.
    """
    from urllib.error import HTTPError
    from urllib.request import Request

    headers = {"Accept-Encoding": "identity"} | (known.conditions if known is not None else {})
    try:
        response = open_url(Request(encode_address(address), headers=headers), TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == NOT_MODIFIED and known is not None:
            return None
        if error.code in ABSENT_STATUS:
            raise DataError(f"nothing lies at this {urlsplit(address).scheme}:// address: correct data.source.path") from None
        raise
    file_hash, size = hashlib.sha256(), 0
    with response, open_target() as target:
        for chunk in _read_content(response, response.headers, urlsplit(address).path):
            count(len(chunk))
            file_hash.update(chunk)
            size += len(chunk)
            write_chunk(target, chunk)
    return WebFile(_strong_tag(response.headers), _settled_time(response.headers), file_hash.hexdigest(), size)


def encode_address(address: str) -> str:
    """Return an address whose path has only the characters that one may have; what is encoded already stays.

    >>> encode_address("http://example.org/my files/a%20b.csv")
    'http://example.org/my%20files/a%20b.csv'
    """
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=quote(parts.path, safe="/%:@!$&'()*+,;=~")))


def write_chunk(file: IO[bytes], chunk: bytes) -> None:
    """Write what was fetched; a full disk is no fault of the server."""
    try:
        file.write(chunk)
    except OSError as error:
        raise TransientError(f"what is fetched cannot be written ({error.strerror})") from error


def _read_content(response: Any, headers: Message, path: str) -> Iterator[bytes]:
    """Yield the content, and unpack one that the server has packed although nobody asked for that."""
    encoding = headers.get("Content-Encoding", "identity").lower()
    is_packed = encoding in ("gzip", "x-gzip", "deflate") and not path.endswith(COMPRESSED_ENDINGS)
    decoder = zlib.decompressobj(GZIP_WINDOW) if is_packed else None
    length = 0
    while chunk := response.read(CHUNK_BYTES):
        length += len(chunk)
        yield chunk if decoder is None else decoder.decompress(chunk)
    expected = headers.get("Content-Length")
    if expected is not None and length < int(expected):
        raise TransientError(f"the server's answer ended after {length:,} of {int(expected):,} bytes: type the command again")
    if decoder is not None and not decoder.eof:
        raise TransientError("the server's answer ended too early: type the command again")


def _strong_tag(headers: Mapping[str, str] | Message) -> str:
    tag = headers.get("ETag") or ""
    return "" if tag.startswith(WEAK_TAG) else tag


def _settled_time(headers: Mapping[str, str] | Message) -> str:
    """Return Last-Modified where the answer's Date is a minute later or more; else empty."""
    modified, sent = headers.get("Last-Modified"), headers.get("Date")
    if not modified or not sent:
        return ""
    try:
        age: timedelta = _parse_date(sent) - _parse_date(modified)
    except (ValueError, TypeError):  # of a server that writes dates of its own
        return ""
    return modified if age >= SETTLED else ""


def _parse_date(text: str) -> datetime:
    return parsedate_to_datetime(text)
