"""Readings with time stamps: a CSV or Parquet file, wide or long, of one machine or several, brought to the steps of a grid.

How readings become steps says `aeops.kinds.series_grid`; what was repaired is counted in dataset.json. Machines are drawn by
their names for the splits, or the splits follow each other in time, with the same borders for all machines: see data.split.by.
"""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.mappings import without_zeros
from ae_models.names import names_of
from aeops.data.sources.files import source_file
from aeops.data.time_borders import split_borders
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import BY_TIME
from aeops.recipe.sources import SERIES_SUFFIXES, SeriesSource

if TYPE_CHECKING:
    import numpy as np

    from ae_models.spec import InputSpec
    from aeops.data.sources.client_columns import ClientColumns
    from aeops.data.sources.samples import SourceSamples
    from aeops.data.sources.table_columns import TableColumns
    from aeops.kinds.series_grid import Steps
    from aeops.kinds.series_readings import Readings
    from aeops.recipe.table_sources import TextFormat

PARQUET_SUFFIX = ".parquet"


class SeriesReader:
    """The source of kind series."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the file with readings, and the one with known anomalies; raise DataError where one does not exist."""
        source: SeriesSource = recipe.data.source
        files = {"readings": source_file(recipe, project, source.path, "path")}
        if source.anomalies is not None:
            files["anomalies"] = source_file(recipe, project, source.anomalies.path, "anomalies.path")
        return files

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the steps, (n,) with a field for each channel, their labels, machines and splits.

        Raises:
            DataError: files that cannot be read, a missing column, a time stamp that is none, or labels unlike the recipe's.
        """
        from aeops.data.sources.samples import SourceSamples, repair_hint, require_source_rows
        from aeops.kinds.series_grid import to_steps
        from aeops.kinds.series_readings import read_columns
        from aeops.kinds.series_steps import machine_facts, step_rows
        from aeops.kinds.series_windows import step_name

        source: SeriesSource = recipe.data.source
        spec, files = recipe.fit.input, self.files(recipe, project)
        assert spec.steps is not None, "the recipe reader requires steps"
        try:
            rows = read_reading_columns(files["readings"], source, spec)
            readings = read_columns(rows.columns, spec.channels, spec.steps, rows.from_text, source.labels, skip_untimed=True)
            steps = to_steps(readings, spec.steps, *_reading_labels(readings, recipe))
        except DataError as error:
            message = str(error) if source.path in str(error) else f"{source.path}: {error}"
            raise DataError(f"{message}: {repair_hint(recipe)}") from error
        require_source_rows(len(steps.times), recipe, source.path)
        problems = dict(rows.set_aside)
        for row, reason in readings.untimed.items():
            problems[rows.row_name(row)] = reason
        import numpy as np

        statistics = {
            "readings": steps.readings,
            "mistyped": np.array([text.decode(errors="replace") for text in steps.mistyped.tolist()], dtype=object),
            **machine_facts(steps, spec.steps.every, spec.channels),
        }
        statistics["blank"] = statistics["constant"] != ""
        borders = None
        if recipe.data.split.by == BY_TIME:
            borders = split_borders(steps.times, recipe.data.split, project.dataset(recipe.data.dataset))
        names = [step_name(machine, time) for machine, time in zip(steps.machines.tolist(), steps.times.tolist(), strict=True)]
        return SourceSamples(
            array=step_rows(steps, spec.channels),
            labels=_step_labels(steps, recipe, files.get("anomalies")),
            source_name=source.path,
            groups=None if spec.steps.machine is None else steps.machines,
            metadata=asdict(steps.facts) | without_zeros({"set_aside": len(problems)}),
            set_aside=problems,
            ids=np.array(names, dtype=object),
            statistics=statistics,
            own_splits=None if borders is None else borders.splits(steps.times),
            times=steps.times,
            split_borders={} if borders is None else borders.to_dict(),
        )

    def client_columns(self, recipe: Recipe, path: Path) -> "ClientColumns | None":
        """Return the columns of a file to be scored; see `aeops.data.client_files`.

        Raises:
            DataError: it cannot be read.
        """
        from aeops.data.sources.client_columns import ClientColumns, read_client_text
        from aeops.kinds.series_readings import CHANNEL_COLUMN, VALUE_COLUMN
        from aeops.kinds.table_rows import read_columns_file

        source: SeriesSource = recipe.data.source
        if not path.name.lower().endswith(SERIES_SUFFIXES) or (source.text is None and source.time_format is None):
            return None
        if source.text is None or path.name.lower().endswith(PARQUET_SUFFIX):
            columns, from_text = read_columns_file(path, str(path))
            return ClientColumns(_plain_columns(columns, None, source, recipe.fit.input), from_text)
        spec = recipe.fit.input
        assert spec.steps is not None, "the recipe reader requires steps"
        needed = {*spec.steps.time_columns, *names_of(spec.channels), CHANNEL_COLUMN, VALUE_COLUMN}
        columns, dialect = read_client_text(path, source.text, needed)
        return ClientColumns(_plain_columns(columns, dialect, source, spec), True)


SOURCE = SeriesReader()


def read_reading_columns(path: Path, source: SeriesSource, spec: "InputSpec") -> "TableColumns":
    """Return the columns of a file of readings; its rows of another length are set aside.

    Numbers have a point, and times are in ISO 8601 or numbers.

    Raises:
        DataError: it cannot be read.
    """
    import numpy as np

    from aeops.data.sources.table_columns import TableColumns, whole
    from aeops.data.sources.table_text import read_text_rows
    from aeops.kinds.decoding import DecodeError, decode_errors
    from aeops.kinds.table_rows import read_columns_file
    from aeops.recipe.table_sources import TextFormat

    refused = None
    if source.text is None:
        try:
            columns, from_text = read_columns_file(path, source.path)
            count = len(next(iter(columns.values()), ()))
            return whole(_plain_columns(columns, None, source, spec), count, source.path, from_text)
        except DataError as error:
            if path.name.lower().endswith(PARQUET_SUFFIX):
                raise
            refused = error
    try:  # row by row: the last one may be half written
        with decode_errors():
            columns, numbers, problems = read_text_rows(path, source.text or TextFormat())
    except (DecodeError, DataError) as error:
        if refused is not None:
            raise refused from error
        reason = f"not readable as text ({error}): is it whole, and of data.source.text?"
        raise DataError(f"{source.path}: {reason}" if isinstance(error, DecodeError) else str(error)) from error
    origins = (np.zeros(len(numbers), np.int64), numbers)
    return TableColumns(_plain_columns(columns, source.text, source, spec), True, origins, [source.path], problems)


def _plain_columns(
    columns: dict[str, Any], dialect: "TextFormat | None", source: SeriesSource, spec: "InputSpec"
) -> dict[str, Any]:
    """Return columns in a dialect with numbers with a point and times in ISO 8601."""
    from aeops.data.sources.reading_columns import plain_readings

    assert spec.steps is not None, "the recipe reader requires steps"
    return plain_readings(columns, dialect, names_of(spec.channels), spec.steps, source.time_format)


def _reading_labels(readings: "Readings", recipe: Recipe) -> "tuple[np.ndarray | None, int]":
    """Return the label of each reading, whole numbers from 0, and how many there are; None and 0 without labels."""
    import numpy as np

    from aeops.data.sources.samples import source_labels

    source: SeriesSource = recipe.data.source
    if readings.labels is None:
        return None, 0
    cells = readings.labels
    if not recipe.label_names:
        try:
            cells = cells.astype(np.float64).astype(np.int64)
        except ValueError:
            cells = cells.astype(str)
    else:
        cells = np.array(list(map(str, cells.tolist())), dtype=str)
    numbers = source_labels(cells, len(readings.times), recipe, f"{source.path} ({source.labels})", source.path)
    if len(numbers) and int(numbers.min()) < 0:
        raise DataError(f"column {source.labels}: expected labels from 0 on, got {int(numbers.min())}")
    return numbers, int(numbers.max()) + 1


def _step_labels(steps: "Steps", recipe: Recipe, anomalies: Path | None) -> "np.ndarray | None":
    """Return the label of each step, int64 (n,): the highest of its readings, of a filled step that of the one before."""
    import numpy as np

    source: SeriesSource = recipe.data.source
    if source.anomalies is not None and anomalies is not None:
        labels = np.zeros(len(steps.times), np.int64)
        for start, end in _read_intervals(anomalies, source, recipe):
            labels[(steps.times >= start) & (steps.times <= end)] = 1
        return labels
    if steps.label_counts is None:
        return None
    has_label = steps.label_counts > 0
    highest = has_label.shape[1] - 1 - np.argmax(has_label[:, ::-1], axis=1)
    known = np.maximum.accumulate(np.where(has_label.any(axis=1), np.arange(len(highest)), 0))
    return np.asarray(highest[known], np.int64)


def _read_intervals(path: Path, source: SeriesSource, recipe: Recipe) -> list[tuple[float, float]]:
    """Return the intervals of known anomalies in seconds since 1970."""
    import numpy as np

    from aeops.data.sources.samples import repair_hint
    from aeops.kinds.series_times import read_times

    assert source.anomalies is not None, "the caller has such a file"
    assert recipe.fit.input.steps is not None, "the recipe reader requires steps"
    name, key = source.anomalies.path, source.anomalies.key
    try:
        content: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not readable as JSON ({error}): {repair_hint(recipe)}") from error
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise DataError(
                f"{name}: expected intervals by the name {key} (source.anomalies.key), got none: {repair_hint(recipe)}"
            )
        content = content[key]
    is_pairs = isinstance(content, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in content)
    if not is_pairs:
        raise DataError(f"{name}: expected a list of [start, end], got something else: {repair_hint(recipe)}")
    stamps = list(itertools.chain.from_iterable(content))
    try:
        times = read_times(stamps, np.full(len(stamps), ""), recipe.fit.input.steps).reshape(-1, 2)
    except DataError as error:
        raise DataError(f"{name}: {error}: {repair_hint(recipe)}") from error
    if (times[:, 0] > times[:, 1]).any():
        raise DataError(f"{name}: expected intervals that start before they end, got one that does not: {repair_hint(recipe)}")
    return [(start, end) for start, end in times.tolist()]
