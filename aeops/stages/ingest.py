"""Stage ingest: a recipe's source -> an incoming dataset, which nothing has validated yet.

python -m aeops.stages.ingest --recipe recipes/digits.yaml --out .ae/incoming/digits
"""

import argparse
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.data.array_files import write_npy_file, write_parquet
from aeops.data.dataset import FORMAT, SHARD_BYTES, index_columns, shard_file
from aeops.data.sources.catalogue import read_source, source_digest
from aeops.data.sources.samples import SourceSamples
from aeops.data.statistics import sample_sha256, shape_text
from aeops.files import atomic_folder, file_sha256, write_json
from aeops.kinds.interface import load_kind
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import SplitSpec


def ingest(recipe: Recipe, project: Project, out: Path) -> None:
    """Writes the recipe's source as a dataset to `out`, whole or not at all.

    Raises:
        DataError: the source cannot be what the recipe says; `out` is as it was.
    """
    samples = read_source(recipe, project)
    with atomic_folder(out) as folder:
        (folder / "shards").mkdir()
        index = write_shards(samples, recipe, folder)
        write_parquet(folder / "index.parquet", index)
        write_json(folder / "dataset.json", describe(samples, index, recipe, project, folder))


def write_shards(samples: SourceSamples, recipe: Recipe, folder: Path, shard_bytes: int = SHARD_BYTES) -> pd.DataFrame:
    """Writes the shards, one of them in memory at a time, and gives the index with a row a sample."""
    parts = []
    for number, (places, block) in enumerate(samples.blocks(shard_bytes)):
        write_npy_file(folder / shard_file(number), block.shape, block.dtype, [block])
        parts.append(index_part(samples, places, block, recipe, number))
    index = pd.concat(parts, ignore_index=True)
    index["source"] = samples.source_name
    columns = index_columns(recipe.fit.input.kind)
    return with_duplicates(index)[list(columns)].astype(columns)


def index_part(samples: SourceSamples, places: slice, block: np.ndarray, recipe: Recipe, shard: int) -> pd.DataFrame:
    """What the index says of the samples of one shard, which lie at `places` of the source, but for their duplicates."""
    sums = sample_sha256(block)
    ids = [f"{recipe.data.dataset}-{position:06d}" for position in range(places.start, places.stop)]
    groups = None if samples.groups is None else samples.groups[places]
    columns: dict[str, Any] = {
        "id": ids,
        "shard": shard,
        "row": np.arange(len(block)),
        "sha256": sums,
        "label": pd.array([pd.NA] * len(block) if samples.labels is None else samples.labels[places], dtype="Int64"),
        "split": splits_of(sums if groups is None else groups, samples, places, recipe),
        "group": ids if groups is None else groups,
        "shape": shape_text(block),
        "dtype": block.dtype.name,
    }
    return pd.DataFrame(columns | load_kind(recipe.fit.input.kind).statistics(block, recipe.fit.input))


def splits_of(keys: Iterable[str], samples: SourceSamples, places: slice, recipe: Recipe) -> list[str]:
    """The split of each sample at `places`: drawn by its key, but for the source's own test part where the recipe asks for it."""
    drawn = [draw_split(key, recipe.data.dataset, recipe.data.split) for key in keys]
    if recipe.data.split.test is not None:
        return drawn
    assert samples.splits is not None  # the recipe was checked: its source has a test part
    return ["test" if own == "test" else split for own, split in zip(samples.splits[places], drawn, strict=True)]


def draw_split(key: str, dataset: str, split: SplitSpec) -> str:
    """The split of a sample, drawn by its content's SHA-256 or its group, and salted by the dataset's name.

    It depends on nothing else, so a sample keeps its split whatever is added, removed or reordered, and equal samples
    (or samples of one group) share theirs.
    """
    drawn = hashlib.sha256(f"{dataset} {key}".encode()).digest()
    point = int.from_bytes(drawn[:8], "big") / 2**64
    for name, share in (("test", split.test or 0.0), ("calibration", split.calibration), ("validation", split.validation)):
        if point < share:
            return name
        point -= share
    return "train"


def with_duplicates(index: pd.DataFrame) -> pd.DataFrame:
    """The index with, for each sample whose content came before, the id of the first one and whether splits differ."""
    first = index.groupby("sha256", sort=False)[["id", "split"]].transform("first")
    repeated = index["sha256"].duplicated(keep="first")
    return index.assign(
        duplicate_of=first["id"].where(repeated, None),
        duplicate_across_splits=repeated & (first["split"] != index["split"]),
    )


def describe(samples: SourceSamples, index: pd.DataFrame, recipe: Recipe, project: Project, folder: Path) -> dict[str, Any]:
    """dataset.json: what the samples are, where they come from and the shards with their sums."""
    source = {"kind": recipe.data.source.kind, "origin": samples.source_name, "sha256": source_digest(recipe, project)}
    return {
        "format": FORMAT,
        "dataset": recipe.data.dataset,
        "kind": recipe.fit.input.kind,
        "dtype": str(index["dtype"].iloc[0]),
        "shape": list(samples.array.shape[1:]),
        "low": recipe.fit.input.low,
        "high": recipe.fit.input.high,
        "rows": len(index),
        "source": source | ({"facts": dict(samples.metadata)} if samples.metadata else {}),
        "shards": list(describe_shards(index, folder)),
    }


def describe_shards(index: pd.DataFrame, folder: Path) -> Iterator[dict[str, Any]]:
    for number, rows in index["shard"].value_counts(sort=False).items():
        file = shard_file(int(str(number)))
        yield {"file": file, "rows": int(rows), "sha256": file_sha256(folder / file)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Source -> incoming dataset.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    given = parser.parse_args()
    run_main(lambda: ingest(read_recipe(given.recipe), find_project(), given.out))


if __name__ == "__main__":
    main()
