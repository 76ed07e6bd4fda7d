"""A table and a series from a file to a served champion, as real processes: every door gives the same answers.

Whole run, `ae score`, the inbox, `ae serve`, `mlflow models serve`, monitoring, `ae rebuild`.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkout import Checkout, wait_for
from machine_series import readings
from served_kinds import bottles, make_kinds_checkout

from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.kinds.series_scores import score_series
from aeops.machine.network import find_free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
ROWS = 12
STEPS = 60
JSON, CSV = "application/json", "text/csv"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
Post = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Both recipes after a whole run."""
    checkout = make_kinds_checkout(tmp_path_factory.mktemp("kinds") / "project")
    for recipe in ("wine", "press"):
        done = checkout.ae("run", recipe)
        assert done.returncode == 0, done.stderr[-3000:]
        assert f"{recipe} 1 is champion" in done.stderr
    return checkout


@pytest.fixture(scope="module")
def wine(checkout: Checkout) -> Detector:
    return Detector(checkout.store().download_bundle("wine", "1"))


@pytest.fixture(scope="module")
def press(checkout: Checkout) -> Detector:
    return Detector(checkout.store().download_bundle("press", "1"))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Fresh bottles, some of them odd: a value beyond its range, a category that is not known, a value that may be missing."""
    frame = bottles(100).tail(ROWS).reset_index(drop=True)
    frame.loc[1, "alcohol"] = 90.0
    frame.loc[2, "cultivar"] = "merlot"
    frame.loc[3, "hue"] = np.nan
    return frame.assign(bottled=frame["bottled"].dt.strftime("%Y-%m-%d"))


@pytest.fixture(scope="module")
def steps() -> pd.DataFrame:
    """Fresh readings of two machines, one of which breaks."""
    frame = readings(STEPS, ("press-1", "press-2"))
    frame.loc[STEPS + 40 : STEPS + 44, "pressure"] += 900
    return frame


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@contextmanager
def ae_serve(checkout: Checkout, recipe: str) -> Iterator[Post]:
    process, log = checkout.start("serve", recipe, "--port", "0"), checkout.root / "started.log"
    with ended(process):
        line = wait_for(lambda: [line for line in log.read_text().splitlines() if "answers at " in line], 120)[0]
        address = line.split("answers at ")[1].split(";")[0]
        wait_for(lambda: answers(f"{address}/healthz"), 60)
        yield poster(address)


@contextmanager
def mlflow_serve(checkout: Checkout, recipe: str) -> Iterator[Post]:
    port = find_free_port()
    folder = Path(tempfile.mkdtemp(prefix=f"mlflow-{recipe}-", dir=checkout.root.parent))
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{recipe}@champion", "--env-manager", "local"]
    environment = checkout.environment(MLFLOW_TRACKING_URI=checkout.store().uri, PYTHONPATH="")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-p", str(port)], cwd=folder, env=environment, stdout=log, stderr=log)
    with ended(process):
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/ping"), 180)
        yield poster(f"http://127.0.0.1:{port}")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def poster(address: str) -> Post:
    def post(path: str, body: Any, media_type: str = JSON) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(address + path, data, {"Content-Type": media_type})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return post


def objects(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return list(json.loads(frame.to_json(orient="records", double_precision=15)))


def bodies(frame: pd.DataFrame) -> dict[str, bytes]:
    """The frame in each form that a client may send."""
    table, stream, parquet = pa.Table.from_pandas(frame, preserve_index=False), io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    return {
        JSON: json.dumps({"inputs": objects(frame)}).encode(),
        CSV: frame.to_csv(index=False).encode(),
        PARQUET: parquet.getvalue(),
        ARROW: stream.getvalue(),
    }


def frame_bodies(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame in each form that MLflow's server takes."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [
        {"dataframe_split": plain.to_dict(orient="split")},
        {"dataframe_records": plain.to_dict(orient="records")},
        {"inputs": plain.to_dict(orient="list")},
    ]


# ---------------------------------------------------------------- the table


def test_rows_have_the_same_score_to_the_last_bit_by_every_door(checkout: Checkout, wine: Detector, rows: pd.DataFrame) -> None:
    expected = to_answers(wine.score(objects(rows)))
    assert [one["flags"] for one in expected[:4]] == [[], ["out_of_range"], ["unknown_category"], []]
    with ae_serve(checkout, "wine") as post:
        for media_type, body in bodies(rows).items():
            status, reply = post("/score", body, media_type)
            assert (status, reply["predictions"]) == (200, expected), media_type
            status, reply = post("/explain", body, media_type)
            assert status == 200
            assert reply["predictions"][2]["unusual"] == ["cultivar"]
            assert [{name: one[name] for name in expected[0]} for one in reply["predictions"]] == expected
    with mlflow_serve(checkout, "wine") as post:
        for body in frame_bodies(rows):
            status, reply = post("/invocations", body)
            assert (status, reply["predictions"]) == (200, expected), list(body)
    file = checkout.root / "fresh.csv"
    rows.to_csv(file, index=False)
    scored = json.loads(checkout.ae("score", "wine", str(file), "--json").stdout)["samples"]
    assert [{name: one[name] for name in expected[0]} for one in scored] == expected


FAULTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], int, str]] = {
    "a missing column": (lambda frame: frame.drop(columns="proline"), 422, "with the column proline"),
    "a renamed column": (lambda frame: frame.rename(columns={"proline": "prolin"}), 422, "did you mean prolin?"),
    "another type": (lambda frame: frame.assign(proline="many"), 422, "row 0, column proline: expected a whole number"),
    "other columns and order": (lambda frame: frame.assign(note="x").iloc[:, ::-1], 200, ""),
    "an infinite number": (lambda frame: frame.assign(alcohol=np.inf), 200, "infinite"),
}


def test_the_faults_of_columns_have_their_stated_answers_in_each_form(
    checkout: Checkout, wine: Detector, rows: pd.DataFrame
) -> None:
    expected = to_answers(wine.score(objects(rows)))
    with ae_serve(checkout, "wine") as post:
        for name, (change, status, text) in FAULTS.items():
            for media_type, body in bodies(change(rows)).items():
                if name == "an infinite number" and media_type == JSON:
                    continue  # JSON has none
                code, reply = post("/score", body, media_type)
                assert code == status, (name, media_type, reply)
                if code != 200:
                    assert text in reply["error"], (name, media_type)
                elif text:
                    assert {flag for one in reply["predictions"] for flag in one["flags"]} >= {text}
                else:
                    assert reply["predictions"] == expected, (name, media_type)
    with mlflow_serve(checkout, "wine") as post:
        status, reply = post("/invocations", frame_bodies(rows.drop(columns="proline"))[0])
        assert (status, "proline" in reply["message"]) == (400, True)


# ---------------------------------------------------------------- the series


def test_readings_have_the_same_scores_by_every_door(checkout: Checkout, press: Detector, steps: pd.DataFrame) -> None:
    file = checkout.root / "fresh-readings.csv"
    steps.to_csv(file, index=False)
    document = json.loads(checkout.ae("score", "press", str(file), "--json").stdout)
    series = press.read_file(file).series
    assert series is not None
    scores = score_series(press, series)
    assert [one["score"] for one in document["steps"]] == scores.step_scores.tolist()
    assert [alarm["machine"] for alarm in document["alarms"]].count("press-2") >= 1
    with mlflow_serve(checkout, "press") as post:
        for body in frame_bodies(steps):
            status, reply = post("/invocations", body)
            assert status == 200, reply
            assert [one["score"] for one in reply["predictions"]] == scores.step_scores.tolist()
            assert [one["is_anomaly"] for one in reply["predictions"]] == scores.is_alarmed.tolist()
        status, reply = post("/invocations", frame_bodies(steps.drop(columns="pressure"))[0])
        assert (status, "pressure" in reply["message"]) == (400, True)
    with ae_serve(checkout, "press") as post:
        sent: list[Any] = []
        for machine in ("press-1", "press-2"):
            own = steps[steps["machine"] == machine][["time", "temperature", "pressure"]].to_dict("records")
            for first in range(0, STEPS, 12):
                status, reply = post("/score", {"machine": machine, "readings": own[first : first + 12]})
                assert status == 200, reply
                sent += [{**one, "machine": machine} for one in reply["predictions"]]
        for media_type, body in bodies(steps).items():
            status, reply = post("/score", body, media_type)
            assert status == 200, reply
            assert [one["time"] for one in reply["predictions"]] == [one["time"] for one in sent]
            whole = [one["score"] for one in reply["predictions"]]
            assert whole == pytest.approx([one["score"] for one in sent], rel=1e-6)  # in batches of other sizes
            status, reply = post("/explain", body, media_type)
            assert [one["score"] for one in reply["predictions"]] == whole
        for media_type, body in bodies(steps.rename(columns={"pressure": "presure"})).items():
            status, reply = post("/score", body, media_type)
            assert (status, "did you mean presure?" in reply["error"]) == (422, True)


# ---------------------------------------------------------------- inbox, monitoring, rebuild


def test_the_inbox_records_the_same_scores_and_monitoring_names_columns_and_counts_blocks(
    checkout: Checkout, wine: Detector, press: Detector
) -> None:
    moved = bottles(300)
    moved["proline"] += 2500
    moved.to_csv(inbox_folder(checkout, "wine") / "moved.csv", index=False)
    readings(300).to_parquet(inbox_folder(checkout, "press") / "week.parquet")
    for file in (checkout.home / "inbox").glob("*/*"):
        os.utime(file, (0, 0))  # as one that was written long ago
    for recipe, name in (("wine", "moved.csv"), ("press", "week.parquet")):
        summary = json.loads(checkout.ae("score", recipe, "--inbox", "--json").stdout)
        [taken] = summary["files"]["taken"]
        detector = {"wine": wine, "press": press}[recipe]
        samples = detector.read_file(Path(summary["inbox"]) / name)
        assert (taken["name"], taken["samples"]) == (name, len(samples.names))
        [file] = (checkout.home / "predictions" / recipe).glob(f"*/{taken['call']}.parquet")
        np.testing.assert_array_equal(pq.read_table(file)["score"].to_numpy(), detector.score(samples.values)["score"])
    verdict = json.loads(checkout.ae("monitor", "wine", "--json").stdout)
    assert (verdict["columns"][0]["column"], verdict["columns"][0]["alarm"]) == ("proline", True)
    assert "proline " in next(one["says"] for one in verdict["signals"] if one["name"] == "inputs")
    assert "proline" in checkout.ae("status").stdout
    verdict = json.loads(checkout.ae("monitor", "press", "--json").stdout)
    [scores] = [one for one in verdict["signals"] if one["name"] == "scores"]
    blocks = 3 * 300 / (4 * 4)
    assert 0.3 * blocks < scores["samples"] < blocks + 3


def inbox_folder(checkout: Checkout, recipe: str) -> Path:
    folder = checkout.home / "inbox" / recipe
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_both_versions_are_rebuilt_bit_for_bit(checkout: Checkout) -> None:
    for name in ("data", "artifacts", ".dvc/cache"):
        shutil.rmtree(checkout.root / name)
    for recipe in ("wine", "press"):
        done = checkout.ae("rebuild", f"{recipe}@1")
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        assert "verdict    identical" in done.stdout
