"""Predictions of every channel are read as one table, also from journals with a torn end and from files of older form."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aeops.errors import DataError
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.rows import Scorer, moments_of, predictions_schema, summary_of_code
from aeops.project import Project

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCORER = Scorer(recipe="digits", version="1", bundle_sha256="b", threshold=0.5, kind="image", low=0, high=255)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(root=tmp_path, home=tmp_path / ".ae")


def some_rows(count: int, time: datetime = NOON, channel: str = "batch", call: str = "0" * 16, first: int = 0) -> pa.RecordBatch:
    scored = {name: np.arange(first, first + count, dtype=np.float32) for name in ("score", "p_value")}
    scored |= {"is_anomaly": np.zeros(count, bool), "code": np.ones((count, 40), np.float32), "flags": np.zeros(count, np.uint16)}
    names = [f"batch.npy[{row}]" for row in range(first, first + count)]
    samples = np.full((count, 1, 2, 2), 51, np.uint8)
    return build_rows(
        SCORER, call=call, channel=channel, time=time, names=names, samples=samples, outputs=scored, first_row=first
    )


def keep(project: Project, batch: pa.RecordBatch, call: str = "0" * 16) -> Path:
    place = prediction_store.call_file(project, "digits", batch["time"][0].as_py(), call)
    prediction_store.write_call(place, [batch])
    return place


def journal(project: Project, batches: list[pa.RecordBatch], call: str = "a" * 16) -> Path:
    """A journal as a service leaves it that is still running."""
    place = prediction_store.journal_file(project, "digits", call)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as stream:
        writer = pa.ipc.new_stream(stream, predictions_schema())
        for batch in batches:
            writer.write_batch(batch)
        stream.flush()
        whole = place.read_bytes()
    place.write_bytes(whole)  # without the mark that ends a stream
    return place


def test_a_code_is_kept_whole_up_to_sixteen_numbers_and_then_as_the_means_of_sixteen_parts() -> None:
    short = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(summary_of_code(short), short.reshape(3, 16))
    long = np.random.default_rng(1).normal(size=(3, 45)).astype(np.float32)
    found = summary_of_code(long)
    assert found.shape == (3, 16)
    sizes = [len(part) for part in np.split(np.arange(45), [i * 45 // 16 for i in range(1, 16)])]
    assert set(sizes) == {2, 3}
    ends = np.cumsum([0, *sizes])
    expected = np.stack([long[:, a:b].mean(axis=1) for a, b in pairwise(ends)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mean_and_std_are_of_the_values_scaled_by_the_models_range() -> None:
    samples = np.random.default_rng(0).uniform(-2, 6, size=(5, 1, 3, 7))
    mean, std = moments_of(samples, replace(SCORER, low=-2, high=6))
    scaled = (samples.reshape(5, -1) + 2) / 8
    np.testing.assert_allclose(mean, scaled.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(std, scaled.std(axis=1), rtol=1e-6)


@pytest.mark.parametrize("texts", [["Grüße", "ab"], np.array([list("Grüße".encode()), [97, 98, 0, 0, 0, 0, 0]], np.uint8)])
def test_of_a_text_mean_is_its_length_in_characters(texts: list[str] | np.ndarray) -> None:
    mean, std = moments_of(texts, replace(SCORER, kind="text"))
    assert (mean.tolist(), std.tolist()) == ([5, 2], [0, 0])


def test_what_is_written_is_what_is_read_with_every_column(project: Project) -> None:
    batch = some_rows(3)
    keep(project, batch)
    table = prediction_store.read_predictions(project, "digits")
    assert table.schema.equals(predictions_schema())
    assert table.to_pylist() == batch.to_pylist()
    found = prediction_store.find_prediction(project, f"{'0' * 16}-2")
    assert (found.sample, found.channel, found.code) == ("batch.npy[2]", "batch", [1.0] * 16)
    assert found.mean == pytest.approx(0.2)


def test_predictions_are_read_in_order_of_time_from_since_until_before_until(project: Project) -> None:
    times = [NOON + timedelta(hours=hours) for hours in (30, 0, 11, 13)]
    for place, time in enumerate(times):
        keep(project, some_rows(1, time, call=f"{place:016x}"), f"{place:016x}")
    journal(project, [some_rows(1, NOON + timedelta(hours=12), "service", "a" * 16)])

    def hours(**limits: datetime | None) -> list[float]:
        told = prediction_store.read_predictions(project, "digits", **limits)["time"].to_pylist()  # type: ignore[arg-type]
        return [(time - NOON) / timedelta(hours=1) for time in told]

    assert hours() == [0, 11, 12, 13, 30]
    assert hours(since=NOON + timedelta(hours=11), until=NOON + timedelta(hours=13)) == [11, 12]
    assert hours(since=NOON + timedelta(hours=31)) == []
    assert hours(until=NOON) == []


def test_rows_of_a_call_that_goes_on_past_midnight_are_found_by_the_next_day(project: Project) -> None:
    late = NOON.replace(hour=23, minute=59)
    parts = [some_rows(1, late), some_rows(1, late + timedelta(minutes=2), first=1)]
    prediction_store.write_call(prediction_store.call_file(project, "digits", late, "0" * 16), parts)
    assert prediction_store.read_predictions(project, "digits", since=late + timedelta(minutes=1)).num_rows == 1


def test_only_the_channels_and_columns_asked_for_are_read(project: Project) -> None:
    for call, channel in (("1" * 16, "hand"), ("2" * 16, "batch"), ("3" * 16, "service")):
        keep(project, some_rows(2, channel=channel, call=call), call)
    table = prediction_store.read_predictions(project, "digits", channels=["hand", "service"], columns=["score", "id"])
    assert table.column_names == ["score", "id"]
    assert [name[0] for name in table["id"].to_pylist()] == ["1", "1", "3", "3"]
    assert prediction_store.read_predictions(project, "unknown").num_rows == 0


def test_a_file_without_the_newer_columns_is_read_as_scored_by_hand(project: Project) -> None:
    place = keep(project, some_rows(2))
    older = pq.read_table(place).drop_columns(["channel", "mean", "std", "code"])
    pq.write_table(older, place)
    table = prediction_store.read_predictions(project, "digits", channels=["hand"])
    assert table["channel"].to_pylist() == ["hand", "hand"]
    assert table["mean"].null_count == table["code"].null_count == 2
    assert prediction_store.find_prediction(project, f"{'0' * 16}-1").mean is None


def test_rows_of_refused_samples_are_built_without_pandas() -> None:
    script = (
        "import sys, numpy as np\n"
        "from aeops.predictions.arrow_rows import list_array, name_lists, optional_numbers\n"
        "null, values = np.array([True, False, True]), np.arange(6, dtype=np.float32).reshape(3, 2)\n"
        "print(list_array(values, null).to_pylist(), name_lists(np.array([0, 3, 8])).to_pylist())\n"
        "print(optional_numbers(np.array([np.nan, 2], np.float32)).to_pylist(), 'pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[None, [2.0, 3.0], None] [[], ['out_of_range', 'missing'], ['refused']]",
        "[None, 2.0] False",
    ]


def test_a_journal_of_an_older_version_without_flags_is_read(project: Project) -> None:
    place = prediction_store.journal_file(project, "digits", "a" * 16)
    place.parent.mkdir(parents=True)
    older = some_rows(3).drop_columns(["flags"])
    with pa.ipc.new_stream(place, older.schema) as writer:
        writer.write_batch(older)
    found = prediction_store.read_journal(place)
    assert found.schema == predictions_schema()
    assert found.to_pylist() == [row | {"flags": None} for row in older.to_pylist()]


def test_a_journal_torn_at_any_byte_gives_every_batch_before_the_tear(project: Project) -> None:
    batches = [some_rows(2, channel="service", call="a" * 16, first=first) for first in (0, 2, 4)]
    whole = journal(project, batches[:3]).read_bytes()
    ends = [len(journal(project, batches[:count]).read_bytes()) for count in (0, 1, 2, 3)]
    place = prediction_store.journal_file(project, "digits", "a" * 16)
    around = {end + offset for end in ends[1:] for offset in (-1, 0, 1)}
    for cut in sorted({0, *range(1, len(whole), 13), *around}):
        place.write_bytes(whole[:cut])
        expected = 2 * sum(cut >= end for end in ends[1:])
        assert prediction_store.read_predictions(project, "digits").num_rows == expected, cut
    place.write_bytes(whole)
    assert prediction_store.find_prediction(project, f"{'a' * 16}-5").sample == "batch.npy[5]"


def test_a_journal_broken_before_its_end_is_told(project: Project) -> None:
    place = journal(project, [some_rows(2, channel="service", first=first) for first in (0, 2, 4)])
    broken = bytearray(place.read_bytes())
    end = len(journal(project, [some_rows(2, channel="service")]).read_bytes())
    broken[end + 8 : end + 80] = b"\xff" * 72  # the head of the second batch
    place.write_bytes(broken)
    with pytest.raises(DataError, match="cannot be read"):
        prediction_store.read_predictions(project, "digits")
    assert (
        prediction_store.read_predictions(project, "digits", channels=["hand", "batch"]).num_rows == 0
    )  # who has no use for it opens none


def test_a_journal_that_has_become_a_file_counts_once(project: Project) -> None:
    batch = some_rows(3, channel="service", call="a" * 16)
    journal(project, [batch])
    keep(project, batch, "a" * 16)
    assert prediction_store.read_predictions(project, "digits").num_rows == 3
    assert prediction_store.find_prediction(project, f"{'a' * 16}-0").file.suffix == ".parquet"


def test_a_file_that_cannot_be_read_is_named(project: Project) -> None:
    place = keep(project, some_rows(3))
    place.write_bytes(place.read_bytes()[:50])
    with pytest.raises(DataError, match=f"{'0' * 16}.parquet cannot be read"):
        prediction_store.read_predictions(project, "digits")


def test_what_fails_on_the_way_leaves_no_file(project: Project) -> None:
    def batches() -> object:
        yield some_rows(2)
        raise DataError("sample 2 holds nan")

    place = prediction_store.call_file(project, "digits", NOON, "0" * 16)
    with pytest.raises(DataError, match="holds nan"):
        prediction_store.write_call(place, batches())  # type: ignore[arg-type]
    assert list(place.parent.iterdir()) == []
