"""Stage prepare: write the arrays that training and evaluation read from data/<dataset>.

    python -m aeops.stages.prepare --recipe recipes/digits.yaml --dataset data/digits --out artifacts/digits/prepared

Training, validation and calibration have normal samples only. The test set has the normal samples of its split and the
novelties of all splits, since no novelty is trained on; if the source has its own test part (data.split.test left out), the
test set is that part. train_labels.npy has the labels of the training samples, -1 for a sample without one.

A series with channels is stored step by step: its windows are cut here, see `aeops.data.series_sets`.

With data.novelty_in_validation, the novelties of the validation split choose the threshold: they stand in validation_novelty.npy,
and none of them is tested on.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.mappings import map_values, select_keys
from ae_models.names import names_of
from ae_models.spec import CATEGORY, InputSpec
from aeops.data.array_files import write_npy_file, write_parquet
from aeops.data.dataset import FORMAT, read_index, read_shards, require_receipt
from aeops.data.series_sets import CALIBRATION_WINDOWS, WindowSets, cut_window_sets
from aeops.data.shards import describe_input
from aeops.errors import DataError
from aeops.files import atomic_folder, write_json
from aeops.kinds.interface import load_kind
from aeops.machine.entry_point import run_main
from aeops.machine.stored_json import read_json
from aeops.recipe.reader import Recipe, read_recipe

VALIDATION_NOVELTY = "validation_novelty"
SERIES_FILE = "series.parquet"  # of a series that is stored step by step
SPLIT_NAMES = ("train", "validation", "calibration", "test")
MIN_FIT_ROWS = 2  # of each split that a fit reads


def prepare(recipe: Recipe, dataset: Path, output: Path) -> None:
    """Write the arrays, train_labels.npy, test.parquet and prepared.json to the folder `output`, all or nothing.

    Raises:
        DataError: the dataset does not match its receipt or the recipe's input, or a split is empty.
    """
    receipt = require_receipt(dataset, recipe.name)
    description = require_input(dataset, recipe)
    index = read_index(dataset)
    is_novelty = index["label"].isin(list(recipe.data.novelty)).fillna(False).astype(bool)
    if recipe.fit.input.channels:
        write_windows(cut_window_sets(dataset, index, is_novelty, recipe), recipe, description, receipt, output)
        return
    splits = select_splits(index, is_novelty, recipe)
    require_split_samples(splits, is_novelty, recipe)
    row_counts = map_values(len, select_keys(splits, SPLIT_NAMES))
    row_counts["test_novelty"] = int(is_novelty[splits["test"].index].sum())
    if VALIDATION_NOVELTY in splits:
        row_counts[VALIDATION_NOVELTY] = len(splits[VALIDATION_NOVELTY])
    kind = load_kind(recipe.fit.input.kind)
    spec = kind.learn_input(read_blocks(dataset, splits["train"]), recipe.fit.input)
    with atomic_folder(output) as folder:
        for name, rows in splits.items():
            blocks = (kind.prepared_form(block, spec) for block in read_blocks(dataset, rows))
            write_npy_file(folder / f"{name}.npy", (len(rows), *spec.shape), prepared_dtype(description, spec), blocks)
        labels = splits["train"]["label"].fillna(-1).to_numpy(dtype=np.int64)
        write_npy_file(folder / "train_labels.npy", labels.shape, labels.dtype, [labels])
        write_parquet(folder / "test.parquet", splits["test"][["id", "label", "group"]].assign(novelty=is_novelty))
        write_json(folder / "prepared.json", prepared_document(recipe, description, receipt, row_counts, spec))


def write_windows(sets: WindowSets, recipe: Recipe, description: dict[str, Any], receipt: dict[str, Any], output: Path) -> None:
    """Write the windows of a series, and series.parquet with its steps, to the folder `output`, all or nothing."""
    row_counts = map_values(len, select_keys(sets.starts, SPLIT_NAMES))
    row_counts["test_novelty"] = int(sets.novelty["test"].sum())
    with atomic_folder(output) as folder:
        for name in SPLIT_NAMES:
            windows = sets.cut(name)
            write_npy_file(folder / f"{name}.npy", windows.shape, windows.dtype, [windows])
        labels = sets.labels["train"]
        write_npy_file(folder / "train_labels.npy", labels.shape, labels.dtype, [labels])
        write_parquet(folder / "test.parquet", sets.table("test"))
        write_parquet(folder / CALIBRATION_WINDOWS, sets.table("calibration")[["id"]])
        channels = {}
        for channel, values in zip(sets.spec.channels, sets.values.T, strict=True):
            channels[f"channel:{channel.name}"] = values
        write_parquet(folder / SERIES_FILE, sets.steps.assign(**channels))
        write_json(folder / "prepared.json", prepared_document(recipe, description, receipt, row_counts, sets.spec))


def select_splits(index: pd.DataFrame, is_novelty: pd.Series, recipe: Recipe) -> dict[str, pd.DataFrame]:
    """Return the rows of the index for each of SPLIT_NAMES, and for the novelty that chooses the threshold where there is one."""
    splits = {}
    for name in SPLIT_NAMES:
        splits[name] = index[~is_novelty & (index["split"] == name)]
    in_test = index["split"] == "test"
    if recipe.data.split.test is not None:
        in_test |= is_novelty
    if recipe.data.novelty_in_validation:
        chooses_threshold = is_novelty & (index["split"] == "validation")
        in_test &= ~chooses_threshold
        splits[VALIDATION_NOVELTY] = index[chooses_threshold]
    splits["test"] = index[in_test]
    return splits


def read_blocks(dataset: Path, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yield the samples of these rows of the index, (n, ...), one shard at a time."""
    for _, block in read_shards(dataset, rows):
        yield block


def prepared_document(
    recipe: Recipe, description: dict[str, Any], receipt: dict[str, Any], row_counts: dict[str, int], spec: InputSpec
) -> dict[str, Any]:
    """Return the content of prepared.json."""
    return {
        "format": FORMAT,
        "content_sha256": receipt["content_sha256"],
        "source": description["source"],
        "kind": description["kind"],
        "rows": row_counts,
        "dtype": prepared_dtype(description, spec).name,
        "shape": list(spec.shape) if spec.channels else description["shape"],
        "low": description["low"],
        "high": description["high"],
        "novelty": list(recipe.data.novelty),
        **learnt_categories(spec),
        **learnt_ranges(spec),
    }


def learnt_ranges(spec: InputSpec) -> dict[str, Any]:
    """Return the values that are read as 0 and 1 by channel, as prepared.json holds them; nothing where there are no channels."""
    if not spec.channels:
        return {}
    return {"ranges": dict(zip(names_of(spec.channels), map(list, spec.ranges), strict=True))}


def learnt_categories(spec: InputSpec) -> dict[str, Any]:
    """Return the codes of a table's categories by column, as prepared.json holds them; nothing where there are none."""
    categories = {}
    for column in spec.columns:
        if column.type == CATEGORY:
            categories[column.name] = list(column.categories)
    return {"categories": categories} if categories else {}


def prepared_dtype(description: dict[str, Any], spec: InputSpec) -> np.dtype:
    """Return the dtype of prepared samples: float64 of rows, float32 of windows cut from steps, else that of the dataset."""
    if spec.channels:
        return np.dtype(np.float32)
    return np.dtype(np.float64) if spec.columns else np.dtype(description["dtype"])


def require_input(dataset: Path, recipe: Recipe) -> dict[str, Any]:
    """Return dataset.json.

    Raises:
        DataError: its kind, shape or range is not that of the recipe's input.
    """
    description: dict[str, Any] = read_json(dataset / "dataset.json")
    expected = describe_input(recipe.fit.input)
    actual = {key: description.get(key) for key in expected}
    if (
        actual != expected
        or ("columns" in description) != ("columns" in expected)
        or ("every" in description) != ("every" in expected)
    ):
        keys = [key for key in expected if actual[key] != expected[key]] or ["columns", "channels"]
        got, wanted = _describe_entries(description, keys), _describe_entries(expected, keys)
        raise DataError(
            f"{dataset}: got samples of {got}, expected {wanted} as in the recipe's input: type ae run {recipe.name} to ingest "
            "and validate them again"
        )
    return description


def _describe_entries(document: Mapping[str, Any], keys: Iterable[str]) -> str:
    return ", ".join(f"{key} {document.get(key)}" for key in keys)


def require_split_samples(splits: dict[str, pd.DataFrame], is_novelty: pd.Series, recipe: Recipe) -> None:
    """Require samples in every split.

    Raises:
        DataError: a split has too few normal samples, or the test set has no novelty although the recipe names some.
    """
    problems = []
    for name in SPLIT_NAMES:
        rows = splits[name]
        normal_count = int((~is_novelty[rows.index]).sum())
        needed_count = 1 if name == "test" else MIN_FIT_ROWS
        if normal_count == 0:
            problems.append(f"no normal sample in {name}")
        elif normal_count < needed_count:
            problems.append(f"{normal_count} normal sample in {name}, expected {needed_count} or more")
    if recipe.data.novelty and not is_novelty[splits["test"].index].any():
        problems.append(f"no sample with a novelty label, {', '.join(map(str, recipe.data.novelty))}, in test")
    if problems:
        raise DataError(
            f"{recipe.data.dataset}: {'; '.join(problems)}: bring more samples or change data.split and data.novelty in "
            f"recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
        )


def main() -> None:
    """Parse the command line and prepare the arrays."""
    parser = argparse.ArgumentParser(description="data/<dataset> -> arrays for training and evaluation.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--dataset", type=Path, required=True, help="the accepted dataset")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args()
    run_main(lambda: prepare(read_recipe(arguments.recipe), arguments.dataset, arguments.out))


if __name__ == "__main__":
    main()
