"""Fetches a source's files over HTTP, whole and with the right checksums or not at all. Standard library only."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from aeops.errors import DataError, TransientError
from aeops.files import atomic_folder

TIMEOUT = 60.0  # seconds without a byte after which a server is given up
CHUNK_BYTES = 2**20
PASSING_STATUS = (408, 429)  # of the answers that say that the request cannot be met


def fetch_files(url: str, checksums: Mapping[str, str], folder: Path, recipe: str) -> None:
    """Fetch files from below `url` into `folder`, which appears once all of them are there with the right checksums.

    Args:
        url: of the folder that holds the files, http or https.
        checksums: file -> its SHA-256.
        folder: where they go; its former content is replaced.
        recipe: the recipe's name, for the command that an error suggests.

    Raises:
        TransientError: the server cannot be reached, fails, or ends too early.
        DataError: the server does not have or does not give a file, or a file has another checksum.
    """
    with atomic_folder(folder) as tmp_path:
        for name, expected_sha256 in checksums.items():
            address = f"{url.rstrip('/')}/{name}"
            sha256 = _fetch_file(address, tmp_path / name, folder, recipe)
            if sha256 != expected_sha256:
                raise DataError(
                    f"{address}: expected SHA-256 {expected_sha256[:12]}... (data.source.sha256), got {sha256[:12]}...: another "
                    f"file lies there now: correct url or sha256 in recipes/{recipe}.yaml, then type ae run {recipe}"
                )


def _fetch_file(address: str, path: Path, folder: Path, recipe: str) -> str:
    """Write the content at `address` to `path` and return its SHA-256."""
    file_hash = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in _read_chunks(address, folder, recipe):
            file_hash.update(chunk)
            file.write(chunk)
    return file_hash.hexdigest()


def _read_chunks(address: str, folder: Path, recipe: str) -> Iterator[bytes]:
    """Yield the content at `address`, some bytes at a time; raise TransientError where not all of it comes, DataError where there
    is nothing to come."""
    from http.client import HTTPException  # these take 40 ms, which only a first run needs
    from urllib.error import HTTPError
    from urllib.request import urlopen

    length = 0
    try:
        with urlopen(address, timeout=TIMEOUT) as response:
            while chunk := response.read(CHUNK_BYTES):
                length += len(chunk)
                yield chunk
            content_length = response.headers.get("Content-Length")
    except HTTPError as error:
        if error.code in PASSING_STATUS or error.code >= 500:
            raise _fetch_error(address, str(error), folder, recipe) from error
        raise DataError(
            f"{address}: could not be fetched ({error}): correct data.source.url in recipes/{recipe}.yaml, or put the files in "
            f"{folder} yourself, then type ae run {recipe}"
        ) from error
    except (OSError, HTTPException) as error:
        raise _fetch_error(address, str(error), folder, recipe) from error
    if content_length is not None and length < int(content_length):
        raise _fetch_error(address, f"the answer ended after {length} of {content_length} bytes", folder, recipe)


def _fetch_error(address: str, reason: str, folder: Path, recipe: str) -> TransientError:
    return TransientError(
        f"{address}: could not be fetched ({reason}): type ae run {recipe} once it can be reached, or put the files in {folder} "
        "yourself"
    )
