"""The small calls of a day that is over become one file; a process killed at any line loses no row and doubles none."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from forked import Fork

from aeops.errors import DataError, UsageError
from aeops.predictions import day_files, prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.day_files import delete_joined_files, roll_days
from aeops.predictions.recorded_files import joined_calls, list_day_folders, list_recorded
from aeops.predictions.redaction import redact_predictions
from aeops.predictions.rows import Scorer
from aeops.project import Project
from aeops.scoring.score_file import (
    RUN_KEY,
    SHA256_KEY,
    SOURCE_KEY,
    RecordedCalls,
    call_name,
    read_batch_source,
    read_call_rows,
    read_scored_file,
)

MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)
TOMORROW = date(2026, 3, 2)
SCORER = Scorer(recipe="digits", version="1", bundle_sha256="b", threshold=0.5, kind="image", low=0, high=255)
CALLS = 12
FILE_SHA256 = "5" * 64  # of the inbox's file that one of the calls is of


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(root=tmp_path, home=tmp_path / ".ae")


@pytest.fixture
def calls(project: Project) -> list[str]:
    """Twelve small calls of a day, of one to three rows, the last of them a batch's."""
    names = [f"{number:012x}" for number in range(CALLS - 1)] + [call_name("digits", FILE_SHA256, 0)]
    for number, call in enumerate(names):
        record(project, call, MORNING + timedelta(minutes=number), 1 + number % 3)
    return names


def record(project: Project, call: str, moment: datetime, rows: int) -> None:
    scores = {name: np.linspace(0.1, 0.9, rows, dtype=np.float32) for name in ("score", "p_value")}
    scores |= {"is_anomaly": np.zeros(rows, bool), "code": np.ones((rows, 4), np.float32), "flags": np.zeros(rows, np.uint16)}
    samples = np.full((rows, 1, 2, 2), 51, np.uint8)
    is_batch = len(call) == 16
    batch = build_rows(
        SCORER,
        call=call,
        channel="batch" if is_batch else "service",
        time=moment,
        names=[f"{call}.npy[{row}]" for row in range(rows)],
        samples=samples,
        outputs=scores,
    )
    metadata = {SOURCE_KEY: "parts.npy", SHA256_KEY: FILE_SHA256, RUN_KEY: "r1"} if is_batch else None
    prediction_store.write_call(prediction_store.call_file(project, "digits", moment, call), [batch], metadata)


def all_rows(project: Project) -> list[dict[str, Any]]:
    return prediction_store.read_predictions(project, "digits").to_pylist()


def parquet_files(project: Project) -> list[Path]:
    [folder] = list_day_folders(project, "digits")
    return sorted(folder.iterdir())


@pytest.mark.usefixtures("calls")
def test_a_day_becomes_one_file_with_the_same_rows(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_rows(project)
    assert roll_days(project, "digits", TOMORROW) == CALLS
    [folder] = list_day_folders(project, "digits")
    assert len(list_recorded(folder)) == 1
    assert len(parquet_files(project)) == CALLS + 1, "whoever has listed the files reads them on"
    assert all_rows(project) == before
    monkeypatch.setattr(day_files, "DELETE_AFTER", 0)
    assert roll_days(project, "digits", TOMORROW) == 0
    assert len(parquet_files(project)) == 1
    assert all_rows(project) == before


def test_a_day_that_is_not_over_and_few_or_large_files_stay_as_they_are(
    project: Project, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert roll_days(project, "digits", MORNING.date()) == 0
    assert roll_days(project, "digits") == CALLS  # of today's clock the day is over
    delete_joined_files(project, "digits")
    for number in range(day_files.MIN_CALLS - 1):
        record(project, f"f{number:011x}", MORNING, 1)
    assert roll_days(project, "digits", TOMORROW) == 0
    record(project, "fe" * 6, MORNING, 1)
    monkeypatch.setattr(day_files, "SMALL_BYTES", 1)
    assert roll_days(project, "digits", TOMORROW) == 0
    monkeypatch.undo()
    assert roll_days(project, "digits", TOMORROW) == day_files.MIN_CALLS, "calls that come late get a day file of their own"


def test_a_prediction_and_a_batch_are_found_in_a_day_file(project: Project, calls: list[str]) -> None:
    roll_days(project, "digits", TOMORROW)
    delete_joined_files(project, "digits")
    for call, row in ((calls[0], 0), (calls[5], 2), (calls[-1], 1)):
        prediction = prediction_store.find_prediction(project, f"{call}-{row}")
        assert (prediction.id, prediction.sample) == (f"{call}-{row}", f"{call}.npy[{row}]")
    with pytest.raises(UsageError, match=f"the call {calls[5]} has {calls[5]}-0 to {calls[5]}-2"):
        prediction_store.find_prediction(project, f"{calls[5]}-3")
    recorded = RecordedCalls(project)
    call, file = recorded.find("digits", FILE_SHA256)
    assert call == calls[-1]
    assert file == parquet_files(project)[0]
    assert read_batch_source(file, call)[SOURCE_KEY] == "parts.npy"
    assert set(joined_calls(file)) == set(calls)
    scored = read_scored_file(file, call)
    assert (scored.name, scored.call, scored.sample_count) == ("parts.npy", call, 3)
    names = read_call_rows(file.with_name(f"{call}.parquet"), call, ["sample"])["sample"].to_pylist()
    assert names == [f"{call}.npy[{row}]" for row in range(3)], "a run that has listed the call's own file finds the rows"
    assert calls[3] in recorded


@pytest.mark.usefixtures("calls")
def test_a_sample_is_taken_out_of_a_day_file_once(project: Project, calls: list[str]) -> None:
    roll_days(project, "digits", TOMORROW)
    assert redact_predictions(project, "digits", [f"{calls[5]}.npy[1]"], []) == 1
    assert [row["id"] for row in all_rows(project) if row["sample"] == "(forgotten)"] == [f"{calls[5]}-1"]
    assert prediction_store.find_prediction(project, f"{calls[5]}-2").sample == f"{calls[5]}.npy[2]"


def test_a_call_that_cannot_be_read_stays_and_is_named_by_its_reader(project: Project, calls: list[str]) -> None:
    [folder] = list_day_folders(project, "digits")
    damaged = folder / f"{calls[2]}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert roll_days(project, "digits", TOMORROW) == CALLS - 1
    assert roll_days(project, "digits", TOMORROW) == 0
    with pytest.raises(DataError, match=f"{calls[2]}.parquet cannot be read"):
        all_rows(project)


@pytest.mark.usefixtures("calls")
def test_a_day_file_that_cannot_be_read_is_named(project: Project) -> None:
    roll_days(project, "digits", TOMORROW)
    [day_file] = [file for file in parquet_files(project) if file.name.startswith("day-")]
    day_file.write_bytes(day_file.read_bytes()[:40])
    with pytest.raises(DataError, match=f"{day_file.name} cannot be read"):
        all_rows(project)


def test_a_process_killed_at_any_step_loses_no_row_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_step: int
) -> None:
    """Each trial dies before another call that changes the disk: of writing, syncing, renaming or deleting."""
    monkeypatch.setattr(day_files, "DELETE_AFTER", 0)  # so that one trial's passes join and delete
    ends = []
    for step in itertools.count(step=kill_step):
        project = Project(root=tmp_path / str(step), home=tmp_path / str(step) / ".ae")
        for number in range(day_files.MIN_CALLS):
            record(project, f"{number:012x}", MORNING + timedelta(minutes=number), 1 + number % 2)
        before = all_rows(project)
        child = Fork(lambda at=step, of=project: roll_twice(of, at), cwd=tmp_path, env=os.environ)
        ends.append(child.wait())
        assert all_rows(project) == before, f"killed at step {step}"
        roll_days(project, "digits", TOMORROW)
        roll_days(project, "digits", TOMORROW)
        assert all_rows(project) == before, f"after step {step}, at the end"
        assert len(parquet_files(project)) == 1
        if ends[-1] == 0:
            break
    assert ends[:-1] == [-signal.SIGKILL] * (len(ends) - 1)
    assert (len(ends) - 1) * kill_step >= day_files.MIN_CALLS + 3, (
        "each deletion, the renaming and the two syncs were died before"
    )


def roll_twice(project: Project, step: int) -> None:
    """Join and delete; die before the disk is changed for this time."""
    steps: Iterator[int] = itertools.count()
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, dying(getattr(os, name), steps, step))
    roll_days(project, "digits", TOMORROW)
    roll_days(project, "digits", TOMORROW)


def dying(function: Callable[..., Any], steps: Iterator[int], step: int) -> Callable[..., Any]:
    def call(*arguments: Any, **settings: Any) -> Any:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **settings)

    return call


def test_rows_of_a_day_file_lie_in_row_groups_and_in_order_of_time(project: Project, calls: list[str]) -> None:
    roll_days(project, "digits", TOMORROW)
    [day_file] = [file for file in parquet_files(project) if file.name.startswith("day-")]
    table = prediction_store.read_call(day_file)
    assert isinstance(table, pa.Table)
    assert table["time"].to_pylist() == sorted(table["time"].to_pylist())
    assert table.num_rows == sum(1 + number % 3 for number in range(CALLS))
