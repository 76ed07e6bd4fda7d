"""Shards of a dataset: a .npy file of samples, or a Parquet file of rows where the kind of data has columns of its own types.

numpy and pyarrow are imported where a shard is read or written.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.mappings import select_keys
from ae_models.names import names_in
from ae_models.spec import InputSpec, SpecReader
from aeops.data.array_files import write_npy_file, write_parquet
from aeops.errors import DataError
from aeops.kinds.interface import load_kind
from aeops.machine.stored_json import read_json

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".npy", ".parquet")
ANY_LENGTH = 2  # of the windows of a dataset's series, which has none


def write_block(folder: Path, stem: str, block: "np.ndarray", spec: InputSpec) -> str:
    """Write samples (n, ...) as a dataset or the quarantine holds them; return the file's path inside the folder.

    Args:
        folder: of the dataset.
        stem: the file's path inside it, without suffix.
        block: the samples.
        spec: the section input.
    """
    columns = load_kind(spec.kind).to_table(block, spec)
    if columns is None:
        write_npy_file(folder / f"{stem}.npy", block.shape, block.dtype, [block])
        return f"{stem}.npy"
    import pandas as pd

    write_parquet(folder / f"{stem}.parquet", pd.DataFrame(columns))
    return f"{stem}.parquet"


def write_blocks(folder: Path, stem: str, count: int, blocks: "Iterable[np.ndarray]", dtype: str, spec: InputSpec) -> None:
    """Write samples as `write_block` does, of arrays with one block of them in memory at a time; rows go into one Parquet file.

    Args:
        folder: the folder to write in.
        stem: the file's name, without suffix.
        count: samples in all blocks together.
        blocks: the samples, (k, ...) each.
        dtype: of samples that are arrays.
        spec: the section input.
    """
    import numpy as np

    if spec.columns or spec.channels:
        write_block(folder, stem, np.concatenate(list(blocks)), spec)
    else:
        write_npy_file(folder / f"{stem}.npy", (count, *spec.shape), np.dtype(dtype), blocks)


def read_block(folder: Path, stem: str, spec: InputSpec | None = None) -> "np.ndarray":
    """Return the samples that `write_block` wrote to a dataset, memory-mapped where the file allows it.

    Args:
        folder: of the dataset.
        stem: the file's path inside it, without suffix.
        spec: the section input; None: that of the dataset's dataset.json.
    """
    import numpy as np

    if (folder / f"{stem}.npy").is_file():
        return np.asarray(np.load(folder / f"{stem}.npy", mmap_mode="r", allow_pickle=False))
    import pyarrow.parquet as pq

    from aeops.kinds.table_rows import columns_of_arrow

    spec = spec or read_input(read_json(folder / "dataset.json", "kind"))
    return load_kind(spec.kind).from_table(columns_of_arrow(pq.read_table(folder / f"{stem}.parquet")), spec)


def shard_file(folder: Path, number: int) -> str:
    """Return the path of a shard that is there inside its dataset."""
    for suffix in SUFFIXES:
        if (folder / f"{shard_stem(number)}{suffix}").is_file():
            return f"{shard_stem(number)}{suffix}"
    raise DataError(f"{folder}: no shard {shard_stem(number)}: the dataset is incomplete, ingest it again")


def describe_input(spec: InputSpec) -> dict[str, Any]:
    """Return what a dataset.json says of its samples: kind, shape and range, and the columns of a table or the steps of a series.

    The length of a series' windows is no part of it: the stage prepare cuts them.
    """
    described: dict[str, Any] = {"kind": spec.kind, "shape": list(spec.stored_shape), "low": spec.low, "high": spec.high}
    if spec.columns:
        described["columns"] = [{"name": column.name, "type": column.type} for column in spec.columns]
    if spec.channels and spec.steps is not None:
        described["channels"] = [{"name": channel.name} for channel in spec.channels]
        described["every"], described["fill"] = spec.steps.every, spec.steps.fill
    return described


def shard_stem(number: int) -> str:
    """Return the path of a shard inside its dataset, without suffix."""
    return f"shards/{number:05d}"


def read_input(description: dict[str, Any]) -> InputSpec:
    """Return the section input of a dataset.json."""
    keys = ("kind", "shape", "low", "high", "columns", "channels")
    section = select_keys(description, names_in(keys, description))
    if "channels" in section:  # the shape is that of a step; windows of any length may be cut
        del section["shape"]
        section["steps"] = {"every": description["every"], "fill": description["fill"], "length": ANY_LENGTH}
    reader = SpecReader("dataset.json")
    spec: InputSpec = reader.read(InputSpec, section, "input")
    reader.finish()
    return spec
