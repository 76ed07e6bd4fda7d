"""A growing series scored online: the service keeps each machine's last window, in process."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from machine_series import fit_bundle, readings
from starlette.exceptions import HTTPException

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.kinds.series_windows import cut_windows
from aeops.serving.app import detector_app
from aeops.serving.limits import RequestLimits
from aeops.serving.machine_feeds import MachineFeeds
from aeops.serving.request_bodies import cut_readings

LENGTH = 16


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(fit_bundle(tmp_path_factory.mktemp("press")))


@pytest.fixture
def client(detector: Detector) -> TestClient:
    return TestClient(detector_app(detector, "press", "3", RequestLimits(machines=3)))


def rows(first: int, last: int, machine: str = "press-1") -> list[dict[str, Any]]:
    """The readings of one machine from one minute to before another."""
    frame = readings(400)
    own = frame[frame["machine"] == machine].iloc[first:last]
    return own[["time", "temperature", "pressure"]].to_dict("records")


def send(client: TestClient, inputs: list[dict[str, Any]], machine: str = "press-1") -> dict[str, Any]:
    reply = client.post("/score", json={"machine": machine, "readings": inputs})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


@pytest.mark.slow
def test_readings_sent_one_by_one_score_as_the_windows_of_the_whole_series(client: TestClient, detector: Detector) -> None:
    values = np.array([[row["temperature"], row["pressure"]] for row in rows(0, 40)])
    expected = detector.score(cut_windows(values, np.arange(40 - LENGTH + 1), LENGTH))
    got = []
    for minute in range(40):
        reply = send(client, rows(minute, minute + 1))
        assert reply["waiting"] == max(0, LENGTH - 2 - minute)
        got += reply["predictions"]
    assert [one["score"] for one in got] == pytest.approx(expected["score"].tolist(), abs=1e-4)
    assert got[0]["time"] == "2026-03-01T00:15:00Z"
    assert [one["is_anomaly"] for one in got] == expected["is_anomaly"].tolist()


@pytest.mark.parametrize("form", ["milliseconds", "two columns"])
def test_times_have_the_form_of_the_recipe_in_each_request(
    detector: Detector, tmp_path: Path, form: str, client: TestClient
) -> None:
    changes = {"time_unit": "ms"} if form == "milliseconds" else {"time": "day", "time_of_day": "clock"}
    other = TestClient(detector_app(Detector(fit_bundle(tmp_path, **changes)), "press", "3", RequestLimits()))
    inputs = rows(0, LENGTH + 2)
    changed = []
    for row in inputs:
        time = pd.Timestamp(row["time"])
        if form == "milliseconds":
            changed.append({**row, "time": int(time.timestamp() * 1000)})
        else:
            values = {"temperature": row["temperature"], "pressure": row["pressure"]}
            changed.append({**values, "day": str(time.date()), "clock": str(time.time())})
    expected = send(client, inputs)
    assert send(other, changed)["predictions"] == expected["predictions"]
    with_machine = [{**row, "machine": "press-1"} for row in changed]
    reply = other.post("/score", json={"inputs": with_machine})
    assert reply.status_code == 200, reply.text
    assert reply.json()["predictions"][-1]["time"] == expected["predictions"][-1]["time"]
    csv = pd.DataFrame(with_machine).to_csv(index=False)
    reply = other.post("/score", content=csv, headers={"content-type": "text/csv"})
    assert reply.status_code == 200, reply.text
    wrong = {"time": 1_767_225_600} if form == "milliseconds" else {"clock": ""}
    reply = other.post("/score", json={"machine": "press-1", "readings": [{**changed[-1], **wrong}]})
    assert reply.status_code == 422
    assert "ms since 1970" in reply.text or "columns day and clock" in reply.text


def test_several_readings_at_once_give_the_same_as_one_by_one(client: TestClient) -> None:
    whole = send(client, rows(0, 40), "press-1")["predictions"]
    parts: list[Any] = []
    for start in range(0, 40, 7):
        parts += send(client, rows(0, 40)[start : start + 7], "press-2")["predictions"]
    assert [one["score"] for one in parts] == pytest.approx([one["score"] for one in whole], abs=1e-5)


def test_an_alarm_opens_extends_and_ends_a_window_after_its_last_anomaly(client: TestClient) -> None:
    send(client, rows(0, 60))
    broken = [{**row, "pressure": 2900.0} for row in rows(60, 66)]
    opened = send(client, broken)["alarm"]
    assert opened["start"] <= "2026-03-01T01:00:00Z"
    assert opened["end"] == "2026-03-01T01:05:00Z"
    assert "2026-03-01T01:00:00Z" <= opened["peak"] <= opened["end"]
    still = send(client, rows(66, 70))["alarm"]
    assert still["start"] == opened["start"], "windows still hold the broken readings"
    later = send(client, rows(70, 140))["alarm"]
    assert later is None or later["start"] > "2026-03-01T01:20:00Z", "a false alarm at most"


def test_old_and_repeated_readings_are_ignored_and_counted(client: TestClient) -> None:
    send(client, rows(0, 20))
    again = send(client, rows(15, 22))
    assert again["ignored"] == 5
    assert [one["time"] for one in again["predictions"]] == ["2026-03-01T00:20:00Z", "2026-03-01T00:21:00Z"]


def test_a_short_gap_is_filled_and_a_long_one_begins_the_window_anew(client: TestClient) -> None:
    send(client, rows(0, 20))
    filled = send(client, rows(22, 23))  # two minutes are missing, as many as the model fills
    assert [one["time"] for one in filled["predictions"]] == ["2026-03-01T00:22:00Z"]
    anew = send(client, rows(26, 27))
    assert anew["predictions"] == []
    assert anew["waiting"] == LENGTH - 2


def test_machines_are_kept_apart_and_the_one_that_was_silent_longest_is_forgotten(client: TestClient) -> None:
    for machine in ("a", "b", "c"):
        send(client, rows(0, 15), machine)
    send(client, rows(15, 16), "a")
    send(client, rows(0, 15), "d")
    assert send(client, rows(16, 17), "a")["predictions"]
    assert send(client, rows(15, 16), "b")["waiting"] > 0, "b was silent longest"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"machine": "a"}, 400, "with one reading or more, got none"),
        ({"machine": 7, "readings": [{}]}, 400, "a printable name of up to 64 bytes, got 7"),
        ({"machine": "a", "readings": [], "more": 1}, 400, "got the key 'more'"),
        ({"machine": "a", "readings": [{"time": "now", "temperature": 1, "pressure": 2}]}, 422, "expected a time stamp"),
        ({"machine": "a", "readings": [{"time": 0, "temperature": 1}]}, 422, "expected readings with the column pressure"),
        ({"machine": "a", "readings": [{"time": 0, "temperature": "1", "pressure": 2}]}, 422, "reading 0: expected numbers"),
    ],
)
def test_readings_of_another_form_are_refused_in_one_line(client: TestClient, body: Any, status: int, message: str) -> None:
    reply = client.post("/score", json=body)
    assert reply.status_code == status
    assert message in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_a_refused_request_leaves_the_machine_as_it_was(client: TestClient) -> None:
    send(client, rows(0, 20))
    bad = [*rows(20, 21), {"time": "2026-03-01T00:21:00Z", "temperature": "hot", "pressure": 1}]
    assert client.post("/score", json={"machine": "press-1", "readings": bad}).status_code == 422
    assert len(send(client, rows(20, 22))["predictions"]) == 2


def test_plain_windows_and_other_paths_are_as_before(client: TestClient, detector: Detector) -> None:
    window = detector.example()[0].tolist()
    assert client.post("/score", json={"inputs": [window]}).status_code == 200
    reply = client.post("/invocations", json={"machine": "a", "readings": rows(0, 2)})
    assert reply.status_code == 400


def test_two_requests_of_one_machine_at_once_cannot_both_extend_its_window(detector: Detector) -> None:
    feeds, limits = MachineFeeds(5), RequestLimits()
    body = {"machine": "a", "readings": rows(0, 20)}
    batch = feeds.take(body, detector, limits)
    with pytest.raises(HTTPException, match="being scored"):
        feeds.take(body, detector, limits)
    batch.release()
    failures: list[Exception] = []

    def extend(minute: int) -> None:
        try:
            taken = feeds.take({"machine": "a", "readings": rows(minute, minute + 1)}, detector, limits)
            taken.answer(detector.score(taken.brought.windows) if len(taken.brought.windows) else {})
        except HTTPException as error:
            failures.append(error)

    threads = [threading.Thread(target=extend, args=(minute,)) for minute in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(feeds) == 1
    assert all(error.status_code == 409 for error in failures)  # type: ignore[attr-defined]


def test_a_model_of_other_steps_begins_every_window_anew(detector: Detector, tmp_path: Path) -> None:
    feeds, limits = MachineFeeds(5), RequestLimits()
    feeds.commit("a", ("other", "model"), feeds.take({"machine": "a", "readings": rows(0, 15)}, detector, limits).brought.state)
    assert feeds.take({"machine": "a", "readings": rows(15, 16)}, detector, limits).brought.waiting == LENGTH - 2


def test_too_many_steps_and_far_future_are_refused(detector: Detector) -> None:
    feeds = MachineFeeds(5)
    with pytest.raises(DataError, match="expected at most 3 steps in one request, got 4"):
        feeds.take({"machine": "a", "readings": rows(0, 4)}, detector, RequestLimits(samples=3))
    feeds.take({"machine": "a", "readings": rows(0, 1)}, detector, RequestLimits()).answer({})
    late = [{**rows(0, 1)[0], "time": 9e10}]
    with pytest.raises(DataError, match="within 100,000,000 steps"):
        feeds.take({"machine": "a", "readings": late}, detector, RequestLimits())


# ---------------------------------------------------------------- readings without a memory


def frame_of(steps: int = 60) -> pd.DataFrame:
    return readings(400).groupby("machine").head(steps).query("machine != 'press-3'").reset_index(drop=True)


def bodies(frame: pd.DataFrame) -> dict[str, bytes]:
    """The same readings in each form that the service takes."""
    table, stream, parquet = pa.Table.from_pandas(frame, preserve_index=False), io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    return {
        "application/json": json.dumps({"inputs": frame.to_dict("records")}).encode(),
        "text/csv": frame.to_csv(index=False).encode(),
        "application/vnd.apache.parquet": parquet.getvalue(),
        "application/vnd.apache.arrow.stream": stream.getvalue(),
    }


def test_readings_in_each_form_are_scored_step_by_step_as_machines_that_send_them(client: TestClient) -> None:
    frame, expected = frame_of(), []
    for machine, own in frame.groupby("machine"):
        sent = own[["time", "temperature", "pressure"]].to_dict("records")
        expected += [{**one, "machine": machine} for one in send(client, sent, str(machine))["predictions"]]
    for media_type, body in bodies(frame).items():
        reply = client.post("/score", content=body, headers={"content-type": media_type})
        assert reply.status_code == 200, reply.text
        assert reply.json()["predictions"] == expected, media_type


def test_an_explanation_names_step_and_channels(client: TestClient) -> None:
    frame = frame_of(16)
    frame.loc[frame.index[-1], "pressure"] += 5000
    reply = client.post("/explain", content=bodies(frame)["text/csv"], headers={"content-type": "text/csv"})
    last = reply.json()["predictions"][-1]
    assert (last["machine"], last["time"], last["flags"]) == ("press-2", "2026-03-01T00:15:00Z", ["out_of_range"])
    assert last["channels"][0]["name"] == "pressure"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="pressure"), "expected readings with the column pressure"),
        (lambda frame: frame.rename(columns={"pressure": "presure"}), "did you mean presure?"),
        (lambda frame: frame.assign(pressure="high"), "row 0: expected numbers, got pressure: 'high' (and in 119 other rows)"),
        (lambda frame: frame.assign(time="noon"), "row 0, column time: expected a time stamp"),
        (lambda frame: frame.groupby("machine").head(5), "expected 16 steps of 60 s in a row, a window of the model: 11 more"),
    ],
)
def test_readings_that_cannot_be_scored_are_refused_by_name_in_each_form(client: TestClient, change: Any, message: str) -> None:
    for media_type, body in bodies(change(frame_of())).items():
        reply = client.post("/score", content=body, headers={"content-type": media_type})
        assert reply.status_code == 422, media_type
        assert message in reply.json()["error"]


def test_order_of_columns_added_ones_and_infinite_values_have_their_stated_meaning(client: TestClient) -> None:
    frame = frame_of()
    expected = client.post("/score", content=bodies(frame)["text/csv"], headers={"content-type": "text/csv"}).json()[
        "predictions"
    ]
    turned = frame.assign(note="x")[["note", "pressure", "temperature", "machine", "time"]]
    for media_type, body in bodies(turned).items():
        assert client.post("/score", content=body, headers={"content-type": media_type}).json()["predictions"] == expected
    frame.loc[20, "pressure"] = np.inf
    for media_type in ("text/csv", "application/vnd.apache.parquet"):
        infinite = client.post("/score", content=bodies(frame)[media_type], headers={"content-type": media_type}).json()
        assert {flag for one in infinite["predictions"] for flag in one["flags"]} == {"out_of_range"}


def test_too_many_readings_are_refused_before_windows_are_cut(detector: Detector) -> None:
    small = TestClient(detector_app(detector, "press", "3", RequestLimits(samples=50)))
    frame = readings(64, ("press-1",))
    assert small.post("/score", content=bodies(frame[:60])["text/csv"], headers={"content-type": "text/csv"}).status_code == 413
    limits = RequestLimits(body_bytes=20 * 4 * 2 * LENGTH)  # of twenty windows
    columns = {name: frame[name].to_numpy() for name in frame}
    with pytest.raises(HTTPException, match="expected at most 35 readings in one request, got 64"):
        cut_readings(columns, False, detector, limits)
    ends, windows = cut_readings({name: cells[:35] for name, cells in columns.items()}, False, detector, limits)
    assert (len(ends), windows.shape) == (20, (20, 2, LENGTH))
    large = frame.loc[frame.index.repeat(60)]
    client = TestClient(detector_app(detector, "press", "3"))
    reply = client.post("/score", json={"inputs": large.to_dict("records")})
    assert (reply.status_code, "bytes of readings as JSON" in reply.json()["error"]) == (413, True)


def test_windows_in_an_arrow_column_are_taken_as_before(client: TestClient, detector: Detector) -> None:
    windows = detector.example()
    column = pa.FixedSizeListArray.from_arrays(windows.ravel(), windows[0].size)
    stream = io.BytesIO()
    table = pa.table({"samples": column})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    reply = client.post("/score", content=stream.getvalue(), headers={"content-type": "application/vnd.apache.arrow.stream"})
    assert [one["score"] for one in reply.json()["predictions"]] == detector.score(windows)["score"].tolist()


def test_a_late_reading_counts_until_its_step_is_final(client: TestClient) -> None:
    """Together with others it is brought into their order; after a request with its step or a later one it is ignored."""
    inputs = rows(0, 40)
    whole = send(client, inputs, "press-1")["predictions"]
    shuffled = [inputs[place] for place in np.random.default_rng(0).permutation(40)]
    assert send(client, shuffled, "press-2")["predictions"] == whole
    first, late = inputs[:20] + inputs[21:30], inputs[20]
    before = send(client, first, "press-3")
    after = send(client, [late, *inputs[30:]], "press-3")
    assert (before["ignored"], after["ignored"]) == (0, 1)
    assert len(before["predictions"]) + len(after["predictions"]) == len(whole) - 1  # of the step that was bridged none
    again = send(client, [late], "press-3")
    assert (again["ignored"], again["predictions"]) == (1, [])
