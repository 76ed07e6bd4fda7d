"""Count what the champion has scored since its promotion, day by day, with the predictions of one call in memory at a time.

The counts of a call's file are cached for later checks (count_cache.py). Predictions of the service and of batches count; those
by hand do not, since a person scores odd samples. Days are those of UTC.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ae_models.mappings import map_values
from aeops.evaluation.reference import COLUMNS
from aeops.files import data_sha256
from aeops.kinds.series_blocks import BlockRule
from aeops.monitoring.block_counts import BlockKey, BlockSums, bin_blocks, blocks_from_json, blocks_to_json, sum_blocks
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.count_cache import open_cache
from aeops.monitoring.paths import counts_file
from aeops.monitoring.ranks import ColumnBins, assign_bins
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL, TEST_SIGNALS

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DayValue = TypeVar("DayValue")
COUNTS_FORMAT = 2  # of `DailyCounts.to_dict`, which the cache holds
COUNTED_COLUMNS = ("id", "time", "version", "is_anomaly", "flags", "channel", "sample", *COLUMNS)


def _nested_counters() -> dict[date, dict[str, Counter[str]]]:
    return defaultdict(lambda: defaultdict(Counter))


@dataclass
class DailyCounts:
    """Counts of predictions by day.

    Attributes:
        by_version: day -> version -> number of `samples`, of `alarms`, and of `unlike`, which have flags.
        bins: test -> day -> how many values of each column fell into each bin, (columns, bins); for tests with a reference.
        blocks: of a series' windows, which fall into bins together: see `bin_blocks`.
        incomplete_counts: test -> how many of the champion's predictions lack the values of the test or do not fit the reference.
    """

    by_version: dict[date, dict[str, Counter[str]]] = field(default_factory=_nested_counters)
    bins: dict[str, dict[date, np.ndarray]] = field(default_factory=lambda: {name: {} for name in TEST_SIGNALS})
    blocks: dict[BlockKey, BlockSums] = field(default_factory=dict)
    incomplete_counts: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON holds them; `from_dict` is the inverse."""
        bins = {}
        for test, by_day in self.bins.items():
            bins[test] = _by_iso_day(map_values(np.ndarray.tolist, by_day))
        content = {"tallies": _by_iso_day(self.by_version), "bins": bins, "lacking": self.incomplete_counts}
        return content | {"blocks": blocks_to_json(self.blocks)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "DailyCounts":
        """Return the counts that `to_dict` has written."""
        counts = cls(incomplete_counts=Counter(content["lacking"]))
        for day, by_version in content["tallies"].items():
            for version, version_counts in by_version.items():
                counts.by_version[date.fromisoformat(day)][version] = Counter(version_counts)
        for test, by_day in content["bins"].items():
            for day, bin_counts in by_day.items():
                counts.bins[test][date.fromisoformat(day)] = np.array(bin_counts, dtype=np.int64)
        counts.blocks = blocks_from_json(content["blocks"])
        return counts

    def add_counts(self, other: "DailyCounts") -> None:
        """Add the counts of other predictions."""
        for day, by_version in other.by_version.items():
            for version, version_counts in by_version.items():
                self.by_version[day][version].update(version_counts)
        for test, by_day in other.bins.items():
            for day, bin_counts in by_day.items():
                self.add_bins(test, day, bin_counts)
        for key, sums in other.blocks.items():
            self.blocks[key] = self.blocks[key] + sums if key in self.blocks else sums
        self.incomplete_counts.update(other.incomplete_counts)

    def add_bins(self, test: str, day: date, bin_counts: np.ndarray) -> None:
        """Add the counts (columns, bins) of a test on a day."""
        self.bins[test][day] = self.bins[test].get(day, 0) + bin_counts

    def samples_on(self, day: date) -> int:
        """Return how many samples all versions scored on a day."""
        if day not in self.by_version:
            return 0
        samples = 0
        for version_counts in self.by_version[day].values():
            samples += version_counts["samples"]
        return samples

    def champion_days(self, period: ChampionPeriod) -> tuple[list[date], np.ndarray]:
        """Return the days of a period on which its champion scored, and its alarms and samples on each, (days, 2)."""
        days, rows = [], []
        for day in sorted(self.by_version):
            if day >= period.first_day and period.version in self.by_version[day]:
                version_counts = self.by_version[day][period.version]
                days.append(day)
                rows.append((version_counts["alarms"], version_counts["samples"]))
        return days, np.array(rows, dtype=np.int64).reshape(-1, 2)

    @property
    def has_block_alarms(self) -> bool:
        """Whether the test of the alarm rate counts blocks of a series' windows."""
        return bool(self.blocks) and bool(self.bins[ALARM_RATE_SIGNAL])

    def alarm_days(self, period: ChampionPeriod) -> tuple[list[date], np.ndarray]:
        """Return as `champion_days` what the test of the alarm rate counts: samples, or of a series blocks of windows."""
        if not self.has_block_alarms:
            return self.champion_days(period)
        by_day = self.bins[ALARM_RATE_SIGNAL]
        days = sorted(by_day)
        return days, np.array([(by_day[day][0, -1], by_day[day].sum()) for day in days], dtype=np.int64).reshape(-1, 2)

    def count_unlike(self, period: ChampionPeriod) -> int:
        """Return how many samples of a period its champion has flagged as unlike those of the training, whatever their score."""
        total = 0
        for day, by_version in self.by_version.items():
            if day >= period.first_day and period.version in by_version:
                total += by_version[period.version]["unlike"]
        return total


def _by_iso_day(by_day: Mapping[date, DayValue]) -> dict[str, DayValue]:
    """Return values by their days as JSON names them."""
    return {day.isoformat(): value for day, value in by_day.items()}


def count_predictions(
    project: Project,
    recipe: str,
    period: ChampionPeriod,
    test_bins: dict[str, list[ColumnBins]],
    since: datetime,
    until: datetime,
    channels: Sequence[str],
    rule: BlockRule | None = None,
) -> DailyCounts:
    """Count the recipe's predictions by day and version, and sort the champion's into bins.

    A call's file is counted as a whole and its counts are cached; where only a part of it lies in the time span, that part is
    counted each time.

    Args:
        period: the champion whose predictions are sorted into bins.
        test_bins: see `make_test_bins`.
        since: first time, included.
        until: last time, left out.
        channels: such as `service` and `batch`.
        rule: by which windows of a series are counted in blocks; None: each prediction counts.

    Raises:
        DataError: a prediction's file or the cache cannot be read.
    """
    total = DailyCounts()
    journals, files = prediction_store._list_calls(project, recipe, since, until, channels)
    for journal in journals:
        total.add_counts(_count_table(prediction_store.select_rows(journal, since, until, channels), period, test_bins, rule))

    def count_file(file: Path) -> dict[str, Any]:
        table = prediction_store.select_rows(prediction_store.read_call(file, COUNTED_COLUMNS), None, None, channels)
        return _count_table(table, period, test_bins, rule).to_dict() | _time_range(table)

    start, end = _unix_microseconds(since), _unix_microseconds(until)
    with open_cache(counts_file(project, recipe), _cache_basis(period, test_bins, channels, rule)) as cache:
        for file in files:
            counts = cache.get_or_count(file, count_file)
            first, last = counts["first"], counts["last"]
            if last is None or last < start or first >= end:
                continue
            if first >= start and last < end:
                total.add_counts(DailyCounts.from_dict(counts))
            else:
                table = prediction_store.select_rows(prediction_store.read_call(file, COUNTED_COLUMNS), since, until, channels)
                total.add_counts(_count_table(table, period, test_bins, rule))
    if rule is not None:
        total.bins |= bin_blocks(total.blocks, rule, test_bins)
    return total


def _cache_basis(
    period: ChampionPeriod, test_bins: dict[str, list[ColumnBins]], channels: Sequence[str], rule: BlockRule | None
) -> str:
    """Return the SHA-256 of what the counts of a file depend on besides the file."""
    bins: dict[str, list[list[Any]]] = {}
    for test, columns in test_bins.items():
        bins[test] = []
        for column in columns:
            bins[test].append([column.edges.tolist(), column.tie_breakers.tolist(), column.gaps.tolist(), column.resolution])
    start = None if period.start is None else period.start.isoformat()
    basis = [COUNTS_FORMAT, period.version, start, bins, sorted(channels), None if rule is None else asdict(rule)]
    return data_sha256(json.dumps(basis))


def _time_range(table: pa.Table) -> dict[str, int | None]:
    """Return the first and the last time of the predictions in microseconds since 1970; None where there are none."""
    time_extremes = pc.min_max(table["time"].cast(pa.int64())).as_py()
    return {"first": time_extremes["min"], "last": time_extremes["max"]}


def _unix_microseconds(timestamp: datetime) -> int:
    return (timestamp - UNIX_EPOCH) // timedelta(microseconds=1)


def _count_table(
    table: pa.Table, period: ChampionPeriod, test_bins: dict[str, list[ColumnBins]], rule: BlockRule | None
) -> DailyCounts:
    """Return the counts of predictions with the columns `COUNTED_COLUMNS`."""
    counts = DailyCounts()
    _count_versions(counts, table)
    is_champion = pc.equal(table["version"], period.version)
    if period.start is not None:
        is_in_period = pc.greater_equal(table["time"], pa.scalar(period.start, table["time"].type))
        is_champion = pc.and_(is_champion, is_in_period)
    champion_rows = table.filter(is_champion)
    if champion_rows.num_rows and rule is not None:
        counts.blocks = sum_blocks(champion_rows, _row_dates(champion_rows), rule, counts.incomplete_counts)
    elif champion_rows.num_rows:
        _count_bins(counts, champion_rows, test_bins)
    return counts


def _iter_calls(
    project: Project, recipe: str, since: datetime, until: datetime, columns: tuple[str, ...], channels: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the predictions of each call of these channels in the time span."""
    needed_columns = list(dict.fromkeys([*columns, "time", "channel"]))
    for call in prediction_store.read_calls(project, recipe, since, until, channels, needed_columns):
        table = prediction_store.select_rows(call, since, until, channels)
        if table.num_rows:
            yield table


def _row_dates(table: pa.Table) -> np.ndarray:
    """Return the day of each row, (n,) datetime64[D]."""
    return np.asarray(table["time"].cast(pa.timestamp("us")).to_numpy().astype("datetime64[D]"))


def _count_versions(counts: DailyCounts, table: pa.Table) -> None:
    dates, versions = _row_dates(table), np.asarray(table["version"].to_pylist(), dtype=object)
    is_anomaly = table["is_anomaly"].to_numpy()
    has_flags = pc.fill_null(pc.list_value_length(table["flags"]), 0).to_numpy() > 0
    for version in set(versions):
        for day in np.unique(dates[versions == version]):
            rows = (versions == version) & (dates == day)
            version_counts = counts.by_version[day.item()][version]
            version_counts["samples"] += int(rows.sum())
            version_counts["alarms"] += int(is_anomaly[rows].sum())
            version_counts["unlike"] += int(has_flags[rows].sum())


def _count_bins(counts: DailyCounts, table: pa.Table, test_bins: dict[str, list[ColumnBins]]) -> None:
    for test, columns in test_bins.items():
        values, is_complete = _test_values(test, table, len(columns), columns[0].is_watched)
        counts.incomplete_counts[test] += int((~is_complete).sum())
        ids, dates = table["id"].filter(pa.array(is_complete)), _row_dates(table)[is_complete]
        for day in np.unique(dates):
            rows = np.flatnonzero(dates == day)
            day_ids = ids.take(pa.array(rows)).combine_chunks()
            counts.add_bins(test, day.item(), _bin_counts(values[rows], day_ids, columns))


def _bin_counts(values: np.ndarray, ids: pa.Array, columns: list[ColumnBins]) -> np.ndarray:
    """Return how many of the values (n, columns) fall into each bin, (columns, bins)."""
    counts = []
    for column_values, column in zip(values.T, columns, strict=True):
        bins = assign_bins(column_values, lambda row: str(ids[row]), column)
        counts.append(np.bincount(bins, minlength=column.bin_count))
    return np.stack(counts)


def _list_values(lists: pa.ChunkedArray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists of this length as (k, columns), and which rows have them, bool (n,)."""
    is_complete = pc.fill_null(pc.list_value_length(lists), -1).to_numpy() == columns
    values = lists.filter(pa.array(is_complete)).combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, columns), is_complete


def _test_values(test: str, table: pa.Table, columns: int, has_values: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a test, (k, columns), of the k rows that have them, and which rows those are, bool (n,)."""
    if test == CODE_SIGNAL:
        return _list_values(table["code"], columns)
    if test == INPUT_SIGNAL and has_values:
        return _list_values(table["values"], columns)
    names = ("mean", "std") if test == INPUT_SIGNAL else ("score",)
    is_complete = np.all([table[name].is_valid().to_numpy() for name in names], axis=0)
    complete_rows = table.filter(pa.array(is_complete))
    return np.stack([complete_rows[name].to_numpy() for name in names], axis=1), is_complete


def read_recent_predictions(
    project: Project, recipe: str, period: ChampionPeriod, until: datetime, days: int, limit: int, channels: Sequence[str]
) -> pa.Table:
    """Return the champion's predictions of the last days, with a reference's columns.

    Args:
        until: end of the time span.
        days: its length.
        limit: the most rows to return; of more, so many are drawn with a fixed seed.
        channels: such as `service` and `batch`.
    """
    since = until - timedelta(days=days)
    if period.start is not None:
        since = max(since, period.start)
    draw = np.random.default_rng(0)
    table, keys = prediction_store.empty_table().select(COLUMNS), np.empty(0)
    for call in _iter_calls(project, recipe, since, until, ("version", *COLUMNS), channels):
        rows = call.filter(pc.equal(call["version"], period.version)).select(COLUMNS)
        table, keys = pa.concat_tables([table, rows]), np.append(keys, draw.random(rows.num_rows))
        if table.num_rows > limit:  # the rows with the smallest of their random numbers: a uniform draw of all so far
            kept = np.sort(np.argpartition(keys, limit)[:limit])
            table, keys = table.take(kept), keys[kept]
    return table


def has_recent_samples(counts: DailyCounts, period: ChampionPeriod, until: datetime, days: int) -> bool:
    """Return whether the champion scored on one of the last whole days, or on the day of `until`."""
    first_day = (until - timedelta(days=days)).astimezone(UTC).date() + timedelta(days=1)
    scored_days, _ = counts.champion_days(period)
    return any(day >= first_day for day in scored_days)


def midnight(timestamp: datetime) -> datetime:
    """Return the beginning of a timestamp's day in UTC."""
    return timestamp.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
