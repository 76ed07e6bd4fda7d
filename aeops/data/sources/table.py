"""Rows of a table by the names of their columns: a CSV or Parquet file, or an .npz file with an array of numbers.

A column of CSV or Parquet is found by its name; further ones are ignored. In an .npz file the array `samples` is (n, columns), in
the order of the recipe's columns, and `labels` is (n,), as ADBench has them in X and y. A cell that is not of its column's type
sets its row aside in validation.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.data.sources.files import source_file
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import TableSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples


class TableReader:
    """The source of kind table."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the one file of this source; raise DataError where it does not exist."""
        return {"rows": source_file(recipe, project, recipe.data.source.path, "path")}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the rows, (n,) with a field for each column, and their labels.

        Raises:
            DataError: a file that cannot be read, a missing column, or labels that the recipe does not have.
        """
        from aeops.data.sources.samples import SourceSamples, repair_hint, require_source_rows, source_labels
        from aeops.kinds.table_rows import dataset_rows

        source: TableSource = recipe.data.source
        path, specs = self.files(recipe, project)["rows"], recipe.fit.input.columns
        if source.is_archive:
            columns, labels, from_text = _read_archive(path, recipe)
        else:
            columns, labels, from_text = _read_file(path, recipe)
        try:
            rows = dataset_rows(columns, specs, from_text)
        except DataError as error:
            raise DataError(f"{source.path}: {error}: {repair_hint(recipe)}") from error
        require_source_rows(len(rows), recipe, source.path)
        numbers = None
        if labels is not None:
            numbers = source_labels(labels, len(rows), recipe, f"{source.path} ({source.labels})", source.path)
        groups = None
        if source.group is not None:
            groups = _read_groups(columns, source, recipe)
        return SourceSamples(rows, numbers, source.path, groups=groups)


SOURCE = TableReader()


def _read_file(path: Path, recipe: Recipe) -> "tuple[dict[str, Any], np.ndarray | None, bool]":
    """Return the columns of a CSV or Parquet file, its labels, and whether all cells are texts."""
    import numpy as np

    from aeops.data.sources.samples import repair_hint
    from aeops.kinds.table_rows import read_columns_file

    source: TableSource = recipe.data.source
    columns, from_text = read_columns_file(path, source.path)
    if source.labels is None:
        return columns, None, from_text
    if source.labels not in columns:
        names = ", ".join(columns)
        raise DataError(f"{source.path}: expected a column {source.labels} with labels, got {names}: {repair_hint(recipe)}")
    labels = np.asarray(columns[source.labels])
    if recipe.label_names:
        return columns, labels.astype(str), from_text
    try:
        return columns, labels.astype(np.float64).astype(np.int64), from_text
    except ValueError:
        return columns, labels.astype(str), from_text


def _read_archive(path: Path, recipe: Recipe) -> "tuple[dict[str, Any], np.ndarray | None, bool]":
    """Return the columns of an array in an .npz file, and its labels."""
    import numpy as np

    from aeops.data.sources.samples import repair_hint
    from aeops.kinds.decoding import DecodeError, decode_errors

    source: TableSource = recipe.data.source
    specs = recipe.fit.input.columns
    names = [source.samples] + ([] if source.labels is None else [source.labels])
    try:
        # Not row by row, as archives of pictures are read: tables of ADBench lie column by column, and fit.
        with decode_errors(), np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                found = ", ".join(archive.files)
                raise DataError(f"{source.path}: no array {', '.join(missing)}; {found} are there: {repair_hint(recipe)}")
            arrays = [archive[name] for name in names]
    except DecodeError as error:
        raise DataError(f"{source.path}: not readable as .npz ({error}): {repair_hint(recipe)}") from error
    values = arrays[0]
    if values.ndim != 2 or values.shape[1] != len(specs) or values.dtype.kind not in "iuf":
        raise DataError(
            f"{source.path}: {source.samples}: expected numbers (n, {len(specs)}), a column for each of input.columns, got "
            f"{values.dtype} of shape {values.shape}: {repair_hint(recipe)}"
        )
    columns = {spec.name: values[:, index] for index, spec in enumerate(specs)}
    return columns, arrays[1] if source.labels is not None else None, False


def _read_groups(columns: dict[str, Any], source: TableSource, recipe: Recipe) -> "np.ndarray":
    import numpy as np

    from aeops.data.sources.samples import repair_hint

    if source.group not in columns:
        names = ", ".join(columns)
        raise DataError(f"{source.path}: expected a column {source.group} with groups, got {names}: {repair_hint(recipe)}")
    return np.array([str(cell) for cell in columns[source.group]])
