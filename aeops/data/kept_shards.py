"""What stays of an accepted dataset in its next version: shards that lose no sample keep their files."""

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ae_models.spec import InputSpec
from aeops.data.dataset import read_shards
from aeops.data.shards import shard_file, shard_stem, write_block
from aeops.files import file_sha256
from aeops.machine.stored_json import read_json


def keep_shards(kept: pd.DataFrame, dataset: Path, folder: Path, spec: InputSpec) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Take over what stays of the accepted dataset.

    A shard that lost no sample keeps its file, which is linked and neither read nor written; one that lost some is written anew
    under its name.

    Returns:
        The rows of the index, and for each shard its file, number of rows and SHA-256.
    """
    if not len(kept):
        return kept, []
    known = {shard["file"]: shard for shard in read_json(dataset / "dataset.json", "shards")["shards"]}
    index_parts, shards = [], []
    for number, rows in kept.groupby("shard", sort=True):
        file = shard_file(dataset, int(str(number)))
        if len(rows) == known[file]["rows"]:
            link_file(dataset / file, folder / file)
            shards.append(known[file])
            index_parts.append(rows)
            continue
        ((rows, block),) = read_shards(dataset, rows)
        write_block(folder, shard_stem(int(str(number))), block, spec)
        index_parts.append(rows.assign(row=range(len(rows))))
        shards.append({"file": file, "rows": len(rows), "sha256": file_sha256(folder / file)})
    return pd.concat(index_parts, ignore_index=True), shards


def link_file(path: Path, new_path: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no such names."""
    try:
        os.link(path, new_path)
    except OSError:
        shutil.copyfile(path, new_path)
