"""What `ae new` understood of a person's data, and the recipe that it proposes for them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse
from pathlib import Path

from ae_models.names import names_not_in
from aeops.errors import DataError, UsageError
from aeops.intake.recipe_text import Entry
from aeops.recipe.reader import MAX_LABEL_LENGTH, is_label_name

NORMAL_NAMES = ("good", "ok", "normal", "healthy", "pass", "nominal", "benign", "inlier")  # labels that mean: no anomaly
ANOMALY_NAMES = ("bad", "anomaly", "anomalous", "abnormal", "defect", "defective", "fault", "faulty", "fraud", "nok", "outlier")


NAMED_LINKS = 3


@dataclass(frozen=True)
class Choices:
    """What a person said by options; None where they said nothing.

    Attributes:
        labels: the column with labels, `folders`, a CSV file below the folder, or `none`.
        anomalies: labels that are held out and have to be flagged; empty: none are.
        size: height and width of a sample.
        channels: of an image.
        identity: column with the id of each row.
        group: column whose equal values share a split.
        text: column with the texts.
        table: sheet of a workbook, or table of a database.
        query: SQL whose result is the table.
        ignore: columns to leave out.
        address: that the files were fetched from; None: they lie here.
        readings: whether rows in the order of time are readings of a series; None: as their times show.
    """

    labels: str | None = None
    anomalies: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    identity: str | None = None
    group: str | None = None
    text: str | None = None
    table: str | None = None
    query: str | None = None
    ignore: tuple[str, ...] = ()
    address: str | None = None
    readings: bool | None = None


@dataclass(frozen=True)
class Question:
    """Something that the data does not show.

    Attributes:
        option: by which it can be answered on the command line, such as --anomalies.
        text: the question.
        default: what `--yes` takes, as a person reads it.
    """

    option: str
    text: str
    default: str


COLUMN_TITLE = "column"  # of the fact about a column, of which there may be hundreds


@dataclass
class Understanding:
    """What was understood of the data.

    Attributes:
        kind: of data, as in input.kind.
        source: the path or address as the recipe has it.
        count: of samples, as far as they were counted.
        facts: lines (title, text), printed in order.
        oddities: what a person should know; printed with their marks.
        questions: what the data does not show.
    """

    kind: str
    source: str
    count: int
    facts: list[tuple[str, str]] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def name_links(self, links: Collection[str]) -> None:
        """Say which links of a folder are not followed."""
        if links:
            shown = ", ".join(list(links)[:NAMED_LINKS])
            more = f" and {len(links) - NAMED_LINKS:,} more" if len(links) > NAMED_LINKS else ""
            self.oddities.append(f"links, which are not followed: {shown}{more}; put the files themselves there")


@dataclass
class Proposal:
    """A recipe in the making.

    Attributes:
        understood: the data.
        needs: what stands behind "Needs:" in the first line.
        about: the key of that name.
        entries: sections of the recipe behind `purpose`, in order.
    """

    understood: Understanding
    needs: str
    about: str
    entries: list[Entry] = field(default_factory=list)


def split_labels(names: Sequence[str], choices: Choices, understood: Understanding) -> tuple[str, ...]:
    """Return the labels that are anomalies: those named by option, or those that their names say; else it is a question.

    Raises:
        UsageError: an option names a label that there is not, or all of them.
        DataError: names that no recipe can hold.
    """
    unfit = list(filterfalse(is_label_name, names))
    if unfit:
        expected = f"printable names of up to {MAX_LABEL_LENGTH} characters without $ as labels"
        raise DataError(f"{understood.source}: expected {expected}, got {unfit[0][:80]!r}: rename them, or say --labels none")
    if choices.anomalies is not None:
        unknown = sorted(set(choices.anomalies) - set(names))
        if unknown:
            raise UsageError(f"--anomalies: expected labels out of {', '.join(names)}, got {', '.join(unknown)}")
        if set(choices.anomalies) == set(names):
            raise UsageError("--anomalies names every label: at least one has to be normal, as it is trained on")
        return choices.anomalies
    normal = names_among(names, NORMAL_NAMES)
    if normal:
        return tuple(names_not_in(names, normal))
    anomalous = names_among(names, ANOMALY_NAMES)
    if anomalous and len(anomalous) < len(names):
        return anomalous
    if len(names) == 2 and set(names) == {"0", "1"}:
        understood.oddities.append("labels 0 and 1: 1 is taken for the anomalies; say --anomalies 0 if it is the other way round")
        return ("1",)
    question = f"which of the labels {', '.join(names)} are anomalies, held out of training and to be flagged?"
    understood.questions.append(Question("--anomalies", question, "none of them: all are normal"))
    return ()


def names_among(names: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the names that are one of the words in any case, in their order."""
    return tuple(name for name in names if name.lower() in words)


def source_path(path: Path, root: Path, choices: Choices) -> str:
    """Return a path as a recipe names it: from the project's folder where it lies below it, else in full; or its address."""
    if choices.address is not None:
        return choices.address
    resolved = path.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else str(resolved)


def find_name(names: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the name that is one of the words in any case: that of the first word which is there; None without one.

    >>> find_name(["id", "Y", "label"], ["y", "label"])
    'Y'
    """
    for word in words:
        for name in names:
            if name.lower() == word:
                return name
    return None


def label_values(names: Sequence[str], labels: Sequence[str]) -> list[int | str]:
    """Return some of the labels as a recipe has them, in order."""
    return [label_value(name, labels) for name in names]


def label_value(name: str, names: Sequence[str]) -> int | str:
    """Return a label as a recipe has it: a whole number where all labels are whole numbers.

    >>> label_value("1", ["0", "1"]), label_value("1", ["1", "b"])
    (1, '1')
    """
    if all(other.lstrip("-").isdigit() and str(int(other)) == other for other in names):
        return int(name)
    return name
