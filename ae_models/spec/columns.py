"""Key `columns` of the section `input`: the named columns of a table, and the vector that a network reads of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ae_models.names import names_of, repeated_names
from ae_models.spec.fields import bounded_field
from ae_models.spec.messages import join_names

__all__ = [
    "BOOLEAN",
    "CATEGORY",
    "COLUMN_TYPES",
    "DATE",
    "INTEGER",
    "NUMBER",
    "SCALINGS",
    "ColumnBlock",
    "ColumnSpec",
    "column_blocks",
    "column_list_errors",
    "vector_width",
    "with_categories",
]

NUMBER, INTEGER, BOOLEAN, CATEGORY, DATE = "number", "integer", "boolean", "category", "date"
COLUMN_TYPES = (NUMBER, INTEGER, BOOLEAN, CATEGORY, DATE)
SCALINGS = ("robust", "quantile", "normal", "standard")  # see ae_models.table_preprocessing
_MAX_NAME_CHARACTERS = 200
_MAX_CATEGORY_BYTES = 64  # of UTF-8: a dataset has room for as many in each row


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a table. In an array of rows it is float64, NaN where a value is missing.

    A boolean is 0 or 1; a date is the seconds since 1970 UTC; a category is its place in `categories`, and their number for one
    that is not among them.

    Attributes:
        name: by which rows are sent.
        type: one of `COLUMN_TYPES`.
        missing: whether a value may be missing; it then has an indicator of its own in the network's input.
        min, max: allowed values of a number, an integer or a date.
        headroom: allowed distance from the range of the training values, in lengths of that range, where `min` or `max` is not
            given; None: any.
        categories: the texts that are codes 0, 1, ...; none: those of the training samples.
        nulls: cells that mean a missing value, as they are written, beside empty ones; a recipe has them in data.source.nulls.
    """

    name: str
    type: str = bounded_field(NUMBER, one_of=COLUMN_TYPES)
    missing: bool = bounded_field(False, omit_default=True)
    min: float | None = bounded_field(None, omit_default=True)
    max: float | None = bounded_field(None, omit_default=True)
    headroom: float | None = bounded_field(None, low=0.0, high=1e6, omit_default=True)
    categories: tuple[str, ...] = bounded_field((), omit_default=True)
    nulls: tuple[str, ...] = bounded_field((), omit_default=True)

    @property
    def is_scaled(self) -> bool:
        """Whether its values are numbers with a distance."""
        return self.type in (NUMBER, INTEGER, DATE)

    def place_count(self, one_hot: int) -> int:
        """Return how many places its values have in the vector of a row; see `column_blocks`."""
        if self.type == CATEGORY:
            return min(len(self.categories), one_hot) + 1
        return 1

    def validation_errors(self) -> list[str]:
        errors = []
        if not self.name.strip() or not self.name.isprintable() or len(self.name) > _MAX_NAME_CHARACTERS:
            errors.append(f"name: expected a printable name of up to {_MAX_NAME_CHARACTERS} characters, got {self.name!r}")
        if self.categories and self.type != CATEGORY:
            errors.append(f"categories are of columns of type {CATEGORY}, and {self.name} is of type {self.type}: leave them out")
        if (self.min, self.max, self.headroom) != (None, None, None) and not self.is_scaled:
            errors.append(
                f"min, max and headroom are of numbers and dates, and {self.name} is of type {self.type}: leave them out"
            )
        if self.min is not None and self.max is not None and not self.min < self.max:
            errors.append(f"min is {self.min:g} and max is {self.max:g}: min must be below max")
        repeated = repeated_names(self.categories)
        if repeated:
            errors.append(f"categories names {join_names(repeated)} twice")
        unfit = [category for category in self.categories if not 0 < len(category.encode()) <= _MAX_CATEGORY_BYTES]
        if unfit:
            errors.append(f"categories: expected 1 to {_MAX_CATEGORY_BYTES} bytes of UTF-8, got {join_names(map(repr, unfit))}")
        return errors


def column_list_errors(columns: Sequence[ColumnSpec]) -> list[str]:
    """Return a message for each mistake in a table's list of columns."""
    if not columns:
        return ["columns is empty, expected {name, type} of one column or more for kind table"]
    repeated = repeated_names(names_of(columns))
    if repeated:
        return [f"columns names {join_names(repeated)} twice"]
    return []


class ColumnBlock(NamedTuple):
    """The places of a column in the vector of a row.

    Attributes:
        column: its place among the columns.
        spec: the column.
        start: first place of its values.
        size: of its values: 1, or of a category one for each of the most frequent categories and one for all others.
        indicator: place of 1 where the value is missing; None where it may not be.
    """

    column: int
    spec: ColumnSpec
    start: int
    size: int
    indicator: int | None

    @property
    def places(self) -> slice:
        """Places of its values."""
        return slice(self.start, self.start + self.size)


def column_blocks(columns: Sequence[ColumnSpec], one_hot: int) -> tuple[ColumnBlock, ...]:
    """Return the places of each column in the vector of a row, in the order of the columns.

    The vector has the values of all columns but categories, then the categories' places, then the indicators.

    Args:
        columns: with their categories.
        one_hot: categories of a column that have a place of their own, at most.
    """
    starts, place = [0] * len(columns), 0
    for is_category in (False, True):
        for index, column in enumerate(columns):
            if (column.type == CATEGORY) is is_category:
                starts[index] = place
                place += column.place_count(one_hot)
    blocks = []
    for index, (column, start) in enumerate(zip(columns, starts, strict=True)):
        blocks.append(ColumnBlock(index, column, start, column.place_count(one_hot), place if column.missing else None))
        place += column.missing
    return tuple(blocks)


def vector_width(columns: Sequence[ColumnSpec], one_hot: int) -> int:
    """Return how many numbers the vector of a row has."""
    width = 0
    for column in columns:
        width += column.place_count(one_hot) + column.missing
    return width


def with_categories(columns: Sequence[ColumnSpec], categories: Mapping[str, Sequence[str]]) -> tuple[ColumnSpec, ...]:
    """Return the columns with these categories, by the names of the columns."""
    renewed_columns = []
    for column in columns:
        if column.name in categories:
            column = replace(column, categories=tuple(categories[column.name]))
        renewed_columns.append(column)
    return tuple(renewed_columns)
