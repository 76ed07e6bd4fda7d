"""Tables: a sample is a row with named columns of numbers, whole numbers, booleans, categories and dates.

A dataset holds rows with their own types, in Parquet; a model takes float64 (n, columns) with codes for categories, which clients
never see: they send rows by the names of the columns. See docs/tables.md.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_models.names import names_in, names_not_in, names_of
from ae_models.spec import BOOLEAN, CATEGORY, DATE, INTEGER
from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.defaults import KindDefaults
from aeops.kinds.named_rows import NamedRows
from aeops.kinds.results import (
    DUPLICATE_COLUMNS,
    SAMPLE_COLUMNS,
    BaselineSamples,
    ColumnSchema,
    ColumnValues,
    ErrorLegend,
    ExpectedRange,
    ExpectedValue,
    Explanation,
    NamedColumn,
    PageBlock,
    PageForm,
    TextTable,
    WatchedColumn,
    open_range,
    shorten_list,
)
from aeops.kinds.samples import FileSamples, FitOptions, FittedSample, NumberedNames, SampleSpec
from aeops.kinds.table_cells import decode_texts, describe_value, plain_value
from aeops.kinds.table_encoder import TableEncoder, describe_usual
from aeops.kinds.table_rows import (
    MISTYPED,
    column_specs,
    columns_of_objects,
    prepared_rows,
    read_columns_file,
    read_csv_columns,
    require_header_and_row,
    row_dtype,
    rows_of_columns,
)
from aeops.kinds.table_vectors import column_errors, learn_columns, to_vectors

if TYPE_CHECKING:
    from ae_models.spec import ColumnSpec, InputSpec

ROWS_AT_ONCE = 1024
VALUES_AT_ONCE = 2**20
WATCHED_COLUMNS = 128  # whose values are recorded with each prediction, and compared with those of calibration
NAMED_CATEGORIES = 1024  # of a watched column, the most frequent ones
MAX_CATEGORIES = 65_536  # learnt of a column: the most frequent ones
WORST_COLUMNS = 20  # of the report's table
SIGNATURE_TYPES = {BOOLEAN: "boolean", INTEGER: "long", CATEGORY: "string", DATE: "string"}  # numbers: double
JSON_TYPES = {BOOLEAN: "boolean", CATEGORY: "string", DATE: "string", INTEGER: "integer"}  # numbers: number


class TableKind(KindDefaults):
    """See `aeops.kinds.interface.DataKind`."""

    SAMPLE_DTYPES: tuple[str, ...] = ("float64",)
    FIXED_SHAPE: bool = True
    IS_DRAWABLE: bool = False
    IS_BY_NAME: bool = True
    DEFAULT_ENERGY: float = 0.0
    NOT_COMPRESSIBLE: str = "tables, whose rows must come back value by value"
    INDEX_COLUMNS: Mapping[str, str] = {**SAMPLE_COLUMNS, "cells_missing": "int64", "mistyped": "str", **DUPLICATE_COLUMNS}
    DRIFT_COLUMNS: tuple[str, ...] = ()
    MEASURED_AS: str = "columns"
    ERROR_NAME: str = "mean squared error of scaled columns"
    ERROR_HEAD: str = "MSE"
    ERROR_LEGEND: ErrorLegend = ErrorLegend("")
    MEASURING_NOTE: str = (
        ", numbers in spreads of their column, categories one-hot with a squared distance of 1: see docs/tables.md"
    )

    # ------------------------------------------------------------ reading

    def read_file(self, path: Path, spec: SampleSpec) -> FileSamples:
        """Read a CSV or Parquet file by the names of its columns.

        A row is named by the column that held the ids of the training rows, where the file has it, else by its number.

        Raises:
            UsageError: there is no such file.
            DataError: it cannot be read, lacks a column, or has a cell that is not of its column's type.
        """
        columns, from_text = read_columns_file(path, str(path))
        return self.read_columns(columns, from_text, path, spec)

    def read_columns(self, columns: Mapping[str, Any], from_text: bool, path: Path, spec: SampleSpec) -> FileSamples:
        """See `DataKind.read_columns`."""
        try:
            rows = rows_of_columns(columns, column_specs(spec), from_text, from_file=True)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        numbers = NumberedNames(path.name, range(len(rows)))
        id_column = spec.rules.id if spec.rules else ""
        if id_column not in columns:
            return FileSamples(numbers, rows)
        return FileSamples(name_rows(columns[id_column], numbers), rows)

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        """See `DataKind.fit_sample`: a row as a JSON object, or CSV with a header line."""
        if not content.strip():
            raise DataError("nothing was given: drop a file or paste a row")
        specs, text = column_specs(spec), content.lstrip()
        is_json = text.startswith((b"{", b"["))
        try:
            with decode_errors():
                if is_json:
                    inputs = json.loads(content)
                    if isinstance(inputs, dict) and isinstance(inputs.get("inputs"), list | dict):
                        inputs = inputs["inputs"]
                else:
                    require_header_and_row(text)
                    columns = read_csv_columns(content)
        except DecodeError as error:
            raise DataError(
                f"expected a row as a JSON object, or CSV with a header line and commas between the cells, got neither ({error})"
            ) from error
        if is_json:
            columns = columns_of_objects(inputs, specs)
        rows = rows_of_columns(columns, specs, from_text=not is_json)
        if not 0 <= options.row < len(rows):
            raise DataError(f"expected a row from 0 to {len(rows) - 1}, got {options.row}")
        changes = [f"Of {len(rows):,} rows given, number {options.row} is shown."] if len(rows) > 1 else []
        return FittedSample(rows[options.row : options.row + 1], changes, [])

    def read_json(self, inputs: Any, spec: SampleSpec, only_numbers: bool) -> np.ndarray:
        """See `DataKind.read_json`: an object or objects by the names of the columns."""
        specs = column_specs(spec)
        return rows_of_columns(columns_of_objects(inputs, specs), specs, from_text=False)

    def read_array(self, values: np.ndarray | list[str] | Mapping[str, Any], spec: SampleSpec) -> np.ndarray:
        """See `DataKind.read_array`: columns by name, or rows (n, columns)."""
        if isinstance(values, Mapping):
            is_text = all(isinstance(cells, np.ndarray) and cells.dtype.kind == "U" for cells in values.values())
            return rows_of_columns(values, column_specs(spec), from_text=is_text)
        return TableEncoder(spec).encode(np.asarray(values))

    def count(self, samples: np.ndarray, spec: SampleSpec) -> int:
        """See `DataKind.count`."""
        return len(samples)

    def longest_sample(self, samples: np.ndarray) -> tuple[int, int]:
        """See `DataKind.longest_sample`."""
        return 0, 0

    def text_bytes(self, samples: np.ndarray, limit: int) -> int:
        """See `DataKind.text_bytes`."""
        return 0

    def values_per_sample(self, spec: SampleSpec) -> int | None:
        """See `DataKind.values_per_sample`."""
        return len(spec.columns)

    def stored_form(self, samples: np.ndarray, spec: SampleSpec, is_json: bool) -> np.ndarray:
        """See `DataKind.stored_form`: the model's rows; the hash of a row is of its numbers and codes."""
        return np.asarray(samples, np.float64).reshape(-1, len(spec.columns))

    def dataset_array(self, samples: np.ndarray, spec: SampleSpec) -> np.ndarray:
        """See `DataKind.dataset_array`."""
        return np.ascontiguousarray(samples, np.float64)

    # ------------------------------------------------------------ a dataset

    def stored_shape(self, block: np.ndarray) -> tuple[int, ...]:
        """See `DataKind.stored_shape`: the number of columns."""
        return (len(block.dtype.names or ()) - 1,)

    def stored_dtype(self, block: np.ndarray) -> str:
        """See `DataKind.stored_dtype`."""
        return "row"

    def to_table(self, block: np.ndarray, spec: "InputSpec") -> dict[str, Any] | None:
        """See `DataKind.to_table`: each column in its own type, with None where a value is missing."""
        columns: dict[str, Any] = {}
        for column in spec.columns:
            columns[column.name] = _to_plain_column(column.type, block[column.name])
        if (block[MISTYPED] != b"").any():
            columns[MISTYPED] = decode_texts(block[MISTYPED].tolist())
        return columns

    def from_table(self, columns: Mapping[str, Any], spec: "InputSpec") -> np.ndarray:
        """See `DataKind.from_table`."""
        from aeops.kinds.table_cells import parse_column

        rows = np.zeros(len(columns[spec.columns[0].name]), row_dtype(spec.columns))
        for column in spec.columns:
            rows[column.name] = parse_column(column, columns[column.name], from_text=False).values
        if MISTYPED in columns:
            rows[MISTYPED] = list(map(str.encode, columns[MISTYPED]))
        return rows

    def table_expectations(self, spec: "InputSpec") -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.table_expectations`: of each column its range, its categories, and that no value is missing."""
        expected: list[ExpectedRange | ExpectedValue] = []
        for number, column in enumerate(spec.columns):
            name, unexpected, setting = column.name, f"{column.name}: {{}}", f"input.columns.{number}"
            if not column.missing:
                sentence = f"{name} has a value in each row."
                expected.append(ExpectedValue(f"{name}: present", name, None, "a value", f"{name}: no value", sentence, True))
            if column.is_scaled and (column.min, column.max) != (None, None):
                allowed = open_range(column.min, column.max)
                sentence = f"{name} is {allowed}."
                expected.append(
                    ExpectedRange(f"{name}: range", name, column.min, column.max, allowed, unexpected, sentence, setting=setting)
                )
            if column.is_scaled and column.type != DATE:
                largest, sentence = float(np.finfo(np.float64).max), f"{name} is finite."
                expected.append(
                    ExpectedRange(f"{name}: finite", name, -largest, largest, "finite numbers", unexpected, sentence, True)
                )
            if column.categories:
                allowed = f"one of {len(column.categories)} categories"
                sentence, setting = f"{name} is {allowed}: {shorten_list(column.categories)}.", f"{setting}.categories"
                expected.append(
                    ExpectedValue(f"{name}: category", name, column.categories, allowed, unexpected, sentence, setting=setting)
                )
        return expected

    def learn_input(self, blocks: Iterable[np.ndarray], spec: "InputSpec") -> "InputSpec":
        """See `DataKind.learn_input`: the categories of each column, the most frequent first, then given ones that none has."""
        columns = [column for column in spec.columns if column.type == CATEGORY]
        counts: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
        for block in blocks:
            for column in columns:
                texts, numbers = np.unique(block[column.name], return_counts=True)
                counts[column.name].update(dict(zip(texts.tolist(), numbers.tolist(), strict=True)))
        categories = {}
        for column in columns:
            categories[column.name] = _rank_categories(counts[column.name], column.categories)
        return spec.with_categories(categories)

    def prepared_form(self, block: np.ndarray, spec: "InputSpec") -> np.ndarray:
        """See `DataKind.prepared_form`."""
        return prepared_rows(block, spec.columns)

    def recode(self, samples: np.ndarray, columns: "Sequence[ColumnSpec]", served: SampleSpec) -> np.ndarray:
        """See `DataKind.recode`: a category that the other model does not know is unknown to it."""
        names = names_of(columns)
        rows = np.empty((len(samples), len(served.columns)))
        for index, column in enumerate(served.columns):
            if column.spec.name not in names:
                raise DataError(f"the model has the column {column.spec.name}, and the samples have none of this name")
            place = names.index(column.spec.name)
            values = np.array(samples[:, place], np.float64)
            if column.spec.type == CATEGORY:
                new_codes = _translate_codes(columns[place].categories, column.spec.categories)
                present = ~np.isnan(values)
                values[present] = new_codes[values[present].astype(int).clip(0, len(new_codes) - 1)]
            rows[:, index] = values
        return rows

    # ------------------------------------------------------------ data

    def statistics(self, samples: np.ndarray, spec: "InputSpec") -> dict[str, np.ndarray]:
        """Return `cells_missing`, the count of values a row has not; `mistyped`, its cells of other types; `blank`: none."""
        missing = np.stack([_is_missing(samples[column.name]) for column in spec.columns], axis=1)
        mistyped = np.array(decode_texts(samples[MISTYPED].tolist()), dtype=object)
        return {"cells_missing": missing.sum(axis=1), "mistyped": mistyped, "blank": missing.all(axis=1)}

    def expectations(
        self, spec: "InputSpec", bounds: Mapping[str, tuple[float, float]], refuse_blank: bool
    ) -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.expectations`; those of columns are `table_expectations`."""
        expected: list[ExpectedRange | ExpectedValue] = [
            ExpectedValue(
                *("type", "mistyped", "", "cells of their columns' types", "{}"), "Each cell is of its column's type.", True
            )
        ]
        if refuse_blank:
            expected.append(
                ExpectedValue("blank", "blank", False, "rows with a value", "no value at all", "Each row has a value.")
            )
        return expected

    def served_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """See `DataKind.served_bounds`."""
        return {}

    def moments(self, samples: np.ndarray | Sequence[str], low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation over a row of sign(x) log(1 + |x|), float32 (n,) each; NaN without any value."""
        rows = np.nan_to_num(np.asarray(samples, np.float64), nan=np.nan, posinf=1e300, neginf=-1e300)
        logs = np.sign(rows) * np.log1p(np.abs(rows))
        has_values = ~np.isnan(logs).all(axis=1)
        mean, std = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        mean[has_values], std[has_values] = np.nanmean(logs[has_values], axis=1), np.nanstd(logs[has_values], axis=1)
        return mean.astype(np.float32), std.astype(np.float32)

    def watched_values(self, samples: np.ndarray | Sequence[str]) -> np.ndarray | None:
        """See `DataKind.watched_values`: the numbers and codes of the first WATCHED_COLUMNS columns."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            return np.asarray(samples, np.float64)[:, :WATCHED_COLUMNS].astype(np.float32)

    def watched_columns(self, spec: SampleSpec) -> list[WatchedColumn]:
        """See `DataKind.watched_columns`: the first WATCHED_COLUMNS columns."""
        watched = []
        for column in column_specs(spec)[:WATCHED_COLUMNS]:
            watched.append(WatchedColumn(column.name, column.type, tuple(column.categories[:NAMED_CATEGORIES])))
        return watched

    # ------------------------------------------------------------ the model

    def open_encoder(self, read_file: Callable[[str], bytes], spec: SampleSpec) -> TableEncoder:
        """See `DataKind.open_encoder`."""
        return TableEncoder(spec)

    def example(self, spec: SampleSpec) -> Any:
        """See `DataKind.example`: the middle row, and one at the ends of the usual ranges."""
        middle_row, end_row = [], []
        for column in spec.columns:
            has_end = column.spec.type != CATEGORY and np.isfinite(column.high)
            middle_row.append(column.fill)
            end_row.append(column.high if has_end else column.fill)
        return np.array([middle_row, end_row])

    def python_example(self, spec: SampleSpec) -> str:
        """See `DataKind.python_example`."""
        return repr(self.plain_sample(self.example(spec)[0], spec))

    def rows_at_once(self, values: int) -> int:
        """See `DataKind.rows_at_once`."""
        return max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // max(1, values)))

    def plain_sample(self, sample: Any, spec: SampleSpec) -> Any:
        """See `DataKind.plain_sample`: an object by the names of the columns."""
        cells = {}
        for column, value in zip(spec.columns, np.asarray(sample, np.float64).tolist(), strict=True):
            cells[column.name] = plain_value(column.spec, value)
        return cells

    def expected_values(self, spec: SampleSpec) -> str:
        """See `DataKind.expected_values`."""
        return "a finite value in each column that may not be missing, and known categories"

    def served_schema(self, spec: SampleSpec) -> ColumnSchema:
        """See `DataKind.served_schema`: the columns by name."""
        columns = []
        for column in column_specs(spec):
            dtype = SIGNATURE_TYPES.get(column.type, "double")
            if column.missing and dtype in ("long", "boolean"):
                dtype = "any"  # neither of them has a value that stands for a missing one
            columns.append(NamedColumn(column.name, dtype, not column.missing))
        return ColumnSchema("float64", (-1, *spec.shape), tuple(columns))

    def served_example(self, stored: np.ndarray | None, spec: SampleSpec, count: int) -> np.ndarray:
        """See `DataKind.served_example`: rows."""
        if stored is None:
            return np.resize(self.example(spec), (count, len(spec.columns)))
        return np.asarray(stored, np.float64)

    def served_columns(self, samples: np.ndarray, spec: SampleSpec) -> dict[str, list[Any]] | None:
        """See `DataKind.served_columns`."""
        rows = [self.plain_sample(sample, spec) for sample in samples]
        columns = {}
        for name in names_of(column_specs(spec)):
            columns[name] = [row[name] for row in rows]
        return columns

    def json_schema(self, spec: SampleSpec, longest: int) -> list[dict[str, Any]]:
        """See `DataKind.json_schema`: an object; further keys are ignored, and null is a missing value."""
        properties = {}
        for served in spec.columns:
            kinds = [JSON_TYPES.get(served.spec.type, "number"), "null"]
            properties[served.spec.name] = {"type": kinds, "description": f"usually {describe_usual(served)}"}
        return [{"type": "object", "properties": properties, "required": names_of(spec.columns)}]

    # ------------------------------------------------------------ evaluation

    def baseline(self, samples: np.ndarray, spec: SampleSpec) -> BaselineSamples:
        """See `DataKind.baseline`: as vectors of scaled numbers and one-hot categories."""
        vectors = to_vectors(np.asarray(samples, np.float64), spec.columns, spec.one_hot)
        return BaselineSamples(vectors=vectors, limits=(-np.inf, np.inf))

    def errors(self, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """See `DataKind.errors`."""
        return np.asarray(np.square(target - output, dtype=np.float64).mean(axis=1))

    def mean_error(self, target: np.ndarray, output: np.ndarray) -> float:
        """See `DataKind.mean_error`."""
        return float(self.errors(target, output).mean())

    def quality(self, target: np.ndarray, output: np.ndarray) -> tuple[str, np.ndarray]:
        """See `DataKind.quality`."""
        return "mse", self.errors(target, output)

    def examples(
        self, stored: np.ndarray, decoded: np.ndarray, target: np.ndarray, output: np.ndarray, spec: SampleSpec
    ) -> TextTable | None:
        """See `DataKind.examples`: the error of each column, the worst first."""
        errors = column_errors(target, output, spec.columns, spec.one_hot).mean(axis=0)
        total, rows = max(float(errors.sum()), 1e-30), []
        for index in np.argsort(-errors, kind="stable")[:WORST_COLUMNS].tolist():
            column = spec.columns[index]
            cells = [column.spec.name, column.spec.type, describe_usual(column), f"{column.missing:.1%}"]
            rows.append([*cells, f"{errors[index]:.3g}", f"{float(errors[index]) / total:.1%}"])
        return TextTable(
            title="Error of each column",
            lead="Normal test rows beside their reconstructions: the mean squared error of each column, the worst first.",
            head=["column", "type", "usual values", "missing in training", "MSE", "share of the error"],
            rows=rows,
        )

    def column_values(self, samples: np.ndarray, spec: SampleSpec) -> ColumnValues | None:
        """See `DataKind.column_values`: all but categories."""
        places, number_columns = [], []
        for place, column in enumerate(spec.columns):
            if column.spec.type != CATEGORY:
                places.append(place)
                number_columns.append(column)
        if not number_columns:
            return None
        vectors = to_vectors(np.asarray(samples, np.float64)[:, places], number_columns, spec.one_hot)
        return ColumnValues(names_of(number_columns), vectors)

    def named_rows(self, read: Callable[[], Iterable[np.ndarray]], spec: "InputSpec") -> NamedRows | None:
        """See `DataKind.named_rows`: the columns are learnt of all rows."""
        learnt = self.learn_input(read(), spec)
        blocks = [prepared_rows(block, learnt.columns) for block in read()]
        rows = np.concatenate(blocks)
        return NamedRows(rows, learn_columns(rows, learnt.columns), spec.one_hot)

    # ------------------------------------------------------------ what is shown

    def describe_samples(self, shape: tuple[int, ...], spec: "InputSpec") -> str:
        """See `DataKind.describe_samples`."""
        counts = Counter(column.type for column in spec.columns)
        kinds = ", ".join(f"{count} of type {name}" for name, count in counts.items())
        return f"rows by the names of their {len(spec.columns)} columns ({kinds})"

    def page_form(self, spec: "InputSpec") -> PageForm:
        """See `DataKind.page_form`."""
        names = ", ".join(names_of(spec.columns[:6]))
        more = ", ..." if len(spec.columns) > 6 else ""
        return PageForm(
            intro=f"This recipe takes a row with the columns {names}{more}.",
            file_label="Drop a .csv file with a header line here, or choose one",
            text_label="or paste a row as a JSON object, or CSV with a header line",
            accepts=".csv,.json,text/csv,application/json",
            has_row=True,
        )

    def page_panels(
        self, batch: np.ndarray, output: np.ndarray | None, spec: SampleSpec, explanation: Explanation | None = None
    ) -> tuple[list[PageBlock], str]:
        """See `DataKind.page_panels`: the columns that say most of the score, and the nearest normal row, as text."""
        lines = []
        for column, value in zip(spec.columns, np.asarray(batch, np.float64)[0].tolist(), strict=True):
            lines.append(f"{column.spec.name}: {describe_value(column.spec, value)}   (usually {describe_usual(column)})")
        blocks = [PageBlock("text", "\n".join(lines), "Given, beside the usual values")]
        if explanation and "columns" in explanation:
            shares = [f"{entry['column']}: {entry['share']:.0%}" for entry in explanation["columns"]]
            blocks.append(PageBlock("text", "\n".join(shares), "What each column adds to the score"))
        if explanation and "nearest" in explanation:
            nearest = [f"{name}: {value}" for name, value in explanation["nearest"]["sample"].items()]
            blocks.append(PageBlock("text", "\n".join(nearest), "Nearest normal row", "of the training"))
        return blocks, ""


def name_rows(ids: Iterable[object], numbers: Sequence[str]) -> list[str]:
    """Return the id of each row as a text; its number, such as `parts.csv[3]`, where it has none."""
    names = []
    for row_id, number in zip(ids, numbers, strict=True):
        if isinstance(row_id, float) and row_id.is_integer():
            names.append(str(int(row_id)))  # whole numbers of Parquet come as floats
        elif row_id is None or row_id != row_id or not str(row_id).strip():  # NaN differs from itself
            names.append(number)
        else:
            names.append(str(row_id))
    return names


def _is_missing(values: np.ndarray) -> np.ndarray:
    return np.asarray(values == b"" if values.dtype.kind == "S" else np.isnan(values))


def _translate_codes(categories: Sequence[str], new_categories: Sequence[str]) -> np.ndarray:
    """Return the code among the new categories of each old code, the last one that of unknown categories, float64 (codes,)."""
    codes = {name: code for code, name in enumerate(new_categories)}
    new_codes = np.full(len(categories) + 1, len(codes), np.float64)
    for code, name in enumerate(categories):
        new_codes[code] = codes.get(name, len(codes))
    return new_codes


def _rank_categories(counts: Mapping[bytes, int], expected: Sequence[str]) -> list[str]:
    """Return a column's categories, the most frequent first; where some are expected, these alone, those not met at the end."""
    ranked_texts = sorted(counts, key=lambda text: (-counts[text], text))
    names = decode_texts(filter(None, ranked_texts))[:MAX_CATEGORIES]
    if not expected:
        return names
    met_names = names_in(names, expected)
    return met_names + names_not_in(expected, met_names)


def _to_plain_column(column_type: str, values: np.ndarray) -> Any:
    """Return a column of a dataset's rows as a Parquet file holds it."""
    if column_type == CATEGORY:
        return [text.decode() if text else None for text in values.tolist()]
    if column_type == BOOLEAN:
        return _to_plain_cells(values, bool)
    if column_type == DATE:
        microseconds = np.where(np.isnan(values), 0, values * 1e6)
        dates = microseconds.astype("int64").astype("datetime64[us]")
        return np.where(np.isnan(values), np.datetime64("NaT"), dates)
    if column_type == INTEGER and np.isfinite(values[~np.isnan(values)]).all():
        return _to_plain_cells(values, int)
    return _to_plain_cells(values, float)


def _to_plain_cells(values: np.ndarray, convert: Callable[[float], Any]) -> list[Any]:
    """Return numbers as Python holds them; None for a missing one."""
    return [None if np.isnan(value) else convert(value) for value in values]


KIND = TableKind()
