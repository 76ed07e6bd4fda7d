"""A dataset on disk: large shards, an index with a row a sample, dataset.json, and the receipt of what was accepted.

    shards/00000.npy ...   (n, c, h, w), (n, c, steps) or (n, bytes), memory-mappable
    index.parquet          a row a sample, in the order of the shards: see `INDEX_COLUMNS` of its kind
    dataset.json           what the samples are, where they come from, the shards and their sums
    receipt.json           the suite, its result and the SHA-256 of all the rest; only where it was accepted

Nothing in these files tells when, where or how often they were made: equal samples give equal bytes.
Standard library only on import, so that a light process can ask for a dataset's hash.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import DataError
from aeops.files import data_sha256, file_sha256, read_json, recover_folder, replace_folder
from aeops.kinds.interface import load_kind

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FORMAT = 1
SHARD_BYTES = 64 * 2**20
RECEIPT = "receipt.json"


# ---------------------------------------------------------------- sums


def lines_sha256(sums: dict[str, str]) -> str:
    """SHA-256 over the lines "<sum>  <name>", sorted by name, as sha256sum writes them."""
    return data_sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def content_sha256(folder: Path) -> str:
    """The manifest root of a dataset: SHA-256 over the sums of all its files but the receipt."""
    places = (place for place in folder.rglob("*") if place.is_file())
    names = {place.relative_to(folder).as_posix(): place for place in places}
    return lines_sha256({name: file_sha256(place) for name, place in names.items() if name != RECEIPT})


# ---------------------------------------------------------------- reading


def columns_of(kind: str) -> dict[str, str]:
    """The columns of an index and their types, by the kind of the samples."""
    return dict(load_kind(kind).INDEX_COLUMNS)


def read_index(folder: Path) -> "pd.DataFrame":
    """The index with the types that `columns_of` states."""
    import pandas as pd

    index = pd.read_parquet(folder / "index.parquet")
    if "group" not in index:  # datasets that were accepted before there were groups
        index["group"] = index["id"]
    columns = columns_of(read_json(folder / "dataset.json")["kind"])
    return index[list(columns)].astype(columns)


def shard_file(number: int) -> str:
    return f"shards/{number:05d}.npy"


def read_shards(folder: Path, index: "pd.DataFrame") -> Iterator[tuple["pd.DataFrame", "np.ndarray"]]:
    """The rows of `index` shard by shard, each part with its samples (n, ...), in the index's order."""
    import numpy as np

    for number, part in index.groupby("shard", sort=False):
        shard = np.load(folder / shard_file(int(str(number))), mmap_mode="r", allow_pickle=False)
        yield part, shard[part["row"].to_numpy()]


def require_receipt(folder: Path, recipe: str) -> dict[str, Any]:
    """The receipt of an accepted dataset.

    Raises:
        DataError: there is no dataset, no receipt, or the content is not what the receipt was given for.
    """
    again = f"type ae run {recipe} to ingest and validate it again"
    if not folder.is_dir():
        raise DataError(f"no dataset in {folder}: {again}")
    if not (folder / RECEIPT).is_file():
        raise DataError(f"{folder} has no {RECEIPT}: only data that was validated may be used: {again}")
    try:
        receipt: dict[str, Any] = read_json(folder / RECEIPT)
    except ValueError as error:
        raise DataError(f"{folder / RECEIPT} is not readable as JSON ({error}): {again}") from error
    content = content_sha256(folder)
    if receipt.get("content_sha256") != content:
        raise DataError(
            f"{folder} does not match its receipt: its content has SHA-256 {content[:12]}, the receipt was given for "
            f"{str(receipt.get('content_sha256'))[:12]}: it was altered after validation: {again}"
        )
    return receipt


# ---------------------------------------------------------------- writing


# ---------------------------------------------------------------- replacing a folder


def aside_folder(place: Path) -> Path:
    """Where a dataset is built before it replaces `place`: on the same disk, outside the folder that DVC owns."""
    return place.parent.resolve().parent / f".ae-aside-{place.name}"


def recover(place: Path) -> None:
    """Ends what a crash of `swap` or before it left: `place` is the old dataset or the new one, whole; the rest goes."""
    aside = aside_folder(place)
    recover_folder(aside / "new", place)
    shutil.rmtree(aside, ignore_errors=True)


def swap(built: Path, place: Path) -> None:
    """Replaces the dataset `place` by the folder `built`, which lies in `aside_folder(place)`.

    Killed before the first rename: the old one is in place. Between the two: the old one is whole in the aside folder
    and `recover` puts it back. After the second: the new one is in place.
    """
    replace_folder(built, place)
    shutil.rmtree(aside_folder(place))
