"""Render the page of an audit: one self-contained HTML file with a picture, or the columns, of each sample that it names.

To change the text: aeops/report/templates/audit.html.j2; the style: report.css beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from aeops.audit.findings import AuditReport, CopyPair, LabelSuspect
from aeops.audit.subject import AuditSubject
from aeops.drawing.svg import theme_css
from aeops.kinds.results import PageBlock
from aeops.report.html_template import html_environment

RELATION_TITLES = {
    "exact": "The same sample twice",
    "near": "Nearly the same sample",
    "shared steps": "Windows that share steps",
}
MAX_TEXT = 400  # characters of a sample that are shown


@dataclass(frozen=True)
class SuspectCard:
    """A suspect and its picture; None of a row of a table, whose cells are shown."""

    suspect: LabelSuspect
    picture: PageBlock | None


@dataclass(frozen=True)
class PairCard:
    """A pair and the pictures of both samples; None of rows of a table."""

    pair: CopyPair
    first: PageBlock | None
    second: PageBlock | None


def render_page(subject: AuditSubject, report: AuditReport, now: datetime) -> str:
    """Return the page as HTML.

    Args:
        subject: what was audited; its samples are drawn.
        report: what was found.
        now: time of the audit.
    """
    pictures = _draw(subject, report)
    suspects = [SuspectCard(suspect, pictures.get(suspect.row)) for suspect in report.labels.suspects]
    return (
        html_environment()
        .get_template("audit.html.j2")
        .render(
            report=report,
            time=now.astimezone(UTC),
            suspects=suspects,
            copies=_cards(report.copies.examples, pictures),
            leaks=[(leak, _cards(leak.examples, pictures)) for leak in report.leaks],
            titles=RELATION_TITLES,
            theme=theme_css(),
        )
    )


def _cards(pairs: list[CopyPair], pictures: dict[int, PageBlock]) -> list[PairCard]:
    return [PairCard(pair, pictures.get(pair.first_row), pictures.get(pair.second_row)) for pair in pairs]


def _named_rows(report: AuditReport) -> Iterator[int]:
    """Yield the rows of all samples that the page shows."""
    for suspect in report.labels.suspects:
        yield suspect.row
    yield from _rows_of_pairs(report.copies.examples)
    for leak in report.leaks:
        yield from _rows_of_pairs(leak.examples)


def _rows_of_pairs(pairs: list[CopyPair]) -> Iterator[int]:
    for pair in pairs:
        yield from (pair.first_row, pair.second_row)


def _draw(subject: AuditSubject, report: AuditReport) -> dict[int, PageBlock]:
    """Return the picture of each sample that the page shows, by its row; none of rows of a table."""
    rows = sorted(set(_named_rows(report)))
    if not rows or report.columns:
        return {}
    stored = subject.samples(rows)
    texts = subject.kind.baseline(stored, subject.spec).texts
    pictures = {}
    for position, row in enumerate(rows):
        batch = stored[position : position + 1]
        if texts is not None:
            batch = np.array([_shortened(texts[position])], object)
        blocks, _ = subject.kind.page_panels(batch, None, subject.spec)
        pictures[row] = blocks[0]
    return pictures


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
