"""Score the new files of a recipe's inbox: the work of the flow `scoring` and of `ae score RECIPE --inbox`.

    <home>/predictions/<recipe>/<date>/<call>.parquet   one for each file of the inbox, see aeops/predictions/prediction_store.py
    <home>/scoring/<recipe>/<run>.html, latest.html     the page of a run; latest.json is its summary
    <home>/scoring/<recipe>/refused.jsonl               contents that cannot be scored, with the reasons
    <home>/scoring/<recipe>/seen.json                   what earlier runs found in the inbox, see aeops/scoring/inbox.py
    <home>/scoring/<recipe>/run.json                    exists while a run is under way; the next run continues a killed one

Only one run of a recipe at a time, whatever else goes on in the workspace. A run scores by the version that was champion when it
began.
"""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aeops.bundle.detector import Detector
from aeops.errors import AeError, DataError
from aeops.files import atomic_write, make_folder, write_json
from aeops.kinds.decoding import is_caused_by_machine
from aeops.machine.lock import file_lock
from aeops.machine.stored_json import read_json_if_whole
from aeops.predictions.recorded_files import list_day_folders, list_recorded
from aeops.predictions.rows import Scorer, scorer_of
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.aliases import CHAMPION
from aeops.registry.store import open_store
from aeops.registry.trust import find_champion, trusted_bundle
from aeops.scoring.inbox import (
    BEING_WRITTEN_REASON,
    InboxFile,
    SeenFiles,
    inbox_folder,
    is_quiet,
    list_inbox,
    read_refusals,
    write_refusals,
)
from aeops.scoring.run_summary import FilesSummary, InboxSummary, RefusalRecord
from aeops.scoring.score_file import (
    RUN_KEY,
    SOURCE_KEY,
    FileChangedError,
    RecordedCalls,
    ScoredFile,
    calls_of,
    may_be_batch,
    read_batch_source,
    read_scored_file,
    score_and_record,
)

SUMMARY_FORMAT = 1
FILES_SCORED, NOTHING_NEW, NO_CHAMPION = "scored", "nothing new", "no champion"
MAX_PAGES = 200  # of earlier runs that stay
CHANGED_REASON = "it was written to while it was read; left for the next run"


@dataclass
class InboxOutcome:
    """What a run did with each file; names are printable.

    Attributes:
        scored: files whose samples it recorded.
        refused: lines of refused.jsonl that it added.
        copies: new files whose content was recorded before -> where.
        skipped: files that it did not read, or not to their end, and that the next run tries again -> the reason.
        unlisted: paths that hold no files to score, such as a link to nothing -> the reason.
        unchanged_count: number of files that are unchanged and recorded.
        refused_before_count: number of files that hold what an earlier run refused.
        errors: unexpected ones; raised once the other files are done.
    """

    scored: list[ScoredFile] = field(default_factory=list)
    refused: list[RefusalRecord] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    unchanged_count: int = 0
    refused_before_count: int = 0
    errors: list[Exception] = field(default_factory=list)

    @property
    def sample_count(self) -> int:
        """Number of samples of all scored files."""
        return sum(file.sample_count for file in self.scored)

    @property
    def flagged_count(self) -> int:
        """Number of flagged samples of all scored files."""
        return sum(file.flagged_count for file in self.scored)

    @property
    def unscored_count(self) -> int:
        """Number of samples of all scored files that have no score."""
        return sum(file.refused_count for file in self.scored)

    def to_dict(self) -> FilesSummary:
        """Return the files as the summary of a run holds them."""
        return {
            "taken": list(map(ScoredFile.to_dict, self.scored)),
            "refused": self.refused,
            "copies": self.copies,
            "left": self.unlisted | self.skipped,
            "known": self.unchanged_count,
            "refused_before": self.refused_before_count,
        }


def scoring_folder(project: Project, recipe: str) -> Path:
    """Return the folder of the recipe's runs."""
    return project.home / "scoring" / recipe


def score_inbox(project: Project, recipe: Recipe, now: datetime | None = None) -> InboxSummary:
    """Score the new files of the inbox by the champion.

    Args:
        project: where the inbox, the registry and the predictions are.
        recipe: whose inbox is scored.
        now: time of the predictions, with its zone; None: the clock's.

    Raises:
        DataError: no such inbox, or the champion's bundle is not to be trusted.
        InfrastructureError: MLflow cannot be reached, or the predictions cannot be written.
    """
    make_folder(scoring_folder(project, recipe.name))
    if recipe.scoring.inbox is None:
        make_folder(inbox_folder(project, recipe))  # the first time, so that there is a place for files
    with inbox_lock(project, recipe.name):
        return InboxRun(project, recipe, now or datetime.now(UTC)).run()


@contextmanager
def inbox_lock(project: Project, recipe: str) -> Iterator[None]:
    """Hold the lock of the recipe's inbox; print a line and wait while another run holds it."""
    message = f"another run scores {recipe}: waiting for it to end ..."
    with file_lock(project, f"scoring-{recipe}", on_wait=lambda: print(message, file=sys.stderr, flush=True)):
        yield


class InboxRun:
    """One run over a recipe's inbox."""

    def __init__(self, project: Project, recipe: Recipe, now: datetime) -> None:
        self.project, self.recipe, self.now = project, recipe, now
        self.folder = scoring_folder(project, recipe.name)
        self.inbox = inbox_folder(project, recipe)
        self.seen_files = SeenFiles(self.folder / "seen.json")
        self.refusals = read_refusals(self.folder / "refused.jsonl")
        self.calls = RecordedCalls(project)
        self.outcome = InboxOutcome()
        self.files_by_sha256: dict[str, InboxFile] = {}

    def run(self) -> InboxSummary:
        """Score the inbox from the beginning, or continue a killed run; see `score_inbox`."""
        new_files = self._find_new_files()
        run_record = self.folder / "run.json"
        if not new_files and not run_record.is_file():
            self.seen_files.save()
            return self._build_summary(NOTHING_NEW)
        store = open_store(self.project)
        if find_champion(self.project, store, self.recipe.name) is None:
            self.seen_files.save()
            return self._build_summary(NO_CHAMPION)
        bundle = trusted_bundle(self.project, store, self.recipe, CHAMPION)
        detector = Detector(bundle.folder, bundle.sha256)
        scorer = scorer_of(self.recipe.name, bundle.version, detector)
        run_name = self._begin_run(run_record)
        for file, sha256 in new_files:
            self._process_file(run_name, file, sha256, detector, scorer)
        summary = self._finish_run(run_name, detector, scorer)
        self.seen_files.save()
        run_record.unlink()
        if self.outcome.errors:
            raise self.outcome.errors[0]
        return summary

    # ------------------------------------------------------------ new files

    def _find_new_files(self) -> list[tuple[InboxFile, str]]:
        """Return the files whose content is neither recorded nor refused, with its SHA-256; count the others."""
        new_files = []
        listing = list_inbox(self.inbox)
        self.outcome.unlisted.update(listing.problems)
        for file in listing.files:
            if not is_quiet(file.fingerprint):
                self.outcome.skipped[file.printable_name] = BEING_WRITTEN_REASON
                continue
            try:
                sha256 = self.seen_files.sha256(file)
            except OSError as error:
                self.outcome.skipped[file.printable_name] = f"it cannot be read ({error.strerror})"
                continue
            self.files_by_sha256.setdefault(sha256, file)
            if sha256 in self.refusals:
                self.outcome.refused_before_count += 1
            elif not self._is_recorded(file, sha256):
                new_files.append((file, sha256))
        return new_files

    def _is_recorded(self, file: InboxFile, sha256: str) -> bool:
        """Return whether the content is recorded; count the file, as a copy where it is new and has another name."""
        if self.seen_files.call(file) in self.calls:
            self.outcome.unchanged_count += 1
            return True
        call, predictions = self.calls.find(self.recipe.name, sha256)
        if predictions is None:
            return False
        self.seen_files.remember_call(file, call)
        source = read_batch_source(predictions, call)[SOURCE_KEY]
        if source == file.printable_name or not self.seen_files.is_new(file):
            self.outcome.unchanged_count += 1
        else:
            self.outcome.copies[file.printable_name] = f"its content is that of {source}, recorded as {call}"
        return True

    def _begin_run(self, run_record: Path) -> str:
        """Return the run's name; where a run was killed, its name, and load what it had done."""
        record = read_json_if_whole(run_record, "run")
        if record is None:
            run_name = f"{self.now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
            write_json(run_record, {"run": run_name})
            return run_name
        run_name = str(record["run"])
        start = run_record.stat().st_mtime
        for folder in list_day_folders(self.project, self.recipe.name):
            for file in list_recorded(folder):
                if file.stat().st_mtime >= start:
                    self._resume_calls(file, run_name)
        self.outcome.scored.sort(key=lambda scored: scored.name)
        self.outcome.refused = [record for record in self.refusals.values() if record["run"] == run_name]
        return run_name

    def _resume_calls(self, file: Path, run_name: str) -> None:
        """Add the files whose predictions the killed run has recorded in this file."""
        for call in calls_of(file):
            if may_be_batch(call) and read_batch_source(file, call).get(RUN_KEY) == run_name:
                self.outcome.scored.append(read_scored_file(file, call))

    # ------------------------------------------------------------ file by file

    def _process_file(self, run_name: str, file: InboxFile, sha256: str, detector: Detector, scorer: Scorer) -> None:
        """Record a file's samples, or refuse it, or skip it; whatever is wrong with it, the next files follow."""
        if sha256 in self.refusals:  # by a file of the same content before it
            self.outcome.refused_before_count += 1
            return
        if self._is_recorded(file, sha256):
            return
        call, _ = self.calls.find(self.recipe.name, sha256)
        try:
            scored_file = score_and_record(self.project, run_name, self.now, file, sha256, call, detector, scorer)
        except FileChangedError:
            self.outcome.skipped[file.printable_name] = CHANGED_REASON
        except DataError as error:
            if is_caused_by_machine(error):  # the next run may be able to read it
                self.outcome.skipped[file.printable_name] = str(error)
            else:
                self._refuse_file(run_name, file, sha256, str(error))
        except AeError:
            raise
        except Exception as error:  # noqa: BLE001  # raised again after the other files
            error.add_note(f"while {file.path} was scored")
            self.outcome.skipped[file.printable_name] = f"{type(error).__name__}: {error}"
            self.outcome.errors.append(error)
        else:
            self.outcome.scored.append(scored_file)
            self.calls.add_file(scored_file.predictions)
            self.seen_files.remember_call(file, call)

    def _refuse_file(self, run_name: str, file: InboxFile, sha256: str, reason: str) -> None:
        record: RefusalRecord = {
            "sha256": sha256,
            "name": file.printable_name,
            "reason": reason,
            "time": self.now.isoformat(),
            "run": run_name,
        }
        self.refusals[sha256] = record
        write_refusals(self.folder / "refused.jsonl", self.refusals.values())
        self.outcome.refused.append(record)

    # ------------------------------------------------------------ summary and page

    def _finish_run(self, run_name: str, detector: Detector, scorer: Scorer) -> InboxSummary:
        """Write the run's page, where it did anything, and return the summary."""
        summary = self._build_summary(FILES_SCORED)
        summary["run"], summary["version"] = run_name, scorer.version
        if not self.outcome.scored and not self.outcome.refused:
            return summary
        from aeops.scoring.scoring_page import render_page  # brings matplotlib: only where there is something to draw

        page_path = self.folder / f"{run_name}.html"
        summary["page"] = str(page_path)
        html = render_page(self.project, summary, self.files_by_sha256, self.outcome.scored, detector, self.now)
        atomic_write(page_path, html)
        atomic_write(self.folder / "latest.html", html)
        write_json(self.folder / "latest.json", summary)
        for old_page in sorted(self.folder.glob("????????T??????-*.html"))[:-MAX_PAGES]:
            old_page.unlink()
        return summary

    def _build_summary(self, state: str) -> InboxSummary:
        return {
            "format": SUMMARY_FORMAT,
            "state": state,
            "says": describe_outcome(self.recipe.name, state, self.outcome),
            "recipe": self.recipe.name,
            "run": None,
            "time": self.now.isoformat(),
            "version": None,
            "inbox": str(self.inbox),
            "samples": self.outcome.sample_count,
            "flagged": self.outcome.flagged_count,
            "unscored": self.outcome.unscored_count,
            "page": None,
            "files": self.outcome.to_dict(),
        }


def describe_outcome(recipe: str, state: str, outcome: InboxOutcome) -> str:
    """Return the result of a run in one line."""
    if state == NO_CHAMPION:
        return f"{recipe} has no champion, so nothing was scored: `ae run {recipe}` makes one"
    if state == NOTHING_NEW:
        return "nothing new in the inbox" + _describe_other_files(outcome)
    samples, files = outcome.sample_count - outcome.unscored_count, len(outcome.scored)
    message = (
        f"{samples:,} sample{'s' * (samples != 1)} of {files} file{'s' * (files != 1)} scored, {outcome.flagged_count:,} flagged"
    )
    if outcome.unscored_count:
        message += f", {outcome.unscored_count:,} refused"
    return message + _describe_other_files(outcome)


def _describe_other_files(outcome: InboxOutcome) -> str:
    parts = []
    if outcome.refused:
        parts.append(f"{len(outcome.refused)} refused")
    if outcome.copies:
        parts.append(f"{len(outcome.copies)} the same as one before")
    if outcome.skipped:
        parts.append(f"{len(outcome.skipped)} left for the next run")
    if outcome.unlisted:
        parts.append(f"{len(outcome.unlisted)} not listed")
    if not parts:
        return ""
    return f"; files: {', '.join(parts)}"
