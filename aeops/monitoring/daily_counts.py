"""What the champion has scored since it was promoted, day by day: from predictions to counts. One call in memory at a time.

What a call's file counts for is kept for later looks (kept.py). Predictions of the service and of batches count, those by hand
do not: a person scores what is odd. Days are those of UTC.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aeops.evaluation.reference import COLUMNS, Reference
from aeops.files import data_sha256
from aeops.monitoring.count_cache import kept
from aeops.monitoring.paths import counts_file
from aeops.monitoring.ranks import Cuts, bins_of, cut, even_ranks
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.monitoring import ALARM_RATE, CODES, INPUTS, SCORES, TESTS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ASKED = ("id", "time", "version", "is_anomaly", "channel", *COLUMNS)


@dataclass(frozen=True)
class Reign:
    """A champion and since when it is.

    Attributes:
        promoted: the time of the ledger's line that made it champion, as it stands there.
        since: the same moment; None where the clock that was given is behind the ledger's, as in a simulation: then all its
            predictions count.
    """

    version: str
    promoted: str
    since: datetime | None


@dataclass
class Observed:
    """Counts of predictions.

    Attributes:
        tallies: samples and alarms by day and version.
        bins: for each test that has a reference, by day, how many values of each column fell into each bin: (columns, bins).
        lacking: how many of the champion's predictions had no value of a test, or one that does not fit the reference.
    """

    tallies: dict[date, dict[str, Counter[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    bins: dict[str, dict[date, np.ndarray]] = field(default_factory=lambda: {name: {} for name in TESTS})
    lacking: Counter[str] = field(default_factory=Counter)

    def plain(self) -> dict[str, Any]:
        """As JSON has it; see `observed_of`."""
        bins = {test: {day.isoformat(): counts.tolist() for day, counts in days.items()} for test, days in self.bins.items()}
        tallies = {day.isoformat(): by_version for day, by_version in self.tallies.items()}
        return {"tallies": tallies, "bins": bins, "lacking": self.lacking}

    def add(self, more: "Observed") -> None:
        for day, by_version in more.tallies.items():
            for version, tally in by_version.items():
                self.tallies[day][version].update(tally)
        for test, by_day in more.bins.items():
            for day, counts in by_day.items():
                self.bins[test][day] = self.bins[test].get(day, 0) + counts
        self.lacking.update(more.lacking)

    def samples_on(self, day: date) -> int:
        return sum(tally["samples"] for tally in self.tallies[day].values()) if day in self.tallies else 0

    def days_of(self, reign: Reign) -> tuple[list[date], np.ndarray]:
        """The days of a reign on which its champion scored, and its alarms and samples on each, (days, 2)."""
        first = date.min if reign.since is None else reign.since.date()
        days = sorted(day for day, by_version in self.tallies.items() if reign.version in by_version and day >= first)
        counts = [[self.tallies[day][reign.version][what] for what in ("alarms", "samples")] for day in days]
        return days, np.array(counts, dtype=np.int64).reshape(-1, 2)


def cuts_of(reference: Reference) -> dict[str, list[Cuts]]:
    """The bins of each test, a column after the other; none for a test whose columns the reference cannot cut."""
    m = len(reference.score)
    if m == 0:
        return {}
    even = even_ranks(m)
    tests = {
        SCORES: [cut(reference.score, even)],
        CODES: [cut(column, even) for column in reference.code.T],
        INPUTS: [cut(reference.mean, even), cut(reference.std, even)],
    }
    return ({ALARM_RATE: [cut(reference.score, [reference.rank])]} if reference.rank <= m else {}) | tests


def observed_of(plain: dict[str, Any]) -> Observed:
    """What `Observed.plain` wrote."""
    found = Observed(lacking=Counter(plain["lacking"]))
    for day, tallies in plain["tallies"].items():
        found.tallies[date.fromisoformat(day)].update({version: Counter(tally) for version, tally in tallies.items()})
    for test, days in plain["bins"].items():
        found.bins[test] = {date.fromisoformat(day): np.array(counts, dtype=np.int64) for day, counts in days.items()}
    return found


def observe(
    project: Project,
    recipe: str,
    reign: Reign,
    cuts: dict[str, list[Cuts]],
    since: datetime,
    until: datetime,
    channels: Sequence[str],
) -> Observed:
    """Counts the recipe's predictions of these channels from `since` to `until`, and the champion's among the bins.

    A call's file is counted whole and its counts are kept; where only a part of it is of that time, that part is counted anew.
    """
    found = Observed()
    journals, files = prediction_store.listed(project, recipe, since, until, channels)
    for journal in journals:
        found.add(counted(prediction_store.chosen(journal, since, until, channels), reign, cuts))
    first, end = microseconds(since), microseconds(until)

    def count(file: Path) -> dict[str, Any]:
        table = prediction_store.chosen(prediction_store.read_call(file, ASKED), None, None, channels)
        return counted(table, reign, cuts).plain() | times_of(table)

    with kept(counts_file(project, recipe), basis_of(reign, cuts, channels)) as counts:
        for file in files:
            whole = counts.of(file, count)
            if whole["last"] is None or whole["last"] < first or end <= whole["first"]:
                continue
            if first <= whole["first"] and whole["last"] < end:
                found.add(observed_of(whole))
            else:
                table = prediction_store.chosen(prediction_store.read_call(file, ASKED), since, until, channels)
                found.add(counted(table, reign, cuts))
    return found


def basis_of(reign: Reign, cuts: dict[str, list[Cuts]], channels: Sequence[str]) -> str:
    """What the counts of a file rest on beside the file, as a SHA-256."""
    bins = {
        test: [[one.ends.tolist(), one.lots.tolist(), one.gaps.tolist(), one.grain] for one in columns]
        for test, columns in cuts.items()
    }
    since = None if reign.since is None else reign.since.isoformat()
    rests_on = json.dumps([reign.version, since, bins, sorted(channels)])
    return data_sha256(rests_on)


def times_of(table: pa.Table) -> dict[str, int | None]:
    """The first and the last moment of predictions, in microseconds since 1970; None of none."""
    ends = pc.min_max(table["time"].cast(pa.int64())).as_py()
    return {"first": ends["min"], "last": ends["max"]}


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def counted(table: pa.Table, reign: Reign, cuts: dict[str, list[Cuts]]) -> Observed:
    """The counts of these predictions, with the columns of `ASKED`."""
    found = Observed()
    count_tallies(found, table)
    own = pc.equal(table["version"], reign.version)
    if reign.since is not None:
        own = pc.and_(own, pc.greater_equal(table["time"], pa.scalar(reign.since, table["time"].type)))
    own_rows = table.filter(own)
    if own_rows.num_rows:
        count_bins(found, own_rows, cuts)
    return found


def recorded(
    project: Project, recipe: str, since: datetime, until: datetime, columns: tuple[str, ...], channels: Sequence[str]
) -> Iterator[pa.Table]:
    """The predictions of each call of these channels in that time."""
    asked = list(dict.fromkeys([*columns, "time", "channel"]))
    for call in prediction_store.calls(project, recipe, since, until, channels, asked):
        table = prediction_store.chosen(call, since, until, channels)
        if table.num_rows:
            yield table


def dates_of(table: pa.Table) -> np.ndarray:
    """The day of each row, (n,) datetime64[D]."""
    return np.asarray(table["time"].cast(pa.timestamp("us")).to_numpy().astype("datetime64[D]"))


def count_tallies(found: Observed, table: pa.Table) -> None:
    dates, versions = dates_of(table), np.asarray(table["version"].to_pylist(), dtype=object)
    flagged = table["is_anomaly"].to_numpy()
    for version in set(versions):
        for day in np.unique(dates[versions == version]):
            chosen = (versions == version) & (dates == day)
            tally = found.tallies[day.item()][version]
            tally["samples"] += int(chosen.sum())
            tally["alarms"] += int(flagged[chosen].sum())


def count_bins(found: Observed, table: pa.Table, cuts: dict[str, list[Cuts]]) -> None:
    for test, columns in cuts.items():
        values, whole = values_of(test, table, len(columns))
        found.lacking[test] += int((~whole).sum())
        ids, dates = table["id"].filter(pa.array(whole)), dates_of(table)[whole]
        for day in np.unique(dates):
            rows = np.flatnonzero(dates == day)
            of_day = ids.take(pa.array(rows)).combine_chunks()
            counted = [
                np.bincount(bins_of(column[rows], lambda row: str(of_day[row]), one), minlength=one.bins)  # noqa: B023
                for column, one in zip(values.T, columns, strict=True)
            ]
            add(found.bins[test], day.item(), counted)


def add(counts: dict[date, np.ndarray], day: date, more: list[np.ndarray]) -> None:
    counts[day] = counts.get(day, 0) + np.stack(more)


def values_of(test: str, table: pa.Table, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The values that a test looks at, (k, columns), of the k rows that have them, and which rows those are, bool (n,)."""
    if test == CODES:
        lengths = pc.fill_null(pc.list_value_length(table["code"]), -1).to_numpy()
        whole = lengths == columns
        codes = table["code"].filter(pa.array(whole)).combine_chunks()
        return codes.flatten().to_numpy(zero_copy_only=False).reshape(-1, columns), whole
    names = ("mean", "std") if test == INPUTS else ("score",)
    whole = np.all([table[name].is_valid().to_numpy() for name in names], axis=0)
    kept = table.filter(pa.array(whole))
    return np.stack([kept[name].to_numpy() for name in names], axis=1), whole


def recent(
    project: Project, recipe: str, reign: Reign, until: datetime, days: int, most: int, channels: Sequence[str]
) -> pa.Table:
    """The champion's predictions of the last days, with a reference's columns; at most so many, drawn with a fixed seed."""
    since = until - timedelta(days=days)
    since = since if reign.since is None else max(since, reign.since)
    columns = ("version", *COLUMNS)
    parts = [
        table.filter(pc.equal(table["version"], reign.version))
        for table in recorded(project, recipe, since, until, columns, channels)
    ]
    table = pa.concat_tables(parts).select(COLUMNS) if parts else prediction_store.empty().select(COLUMNS)
    if table.num_rows <= most:
        return table
    return table.take(np.sort(np.random.default_rng(0).choice(table.num_rows, most, replace=False)))


def midnight(moment: datetime) -> datetime:
    """The beginning of a moment's day in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
