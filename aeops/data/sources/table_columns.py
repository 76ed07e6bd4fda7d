"""Rows of files by the names of their columns, whatever the files are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class TableColumns:
    """Rows by the names of their columns.

    Attributes:
        columns: name -> cells, (n,) each.
        from_text: whether all cells are texts.
        origins: of each row: the file's number and the row's in it, from 1; (n,) each.
        files: the files' names.
        set_aside: what is no row, by file and line -> the reason.
        nested: columns of lists, maps or unions, which are not in `columns`.
    """

    columns: dict[str, Any]
    from_text: bool
    origins: tuple[np.ndarray, np.ndarray]
    files: Sequence[str]
    set_aside: dict[str, str] = field(default_factory=dict)
    nested: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.origins[0])

    def row_name(self, row: int) -> str:
        """Return where a row stands, such as `2026.csv: row 17`."""
        files, numbers = self.origins
        name = f"row {numbers[row]}"
        return f"{self.files[files[row]]}: {name}" if len(self.files) > 1 else name


def whole(columns: dict[str, Any], count: int, name: str, from_text: bool = False) -> TableColumns:
    """Return the columns of one file whose rows are all there."""
    return TableColumns(columns, from_text, (np.zeros(count, np.int64), np.arange(1, count + 1)), [name])
