"""Writes the samples that failed validation to a folder, with the reasons: no incoming sample is lost."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ae_models.spec import InputSpec
from aeops.data.array_files import write_parquet
from aeops.data.dataset import read_shards
from aeops.data.shards import read_input, write_blocks
from aeops.files import atomic_folder, write_json
from aeops.kinds.interface import load_kind
from aeops.machine.stored_json import read_json

MAX_VALUE_CHARACTERS = 200  # of a sample as a person reads it
INTERVALS_FILE = "intervals.json"  # of a series: its bad steps in a row, by machine and reasons
STATISTIC_COLUMNS = (  # an index has those of its kind
    *("shape", "dtype", "low", "high", "mean", "std", "nans", "characters", "letters", "filled", "readable"),
    *("mistyped", "cells_missing", "readings", "every", "coverage", "constant", "blank", "duplicate_of"),
)


def write_quarantine(
    path: Path,
    incoming_dataset: Path,
    index: pd.DataFrame,
    reasons: dict[str, list[str]],
    set_aside: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write rows.parquet (id, reasons, label, source, sha256, statistics, values), and in its order samples.npy or .parquet.

    `values` is what a person reads of a sample where it is not drawn.

    What could not become a sample stands behind the samples in rows.parquet, and has none in the other file.

    Of a series that is stored step by step, intervals.json names the machines and times that are set aside.

    Args:
        path: the folder to write; its former content is replaced.
        incoming_dataset: the dataset that the samples came in with.
        index: the incoming dataset's index.
        reasons: sample's id -> the expectations that it breaks.
        set_aside: what the source held and could not become a sample -> the reason.
    """
    rows = index[index["id"].isin(list(reasons))]
    statistics = [name for name in STATISTIC_COLUMNS if name in rows]
    table = rows[["id", "label", "source", "sha256", *statistics]].copy()
    table.insert(1, "reasons", list(map(reasons.__getitem__, rows["id"])))
    description = read_json(incoming_dataset / "dataset.json")
    spec = read_input(description)
    table["values"] = [text for _, block in read_shards(incoming_dataset, rows) for text in _brief_values(block, spec)]
    intervals = _series_intervals(table, spec) if "every" in description else None
    if set_aside:  # what is no sample has no step
        no_samples = {"id": list(set_aside), "reasons": [[reason] for reason in set_aside.values()]}
        names = pd.DataFrame(no_samples).assign(source=description["source"]["origin"])
        table = pd.concat([table, names.reindex(columns=table.columns)], ignore_index=True).astype({"label": "Int64"})
    blocks = (block for _, block in read_shards(incoming_dataset, rows))
    with atomic_folder(path) as folder:
        if intervals is not None:
            write_json(folder / INTERVALS_FILE, intervals)
        write_parquet(folder / "rows.parquet", table)
        if reasons:
            write_blocks(folder, "samples", len(rows), blocks, description["dtype"], spec)


def _brief_values(block: np.ndarray, spec: InputSpec) -> list[str]:
    return [text[:MAX_VALUE_CHARACTERS] for text in load_kind(spec.kind).briefly(block, spec)]


def _series_intervals(table: pd.DataFrame, spec: InputSpec) -> list[dict[str, Any]]:
    """Return steps in a row of one machine and with the same expectations broken as intervals, in the order of the steps."""
    assert spec.steps is not None, "a series with channels has steps"
    intervals: list[dict[str, Any]] = []
    last: tuple[str, float, tuple[str, ...]] | None = None
    for name, reasons in zip(table["id"].tolist(), table["reasons"].tolist(), strict=True):
        machine, _, stamp = name.rpartition("@")
        time = datetime.fromisoformat(stamp).timestamp()
        broken = tuple(reason.split(": expected")[0] for reason in reasons)
        if last is not None and last[::2] == (machine, broken) and time - last[1] < 1.5 * spec.steps.every:
            intervals[-1] |= {"end": stamp, "steps": intervals[-1]["steps"] + 1}
        else:
            intervals.append({"machine": machine, "start": stamp, "end": stamp, "steps": 1, "broken": list(broken)})
        last = (machine, time, broken)
    return intervals
