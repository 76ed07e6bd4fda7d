"""Files that DVC keeps by their hash, in its cache and in a remote that is a folder, and which of them make up a folder of data.

DVC's own `dvc gc` knows what the checkout and its commits name, and nothing of the versions in the registry; so it is not used.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER_SUFFIX = ".dir"  # of a hash that names the list of a folder's files


def object_file(store: Path, md5: str) -> Path:
    """Return where a cache or a remote keeps the file of a hash."""
    return store / "files" / "md5" / md5[:2] / md5[2:]


def iter_objects(store: Path) -> Iterator[tuple[str, Path]]:
    """Yield hash and file of everything that a cache or a remote keeps."""
    for path in sorted((store / "files" / "md5").glob("[0-9a-f][0-9a-f]/*")):
        yield path.parent.name + path.name, path


def named_hashes(document: Any) -> set[str]:
    """Return every hash that a data.dvc or dvc.lock names, at any depth.

    >>> sorted(named_hashes({"outs": [{"md5": "1f.dir", "path": "data/digits"}], "stages": {"prepare": {"md5": "2a"}}}))
    ['1f.dir', '2a']
    """
    hashes = set()
    if isinstance(document, Mapping):
        for key, value in document.items():
            if key == "md5" and isinstance(value, str):
                hashes.add(value)
            else:
                hashes |= named_hashes(value)
    elif isinstance(document, list):
        for value in document:
            hashes |= named_hashes(value)
    return hashes


def with_contents(hashes: Iterable[str], stores: Iterable[Path]) -> set[str]:
    """Return the hashes, and those of the files in each folder among them, as the first store that has its list says."""
    stores, found = list(stores), set(hashes)
    for md5 in sorted(found):
        if not md5.endswith(FOLDER_SUFFIX):
            continue
        for store in stores:
            file = object_file(store, md5)
            if file.is_file():
                found.update(str(entry["md5"]) for entry in json.loads(file.read_text(encoding="utf-8")))
                break
    return found
