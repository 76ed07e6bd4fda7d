"""What an audit finds, as plain facts that terminal, JSON and page show."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1


@dataclass(frozen=True)
class SuspectCell:
    """A column of a row that looks less like its label than like another one.

    Attributes:
        column: its name.
        value: of the row.
        usual: its usual values among the rows with the label.
        usual_of_suggested: the same with the other label.
    """

    column: str
    value: str
    usual: str
    usual_of_suggested: str


@dataclass(frozen=True)
class PairCell:
    """A column of two rows.

    Attributes:
        column: its name.
        first, second: the values of the two.
        usual: its usual values in all rows.
        differs: whether the two values do.
    """

    column: str
    first: str
    second: str
    usual: str
    differs: bool


@dataclass(frozen=True)
class LabelSuspect:
    """A sample that looks less like its label than like another one.

    Attributes:
        row: of the audited samples.
        id: of the sample in its dataset.
        split: its split.
        label: its label.
        suggested: the other label that it looks most like.
        label_probability, suggested_probability: out of fold.
        cells: of a row of a table, the columns that are most unlike its label, the most unlike first.
    """

    row: int
    id: str
    split: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float
    cells: list[SuspectCell] = field(default_factory=list)


@dataclass(frozen=True)
class LabelCheck:
    """Whether samples look like their labels.

    Attributes:
        skipped: why labels were not checked; empty where they were.
        classifier: what estimated the probabilities.
        folds: of the estimation; 0 where there was none.
        accuracy: share of samples whose label is the likeliest one, out of fold.
        wrong: samples that are confidently another label (see `aeops.audit.label_errors`).
        suspects: the samples whose label is least likely, the least likely first.
    """

    skipped: str = ""
    classifier: str = ""
    folds: int = 0
    accuracy: float | None = None
    wrong: int = 0
    suspects: list[LabelSuspect] = field(default_factory=list)


@dataclass(frozen=True)
class CopyPair:
    """Two samples that are the same, nearly the same, or windows that share steps.

    Attributes:
        relation: exact, near or shared steps.
        first_row, second_row: of the audited samples; the first one is earlier.
        first, second: their ids.
        first_split, second_split: their splits.
        first_label, second_label: their labels; empty where they have none.
        similarity: 1 for equal samples; else the correlation of their values, the share of common tokens or of common steps.
        cells: of rows of a table, the columns that differ most, the largest difference first.
    """

    relation: str
    first_row: int
    second_row: int
    first: str
    second: str
    first_split: str
    second_split: str
    first_label: str
    second_label: str
    similarity: float
    cells: list[PairCell] = field(default_factory=list)

    @property
    def crosses_splits(self) -> bool:
        """Whether the two are in different splits."""
        return self.first_split != self.second_split

    @property
    def labels_differ(self) -> bool:
        """Whether both have a label, and not the same one."""
        return bool(self.first_label and self.second_label) and self.first_label != self.second_label


@dataclass(frozen=True)
class CopyCheck:
    """Samples that are in the data more than once.

    Attributes:
        method: how near copies were looked for.
        limit: similarity from which two samples are near copies.
        samples: how many samples have a copy, by relation.
        pairs: the number of pairs, by relation.
        label_conflicts: pairs whose labels differ.
        examples: some pairs, the most similar first.
        by_chance: of a table, how many samples would have a copy if its columns had nothing to do with each other, by relation.
    """

    method: str
    limit: float
    samples: dict[str, int]
    pairs: dict[str, int]
    label_conflicts: int
    examples: list[CopyPair]
    by_chance: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Leak:
    """Samples of one split of which another split, that was trained or calibrated on, holds a copy.

    Attributes:
        split: whose samples are counted.
        known_from: the split with the copies.
        samples: of `split` in all.
        leaked: of them with a copy in `known_from`, of any relation.
        by_relation: the same, by relation; a sample may count more than once.
        examples: some of the pairs.
    """

    split: str
    known_from: str
    samples: int
    leaked: int
    by_relation: dict[str, int]
    examples: list[CopyPair]

    @property
    def share(self) -> float:
        """Share of the split's samples."""
        return self.leaked / max(self.samples, 1)


@dataclass(frozen=True)
class AuditReport:
    """All that an audit found.

    Attributes:
        name: of the dataset or the recipe.
        origin: `dataset` or `source`.
        content_sha256: of the dataset.
        kind: of its samples.
        rows: all of them; `audited` of them were looked at.
        splits: rows of each split, of those that were looked at.
        notes: what a reader has to know of how it was done.
        columns: names of a table's columns, in order.
    """

    name: str
    origin: str
    content_sha256: str
    kind: str
    rows: int
    audited: int
    splits: dict[str, int]
    labels: LabelCheck
    copies: CopyCheck
    leaks: list[Leak]
    notes: list[str]
    columns: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report ready for JSON."""
        return {"format": FORMAT} | dataclasses.asdict(self)
