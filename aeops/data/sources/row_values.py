"""Cells of rows that a source reads itself: ids, labels, and the marks of missing values."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np

from ae_models.mappings import values_at
from aeops.data.set_aside import REPLACED
from aeops.data.sources.table_text import plain_numbers
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import REFUSE
from aeops.recipe.table_sources import TextFormat


def iso_dates(cells: list[Any], date_format: str) -> list[Any]:
    """Return texts of dates in ISO 8601; what is not of the format stays as it is, and is no date then.

    >>> iso_dates(["31.12.2025", "x"], "%d.%m.%Y")
    ['2025-12-31T00:00:00', 'x']
    """

    @cache
    def parse(text: str) -> str:
        try:
            return datetime.strptime(text.strip(), date_format).isoformat()
        except ValueError:
            return text

    return [parse(str(cell)) if isinstance(cell, str) else cell for cell in cells]


def plain_texts(
    columns: Mapping[str, Any], dialect: TextFormat | None, numbers: Collection[str], dates: Mapping[str, str]
) -> dict[str, Any]:
    """Return the columns of a text file with numbers written with a point, and dates in ISO 8601.

    Args:
        columns: name -> cells.
        dialect: of the file; None: numbers have a point already.
        numbers: columns of numbers.
        dates: column -> format of its dates.
    """
    plain = dict(columns)
    for name in plain.keys() & set(numbers):
        if dialect is not None:
            plain[name] = plain_numbers(np.asarray(plain[name]), dialect)
    for name in plain.keys() & set(dates):
        plain[name] = iso_dates(list(plain[name]), dates[name])
    return plain


def id_problems(ids: list[str], problems: dict[int, str], on_duplicate: str) -> dict[int, str]:
    """Return the rows whose ids are missing or stand more than once -> the reason.

    A later row with a known id is a correction, and replaces the earlier one; where the recipe refuses duplicates, it is none.

    Args:
        ids: of the rows.
        problems: rows that cannot be samples anyway.
        on_duplicate: `skip`, `accept` or `refuse`, as the recipe says.
    """
    seen, found = dict[str, int](), dict[int, str]()
    for row, text in enumerate(ids):
        if row in problems:
            continue
        if not text:
            found[row] = "no id: its cell is empty"
        elif text in seen and on_duplicate == REFUSE:
            found[row] = "its id came before: the first row with it is taken"
            continue
        elif text in seen:
            found[seen[text]] = REPLACED
        seen[text] = row
    return found


def rows_that_stay(count: int, problems: Mapping[int, str], ids: Sequence[str] | None) -> list[int]:
    """Return the rows without a problem, in order; one that replaces an earlier row stands in its place.

    Args:
        count: of all rows.
        problems: rows that are set aside.
        ids: of the rows; None where they have none.
    """
    rows = [row for row in range(count) if row not in problems]
    if ids is None:
        return rows
    first: dict[str, int] = {}
    for row, text in enumerate(ids):
        first.setdefault(text, row)
    return sorted(rows, key=lambda row: first[ids[row]])


def label_numbers(texts: Sequence[str], recipe: Recipe) -> tuple[np.ndarray, dict[int, str]]:
    """Return the label of each row, int64 (n,), and the rows with an unknown one -> the reason."""
    places = {name: number for number, name in enumerate(recipe.label_names)}
    known = places or {str(label): label for label in recipe.data.labels}
    distinct = {text: known.get(text, known.get(_whole_number(text), -1)) for text in set(texts)}
    numbers = np.array(values_at(distinct, texts), np.int64)
    problems = {}
    for row in np.flatnonzero(numbers == -1).tolist():
        if texts[row] in known:
            continue
        problems[row] = (
            f"unknown label {texts[row]!r}: data.labels does not name it" if texts[row] else "no label: its cell is empty"
        )
    return numbers, problems


def _whole_number(text: str) -> str:
    """Return 1.0 as 1, and another text as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
