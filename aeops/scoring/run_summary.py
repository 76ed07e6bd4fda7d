"""Types of the summary of a scoring run, as latest.json and refused.jsonl hold it. Standard library only."""

from typing import TypedDict


class ScoredFileRecord(TypedDict):
    """A scored file as the summary of a run holds it; `unscored` of its samples were refused, and have no score."""

    name: str
    sha256: str
    call: str
    version: str
    samples: int
    flagged: int
    unscored: int


class RefusalRecord(TypedDict):
    """A line of refused.jsonl: a content that cannot be scored, and the reason."""

    sha256: str
    name: str
    reason: str
    time: str
    run: str


class FilesSummary(TypedDict):
    """The files of a run; see `aeops.scoring.inbox_run.InboxOutcome`."""

    taken: list[ScoredFileRecord]
    refused: list[RefusalRecord]
    copies: dict[str, str]
    left: dict[str, str]
    known: int
    refused_before: int


class InboxSummary(TypedDict):
    """The summary of a run, as latest.json holds it.

    `state` is one of `scored`, `nothing new` and `no champion`, `says` the result in one line; `run`, `version` and `page` are
    None where nothing was scored.
    """

    format: int
    state: str
    says: str
    recipe: str
    run: str | None
    time: str
    version: str | None
    inbox: str
    samples: int
    flagged: int
    unscored: int
    page: str | None
    files: FilesSummary
