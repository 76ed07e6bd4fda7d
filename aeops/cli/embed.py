"""`ae embed RECIPE [FILES] -o codes.parquet`: the codes of samples as a table, for search, clustering and plots."""

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
    """Writes a row a sample: its name (or id, label and split), its code and its score."""
    from aeops.bundle.detector import Detector
    from aeops.cli.outputs import require_new
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    if arguments.out.suffix != ".parquet":
        raise UsageError(f"-o {arguments.out} given; a name that ends in .parquet is allowed")
    require_new(arguments.out)
    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    store = open_store(project)
    version = store.version(recipe.name, arguments.version).version
    detector = Detector(trusted_bundle(project, store, recipe, version))
    parts = of_files(arguments.files, detector) if arguments.files else of_dataset(project.dataset(recipe.data.dataset), recipe)
    rows = write(arguments.out, parts, detector)
    print(f"{arguments.out}: the codes of {rows:,} samples by {recipe.name} {version} (bundle {detector.sha256[:12]})")
    return 0


@dataclass(frozen=True)
class Part:
    """Some of the samples.

    Attributes:
        name: where they come from, for messages.
        columns: what is known of each of them, as pyarrow's arrays.
        samples: as the detector takes them.
    """

    name: str
    columns: dict[str, Any]
    samples: Any


def of_files(files: list[Path], detector: "Detector") -> Iterator[Part]:
    """The samples of each file, and their names."""
    import pyarrow as pa

    for file in files:
        samples = detector.read_file(file)
        yield Part(str(file), {"sample": pa.array(samples.names, pa.string())}, samples.values)


def of_dataset(dataset: Path, recipe: "Recipe") -> Iterator[Part]:
    """The samples of the accepted dataset, a shard at a time, and what the index says of them.

    Raises:
        DataError: there is no such dataset, or it was altered after it was accepted.
    """
    import pyarrow as pa

    from aeops.data.dataset import read_index, read_shards, require_receipt

    require_receipt(dataset, recipe.name)
    types = {"id": pa.string(), "label": pa.int64(), "split": pa.string()}
    for part, samples in read_shards(dataset, read_index(dataset)):
        columns = {name: pa.array(part[name].array, kind, from_pandas=True) for name, kind in types.items()}
        yield Part(str(dataset), columns, given(samples, recipe))


def given(samples: "np.ndarray", recipe: "Recipe") -> "np.ndarray":
    """Stored samples as the model is given clean ones: without their target channels, and grey where it takes grey."""
    from aeops.evaluation.model_input import clean_inputs

    source = recipe.fit.input
    known = clean_inputs(source, samples)
    return grey(known, source.low, source.high) if recipe.fit.model.corrupt.kind == "grey" else known


def grey(colours: "np.ndarray", low: float, high: float) -> "np.ndarray":
    """The luma (n, 1, h, w), float32, of red, green and blue (n, 3, h, w): the corruption `grey`, here without torch."""
    import numpy as np

    from aeops.kinds.arrays import luma

    return luma(colours.astype(np.float32), np.float32)[:, None].clip(low, high)  # the weights sum to 1, but for rounding


def write(place: Path, parts: Iterator[Part], detector: "Detector") -> int:
    """Writes the table, part after part; returns how many rows it has."""
    import pyarrow.parquet as pq

    from aeops.files import atomic_path

    tables = (embedded(part, detector) for part in parts)
    first = next(tables)
    rows = 0
    with atomic_path(place) as tmp_path, pq.ParquetWriter(tmp_path, first.schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def embedded(part: Part, detector: "Detector") -> "pa.Table":
    """What is known of the samples, their codes and their scores.

    Raises:
        DataError: samples that the model does not take.
    """
    import numpy as np
    import pyarrow as pa

    from aeops.errors import DataError

    try:
        said = detector.score(part.samples, code=True)
    except DataError as error:
        raise DataError(f"{part.name}: {error}") from error
    code = said["code"].reshape(len(said["code"]), -1)
    name, dtype = ("word", np.int32) if code.dtype.kind == "i" else ("code", np.float32)
    columns = {f"{name}_{place}": code[:, place].astype(dtype) for place in range(code.shape[1])}
    return pa.table(part.columns | columns | {"score": said["score"]})
