"""Stage ingest: write a recipe's source as an incoming dataset, which is not validated yet.

python -m aeops.stages.ingest --recipe recipes/digits.yaml --out .ae/incoming/digits
"""

import argparse
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.data.array_files import write_parquet
from aeops.data.dataset import FORMAT, SHARD_BYTES, index_columns, lines_sha256
from aeops.data.set_aside import write_set_aside
from aeops.data.shards import describe_input, shard_file, shard_stem, write_block
from aeops.data.sources.catalogue import read_source, source_digest
from aeops.data.sources.samples import SourceSamples
from aeops.data.statistics import sample_sha256
from aeops.files import atomic_folder, file_sha256, write_json
from aeops.kinds.interface import load_kind
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import SplitSpec

RANGE_KEYS = ("low", "high")  # behind those of columns and channels: the order of keys is part of a dataset's bytes


def ingest(recipe: Recipe, project: Project, output: Path) -> None:
    """Write the recipe's source as a dataset to the folder `output`, all or nothing.

    Raises:
        DataError: the source is not what the recipe says; `output` is as it was.
    """
    samples = read_source(recipe, project)
    with atomic_folder(output) as folder:
        (folder / "shards").mkdir()
        index = write_shards(samples, recipe, folder)
        write_parquet(folder / "index.parquet", index)
        write_set_aside(folder, samples.set_aside)
        write_json(folder / "dataset.json", dataset_document(samples, index, recipe, project, folder))


def write_shards(samples: SourceSamples, recipe: Recipe, folder: Path, shard_bytes: int = SHARD_BYTES) -> pd.DataFrame:
    """Write the shards, with one of them in memory at a time.

    Args:
        samples: the source.
        recipe: names the dataset, its splits and the kind of data.
        folder: the new dataset; has a folder `shards`.
        shard_bytes: the largest size of a shard.

    Returns:
        The index, with one row for each sample.
    """
    index_parts = []
    for number, (positions, block) in enumerate(samples.blocks(shard_bytes)):
        write_block(folder, shard_stem(number), block, recipe.fit.input)
        index_parts.append(index_shard(samples, positions, block, recipe, number))
    index = pd.concat(index_parts, ignore_index=True)
    index["source"] = samples.source_name
    columns = index_columns(recipe.fit.input)
    return mark_duplicates(index)[list(columns)].astype(columns)


def index_shard(samples: SourceSamples, positions: slice, block: np.ndarray, recipe: Recipe, shard_number: int) -> pd.DataFrame:
    """Return the rows of the index for the samples of one shard, without the columns about duplicates.

    Args:
        samples: the source.
        positions: the positions of the shard's samples in the source.
        block: the samples, (n, ...).
        recipe: names the dataset, its splits and the kind of data.
        shard_number: the number of the shard.
    """
    content_digests, kind = sample_sha256(block), load_kind(recipe.fit.input.kind)
    ids = sample_ids(samples, positions, recipe)
    groups: Sequence[str] | np.ndarray = ids
    split_keys: Iterable[str] = content_digests
    if samples.groups is not None:
        groups = split_keys = samples.groups[positions]
    labels: Sequence[Any] | np.ndarray = [pd.NA] * len(block)
    if samples.labels is not None:
        labels = samples.labels[positions]
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


def sample_ids(samples: SourceSamples, positions: slice, recipe: Recipe) -> Sequence[str] | np.ndarray:
    """Return the ids that the samples came with; where they came with none, the dataset's name and their positions."""
    if samples.ids is not None:
        return samples.ids[positions]
    return [f"{recipe.data.dataset}-{position:06d}" for position in range(positions.start, positions.stop)]


def assign_splits(keys: Iterable[str], samples: SourceSamples, positions: slice, recipe: Recipe) -> list[str]:
    """Return the split of each sample at `positions`, drawn by its key.

    Where the recipe uses the source's own test part, its samples are in `test`, whatever was drawn. The splits of a series are
    those of its source.
    """
    if samples.own_splits is not None:
        return list(samples.own_splits[positions])
    splits = [draw_split(key, recipe.data.dataset, recipe.data.split) for key in keys]
    if recipe.data.split.test is not None:
        return splits
    assert samples.splits is not None  # the recipe reader requires a source with a test part here
    for number, source_split in enumerate(samples.splits[positions]):
        if source_split == "test":
            splits[number] = "test"
    return splits


def draw_split(key: str, dataset: str, split: SplitSpec) -> str:
    """Return the split of a sample, drawn by its key and salted by the dataset's name.

    It depends on nothing else. So a sample keeps its split when others are added, removed or reordered, and samples with the
    same key share theirs.

    Args:
        key: the SHA-256 of the sample's content, or its group.
        dataset: the name of the dataset.
        split: the shares of the splits; the rest is `train`.
    """
    digest = hashlib.sha256(f"{dataset} {key}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in (("test", split.test or 0.0), ("calibration", split.calibration), ("validation", split.validation)):
        if point < share:
            return name
        point -= share
    return "train"


def mark_duplicates(index: pd.DataFrame) -> pd.DataFrame:
    """Add two columns for samples whose content came before: the id of the first one, and whether the splits differ."""
    first_rows = index.groupby("sha256", sort=False)[["id", "split"]].transform("first")
    is_duplicate = index["sha256"].duplicated(keep="first")
    return index.assign(
        duplicate_of=first_rows["id"].where(is_duplicate, None),
        duplicate_across_splits=is_duplicate & (first_rows["split"] != index["split"]),
    )


def dataset_document(
    samples: SourceSamples, index: pd.DataFrame, recipe: Recipe, project: Project, folder: Path
) -> dict[str, Any]:
    """Return the content of dataset.json: the samples, their source, and the shards with their SHA-256."""
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
    spec = recipe.fit.input
    described = describe_input(spec)
    del described["shape"]  # that of the samples themselves is written
    return {
        "format": FORMAT,
        "dataset": recipe.data.dataset,
        "kind": described.pop("kind"),
        "dtype": str(index["dtype"].iloc[0]),
        "shape": list(load_kind(spec.kind).stored_shape(samples.array[:1])),
        **{key: value for key, value in described.items() if key not in RANGE_KEYS},
        **{key: described[key] for key in RANGE_KEYS},
        "rows": len(index),
        "source": source,
        "shards": shards,
    }


def main() -> None:
    """Parse the command line and ingest."""
    parser = argparse.ArgumentParser(description="Source -> incoming dataset.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args()
    run_main(lambda: ingest(read_recipe(arguments.recipe), find_project(), arguments.out))


if __name__ == "__main__":
    main()
