"""A look reads only the files that no check has counted before, and comes to what a check that reads them all comes to."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aeops.errors import DataError
from aeops.evaluation.reference import read_reference
from aeops.monitoring import paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.daily_counts import count_predictions
from aeops.monitoring.reference_bins import make_test_bins
from aeops.predictions import prediction_store
from aeops.predictions.rows import predictions_schema
from aeops.project import Project
from aeops.recipe.reader import Recipe

Seen = Callable[..., dict[str, Any]]


@pytest.fixture
def seen(project: Project, recipe: Recipe, promoted: datetime, at: Callable[[int], datetime]) -> Seen:
    """seen(until, since, period, channels): what a check counts."""
    reference = read_reference(paths.monitoring_folder(project, "digits") / "reference-1.parquet")
    first = ChampionPeriod("1", promoted.isoformat(), promoted)

    def count(
        until: datetime,
        since: datetime = promoted,
        period: ChampionPeriod = first,
        channels: tuple[str, ...] = recipe.monitor.channels,
    ) -> dict[str, Any]:
        found = count_predictions(project, "digits", period, make_test_bins(reference), since, until, channels).to_dict()
        return {name: dict(sorted(value.items())) for name, value in found.items()}

    return count


@pytest.fixture
def five_days(score: Callable[..., None], normal: np.ndarray) -> None:
    for day in range(1, 6):
        score(day, normal[day * 40 : day * 40 + 40], channel="service" if day % 2 else "batch", version="2" if day == 3 else "1")


def files(project: Project) -> list[Any]:
    return sorted(prediction_store.predictions_folder(project, "digits").glob("*-*-*/*.parquet"))


def anew(project: Project, count: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a check counts that can build on none before it."""
    paths.counts_file(project, "digits").unlink(missing_ok=True)
    return count()


@pytest.mark.usefixtures("five_days")
def test_a_file_is_read_once(project: Project, seen: Seen, at: Callable[[int], datetime]) -> None:
    before = seen(at(5))
    assert sum(tally["1"]["samples"] for tally in before["tallies"].values() if "1" in tally) == 4 * 40
    for file in files(project):
        times, size = file.stat(), file.stat().st_size
        file.write_bytes(b"x" * size)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert seen(at(5)) == before


@pytest.mark.usefixtures("five_days")
def test_a_file_that_was_written_again_is_counted_again(project: Project, seen: Seen, at: Callable[[int], datetime]) -> None:
    seen(at(5))
    [file] = [file for file in files(project) if file.parent.name == f"{at(2):%Y-%m-%d}"]
    table = prediction_store.read_call(file)
    prediction_store.write_call(file, table.slice(0, 7).to_batches())
    found = seen(at(5))
    assert found["tallies"][f"{at(2):%Y-%m-%d}"]["1"]["samples"] == 7
    assert found == anew(project, lambda: seen(at(5)))
    file.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        seen(at(5))


@pytest.mark.usefixtures("five_days")
def test_other_times_periods_and_channels_find_what_they_find_anew(
    project: Project, seen: Seen, at: Callable[[int], datetime], promoted: datetime
) -> None:
    spread_over_time(files(project)[1])
    noon = at(2) - timedelta(hours=11)
    other = ChampionPeriod("2", "", promoted)
    asked: list[dict[str, Any]] = [
        {"until": at(5)},
        {"until": noon + timedelta(seconds=15)},  # in the middle of a call
        {"until": at(5), "since": noon + timedelta(seconds=15)},
        {"until": noon + timedelta(seconds=25), "since": noon + timedelta(seconds=15)},
        {"until": at(3), "since": at(1)},
        {"until": at(5), "period": other},
        {"until": at(5), "period": replace(other, start=at(3))},
        {"until": at(5), "channels": ("batch",)},
        {"until": at(5)},
    ]
    found = [seen(**one) for one in asked]
    assert found == [anew(project, lambda one=one: seen(**one)) for one in asked]  # type: ignore[misc]
    assert len({repr(one) for one in found}) == len(asked) - 1, "only the first and the last ask the same"


def spread_over_time(file: Any) -> None:
    """Gives each prediction of a call a second more than the one before it."""
    rows = prediction_store.read_call(file).to_pylist()
    moved = [row | {"time": row["time"] + timedelta(seconds=place)} for place, row in enumerate(rows)]
    prediction_store.write_call(file, pa.Table.from_pylist(moved, schema=predictions_schema()).to_batches())


@pytest.mark.usefixtures("five_days")
def test_counts_that_are_torn_are_named_with_what_to_do(project: Project, seen: Seen, at: Callable[[int], datetime]) -> None:
    before = seen(at(5))
    place = paths.counts_file(project, "digits")
    place.write_text(place.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(DataError, match=r"counts\.json cannot be read .* remove it"):
        seen(at(5))
    place.unlink()
    assert seen(at(5)) == before
