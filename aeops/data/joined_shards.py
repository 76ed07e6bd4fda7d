"""Joins small shards: each ingest that brings something new adds one, and many small ones cost a file each in every step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.spec import InputSpec
from aeops.data.shards import read_block, write_block
from aeops.files import file_sha256

SMALL_BYTES = 8 * 2**20  # of a file: smaller shards are joined until they have so many
MAX_SMALL_SHARDS = 16  # that a dataset has; with more, neighbours are joined

Shard = dict[str, Any]  # an entry of dataset.json: file, rows, sha256


def join_small_shards(
    index: pd.DataFrame, shards: list[Shard], folder: Path, spec: InputSpec
) -> tuple[pd.DataFrame, list[Shard]]:
    """Join small shards that are neighbours, where a dataset that is being built has too many of them.

    Samples stay in their order, with all that the index says of them. A shard's file may have a second name in the version before
    this one or in DVC's cache, so no file is written again: the joined one is new, and only the names in `folder` go.

    Args:
        index: of the new dataset.
        shards: all of its shards, in order.
        folder: the new dataset, which nobody uses yet.
        spec: the section input.

    Returns:
        The index and the shards, where some were joined those of the joined ones.
    """
    sizes = [(folder / shard["file"]).stat().st_size for shard in shards]
    if sum(size < SMALL_BYTES for size in sizes) <= MAX_SMALL_SHARDS:
        return index, shards
    numbers, offsets, joined = dict[int, int](), dict[int, int](), list[Shard]()
    dtypes = index.groupby("shard")["dtype"].first()
    for run in runs_of_small(sizes, [dtypes[_number(shard)] for shard in shards]):
        first, offset = _number(shards[run[0]]), 0
        for place in run:
            numbers[_number(shards[place])], offsets[_number(shards[place])] = first, offset
            offset += shards[place]["rows"]
        joined.append(_join([shards[place] for place in run], folder, spec))
    before = index["shard"]
    index = index.assign(shard=before.map(numbers).astype("int64"), row=(index["row"] + before.map(offsets)).astype("int64"))
    return index, joined


def runs_of_small(sizes: Sequence[int], dtypes: Sequence[str]) -> list[list[int]]:
    """Return the places of shards that become one, in order; each place is in one of them.

    Args:
        sizes: of the shards' files, in bytes.
        dtypes: of their samples; those of one shard have one.

    >>> runs_of_small([SMALL_BYTES, 10, 20, 5 * SMALL_BYTES, 30, SMALL_BYTES - 20, 10, 20], ["uint8"] * 8)
    [[0], [1, 2], [3], [4, 5], [6, 7]]
    """
    runs: list[list[int]] = []
    room = 0  # for more small ones in the last run
    for place, size in enumerate(sizes):
        if size < SMALL_BYTES and room > 0 and dtypes[place] == dtypes[place - 1]:
            runs[-1].append(place)
            room -= size
        else:
            runs.append([place])
            room = SMALL_BYTES - size
    return runs


def _join(shards: list[Shard], folder: Path, spec: InputSpec) -> Shard:
    """Write shards as one under the first one's name; return what dataset.json says of it."""
    if len(shards) == 1:
        return shards[0]
    blocks = [read_block(folder, Path(shard["file"]).with_suffix("").as_posix(), spec) for shard in shards]
    written = folder / write_block(folder, "shards/joined", np.concatenate(blocks), spec)
    for shard in shards:
        (folder / shard["file"]).unlink()
    written.rename(folder / shards[0]["file"])
    rows = sum(shard["rows"] for shard in shards)
    return {"file": shards[0]["file"], "rows": rows, "sha256": file_sha256(folder / shards[0]["file"])}


def _number(shard: Shard) -> int:
    return int(Path(shard["file"]).stem)
