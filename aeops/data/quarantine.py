"""Writes the samples that failed validation to a folder, with the reasons: no incoming sample is lost."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from aeops.data.array_files import write_parquet
from aeops.data.dataset import read_shards
from aeops.data.shards import read_input, write_blocks
from aeops.files import atomic_folder
from aeops.machine.stored_json import read_json

STATISTIC_COLUMNS = (  # an index has those of its kind
    *("shape", "dtype", "low", "high", "mean", "std", "nans", "characters", "letters", "filled", "readable"),
    *("mistyped", "cells_missing", "blank", "duplicate_of"),
)


def write_quarantine(
    path: Path,
    incoming_dataset: Path,
    index: pd.DataFrame,
    reasons: dict[str, list[str]],
    set_aside: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write rows.parquet (id, reasons, label, source, statistics), and in its order samples.npy, (n, ...), or .parquet.

    What could not become a sample stands behind the samples in rows.parquet, and has none in the other file.

    Args:
        path: the folder to write; its former content is replaced.
        incoming_dataset: the dataset that the samples came in with.
        index: the incoming dataset's index.
        reasons: sample's id -> the expectations that it breaks.
        set_aside: what the source held and could not become a sample -> the reason.
    """
    rows = index[index["id"].isin(list(reasons))]
    statistics = [name for name in STATISTIC_COLUMNS if name in rows]
    table = rows[["id", "label", "source", *statistics]].copy()
    table.insert(1, "reasons", list(map(reasons.__getitem__, rows["id"])))
    description = read_json(incoming_dataset / "dataset.json")
    if set_aside:
        no_samples = {"id": list(set_aside), "reasons": [[reason] for reason in set_aside.values()]}
        names = pd.DataFrame(no_samples).assign(source=description["source"]["origin"])
        table = pd.concat([table, names.reindex(columns=table.columns)], ignore_index=True).astype({"label": "Int64"})
    blocks = (block for _, block in read_shards(incoming_dataset, rows))
    with atomic_folder(path) as folder:
        write_parquet(folder / "rows.parquet", table)
        if reasons:
            write_blocks(folder, "samples", len(rows), blocks, description["dtype"], read_input(description))
