"""Samples set aside, with their reasons: nothing that came in is lost."""

from pathlib import Path

import numpy as np
import pandas as pd

from aeops.data.array_files import write_npy_file, write_parquet
from aeops.data.dataset import read_shards
from aeops.files import atomic_folder, read_json

STATISTICS = [  # those of them that the index has
    *("shape", "dtype", "low", "high", "mean", "std", "nans", "characters", "letters", "filled", "readable"),
    *("blank", "duplicate_of"),
]


def write_quarantine(place: Path, incoming: Path, index: pd.DataFrame, reasons: dict[str, list[str]]) -> None:
    """Writes rows.parquet (id, reasons, label, source, statistics) and samples.npy, (n, ...) in the same order.

    Args:
        place: the folder to write; what it held is replaced.
        incoming: the dataset that the samples came in with.
        index: the incoming dataset's index.
        reasons: id -> what the sample breaks.
    """
    rows = index[index["id"].isin(list(reasons))]
    table = rows[["id", "label", "source", *(name for name in STATISTICS if name in rows)]].copy()
    table.insert(1, "reasons", [reasons[identity] for identity in rows["id"]])
    facts = read_json(incoming / "dataset.json")
    blocks = (block for _, block in read_shards(incoming, rows))
    with atomic_folder(place) as folder:
        write_parquet(folder / "rows.parquet", table)
        write_npy_file(folder / "samples.npy", (len(rows), *facts["shape"]), np.dtype(facts["dtype"]), blocks)
