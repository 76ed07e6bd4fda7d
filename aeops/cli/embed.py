"""`ae embed RECIPE [FILES] -o codes.parquet`: write codes of samples as a table, for search, clustering and plots."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from aeops.bundle.detector import Detector
    from aeops.recipe.reader import Recipe


def add_command(commands: Any) -> None:
    """Add `ae embed` to the commands of the parser."""
    command = commands.add_parser("embed", help="write the codes of samples to a Parquet file")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="as `ae score` takes them (default: the recipe's accepted dataset)"
    )
    command.add_argument("-o", "--out", type=Path, required=True, metavar="X.parquet", help="the file to write")
    command.add_argument("--version", default=CHAMPION, help="a version or an alias (default: champion)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write one row for each sample: its name (or id, label and split), its code and its score.

    Returns:
        0, or the exit code of data errors where files of a folder were set aside; the table has the others.
    """
    from aeops.bundle.detector import Detector
    from aeops.cli.outputs import report_refused, require_new
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    if arguments.out.suffix != ".parquet":
        path = arguments.out.with_suffix(".parquet")
        raise UsageError(f"-o {arguments.out}: expected a path that ends in .parquet, such as {path}")
    require_new(arguments.out)
    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    store = open_store(project)
    bundle = trusted_bundle(project, store, recipe, arguments.version)
    version, detector = bundle.version, Detector(bundle.folder, bundle.sha256)
    refused: dict[str, str] = {}
    if arguments.files:
        parts = read_files(arguments.files, detector, refused)
    else:
        parts = read_dataset(project.dataset(recipe.data.dataset), recipe)
    row_count = write_codes(arguments.out, parts, detector)
    print(f"{arguments.out}: the codes of {row_count:,} samples by {recipe.name} {version} (bundle {detector.sha256[:12]})")
    return report_refused(refused)


@dataclass(frozen=True)
class EmbedPart:
    """Some of the samples.

    Attributes:
        source_name: the file or folder they come from, for messages.
        columns: the known properties of each sample, as pyarrow arrays.
        samples: a batch that the detector accepts.
    """

    source_name: str
    columns: "dict[str, pa.Array]"
    samples: Any


def read_files(files: list[Path], detector: "Detector", refused: dict[str, str]) -> Iterator[EmbedPart]:
    """Yield the samples of each file with their names; add the files of a folder that cannot be read to `refused`."""
    import pyarrow as pa

    for file in files:
        samples = detector.read_file(file)
        for name, reason in samples.refused.items():
            refused[str(file / name)] = reason
        yield EmbedPart(str(file), {"sample": pa.array(samples.names, pa.string())}, samples.values)


def read_dataset(dataset: Path, recipe: "Recipe") -> Iterator[EmbedPart]:
    """Yield the samples of the accepted dataset, one shard at a time, with id, label and split.

    Raises:
        DataError: there is no such dataset, or it was altered after it was accepted.
        UsageError: it holds the steps of a series, of which a model takes windows.
    """
    import pyarrow as pa

    from aeops.data.dataset import read_index, read_shards, require_receipt
    from aeops.errors import UsageError

    if recipe.fit.input.channels:
        raise UsageError(f"{dataset} holds the steps of a series and no windows: type ae embed {recipe.name} FILE with readings")
    require_receipt(dataset, recipe.name)
    types = {"id": pa.string(), "label": pa.int64(), "split": pa.string()}
    for rows, samples in read_shards(dataset, read_index(dataset)):
        columns = {}
        for name, column_type in types.items():
            columns[name] = pa.array(rows[name].array, column_type, from_pandas=True)
        yield EmbedPart(str(dataset), columns, prepare_input(samples, recipe))


def prepare_input(samples: "np.ndarray", recipe: "Recipe") -> "np.ndarray":
    """Return stored samples as clean model inputs: without target channels, in grey where the recipe corrupts to grey."""
    from aeops.evaluation.model_input import clean_inputs

    source = recipe.fit.input
    inputs = clean_inputs(source, samples)
    if recipe.fit.model.corrupt.kind != "grey":
        return inputs
    return convert_to_grey(inputs, source.low, source.high)


def convert_to_grey(images: "np.ndarray", low: float, high: float) -> "np.ndarray":
    """Return the luma (n, 1, h, w), float32, of red, green and blue (n, 3, h, w).

    It equals the corruption `grey` of ae_models, here without torch.
    """
    import numpy as np

    from aeops.kinds.arrays import luma

    grey_images: np.ndarray = luma(images.astype(np.float32), np.float32)[:, None]
    return grey_images.clip(low, high)  # rounding of the weights may leave the range


def write_codes(path: Path, parts: Iterator[EmbedPart], detector: "Detector") -> int:
    """Write the table, part after part; return its number of rows."""
    import pyarrow.parquet as pq

    from aeops.files import atomic_path

    tables = (embed_part(part, detector) for part in parts)
    first_table = next(tables)
    row_count = 0
    with atomic_path(path) as tmp_path, pq.ParquetWriter(tmp_path, first_table.schema, compression="zstd") as writer:
        for table in chain([first_table], tables):
            writer.write_table(table)
            row_count += table.num_rows
    return row_count


def embed_part(part: EmbedPart, detector: "Detector") -> "pa.Table":
    """Return the known properties of the samples, their codes and their scores as a table.

    Raises:
        DataError: samples that do not fit the model.
    """
    import pyarrow as pa

    from aeops.errors import DataError
    from aeops.kinds.flags import list_flag_names

    try:
        scores = detector.score(part.samples, code=True)
        detector.require_scored(scores["flags"])
    except DataError as error:
        raise DataError(f"{part.source_name}: {error}") from error
    code = scores["code"].reshape(len(scores["code"]), -1)
    prefix, dtype = "code", "float32"
    if code.dtype.kind == "i":
        prefix, dtype = "word", "int32"
    columns: dict[str, Any] = dict(part.columns)
    for position in range(code.shape[1]):
        columns[f"{prefix}_{position}"] = code[:, position].astype(dtype)
    columns["score"] = scores["score"]
    columns["flags"] = pa.array(list_flag_names(scores["flags"]), pa.list_(pa.string()))
    return pa.table(columns)
