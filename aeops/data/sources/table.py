"""Rows of a table by the names of its columns: text files, Parquet, Arrow, workbooks, SQLite, or an array in an .npz file.

The columns are those of input.columns; data.source.labels, group and id name further ones, and all others are ignored. In an
.npz file the array `samples` is (n, columns), in the order of the recipe's columns; `labels` and `group` are (n,). A cell that
is not of its column's type sets its row aside in validation. What cannot be a row at all is set aside by name: a row with
another number of cells, one whose id came before, one with an unknown label.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.mappings import map_values, values_at
from aeops.data.judged_samples import NamedLabels
from aeops.data.sources.files import fetched_path, links_beside, source_file, source_folder
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.table_sources import ALL_COLUMNS, TableSource, TextFormat, table_format

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.client_columns import ClientColumns
    from aeops.data.sources.samples import SourceSamples
    from aeops.data.sources.table_columns import TableColumns


STANDARD_SUFFIXES = (".csv", ".csv.gz", ".parquet")  # of files that the kind of data reads without a recipe


class TableReader:
    """The source of kind table."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the files of this source by their names.

        Raises:
            DataError: there is none.
        """
        from aeops.data.sources.table_files import list_table_files

        source: TableSource = recipe.data.source
        if (fetched := fetched_path(recipe, project)) is not None:
            return list_table_files(fetched, source.path) if fetched.is_dir() else {"rows": fetched}
        if any(map(Path.is_dir, project.source_paths(source.path))):
            next_step = f"put it there or correct data.source.path in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
            return list_table_files(source_folder(project, source.path, next_step), source.path)
        return {"rows": source_file(recipe, project, source.path, "path")}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the rows, (n,) with a field for each column, and their labels; what is no row is in `set_aside`.

        Raises:
            DataError: a file that cannot be read, or a missing column.
        """
        source: TableSource = recipe.data.source
        if source.is_archive:
            return _archive_samples(self.files(recipe, project)["rows"], recipe)
        return _file_samples(self.files(recipe, project), recipe, NamedLabels(project, recipe))

    def client_columns(self, recipe: Recipe, path: Path) -> "ClientColumns | None":
        """Return the columns of a file to be scored; see `aeops.data.client_files`.

        Raises:
            DataError: it cannot be read.
        """
        from aeops.data.sources.client_columns import ClientColumns

        source: TableSource = recipe.data.source
        file_format = table_format(path.name)
        if source.text == TextFormat():
            source = replace(source, text=None)  # the standard form, which is read faster
        has_format = source.text is not None or bool(source.nulls) or bool(source.dates)
        is_standard = not has_format and path.name.lower().endswith(STANDARD_SUFFIXES)
        if is_standard or file_format not in ("text", "arrow", "workbook", "database"):
            return None
        table, source = _read_client_table(path, source, recipe)
        columns = {name: _converted(name, table, source, recipe) for name in table.columns}
        return ClientColumns(columns, table.from_text)


SOURCE = TableReader()


def _read_client_table(path: Path, source: TableSource, recipe: Recipe) -> "tuple[TableColumns, TableSource]":
    """Return the rows of a file to be scored, and the source as which it was read."""
    from ae_models.names import names_of
    from aeops.data.sources.client_columns import read_client_text
    from aeops.data.sources.table_columns import whole
    from aeops.data.sources.table_files import read_table_files
    from aeops.data.sources.table_workbook import sheet_names
    from aeops.kinds.decoding import DecodeError, decode_errors

    file_format = table_format(path.name)
    if file_format == "text" and source.text is not None:
        columns, dialect = read_client_text(path, source.text, names_of(recipe.fit.input.columns))
        count = len(next(iter(columns.values())))
        return whole(columns, count, path.name, from_text=True), replace(source, text=dialect)
    source = replace(source, text=None)
    if file_format == "workbook" and source.table is not None:
        try:
            with decode_errors():
                names = sheet_names(path)
        except DecodeError as error:
            raise DataError(f"{path}: no readable workbook ({error}): is it whole, and what its name says?") from error
        source = replace(source, table=source.table if source.table in names else None)
    return read_table_files({path.name: path}, source), source


def _archive_samples(path: Path, recipe: Recipe) -> "SourceSamples":
    from aeops.data.sources.samples import SourceSamples, require_source_rows, source_groups, source_labels
    from aeops.kinds.table_rows import dataset_rows

    source: TableSource = recipe.data.source
    columns, labels, groups = _read_archive(path, recipe)
    rows = dataset_rows(columns, recipe.fit.input.columns, from_text=False)
    require_source_rows(len(rows), recipe, source.path)
    numbers = None
    if labels is not None:
        labels = labels.astype(int) if labels.dtype.kind == "b" else labels
        numbers = source_labels(labels, len(rows), recipe, f"{source.path} ({source.labels})", source.path)
    if groups is not None:
        groups = source_groups(groups, len(rows), recipe, str(source.group), f"{source.path} ({source.group})")
    return SourceSamples(rows, numbers, source.path, groups=groups)


def _file_samples(files: dict[str, Path], recipe: Recipe, given_labels: NamedLabels) -> "SourceSamples":
    import numpy as np

    from aeops.data.sources.row_values import id_problems, label_numbers, rows_that_stay
    from aeops.data.sources.samples import SourceSamples, repair_hint, require_source_rows
    from aeops.data.sources.table_files import read_table_files
    from aeops.kinds.table_cells import cell_text, without_nulls
    from aeops.kinds.table_rows import dataset_rows

    source: TableSource = recipe.data.source
    by_name = files if "rows" not in files else {files["rows"].name: files["rows"]}
    try:
        table = read_table_files(by_name, source)
        require_own_columns(table, source)
        converted = {name: _converted(name, table, source, recipe) for name in table.columns}
        rows = dataset_rows(converted, recipe.fit.input.columns, table.from_text)
    except DataError as error:
        message = str(error) if source.path in str(error) else f"{source.path}: {error}"
        raise DataError(f"{message}: {repair_hint(recipe)}") from error
    require_source_rows(len(rows), recipe, source.path)
    labels, problems = None, dict[int, str]()
    if source.labels is not None:
        cells = without_nulls(table.columns[source.labels], source.nulls.get(ALL_COLUMNS, ()))
        labels, problems = label_numbers(list(map(cell_text, cells)), recipe)
    ids = None
    if source.id is not None:
        ids = list(map(cell_text, table.columns[source.id]))
    if labels is not None:
        given_labels.apply(labels, problems, lambda row: _row_title(table, row, ids))
    if ids is not None:
        problems |= id_problems(ids, problems, recipe.on_duplicate)
    set_aside = dict(table.set_aside) | ({} if "rows" in files else links_beside(files))
    set_aside |= {_row_title(table, row, ids): reason for row, reason in sorted(problems.items())}
    kept = np.array(rows_that_stay(len(rows), problems, ids), np.int64)
    require_kept(kept, set_aside, recipe)
    return SourceSamples(
        rows[kept],
        None if labels is None else labels[kept],
        source.path,
        groups=None if source.group is None else np.array([cell_text(table.columns[source.group][row]) for row in kept]),
        metadata={"set_aside": len(set_aside)} if set_aside else {},
        ids=None if ids is None else values_at(ids, kept),
        set_aside=set_aside,
        checksums=map_values(file_sha256, files),
    )


def require_kept(kept: "np.ndarray", set_aside: dict[str, str], recipe: Recipe) -> None:
    """Raise DataError where no row is left."""
    from aeops.data.set_aside import first_reasons
    from aeops.data.sources.samples import repair_hint

    if not len(kept):
        reasons = "; ".join(first_reasons(set_aside, 3))
        raise DataError(f"{recipe.data.source.path}: no row can be a sample: {reasons}: {repair_hint(recipe)}")


def require_own_columns(table: "TableColumns", source: TableSource) -> None:
    """Raise DataError where a column is missing that the source reads itself."""
    for key in ("labels", "group", "id"):
        name = getattr(source, key)
        if name is not None and name not in table.columns:
            what = {"labels": "labels", "group": "groups", "id": "ids"}[key]
            raise DataError(f"expected a column {name} with {what}, got {', '.join(table.columns)}")


def _converted(name: str, table: "TableColumns", source: TableSource, recipe: Recipe) -> Any:
    """Return a column's cells with dates in ISO 8601 and numbers with a point; its marks of missing values stay."""
    import numpy as np

    from ae_models.names import index_by_name
    from ae_models.spec import DATE, INTEGER, NUMBER
    from aeops.data.sources.row_values import iso_dates

    cells = table.columns[name]
    column = index_by_name(recipe.fit.input.columns).get(name)
    is_number = column is not None and column.type in (NUMBER, INTEGER)
    if source.text is not None and table.from_text and is_number:
        from aeops.data.sources.table_text import plain_numbers

        cells = plain_numbers(np.asarray(cells), source.text)
    is_date = column is not None and column.type == DATE
    if name in source.dates and is_date and (table.from_text or not isinstance(cells, np.ndarray)):
        cells = iso_dates(list(cells), source.dates[name])
    return cells


def _row_title(table: "TableColumns", row: int, ids: list[str] | None) -> str:
    return f"{table.row_name(row)} ({ids[row]})" if ids is not None and ids[row] else table.row_name(row)


def _read_archive(path: Path, recipe: Recipe) -> "tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]":
    """Return the columns of an array in an .npz file, its labels and its groups."""
    import numpy as np

    from ae_models.names import names_not_in
    from aeops.data.sources.samples import repair_hint
    from aeops.kinds.decoding import DecodeError, decode_errors
    from aeops.kinds.unpacking import require_archive_size

    source: TableSource = recipe.data.source
    specs = recipe.fit.input.columns
    names = list(filter(None, (source.samples, source.labels, source.group)))
    try:
        # Not row by row, as archives of pictures are read: tables of ADBench lie column by column, and fit.
        with decode_errors():
            require_archive_size(path, source.path)
        with decode_errors(), np.load(path, allow_pickle=False) as archive:
            missing = names_not_in(names, archive.files)
            if missing:
                found = ", ".join(archive.files)
                raise DataError(f"{source.path}: no array {', '.join(missing)}; {found} are there: {repair_hint(recipe)}")
            arrays = {name: archive[name] for name in names}
    except DecodeError as error:
        raise DataError(f"{source.path}: not readable as .npz ({error}): {repair_hint(recipe)}") from error
    values = arrays[source.samples]
    if values.ndim != 2 or values.shape[1] != len(specs) or values.dtype.kind not in "iuf":
        raise DataError(
            f"{source.path}: {source.samples}: expected numbers (n, {len(specs)}), a column for each of input.columns, got "
            f"{values.dtype} of shape {values.shape}: {repair_hint(recipe)}"
        )
    columns = {spec.name: values[:, index] for index, spec in enumerate(specs)}
    return columns, arrays.get(str(source.labels)), arrays.get(str(source.group))
