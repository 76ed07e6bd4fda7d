"""Which folders in DVC's cache and remote hold some samples of a dataset: its versions, and what stages made of them.

Hashes alone name what is stored there, so each folder's list is looked through: a dataset has an index, prepared samples name the
content that they are of, a bundle, too, and a report names its bundle.
"""

import io
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from aeops.data.stored_objects import FOLDER_SUFFIX, iter_objects, object_file
from aeops.files import file_sha256

ROWS_KEY = "rows"  # of a score that keeps training samples in a bank
TRAIN = "train"


@dataclass(frozen=True)
class DataVersion:
    """A version of a dataset that holds some of the samples.

    Attributes:
        content_sha256: of its content.
        contents: SHA-256 of the samples' contents.
        is_trained_on: whether one of them is in the split that is trained on.
    """

    content_sha256: str
    contents: tuple[str, ...]
    is_trained_on: bool


@dataclass
class HeldSamples:
    """What holds the samples.

    Attributes:
        found: the ids that some version of the dataset knows.
        data: hash of a folder -> the version of the dataset.
        banks: SHA-256 of bundles -> whether their score keeps training samples and one of the samples is trained on.
        folders: hash of each folder that is to go -> the hashes of its files.
        looked_into: hashes of all versions of the dataset that could be looked into, with and without the samples.
    """

    found: set[str] = field(default_factory=set)
    data: dict[str, DataVersion] = field(default_factory=dict)
    banks: dict[str, bool] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    looked_into: set[str] = field(default_factory=set)

    @property
    def content_sha256s(self) -> dict[str, bool]:
        """Content of each version that holds a sample -> whether one is in the split that is trained on."""
        return {version.content_sha256: version.is_trained_on for version in self.data.values()}


def keeps_samples(score: Any) -> bool:
    """Return whether a score's settings, or one within them, ask for a bank of training samples.

    >>> keeps_samples({"kind": "combined", "scores": [{"kind": "knn", "rows": 16}]})
    True
    """
    if isinstance(score, dict):
        return ROWS_KEY in score or any(map(keeps_samples, score.values()))
    return isinstance(score, list) and any(map(keeps_samples, score))


def find_held(stores: list[Path], dataset: str, ids: Collection[str], contents: Collection[str]) -> HeldSamples:
    """Look through the stores.

    Args:
        stores: DVC's cache and remotes that are folders.
        dataset: its name.
        ids: of the samples.
        contents: SHA-256 of contents that count as well, whatever their id is.
    """
    held, folders = HeldSamples(), dict(_folders(stores))
    for md5, files in folders.items():
        if {"index.parquet", "dataset.json", "receipt.json"} <= files.keys():
            _look_into_dataset(held, stores, md5, files, dataset, ids, contents)
    for md5, files in folders.items():
        document = _read_json(stores, files.get("prepared.json"))
        if document.get("content_sha256") in held.content_sha256s:
            held.folders[md5] = list(files.values())
    for md5, files in folders.items():
        document, sums = _read_json(stores, files.get("bundle.json")), _find(stores, files.get("SHA256SUMS"))
        content = document.get("data", {}).get("content_sha256")
        if content in held.content_sha256s and sums is not None:
            bundle = file_sha256(sums)
            held.banks[bundle] = held.content_sha256s[content] and keeps_samples(document.get("score"))
            if held.banks[bundle]:
                held.folders[md5] = list(files.values())
    for md5, files in folders.items():
        reference = _find(stores, files.get("reference.parquet"))
        if reference is not None and _bundle_of(reference) in held.banks:
            held.folders[md5] = list(files.values())
    return held


def _bundle_of(reference: Path) -> str:
    """Return the SHA-256 of the bundle that a report is about."""
    return str((pq.read_schema(reference).metadata or {}).get(b"bundle_sha256", b"").decode())


def _look_into_dataset(
    held: HeldSamples,
    stores: list[Path],
    md5: str,
    files: dict[str, str],
    dataset: str,
    ids: Collection[str],
    contents: Collection[str],
) -> None:
    index_file = _find(stores, files["index.parquet"])
    receipt = _read_json(stores, files["receipt.json"])
    if index_file is None or _read_json(stores, files["dataset.json"]).get("dataset") != dataset:
        return
    held.looked_into.add(md5)
    index = pd.read_parquet(index_file, columns=["id", "sha256", "split"])
    rows = index[index["id"].isin(list(ids)) | index["sha256"].isin(list(contents))]
    held.found |= set(rows["id"]) & set(ids)
    if len(rows):
        is_trained_on = bool((rows["split"] == TRAIN).any())
        version = DataVersion(str(receipt.get("content_sha256")), tuple(sorted(set(rows["sha256"]))), is_trained_on)
        held.data[md5] = version
        held.folders[md5] = list(files.values())


def objects_to_remove(stores: list[Path], folders: dict[str, list[str]]) -> list[str]:
    """Return the hashes of what is to go: the lists of the folders first, then the files that no other folder names."""
    needed: set[str] = set()
    for name, files in _folders(stores):
        if name not in folders:
            needed.update(files.values())
    return [*folders, *sorted(set(chain.from_iterable(folders.values())) - needed)]


def remove_objects(stores: list[Path], hashes: Iterable[str]) -> int:
    """Delete files of the stores; return how many there were."""
    count = 0
    for md5 in hashes:
        for store in stores:
            file = object_file(store, md5)
            if file.is_file():
                file.unlink()
                count += 1
    return count


def _folders(stores: list[Path]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the hash of each folder that a store has a list of, and path -> hash of its files."""
    seen = set()
    for store in stores:
        for md5, path in iter_objects(store):
            if md5.endswith(FOLDER_SUFFIX) and md5 not in seen:
                seen.add(md5)
                entries = json.loads(path.read_text(encoding="utf-8"))
                yield md5, {str(entry["relpath"]): str(entry["md5"]) for entry in entries}


def _find(stores: list[Path], md5: str | None) -> Path | None:
    if md5 is None:
        return None
    for store in stores:
        file = object_file(store, md5)
        if file.is_file():
            return file
    return None


def _read_json(stores: list[Path], md5: str | None) -> dict[str, Any]:
    file = _find(stores, md5)
    if file is None:
        return {}
    document = json.load(io.TextIOWrapper(file.open("rb"), encoding="utf-8"))
    return document if isinstance(document, dict) else {}
