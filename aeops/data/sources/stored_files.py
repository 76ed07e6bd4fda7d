"""Fetches the files of an object store or a web server to a folder, several at a time.

A file whose entity tag and size are those of the last time is not fetched again: the new folder has a hard link to it. A web
server is asked whether each file is as it was (`aeops.data.sources.web_files`).
"""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO, Any

from aeops.data.sources.server_errors import server_errors
from aeops.data.sources.web_files import WEAK_TAG, WebFile, fetch_web_file, parse_web_file, usable_copy, write_chunk
from aeops.errors import DataError
from aeops.files import atomic_folder
from aeops.recipe.addresses import MARK

MAX_FILES = 1_000_000
MAX_BYTES = 256 * 2**30  # of all files of an address
WEB_SCHEMES = ("http", "https")
CHUNK_BYTES = 8 * 2**20
CONNECTIONS = 16  # at a time: most of the time of a small file is waiting
TAGS_FILE = ".fetched.json"  # in the folder: what the files are, so that both are of one fetch
TAG_KEYS = ("ETag", "etag")


@dataclass(frozen=True)
class StoredFile:
    """A file as its server lists it.

    Attributes:
        name: by which the client opens it.
        path: below the folder that it is fetched to.
        tag: of its content; empty where the server has none.
        size: in bytes; None where the server does not say.
    """

    name: str
    path: str
    tag: str
    size: int | None


def fetch_files(address: str, folder: Path) -> str | None:
    """Fetch a file or all files below a folder, whole or not at all.

    Args:
        address: of either; one of a web server is a folder where it ends in a slash.
        folder: that is replaced.

    Returns:
        The file's name, or None of a folder.

    Raises:
        DataError: nothing lies there, more than is allowed, or names that no folder can hold.
        TransientError: the server cannot be reached, or refuses.
        UsageError: a library is missing.
    """
    import fsspec

    scheme = address.partition(MARK)[0]
    with server_errors(scheme):
        # Without its caches of listings and clients: files may have come, and the environment may name another server.
        store, path = fsspec.core.url_to_fs(address, skip_instance_cache=True, use_listings_cache=False)
        # A web server has no folders, but for addresses that end so; and a file that it does not give fails when it is opened.
        is_file = not path.endswith("/") if scheme in WEB_SCHEMES else store.isfile(path)
        files = [_single_file(store, path, scheme)] if is_file else _list_files(store, path)
        if not files:
            raise DataError(f"nothing lies at this {scheme}:// address: correct data.source.path")
        if len(files) > MAX_FILES:
            raise DataError(f"{len(files):,} files lie at this {scheme}:// address, expected at most {MAX_FILES:,}")
        _require_folder_names(files)
        with atomic_folder(folder) as scratch:
            _fetch_all(None if scheme in WEB_SCHEMES else store, files, folder, scratch)
        return files[0].path if is_file else None


def _single_file(store: Any, path: str, scheme: str) -> StoredFile:
    details = {} if scheme in WEB_SCHEMES else store.info(path)
    return _describe(path, PurePosixPath(path).name, details)


def _list_files(store: Any, root: str) -> list[StoredFile]:
    """Return the files below a folder; an empty one with a slash at its end is how the consoles of stores show a folder."""
    listed: Mapping[str, Mapping[str, Any]] = store.find(root, detail=True)
    files = []
    for name, details in sorted(listed.items()):
        if not name.endswith("/"):
            files.append(_describe(name, relative_name(name, root), details))
    return files


def _require_folder_names(files: Sequence[StoredFile]) -> None:
    """Raise DataError where the name of a file is that of a folder of another one, which a store allows."""
    paths = {file.path for file in files}
    for file in files:
        for parent in PurePosixPath(file.path).parents:
            if parent.as_posix() in paths:
                raise DataError(f"two files at this address cannot lie in one folder: {parent.as_posix()!r} and {file.path!r}")


def _describe(name: str, path: str, details: Mapping[str, Any]) -> StoredFile:
    tag, size = "", details.get("size")
    for key in TAG_KEYS:
        tag = tag or str(details.get(key) or "")
    if tag.startswith(WEAK_TAG):
        tag = ""
    return StoredFile(name, path, tag, None if size is None else int(size))


def relative_name(name: str, root: str) -> str:
    """Return a file's path below the folder that was asked for.

    Raises:
        DataError: it leads out of it.
    """
    relative = name.removeprefix(root.rstrip("/")).lstrip("/")
    if ".." in PurePosixPath(relative).parts or not relative or MARK in relative:
        raise DataError(f"a file lies outside of the folder that was asked for: {PurePosixPath(name).name!r}")
    return relative


# ---------------------------------------------------------------- the fetch


class _Fetch:
    """The fetch of files into a new folder, by several threads."""

    def __init__(self, store: Any, folder: Path, scratch: Path) -> None:
        """
        Args:
            store: an fsspec file system; None: the files are those of a web server.
        """
        self._store, self._folder, self._scratch = store, folder, scratch
        self._known = _read_tags(folder)
        self._lock, self._total = Lock(), 0

    def take(self, file: StoredFile) -> Any:
        """Link the file of the last time, or copy the one of the store.

        Returns:
            By what it is known the next time, for JSON; None by nothing.
        """
        return self._take_of_web(file) if self._store is None else self._take_of_store(file)

    def _take_of_store(self, file: StoredFile) -> list[Any] | None:
        target = self._scratch / file.path
        tag = [file.tag, file.size] if file.tag else None
        if tag is not None and self._known.get(file.path) == tag:
            earlier = self._folder / file.path
            if earlier.is_file() and earlier.stat().st_size == file.size:
                self._link(earlier, target)
                return tag
        with self._store.open(file.name, "rb") as source, _new_file(target) as copy:
            while chunk := source.read(CHUNK_BYTES):
                self._count(len(chunk))
                write_chunk(copy, chunk)
        return tag

    def _take_of_web(self, file: StoredFile) -> dict[str, Any]:
        earlier, target = self._folder / file.path, self._scratch / file.path

        def open_target() -> IO[bytes]:
            return _new_file(target)

        known = usable_copy(earlier, parse_web_file(self._known.get(file.path)))
        fetched: WebFile | None = fetch_web_file(file.name, known, open_target, self._count)
        if fetched is None:
            assert known is not None, "a server says so of what it was asked about"
            self._link(earlier, target)
            fetched = known
        return asdict(fetched)

    def _link(self, earlier: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(earlier, target)
        self._count(earlier.stat().st_size)

    def _count(self, size: int) -> None:
        with self._lock:
            self._total += size
            if self._total > MAX_BYTES:
                raise DataError(f"more than {MAX_BYTES:,} bytes lie at this address: copy the part that is needed")


def _fetch_all(store: Any, files: Sequence[StoredFile], folder: Path, scratch: Path) -> None:
    fetch = _Fetch(store, folder, scratch)
    with ThreadPoolExecutor(min(CONNECTIONS, len(files))) as pool:
        futures = [pool.submit(fetch.take, file) for file in files]
        try:
            known = {file.path: future.result() for file, future in zip(files, futures, strict=True)}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    tags = {path: tag for path, tag in known.items() if tag is not None}
    (scratch / TAGS_FILE).write_text(json.dumps(tags), encoding="utf-8")


def _read_tags(folder: Path) -> dict[str, Any]:
    """Return path -> what was recorded of the files that were fetched the last time; nothing where that is not known."""
    try:
        tags = json.loads((folder / TAGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tags if isinstance(tags, dict) else {}


def _new_file(target: Path) -> IO[bytes]:
    """Open a new file, with its folders; raise DataError where its name cannot be one here."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except OSError as error:
        raise DataError(f"{target.name!r} cannot be a file here ({error.strerror}): rename it") from error
