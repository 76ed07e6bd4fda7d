"""Scoring what is new in a recipe's inbox: the work of the flow `scoring` and of `ae score RECIPE --inbox`.

    <home>/predictions/<recipe>/<date>/<call>.parquet   one for each file of the inbox, see aeops/predictions/prediction_store.py
    <home>/scoring/<recipe>/<run>.html, latest.html     what a run found; latest.json is the same in figures
    <home>/scoring/<recipe>/refused.jsonl               contents that cannot be scored, with their reasons
    <home>/scoring/<recipe>/seen.json                   what is known of the inbox, see aeops/scoring/inbox.py
    <home>/scoring/<recipe>/run.json                    there while a run is under way; a killed one's is taken up by the next

One run of a recipe at a time, whatever else goes on in the workspace. A run scores by the version that was champion as it began.
"""

import fcntl
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aeops.bundle.detector import Detector
from aeops.errors import AeError, DataError
from aeops.files import atomic_write, read_json, write_json
from aeops.predictions import prediction_store
from aeops.predictions.rows import Scorer, scorer_of
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.store import open_store
from aeops.registry.trust import trusted_bundle
from aeops.scoring.inbox import (
    BEING_WRITTEN,
    Found,
    Seen,
    files_in,
    inbox_of,
    is_quiet,
    printable,
    read_refused,
    write_refused,
)
from aeops.scoring.score_file import RUN, SOURCE, Calls, MovedError, Taken, is_batch, source_of, take, taken_before

FORMAT = 1
SCORED, NOTHING_NEW, NO_CHAMPION = "scored", "nothing new", "no champion"
PAGES = 200  # of earlier runs that are kept
MOVED = "it was written to while it was read; left for the next run"


@dataclass
class Outcome:
    """What a run found, file by file; names are printable.

    Attributes:
        taken: whose samples it recorded.
        refused: lines of refused.jsonl that it added.
        copies: new files whose content was recorded before -> where.
        left: files that it did not look into, or not to their end -> why.
        known: how many files are as they were and recorded.
        refused_before: how many hold what an earlier run refused.
        faults: what nobody thought of; raised once the other files are done.
    """

    taken: list[Taken] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    known: int = 0
    refused_before: int = 0
    faults: list[Exception] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(one.samples for one in self.taken)

    @property
    def flagged(self) -> int:
        return sum(one.flagged for one in self.taken)


def folder_of(project: Project, recipe: str) -> Path:
    return project.home / "scoring" / recipe


def score_inbox(project: Project, recipe: Recipe, now: datetime | None = None) -> dict[str, Any]:
    """Scores the new files of the inbox by the champion.

    Args:
        now: the time of the predictions, with its zone; None: the clock's.

    Returns:
        `state` (scored, nothing new, no champion), `says` (a line for a person), `recipe`, `run`, `time`, `version`, `inbox`,
        `samples`, `flagged`, `page` (None where the run did nothing), and `files`: `taken`, `refused`, `copies`, `left`, and how
        many are `known` and `refused_before`.

    Raises:
        DataError: no such inbox, or the champion's bundle is not to be trusted.
        InfrastructureError: MLflow cannot be reached, or the predictions cannot be written.
    """
    folder_of(project, recipe.name).mkdir(parents=True, exist_ok=True)
    with alone(project, recipe.name):
        return Scoring(project, recipe, now or datetime.now(UTC)).go()


@contextmanager
def alone(project: Project, recipe: str) -> Iterator[None]:
    """Holds the recipe's inbox; waits while another run does, and says so. The kernel frees it when its holder dies."""
    project.locks.mkdir(parents=True, exist_ok=True)
    with (project.locks / f"scoring-{recipe}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run scores {recipe}: waiting for it to end ...", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Scoring:
    """One run over a recipe's inbox."""

    def __init__(self, project: Project, recipe: Recipe, now: datetime) -> None:
        self.project, self.recipe, self.now = project, recipe, now
        self.folder = folder_of(project, recipe.name)
        self.inbox = inbox_of(project, recipe)
        self.seen = Seen(self.folder / "seen.json")
        self.refused = read_refused(self.folder / "refused.jsonl")
        self.calls = Calls(project)
        self.outcome = Outcome()
        self.by_content: dict[str, Found] = {}

    def go(self) -> dict[str, Any]:
        """The run from its beginning to its end, or on from where a killed one was; see `score_inbox`."""
        fresh = self.look()
        note = self.folder / "run.json"
        if not fresh and not note.is_file():
            self.seen.save()
            return self.summary(NOTHING_NEW)
        store = open_store(self.project)
        champion = store.champion(self.recipe.name)
        if champion is None:
            self.seen.save()
            return self.summary(NO_CHAMPION)
        detector = Detector(trusted_bundle(self.project, store, self.recipe, champion.version))
        scorer = scorer_of(self.recipe.name, champion.version, detector)
        run = self.begin(note)
        for found, sha256 in fresh:
            self.settle(run, found, sha256, detector, scorer)
        told = self.finish(run, detector, scorer)
        self.seen.save()
        note.unlink()
        if self.outcome.faults:
            raise self.outcome.faults[0]
        return told

    # ------------------------------------------------------------ what is there

    def look(self) -> list[tuple[Found, str]]:
        """The files whose content is neither recorded nor refused, with its SHA-256; the others are counted."""
        fresh = []
        for found in files_in(self.inbox):
            name = printable(found.name)
            if not is_quiet(found.stamp):
                self.outcome.left[name] = BEING_WRITTEN
                continue
            try:
                sha256 = self.seen.sha256(found)
            except OSError as error:
                self.outcome.left[name] = f"it cannot be read ({error.strerror})"
                continue
            self.by_content.setdefault(sha256, found)
            if sha256 in self.refused:
                self.outcome.refused_before += 1
            elif not self.is_recorded(found, sha256):
                fresh.append((found, sha256))
        return fresh

    def is_recorded(self, found: Found, sha256: str) -> bool:
        """Whether its content is recorded; what is so for the first time and under another name is a copy."""
        if self.seen.call(found) in self.calls:
            self.outcome.known += 1
            return True
        call, file = self.calls.of(self.recipe.name, sha256)
        if file is None:
            return False
        self.seen.remember(found, call)
        source = source_of(file)[SOURCE]
        if source == printable(found.name) or not self.seen.is_new(found):
            self.outcome.known += 1
        else:
            self.outcome.copies[printable(found.name)] = f"its content is that of {source}, recorded as {call}"
        return True

    def begin(self, note: Path) -> str:
        """The run's name; that of a killed run, with what it had done, where there is one."""
        if not note.is_file():
            run = f"{self.now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
            write_json(note, {"run": run})
            return run
        run = str(read_json(note)["run"])
        began = note.stat().st_mtime
        files = prediction_store.folder_of(self.project, self.recipe.name).glob("*-*-*/*.parquet")
        late = (file for file in files if is_batch(file) and file.stat().st_mtime >= began)
        before = [taken_before(file) for file in late if source_of(file).get(RUN) == run]
        self.outcome.taken = sorted(before, key=lambda one: one.name)
        self.outcome.refused = [line for line in self.refused.values() if line["run"] == run]
        return run

    # ------------------------------------------------------------ file by file

    def settle(self, run: str, found: Found, sha256: str, detector: Detector, scorer: Scorer) -> None:
        """Records a file's samples, or refuses it, or leaves it; whatever is wrong with it, the others have their turn."""
        name = printable(found.name)
        if sha256 in self.refused or self.is_recorded(found, sha256):  # by a file of the same content before it
            self.outcome.refused_before += sha256 in self.refused
            return
        call, _ = self.calls.of(self.recipe.name, sha256)
        try:
            taken = take(self.project, run, self.now, found, sha256, call, detector, scorer)
        except MovedError:
            self.outcome.left[name] = MOVED
        except DataError as error:
            self.refuse(run, name, sha256, str(error))
        except AeError:
            raise
        except Exception as error:  # noqa: BLE001  # raised again once the other files had their turn
            error.add_note(f"while {found.place} was scored")
            self.outcome.left[name] = f"{type(error).__name__}: {error}"
            self.outcome.faults.append(error)
        else:
            self.outcome.taken.append(taken)
            self.calls.add(taken.file)
            self.seen.remember(found, call)

    def refuse(self, run: str, name: str, sha256: str, reason: str) -> None:
        line = {"sha256": sha256, "name": name, "reason": reason, "time": self.now.isoformat(), "run": run}
        self.refused[sha256] = line
        write_refused(self.folder / "refused.jsonl", self.refused.values())
        self.outcome.refused.append(line)

    # ------------------------------------------------------------ what is told

    def finish(self, run: str, detector: Detector, scorer: Scorer) -> dict[str, Any]:
        """Writes the run's page, where it did anything; returns what is told of it."""
        told = self.summary(SCORED) | {"run": run, "version": scorer.version}
        if not self.outcome.taken and not self.outcome.refused:
            return told
        from aeops.scoring.scoring_page import page_of  # brings matplotlib: only where there is something to draw

        page = self.folder / f"{run}.html"
        told |= {"page": str(page)}
        text = page_of(self.project, told, self.by_content, self.outcome.taken, detector, self.now)
        for place in (page, self.folder / "latest.html"):
            atomic_write(place, text)
        write_json(self.folder / "latest.json", told)
        for old in sorted(self.folder.glob("????????T??????-*.html"))[:-PAGES]:
            old.unlink()
        return told

    def summary(self, state: str) -> dict[str, Any]:
        outcome = self.outcome
        told = {"name", "sha256", "call", "version", "samples", "flagged"}
        return {
            "format": FORMAT,
            "state": state,
            "says": says(self.recipe.name, state, outcome),
            "recipe": self.recipe.name,
            "run": None,
            "time": self.now.isoformat(),
            "version": None,
            "inbox": str(self.inbox),
            "samples": outcome.samples,
            "flagged": outcome.flagged,
            "page": None,
            "files": {
                "taken": [{name: getattr(one, name) for name in sorted(told)} for one in outcome.taken],
                "refused": outcome.refused,
                "copies": outcome.copies,
                "left": outcome.left,
                "known": outcome.known,
                "refused_before": outcome.refused_before,
            },
        }


def says(recipe: str, state: str, outcome: Outcome) -> str:
    """The run in one line."""
    if state == NO_CHAMPION:
        return f"{recipe} has no champion, so nothing was scored: `ae run {recipe}` makes one"
    parts = [
        (len(outcome.refused), "refused"),
        (len(outcome.copies), "the same as one before"),
        (len(outcome.left), "left for the next run"),
    ]
    rest = ", ".join(f"{count} {what}" for count, what in parts if count)
    if state == NOTHING_NEW:
        return "nothing new in the inbox" + (f"; files: {rest}" if rest else "")
    samples, files = outcome.samples, len(outcome.taken)
    done = f"{samples:,} sample{'s' * (samples != 1)} of {files} file{'s' * (files != 1)} scored, {outcome.flagged:,} flagged"
    return done + (f"; files: {rest}" if rest else "")
