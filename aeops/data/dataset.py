"""A dataset on disk: large shards, an index with a row a sample, dataset.json, and the receipt of what was accepted.

    shards/00000.npy ...   (n, c, h, w), (n, c, steps) or (n, bytes), memory-mappable; .parquet for the rows of a table and the
                           steps of a series
    index.parquet          a row a sample, in the order of the shards: see `INDEX_COLUMNS` of its kind
    dataset.json           what the samples are, where they come from, the shards and their checksums
    receipt.json           the suite, its result and the SHA-256 of all the rest; only where it was accepted

Nothing in these files tells when, where or how often they were made: equal samples give equal bytes.
Standard library only on import, so that a light process can ask for a dataset's hash.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.spec import InputSpec
from aeops.data.shards import read_block, read_input, shard_stem
from aeops.errors import DataError
from aeops.files import data_sha256, file_sha256, recover_folder, replace_folder
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.interface import load_kind
from aeops.machine.stored_json import read_json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FORMAT = 1
SHARD_BYTES = 64 * 2**20
RECEIPT_FILE = "receipt.json"


# ---------------------------------------------------------------- checksums


def lines_sha256(checksums: dict[str, str]) -> str:
    """Return the SHA-256 over the lines "<checksum>  <name>", sorted by name, as sha256sum writes them."""
    lines = []
    for name in sorted(checksums):
        lines.append(f"{checksums[name]}  {name}\n")
    return data_sha256("".join(lines))


def content_sha256(folder: Path) -> str:
    """Return the manifest root of a dataset: the SHA-256 over the checksums of all its files but the receipt."""
    checksums = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != RECEIPT_FILE:
            checksums[name] = file_sha256(path)
    return lines_sha256(checksums)


# ---------------------------------------------------------------- reading


def index_columns(spec: InputSpec) -> dict[str, str]:
    """Return the columns of an index and their pandas types, by the section input of its samples."""
    return dict(load_kind(spec.kind).index_columns(spec))


def read_index(folder: Path) -> "pd.DataFrame":
    """Read the index of a dataset, one row a sample, with the types that `index_columns` states.

    Raises:
        DataError: it is damaged.
    """
    import pandas as pd

    path = folder / "index.parquet"
    try:
        with decode_errors():
            index = pd.read_parquet(path)
    except DecodeError as error:
        raise DataError(f"{path} is damaged ({error}): type ae run RECIPE to ingest and validate {folder.name} again") from error
    if "group" not in index:  # datasets that were accepted before there were groups
        index["group"] = index["id"]
    columns = index_columns(read_input(read_json(folder / "dataset.json", "kind")))
    return index[list(columns)].astype(columns)


def read_shards(folder: Path, index: "pd.DataFrame") -> Iterator[tuple["pd.DataFrame", "np.ndarray"]]:
    """Yield the rows of `index` shard by shard, each part with its samples.

    Args:
        folder: the dataset.
        index: its index, or some rows of it.

    Yields:
        The rows of one shard and their samples (k, ...), both in the index's order.
    """
    for number, part in index.groupby("shard", sort=False):
        shard = read_block(folder, shard_stem(int(str(number))))
        yield part, shard[part["row"].to_numpy()]


def require_receipt(folder: Path, recipe: str) -> dict[str, Any]:
    """Return the receipt of an accepted dataset.

    Args:
        folder: the dataset.
        recipe: the recipe's name, for the command that an error suggests.

    Raises:
        DataError: there is no dataset, no receipt, or the content is not what the receipt was written for.
    """
    next_step = f"type ae run {recipe} to ingest and validate it again"
    if not folder.is_dir():
        raise DataError(f"no dataset in {folder}: {next_step}")
    receipt_path = folder / RECEIPT_FILE
    if not receipt_path.is_file():
        raise DataError(f"{folder} has no {RECEIPT_FILE}: only data that was validated may be used: {next_step}")
    receipt: dict[str, Any] = read_json(receipt_path, "content_sha256", repair=next_step)
    content = content_sha256(folder)
    if receipt.get("content_sha256") != content:
        raise DataError(
            f"{folder} does not match its receipt: expected content with SHA-256 {str(receipt.get('content_sha256'))[:12]}, got "
            f"{content[:12]}: it was altered after validation: {next_step}"
        )
    return receipt


# ---------------------------------------------------------------- replacing a folder


def staging_folder(dataset: Path) -> Path:
    """Return the folder in which a new version of `dataset` is built: on the same disk, outside the folder that DVC owns."""
    return dataset.parent.resolve().parent / f".ae-aside-{dataset.name}"


def recover_dataset(dataset: Path) -> None:
    """Clean up after a crash in or before `replace_dataset`: the old dataset or the new one is in place, whole."""
    staging_path = staging_folder(dataset)
    recover_folder(staging_path / "new", dataset)
    shutil.rmtree(staging_path, ignore_errors=True)


def replace_dataset(new_dataset: Path, dataset: Path) -> None:
    """Replace the folder `dataset` by the folder `new_dataset`, which lies in `staging_folder(dataset)`.

    Killed before the first rename: the old one is in place. Between the two: the old one is whole in the staging folder
    and `recover_dataset` puts it back. After the second: the new one is in place.
    """
    replace_folder(new_dataset, dataset)
    shutil.rmtree(staging_folder(dataset))
