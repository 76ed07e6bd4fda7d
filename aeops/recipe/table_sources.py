"""Settings of a source of rows with named columns. Standard library only."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ae_models.names import attributes_with_values, names_in, names_not_in, names_of
from ae_models.spec import TABLE, TEXT, InputSpec, bounded_field, join_names
from aeops.recipe.addresses import address_errors, is_address, is_database_address
from aeops.recipe.source_spec import SourceSpec, check_both_labelled

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat")
PACKED = (".gz", ".zip")  # behind the suffix of a text file
ARROW_SUFFIXES = (".parquet", ".pq", ".feather", ".arrow", ".ipc")
WORKBOOK_SUFFIXES = (".xlsx", ".xlsm")
DATABASE_SUFFIXES = (".sqlite", ".sqlite3", ".db", ".db3")
ARRAY_SUFFIX, ARCHIVE_SUFFIX = ".npy", ".npz"
ALL_COLUMNS = "*"  # of nulls


def table_format(path: str) -> str | None:
    """Return what a file of rows is by its name: text, arrow, workbook, database, array or archive; None where it is none.

    >>> table_format("a/B.CSV.gz"), table_format("b.parquet"), table_format("c.pdf")
    ('text', 'arrow', None)
    """
    name = path.lower()
    if name.endswith(PACKED):
        return "text" if name.rpartition(".")[0].endswith(TEXT_SUFFIXES) or name.endswith(".zip") else None
    formats = {
        "text": TEXT_SUFFIXES,
        "arrow": ARROW_SUFFIXES,
        "workbook": WORKBOOK_SUFFIXES,
        "database": DATABASE_SUFFIXES,
        "array": (ARRAY_SUFFIX,),
        "archive": (ARCHIVE_SUFFIX,),
    }
    for file_format, suffixes in formats.items():
        if name.endswith(suffixes):
            return file_format
    return None


@dataclass(frozen=True)
class TextFormat:
    """The dialect of a text file of rows."""

    encoding: str = "utf-8"  # as Python calls it, such as cp1252 or utf-16
    delimiter: str = ","  # between two cells
    quote: str = '"'  # around a cell that holds delimiters
    decimal: str = bounded_field(".", one_of=(".", ","))  # mark of numbers
    thousands: str = bounded_field("", one_of=("", ".", ",", " ", "'"))  # mark between groups of three digits; none: ""
    skip_lines: int = bounded_field(0, low=0, high=10_000)  # lines before the header
    footer_lines: int = bounded_field(0, low=0, high=10_000)  # lines behind the last row
    header: bool = True  # the first line names the columns; else they are called c0, c1, ...

    def validation_errors(self) -> list[str]:
        errors = []
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            errors.append(f"encoding: expected a name that Python knows, such as utf-8, cp1252 or utf-16, got {self.encoding!r}")
        for key in ("delimiter", "quote"):
            value = getattr(self, key)
            if len(value) != 1 or value in "\r\n":
                errors.append(f"{key}: expected one character, got {value!r}")
        if self.decimal == self.thousands:
            errors.append(f"decimal and thousands are both {self.decimal!r}: they must differ")
        return errors


@dataclass(frozen=True)
class TableSource(SourceSpec):
    """The rows of files by the names of their columns, or of an array in an .npz file by their order."""

    kind: ClassVar[str] = "table"
    input_kinds: ClassVar[tuple[str, ...]] = (TABLE,)
    # A text file (.csv, .tsv, .txt; .gz or .zip may follow), .parquet, .feather, .arrow, .xlsx, .sqlite, .npy or .npz, or a
    # folder of files of one kind; in a folder with parts such as year=2026/ the keys are columns. Or an address: s3://, gs://,
    # http(s)://, or SQLAlchemy's of a database, without a password.
    path: str
    labels: str | None = None  # the column, or the array of an .npz file, with one whole number or name a row
    group: str | None = None  # the column, or the array of an .npz file, whose equal values share a split
    samples: str = "X"  # the array of an .npz file that holds the rows
    id: str | None = None  # the column with the id that each row keeps; of two rows with one id the later one counts
    table: str | None = None  # the sheet of a workbook, or the table of a database; none: the only one
    query: str | None = None  # SQL whose result is the table, of a database
    text: TextFormat | None = None  # dialect of text files; none: commas, UTF-8, a header line, and no row of another length
    nulls: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column, or "*" for all -> cells that mean a missing value
    dates: dict[str, str] = field(default_factory=dict)  # column -> format of its dates, as Python's strptime; none: ISO 8601

    @property
    def is_archive(self) -> bool:
        """Whether the file is an .npz file."""
        return table_format(self.path) == "archive"

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns that the source reads itself."""
        return tuple(name for name in (self.labels, self.group, self.id) if name is not None)

    @property
    def id_column(self) -> str:
        """See `SourceSpec.id_column`."""
        return self.id or ""

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)

    def complete_input(self, input_spec: InputSpec) -> InputSpec:
        """See `SourceSpec.complete_input`: each column gets its marks of missing values."""
        if not self.nulls:
            return input_spec
        columns = []
        for column in input_spec.columns:
            nulls = (*column.nulls, *self.nulls.get(column.name, ()), *self.nulls.get(ALL_COLUMNS, ()))
            columns.append(replace(column, nulls=tuple(dict.fromkeys(nulls))))
        return replace(input_spec, columns=tuple(columns))

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        names = set(names_of(input_spec.columns))
        own = names_in(self.own_columns, names)
        errors = []
        if own and not self.is_archive:
            reason = f"expected no column {join_names(own)}, which data.source reads as labels, groups or ids"
            errors.append(("input.columns", reason))
        for key, columns in (("nulls", self.nulls), ("dates", self.dates)):
            unknown = names_not_in(columns, {*names, ALL_COLUMNS})
            if unknown:
                errors.append((f"data.source.{key}", f"expected columns of input.columns, got {join_names(unknown)}"))
        return errors

    def validation_errors(self) -> list[str]:
        errors = address_errors(self.path)
        kind = "database" if is_database_address(self.path) else table_format(self.path)
        if is_database_address(self.path) and self.table is None and self.query is None:
            errors.append("table and query are missing: name one of them, of a database at an address")
        if kind is None and not is_address(self.path) and "." in self.path.rpartition("/")[2] and not self.path.endswith("/"):
            expected = "a .csv, .tsv or .txt (.gz, .zip), .parquet, .feather, .arrow, .xlsx, .sqlite, .npy or .npz file"
            errors.append(f"path: expected {expected}, or a folder of such files, got {self.path!r}")
        if self.id is not None and self.is_archive:
            errors.append("id is of files with named columns, and path is an .npz file: leave it out")
        if self.query is not None and self.table is not None:
            errors.append("table and query are set: a database is read by one of them")
        errors += _misplaced(self, kind)
        return errors


@dataclass(frozen=True)
class TextsSource(SourceSpec):
    """Texts with their labels: lines of JSON objects, rows of a text file or of Parquet, or plain text files."""

    kind: ClassVar[str] = "texts"
    input_kinds: ClassVar[tuple[str, ...]] = (TEXT,)
    # .jsonl (.gz), a file of rows as a source of kind table has it, .txt, or a folder of .txt files.
    path: str
    text: str | None = None  # the key or column with the text; none: of .txt files
    unit: str = bounded_field("line", one_of=("line", "file"))  # of .txt files: what one text is
    labels: str | None = None  # the key or column with one whole number or name a text
    id: str | None = None  # the key or column with the id that each text keeps; of two with one id the later one counts
    group: str | None = None  # the key or column whose equal values share a split
    dialect: TextFormat | None = None  # of a text file of rows; none: commas, UTF-8, a header line
    shortest: int = bounded_field(1, low=1, high=65536)  # characters of a text; what is shorter is set aside

    @property
    def is_plain(self) -> bool:
        """Whether texts are lines or files of plain text."""
        return self.text is None

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)

    def validation_errors(self) -> list[str]:
        errors = address_errors(self.path)
        if is_database_address(self.path):
            errors.append("path: expected a file or folder: write the query's result as Parquet or JSONL")
        if not self.is_plain:
            return errors
        named = attributes_with_values(self, ("labels", "id", "group"))
        return [f"{join_names(named)}: expected none without text, since plain text has no keys and columns"] if named else errors


def _misplaced(source: TableSource, kind: str | None) -> Sequence[str]:
    """Return a message for each key that files of this kind do not have."""
    errors = []
    if source.text is not None and kind not in (None, "text"):
        errors.append(f"text is the dialect of text files, and path is {source.path!r}: leave it out")
    if source.table is not None and kind not in ("workbook", "database"):
        errors.append(f"table is of workbooks and databases, and path is {source.path!r}: leave it out")
    if source.query is not None and kind != "database":
        errors.append(f"query is of databases, and path is {source.path!r}: leave it out")
    return errors
