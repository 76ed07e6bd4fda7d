"""Stage ingest: write what is new in a recipe's source as an incoming dataset, which is not validated yet.

python -m aeops.stages.ingest --recipe recipes/digits.yaml --out .ae/incoming/digits
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.mappings import drop_keys, map_values, select_keys, values_at
from aeops.data.array_files import write_parquet
from aeops.data.dataset import FORMAT, SHARD_BYTES, index_columns, lines_sha256
from aeops.data.forgotten import ForgottenSamples, read_forgotten
from aeops.data.growth import JUDGEMENTS_KEY, KEPT_FILE, Base, GrowthPlan, next_number, open_base, plan_growth
from aeops.data.near_copies import indexed_pairs, on_one_side, read_rows_of
from aeops.data.pending_forgetting import require_none_pending
from aeops.data.rejudging import Judged, read_judged
from aeops.data.retention import read_first_days
from aeops.data.set_aside import write_set_aside
from aeops.data.shards import describe_input, shard_file, shard_stem, write_block
from aeops.data.source_record import (
    RecordedFiles,
    SourceRecord,
    file_stamp,
    read_record,
    reading_settings,
    record_files,
    write_incoming,
)
from aeops.data.sources.catalogue import ReadsOnlyNew, load_source, read_source, source_digest
from aeops.data.sources.samples import KnownSamples, SourceSamples
from aeops.data.splits import draw_splits
from aeops.files import atomic_folder, file_sha256, write_json
from aeops.kinds.interface import load_kind
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import SAME_SPLIT

RANGE_KEYS = ("low", "high")  # behind those of columns and channels: the order of keys is part of a dataset's bytes


def ingest(recipe: Recipe, project: Project, output: Path, *, whole: bool = False, today: date | None = None) -> None:
    """Write what is new in the recipe's source as a dataset to the folder `output`, all or nothing.

    Where the dataset was accepted before and its settings have not changed, files that are as they were are not read, samples
    that it holds stay there, and `output` has the others: `kept.parquet` names those that stay. See `aeops.data.growth`.

    Args:
        recipe: the recipe.
        project: whose source and dataset it is.
        output: the folder to write.
        whole: read and write all of the source, whatever was accepted before, and record nothing.
        today: the day of the ingest; None: the clock's.

    Raises:
        DataError: the source is not what the recipe says; `output` is as it was.
    """
    dataset, settings = recipe.data.dataset, reading_settings(recipe, project)
    require_none_pending(project, dataset, recipe.name)
    base = None if whole else open_base(recipe, project)
    record = read_record(project, dataset)
    left_out = {} if base is None or record is None or record.content_sha256 != base.content_sha256 else record.left_out
    if base is None or record is None or (record.settings_sha256, record.content_sha256) != (settings, base.content_sha256):
        record = None
    today, began_ns = today or datetime.now(UTC).date(), time.time_ns()
    judged = read_judged(project, dataset)
    known = None if record is None or base is None else known_samples(record, base, recipe, today, judged)
    samples, files = read_files(recipe, project, known)
    plan = plan_growth(samples, base, record, recipe, project.dataset(dataset), today, judged, left_out)
    with atomic_folder(output) as folder:
        (folder / "shards").mkdir()
        index = write_shards(samples, recipe, folder, plan=plan)
        if recipe.data.near_copies == SAME_SPLIT and len(index):
            index = keep_on_one_side(index, plan, recipe, project, folder)
        write_parquet(folder / "index.parquet", index)
        write_set_aside(folder, {**samples.set_aside, **plan.refused})
        write_plan(plan, folder)
        write_json(folder / "dataset.json", dataset_document(samples, index, recipe, project, folder, plan))
    if not whole:
        write_incoming(project, dataset, _reading(samples, plan, settings, began_ns, files()))


def read_files(recipe: Recipe, project: Project, known: KnownSamples | None) -> tuple[SourceSamples, Callable[[], RecordedFiles]]:
    """Return the samples of the recipe's source, and a function that returns its files as they were when they were read."""
    source = load_source(recipe.data.source.kind)
    if isinstance(source, ReadsOnlyNew):
        samples = read_source(recipe, project, known)
        return samples, lambda: samples.files or RecordedFiles()
    paths = source.files(recipe, project)
    stamps = map_values(file_stamp, paths)
    last = None if known is None else known.record
    samples = read_source(recipe, project, known)
    return samples, lambda: record_files(paths, stamps, last, samples.checksums)


def known_samples(record: SourceRecord, base: Base, recipe: Recipe, today: date, judged: Judged) -> KnownSamples:
    """Return what a source need not read, by the last accepted reading and what people have decided since."""
    ids, forgotten = set(base.index["id"]) - judged.changed(base.index["id"], record.judged), read_forgotten(base.folder)
    if recipe.data.keep_days is not None:
        ids |= read_first_days(base.folder).gone(recipe.data.keep_days, today)
    return KnownSamples(record, _KnownIds(ids, forgotten))


class _KnownIds:
    """The ids of samples that are there or may not come back."""

    def __init__(self, ids: set[str], forgotten: ForgottenSamples) -> None:
        self._ids, self._forgotten = ids, forgotten

    def __contains__(self, identity: object) -> bool:
        return identity in self._ids or not self._forgotten.allows(str(identity))


def _reading(samples: SourceSamples, plan: GrowthPlan, settings: str, began_ns: int, files: RecordedFiles) -> SourceRecord:
    """Return the record of this reading. A file that was written while it was read is another one the next time."""
    oldest = None
    if plan.first_days is not None:
        alive = [plan.first_days.days[name] for name in [*plan.kept.get("id", []), *compress(plan.ids, plan.written)]]
        oldest = min(alive).isoformat() if alive else None
    left_out = plan.left_out() if samples.ids is None else {}
    return SourceRecord(settings, "", began_ns, files, oldest, left_out, plan.judged.digests)


def keep_on_one_side(index: pd.DataFrame, plan: GrowthPlan, recipe: Recipe, project: Project, folder: Path) -> pd.DataFrame:
    """Return the index with each new image in the split of the near copy that came before it.

    Args:
        index: of the new samples.
        plan: what stays; a sample that the dataset held before keeps its split.
        recipe: its input.
        project: has the state folder with known hashes.
        folder: of the incoming dataset.
    """
    parts, is_known = [(folder, index)], np.zeros(len(index), bool)
    if plan.base is not None:
        last = plan.base.index.set_index("id")["split"]
        is_known = index["id"].isin(last.index).to_numpy()
        index.loc[is_known, "split"] = last.loc[index.loc[is_known, "id"]].to_numpy()
        if len(plan.kept):
            parts.insert(0, (plan.base.folder, plan.kept))
    whole = pd.concat([part for _, part in parts], ignore_index=True)
    fixed = np.r_[np.ones(len(plan.kept), bool), is_known]
    cache = project.image_hashes(recipe.data.dataset)
    pairs = indexed_pairs(whole, recipe.fit.input, read_rows_of(parts), cache, lambda one, other: ~(fixed[one] & fixed[other]))
    return index.assign(split=on_one_side(whole, fixed, pairs)[len(plan.kept) :])


def write_plan(plan: GrowthPlan, folder: Path) -> None:
    """Write what stays, the days of first ingests and what may not come back, where there is any of it."""
    if plan.base is not None and len(plan.kept):
        write_parquet(folder / KEPT_FILE, plan.kept)
    if plan.first_days is not None:
        plan.first_days.write(folder)
    plan.forgotten.write(folder)


def write_shards(
    samples: SourceSamples, recipe: Recipe, folder: Path, shard_bytes: int = SHARD_BYTES, plan: GrowthPlan | None = None
) -> pd.DataFrame:
    """Write the shards, with one of them in memory at a time.

    Args:
        samples: the source.
        recipe: names the dataset, its splits and the kind of data.
        folder: the new dataset; has a folder `shards`.
        shard_bytes: the largest size of a shard.
        plan: which samples are written; None: all of them, as if there had never been another ingest.

    Returns:
        The index, with one row for each sample that was written.
    """
    if plan is None:
        plan = plan_growth(samples, None, None, recipe, folder / "none", date.min)
    index_parts: list[pd.DataFrame] = []
    for positions, block in samples.blocks(shard_bytes):
        chosen = positions.start + np.flatnonzero(plan.written[positions])
        if not len(chosen):
            continue
        if len(chosen) < len(block):
            block = block[chosen - positions.start]
        write_block(folder, shard_stem(len(index_parts)), block, recipe.fit.input)
        index_parts.append(index_shard(samples, chosen, block, recipe, len(index_parts), plan))
    columns = index_columns(recipe.fit.input)
    if not index_parts:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})
    index = pd.concat(index_parts, ignore_index=True)
    index["source"] = samples.source_name
    marked = mark_duplicates(pd.concat([plan.kept, index], ignore_index=True)) if len(plan.kept) else mark_duplicates(index)
    return marked.iloc[len(plan.kept) :].reset_index(drop=True)[list(columns)].astype(columns)


def index_shard(
    samples: SourceSamples, positions: np.ndarray, block: np.ndarray, recipe: Recipe, shard_number: int, plan: GrowthPlan
) -> pd.DataFrame:
    """Return the rows of the index for the samples of one shard, without the columns about duplicates.

    Args:
        samples: the source.
        positions: of the shard's samples in the source, (n,).
        block: the samples, (n, ...).
        recipe: names the dataset, its splits and the kind of data.
        shard_number: the number of the shard.
        plan: has ids, labels and hashes of the source's samples.
    """
    kind = load_kind(recipe.fit.input.kind)
    content_digests, ids = values_at(plan.sha256, positions.tolist()), values_at(plan.ids, positions.tolist())
    groups: Sequence[str] | np.ndarray = ids
    split_keys: Iterable[str] = content_digests
    if samples.groups is not None:
        groups = split_keys = samples.groups[positions]
    labels: Sequence[Any] | np.ndarray = [pd.NA] * len(block)
    if plan.labels is not None:
        labels = plan.labels[positions]
    columns: dict[str, Any] = {
        "id": ids,
        "shard": shard_number,
        "row": np.arange(len(block)),
        "sha256": content_digests,
        "label": pd.array(labels, dtype="Int64"),
        "split": assign_splits(split_keys, samples, positions, recipe),
        "group": groups,
        "shape": "x".join(map(str, kind.stored_shape(block))),
        "dtype": kind.stored_dtype(block),
    }
    own_statistics = {name: values[positions] for name, values in samples.statistics.items()}
    return pd.DataFrame(columns | kind.statistics(block, recipe.fit.input) | own_statistics)


def assign_splits(keys: Iterable[str], samples: SourceSamples, positions: np.ndarray, recipe: Recipe) -> list[str]:
    """Return the split of each sample at `positions`, drawn by its key.

    Where the recipe uses the source's own test part, its samples are in `test`, whatever was drawn. The splits of a series are
    those of its source.
    """
    if samples.own_splits is not None:
        return list(samples.own_splits[positions])
    splits = draw_splits(keys, recipe.data)
    if recipe.data.split.test is not None:
        return splits
    assert samples.splits is not None  # the recipe reader requires a source with a test part here
    for number, source_split in enumerate(samples.splits[positions]):
        if source_split == "test":
            splits[number] = "test"
    return splits


def mark_duplicates(index: pd.DataFrame) -> pd.DataFrame:
    """Add two columns for samples whose content came before: the id of the first one, and whether the splits differ."""
    first_rows = index.groupby("sha256", sort=False)[["id", "split"]].transform("first")
    is_duplicate = index["sha256"].duplicated(keep="first")
    return index.assign(
        duplicate_of=first_rows["id"].where(is_duplicate, None),
        duplicate_across_splits=is_duplicate & (first_rows["split"] != index["split"]),
    )


def dataset_document(
    samples: SourceSamples, index: pd.DataFrame, recipe: Recipe, project: Project, folder: Path, plan: GrowthPlan
) -> dict[str, Any]:
    """Return the content of dataset.json: the samples, their source, and the shards with their SHA-256.

    Of an ingest that goes on from an accepted dataset it has a key `growth` that says from which, and what has changed.
    """
    source: dict[str, Any] = {
        "kind": recipe.data.source.kind,
        "origin": samples.source_name,
        "sha256": lines_sha256(dict(samples.checksums)) if samples.checksums else source_digest(recipe, project),
    }
    if samples.metadata:
        source["facts"] = dict(samples.metadata)
    shards = []
    for number, row_count in index["shard"].value_counts(sort=False).items():
        file = shard_file(folder, int(str(number)))
        shards.append({"file": file, "rows": int(row_count), "sha256": file_sha256(folder / file)})
    dtype = str(index["dtype"].iloc[0] if len(index) else plan.kept["dtype"].iloc[0])
    spec = recipe.fit.input
    described = describe_input(spec)
    del described["shape"]  # that of the samples themselves is written
    return {
        "format": FORMAT,
        "dataset": recipe.data.dataset,
        "kind": described.pop("kind"),
        "dtype": dtype,
        "shape": list(load_kind(spec.kind).stored_shape(samples.array[:1])),
        **drop_keys(described, RANGE_KEYS),
        **select_keys(described, RANGE_KEYS),
        "rows": len(index) + len(plan.kept),
        "source": source,
        "shards": shards,
        **_growth_keys(samples, plan, recipe),
    }


def _growth_keys(samples: SourceSamples, plan: GrowthPlan, recipe: Recipe) -> dict[str, Any]:
    """Return the keys of dataset.json that only some datasets have."""
    keys: dict[str, Any] = {}
    if plan.judged.record_sha256 is not None:
        keys[JUDGEMENTS_KEY] = plan.judged.record_sha256
    if samples.split_borders:
        keys["split_borders"] = dict(samples.split_borders)
    if plan.base is not None:
        keys["growth"] = {
            "base": plan.base.content_sha256,
            "next_number": next_number(plan.base, recipe.data.dataset) if samples.ids is None else 0,
            "read": len(plan.ids),
            "counts": plan.counts,
        }
    return keys


def main() -> None:
    """Parse the command line and ingest."""
    parser = argparse.ArgumentParser(description="Source -> incoming dataset.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--whole", action="store_true", help="read all of the source, and record nothing")
    arguments = parser.parse_args()
    run_main(lambda: ingest(read_recipe(arguments.recipe), find_project(), arguments.out, whole=arguments.whole))


if __name__ == "__main__":
    main()
