"""What the last validation of a dataset has set aside, as people list and judge it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aeops.data.judgements import expectation_name
from aeops.errors import DataError, UsageError
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.reader import Recipe


@dataclass(frozen=True)
class SetAside:
    """One sample, or what could not become one.

    Attributes:
        id: that it came with, or its position's.
        sha256: of its content; None for what could not become a sample; empty where an older version wrote it.
        label: as the source has it; None without one.
        reasons: the expectations that it breaks, with what was expected and what it has.
        values: what a person reads of it; empty where it is drawn.
    """

    id: str
    sha256: str | None
    label: str | None
    reasons: tuple[str, ...]
    values: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The reasons without what was expected: the names of the expectations, or what was wrong with a file or a row."""
        return tuple(map(expectation_name, self.reasons))


def find_quarantine(project: Project, recipe: Recipe) -> Path | None:
    """Return the folder of what the last validation of the recipe's dataset has set aside; None where that is nothing.

    Raises:
        UsageError: nothing was validated yet.
    """
    file = project.validation(recipe.data.dataset) / "validation.json"
    if not file.is_file():
        raise UsageError(f"{recipe.name}: nothing was validated yet: type `ae run {recipe.name}`")
    quarantine = read_json(file, "quarantine")["quarantine"]  # a path in the state folder, or None
    return project.home / quarantine if quarantine else None


def read_set_aside_rows(project: Project, folder: Path, label_names: Sequence[str]) -> list[SetAside]:
    """Return what the last validation of a dataset set aside, in the order that it came in.

    Args:
        project: whose state folder it is in.
        folder: of the quarantine.
        label_names: of the labels 0, 1 and so on; empty where labels are numbers.

    Raises:
        DataError: the folder's rows.parquet cannot be read.
    """
    import pandas as pd

    from aeops.kinds.decoding import DecodeError, decode_errors

    file = folder / "rows.parquet"
    try:
        with decode_errors():
            table = pd.read_parquet(file)
    except DecodeError as error:
        name = file.relative_to(project.home)
        raise DataError(
            f"{name} in the state folder is damaged ({error}): the next run with other data writes it again"
        ) from error
    if "sha256" not in table:  # of an older version: no judgement can be recorded
        table = table.assign(sha256="")
    rows, columns = [], ["id", "sha256", "label", "reasons", "values"]
    for name, sha256, label, reasons, values in table.reindex(columns=columns).itertuples(index=False):
        label_name = None
        if not pd.isna(label):
            number = int(label)  # a column of labels of which some are missing holds floats
            label_name = label_names[number] if 0 <= number < len(label_names) else str(number)
        content = None if pd.isna(sha256) else str(sha256)
        rows.append(SetAside(str(name), content, label_name, tuple(map(str, reasons)), "" if pd.isna(values) else str(values)))
    return rows


def count_kinds(rows: Sequence[SetAside]) -> dict[str, int]:
    """Return how many samples each kind of reason has set aside, the most first; a sample may have several."""
    return dict(Counter(kind for row in rows for kind in dict.fromkeys(row.kinds)).most_common())
