"""Stage prepare: data/<dataset> -> the arrays that training and evaluation read.

    python -m aeops.stages.prepare --recipe recipes/digits.yaml --dataset data/digits --out artifacts/digits/prepared

Training, validation and calibration hold normal samples only. The test set holds the normal ones of its split and every
novelty of every split, since training saw none of them; where the source has a test part of its own (data.split.test left
out), it holds that part and nothing else. Beside the samples lie the labels of those to train on, -1 where one has none.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.data.array_files import write_npy_file, write_parquet
from aeops.data.dataset import FORMAT, read_index, read_shards, require_receipt
from aeops.errors import DataError
from aeops.files import atomic_folder, read_json, write_json
from aeops.machine.entry_point import run_main
from aeops.recipe.reader import Recipe, read_recipe

PARTS = ("train", "validation", "calibration", "test")


def prepare(recipe: Recipe, dataset: Path, out: Path) -> None:
    """Writes the four arrays, train_labels.npy, test.parquet and prepared.json to `out`, whole or not at all.

    Raises:
        DataError: the dataset does not match its receipt or the recipe's input, or one of the parts is empty.
    """
    receipt = require_receipt(dataset, recipe.name)
    facts = require_shape(dataset, recipe)
    index = read_index(dataset)
    novelty = index["label"].isin(list(recipe.data.novelty)).fillna(False).astype(bool)
    parts = {part: index[~novelty & (index["split"] == part)] for part in PARTS}
    of_test = index["split"] == "test"
    parts["test"] = index[of_test if recipe.data.split.test is None else novelty | of_test]
    require_rows(parts, novelty, recipe)
    test_novelty = int(novelty[parts["test"].index].sum())
    counts = {part: len(rows) for part, rows in parts.items()} | {"test_novelty": test_novelty}
    with atomic_folder(out) as folder:
        for part, rows in parts.items():
            write_npy_file(folder / f"{part}.npy", (len(rows), *facts["shape"]), np.dtype(facts["dtype"]), blocks(dataset, rows))
        labels = parts["train"]["label"].fillna(-1).to_numpy(dtype=np.int64)
        write_npy_file(folder / "train_labels.npy", labels.shape, labels.dtype, [labels])
        write_parquet(folder / "test.parquet", parts["test"][["id", "label", "group"]].assign(novelty=novelty))
        write_json(folder / "prepared.json", describe(recipe, facts, receipt, counts))


def blocks(dataset: Path, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """The samples of these rows of the index, a shard at a time."""
    return (block for _, block in read_shards(dataset, rows))


def describe(recipe: Recipe, facts: dict[str, Any], receipt: dict[str, Any], rows: dict[str, int]) -> dict[str, Any]:
    """prepared.json."""
    return {
        "format": FORMAT,
        "content_sha256": receipt["content_sha256"],
        "source": facts["source"],
        "kind": facts["kind"],
        "rows": rows,
        "dtype": facts["dtype"],
        "shape": facts["shape"],
        "low": facts["low"],
        "high": facts["high"],
        "novelty": list(recipe.data.novelty),
    }


def require_shape(dataset: Path, recipe: Recipe) -> dict[str, Any]:
    """dataset.json, once kind, shape and range in it are the recipe's; raises DataError."""
    facts: dict[str, Any] = read_json(dataset / "dataset.json")
    spec = recipe.fit.input
    given = (facts["kind"], facts["shape"], facts["low"], facts["high"])
    wanted = (spec.kind, list(spec.shape), spec.low, spec.high)
    if given != wanted:
        raise DataError(
            f"{dataset} holds samples of kind, shape, low, high {given}; the recipe's input says {wanted}: "
            f"type ae run {recipe.name} to ingest and validate them again"
        )
    return facts


def require_rows(parts: dict[str, pd.DataFrame], novelty: pd.Series, recipe: Recipe) -> None:
    """Raises DataError where a part that the recipe asks for has no samples."""
    wanted = {"train", "calibration", "test"} | ({"validation"} if recipe.data.split.validation > 0 else set())
    normals = {part: len(rows) - int(novelty[rows.index].sum()) for part, rows in parts.items()}
    empty = [f"no normal sample in {part}" for part in PARTS if part in wanted and not normals[part]]
    if recipe.data.novelty and normals["test"] == len(parts["test"]):
        empty.append(f"no sample with a novelty label, {', '.join(map(str, recipe.data.novelty))}, in test")
    if empty:
        raise DataError(
            f"{recipe.data.dataset}: {'; '.join(empty)}: bring more samples or change data.split and data.novelty in "
            f"recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="data/<dataset> -> arrays for training and evaluation.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--dataset", type=Path, required=True, help="the accepted dataset")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    given = parser.parse_args()
    run_main(lambda: prepare(read_recipe(given.recipe), given.dataset, given.out))


if __name__ == "__main__":
    main()
