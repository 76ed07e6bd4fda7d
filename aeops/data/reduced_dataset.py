"""A new version of an accepted dataset without some of its samples, which may not come back."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from aeops.data.array_files import write_parquet
from aeops.data.dataset import (
    RECEIPT_FILE,
    content_sha256,
    read_index,
    recover_dataset,
    replace_dataset,
    staging_folder,
)
from aeops.data.forgotten import read_forgotten
from aeops.data.growth import NEXT_NUMBER, first_free_number
from aeops.data.judgements import count_judged, last_word, read_judgements
from aeops.data.kept_shards import keep_shards
from aeops.data.retention import FIRST_DAYS_FILE
from aeops.data.shards import read_input
from aeops.data.source_record import move_record
from aeops.errors import DataError
from aeops.files import write_json
from aeops.machine.stored_json import read_json
from aeops.project import Project


def drop_samples(project: Project, dataset: str, ids: Collection[str], contents: Collection[str]) -> str:
    """Replace data/<dataset> by a version without these samples; return its content's SHA-256.

    Shards that lose none keep their files. A version that has none of them and knows that they may not come back stays as it is.

    Args:
        project: whose dataset it is.
        dataset: its name.
        ids: of the samples.
        contents: SHA-256 of their contents.

    Raises:
        DataError: no sample would be left.
    """
    folder = project.dataset(dataset)
    recover_dataset(folder)
    index, forgotten = read_index(folder), read_forgotten(folder)
    stays = index[~index["id"].isin(list(ids))]
    if len(stays) == len(index) and not any(map(forgotten.allows, ids)):
        return content_sha256(folder)
    if not len(stays):
        raise DataError(f"{dataset} holds no other samples than these: delete data/{dataset} and its recipe instead")
    new = staging_folder(folder) / "new"
    (new / "shards").mkdir(parents=True)
    try:
        _write_rest(folder, new, index, stays)
        forgotten.with_samples(ids, contents).write(new)
        if (folder / FIRST_DAYS_FILE).is_file():
            days = pd.read_parquet(folder / FIRST_DAYS_FILE)
            write_parquet(new / FIRST_DAYS_FILE, days[~days["id"].isin(list(ids))])
        receipt = read_json(folder / RECEIPT_FILE, "rows")
        receipt["rows"] |= {"given": len(stays), "accepted": len(stays), "quarantined": 0}
        receipt["rows"] = _without_judged(receipt["rows"], project, dataset, ids)
        content = content_sha256(new)
        write_json(new / RECEIPT_FILE, receipt | {"content_sha256": content})
        before = content_sha256(folder)
        replace_dataset(new, folder)
        move_record(project, dataset, before, content)
    finally:
        shutil.rmtree(staging_folder(folder), ignore_errors=True)
    return content


def _without_judged(rows: Mapping[str, int], project: Project, dataset: str, ids: Collection[str]) -> dict[str, int]:
    """Return a receipt's counts without the judgements of some samples, which are forgotten after this."""
    standings = last_word(one for one in read_judgements(project, dataset) if one.id in ids)
    gone = count_judged(standings)
    counts = {}
    for name, count in rows.items():
        rest = count - gone.get(name, 0)
        if rest > 0 or name not in gone:
            counts[name] = rest
    return counts


def _write_rest(folder: Path, new: Path, index: pd.DataFrame, stays: pd.DataFrame) -> None:
    """Write shards, index and dataset.json of what stays."""
    description = read_json(folder / "dataset.json", "shards", "dataset")
    rows, shards = keep_shards(stays, folder, new, read_input(description))
    write_parquet(new / "index.parquet", rows)
    document = description | {"rows": len(stays), "shards": shards}
    number = max(description.get(NEXT_NUMBER, 0), first_free_number(index["id"], description["dataset"]))
    if number > first_free_number(stays["id"], description["dataset"]):
        document[NEXT_NUMBER] = number
    write_json(new / "dataset.json", document)
