"""Fetching a source's files over HTTP, whole and with the right sums or not at all. Standard library only."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from aeops.errors import DataError, InfrastructureError
from aeops.files import atomic_folder

TIMEOUT = 60.0  # seconds without a byte after which a server is given up
CHUNK = 2**20


def fetch_files(url: str, sums: Mapping[str, str], folder: Path, recipe: str) -> None:
    """Fetches the files from below `url` into `folder`, which appears once all of them are there with their sums.

    Args:
        url: of the folder that holds the files, http or https.
        sums: file -> its SHA-256.
        folder: where they go; what it held is replaced.
        recipe: the recipe's name, for what to type next.

    Raises:
        InfrastructureError: the server cannot be reached, does not have a file, or ends too early.
        DataError: a file has another sum.
    """
    with atomic_folder(folder) as tmp_path:
        for name, wanted in sums.items():
            address = f"{url.rstrip('/')}/{name}"
            given = fetch_file(address, tmp_path / name, folder, recipe)
            if given != wanted:
                raise DataError(
                    f"{address}: SHA-256 {given[:12]}... given; {wanted[:12]}... allowed (data.source.sha256): another file lies "
                    f"there now: correct url or sha256 in recipes/{recipe}.yaml, then type ae run {recipe}"
                )


def fetch_file(address: str, place: Path, folder: Path, recipe: str) -> str:
    """Writes what lies at `address` to `place` and gives its SHA-256."""
    total = hashlib.sha256()
    with place.open("wb") as file:
        for chunk in received(address, folder, recipe):
            total.update(chunk)
            file.write(chunk)
    return total.hexdigest()


def received(address: str, folder: Path, recipe: str) -> Iterator[bytes]:
    """What lies at `address`, some bytes at a time; raises InfrastructureError where not all of it comes."""
    from http.client import HTTPException  # these two take 40 ms, which only a first run needs
    from urllib.request import urlopen

    length = 0
    try:
        with urlopen(address, timeout=TIMEOUT) as answer:
            while chunk := answer.read(CHUNK):
                length += len(chunk)
                yield chunk
            stated = answer.headers.get("Content-Length")
    except (OSError, HTTPException) as error:
        raise unreachable(address, str(error), folder, recipe) from error
    if stated is not None and length < int(stated):
        raise unreachable(address, f"the answer ended after {length} of {stated} bytes", folder, recipe)


def unreachable(address: str, why: str, folder: Path, recipe: str) -> InfrastructureError:
    return InfrastructureError(
        f"{address}: could not be fetched ({why}): type ae run {recipe} once it can be reached, or put the files in {folder} "
        "yourself"
    )
