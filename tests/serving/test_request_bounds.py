"""What is refused before it is parsed: bodies that would take far more memory and time than samples do."""

import io
import math
import resource
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from small_bundles import SIDE, small_bundle, text_bundle
from starlette.exceptions import HTTPException

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY
from aeops.predictions.journal import Journal
from aeops.project import Project
from aeops.serving.app import detector_app
from aeops.serving.arrow import MEDIA_TYPE as ARROW
from aeops.serving.limits import RequestLimits
from aeops.serving.request_bodies import HARMLESS_JSON_BYTES, KEY_MARKS, require_few_numbers, require_few_texts

MEGABYTES = 8  # of each hostile body
LIMITS = RequestLimits()
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 1, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(detector_app(Detector(small_bundle(tmp_path_factory.mktemp("small") / "bundle")), "small", "7"))


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(detector_app(Detector(text_bundle(tmp_path_factory.mktemp("texts") / "bundle")), "texts", "3"))


def filled(piece: bytes) -> bytes:
    """A body that is made of one piece, again and again."""
    return b'{"inputs": [' + (piece * (MEGABYTES * 2**20 // len(piece))).rstrip(b",") + b"]}"


def refused(client: TestClient, body: bytes, media_type: str, statuses: tuple[int, ...]) -> str:
    """The error, which has come within a second and without memory for what the body holds."""
    tracemalloc.start()
    started = time.monotonic()
    response = client.post("/score", content=body, headers={"content-type": media_type})
    seconds, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert response.status_code in statuses, response.text
    assert seconds < 5
    assert peak < 16 * len(body) + 2**20  # copies of the body itself, also by the client; its lists alone would take 40 times
    return str(response.json()["error"])


@pytest.mark.parametrize(
    "piece", [b"[[],[],", b"[],", b"[[1],[2]],", b"1,", b"1.5,", b"null,", b'"",', b"{},", b'{"":0},', b"[" * 7]
)
def test_json_of_countless_small_things_is_refused_at_once(client: TestClient, piece: bytes) -> None:
    refused(client, filled(piece), "application/json", (413, 422))


@pytest.mark.parametrize(
    "piece", [b"[[],[],", b"[],", b"1,", b'"",', b'"a",', b'"\\\\",', b"{},", b'{"":0},', b'["",""],', b'\\"']
)
def test_json_of_countless_small_texts_is_refused_at_once(of_texts: TestClient, piece: bytes) -> None:
    refused(of_texts, filled(piece), "application/json", (400, 413, 422))


def test_a_text_that_looks_like_lists_is_a_text(of_texts: TestClient) -> None:
    texts = ['[[],[],{},\\"' * 2000, "é\\" * 3000] * 12
    body = orjson.dumps({"inputs": texts})
    assert len(body) > HARMLESS_JSON_BYTES
    assert of_texts.post("/score", content=body, headers={"content-type": "application/json"}).status_code == 200


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8), (4, 128), (2, 2, 2), (3, 600, 600)])
def test_samples_within_the_limits_are_never_refused(shape: tuple[int, ...]) -> None:
    one = orjson.dumps(np.zeros(shape, int).tolist()) + b","
    most = max(1, min(LIMITS.samples, LIMITS.json_numbers // math.prod(shape)))
    for count in {1, min(40, most), most}:
        require_few_numbers(b'{"inputs": [' + (one * count)[:-1] + b'], "params": {"code": true}}', shape, LIMITS)
    with pytest.raises(HTTPException, match="expected at most"):
        require_few_numbers(one * most + b"[" * 2_000_000, shape, LIMITS)


@pytest.mark.parametrize("value", [b"0", b"999", b"null", b"0.5"])
def test_more_numbers_than_allowed_are_refused_before_they_are_parsed(client: TestClient, value: bytes) -> None:
    row = b"[" + b",".join([value] * SIDE) + b"]"
    image = b"[[" + b",".join([row] * SIDE) + b"]],"
    body = b'{"inputs": [' + (image * (LIMITS.json_numbers // SIDE**2 + 8))[:-1] + b"]}"
    error = refused(client, body, "application/json", (413,))
    assert f"expected at most {LIMITS.json_numbers} numbers in a JSON body, got" in error
    assert NPY in error


@pytest.mark.parametrize(("text", "count"), [("a" * 60_000, 9), ("ж" * 60_000, 5), ("\ufdfa" * 16_000, 1)])
def test_more_text_than_allowed_is_refused_before_it_becomes_tokens(of_texts: TestClient, text: str, count: int) -> None:
    started = time.monotonic()
    for body, media_type in (
        (orjson.dumps({"inputs": [text] * count}), "application/json"),
        (as_arrow(pa.array([text] * count)), ARROW),
    ):
        response = of_texts.post("/score", content=body, headers={"content-type": media_type})
        assert (response.status_code, "bytes of texts in one request (UTF-8 after NFKC)" in response.text) == (413, True)
    assert time.monotonic() - started < 2


@pytest.mark.slow
def test_more_explanations_than_allowed_are_refused(client: TestClient) -> None:
    images = np.zeros((LIMITS.explained_samples + 1, 1, SIDE, SIDE), np.uint8)
    response = client.post("/explain", content=as_npy(images), headers={"content-type": NPY})
    assert (response.status_code, response.json()["error"]) == (
        413,
        "expected at most 1024 samples to explain, got 1025: send smaller batches",
    )
    assert client.post("/explain", content=as_npy(images[:-1]), headers={"content-type": NPY}).status_code == 200


def test_as_many_texts_as_allowed_are_taken() -> None:
    require_few_texts(orjson.dumps({"inputs": ['a "quoted" [text], with {all} \\ of it'] * LIMITS.samples}), LIMITS)


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 2_000_000, b'"' * 2_000_001, b'"' + b"a" * 4_000_000, b'"' + b"\\" * 4_000_001])
def test_a_text_that_does_not_end_costs_no_more_than_one_that_does(body: bytes) -> None:
    started = time.monotonic()
    with suppress(HTTPException):
        require_few_texts(body, LIMITS)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(("text", "nested"), [('[[]] \\" [', False), ("\\", False), ('\\\\" [', False), ("a", True)])
def test_lists_are_told_from_texts_by_their_quotes(text: str, nested: bool) -> None:
    body = orjson.dumps({"inputs": [text] * 100 + [[text]] * (KEY_MARKS if nested else 0)})
    if nested:
        with pytest.raises(HTTPException, match="lists and objects"):
            require_few_texts(body, LIMITS)
    else:
        require_few_texts(body, LIMITS)


def as_npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def as_arrow(column: pa.Array) -> bytes:
    batch = pa.record_batch([column], names=["sample"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def test_rows_are_counted_before_they_become_texts(of_texts: TestClient) -> None:
    rows = 2**21
    for body, media_type in (
        (as_npy(np.zeros((rows, 1), np.uint8)), NPY),
        (as_npy(np.zeros(rows, "U1")), NPY),
        (as_arrow(pa.array([""] * rows)), ARROW),
    ):
        assert f"expected at most {LIMITS.samples} samples in one request, got {rows}" in refused(
            of_texts, body, media_type, (413,)
        )


def test_rows_of_several_batches_are_counted_together(client: TestClient) -> None:
    batch = pa.record_batch([pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(SIDE * SIDE * 1000)), SIDE * SIDE)], names=["s"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        for _ in range(17):
            stream.write_batch(batch)
    response = client.post("/score", content=bytes(sink.getvalue()), headers={"content-type": ARROW})
    assert (response.status_code, "got 17000" in response.json()["error"]) == (413, True)


def test_json_has_a_limit_of_its_own_and_names_the_way_out(client: TestClient) -> None:
    body = b" " * (LIMITS.json_bytes + 1)
    response = client.post("/score", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert f"at most {LIMITS.json_bytes} bytes" in response.json()["error"]
    assert NPY in response.json()["error"]


def test_texts_for_a_model_of_numbers_are_named_as_such() -> None:
    with pytest.raises(DataError, match="got samples with texts"):
        require_few_numbers(b'["",' * 100_000, (1, 4, 4), LIMITS)


# ---------------------------------------------------------------- ready or not


def test_a_service_that_cannot_record_is_not_ready_until_it_can(tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    detector = Detector(small_bundle(tmp_path / "bundle"))
    client = TestClient(detector_app(detector, "small", "3", journal=Journal(project, "small")))

    def answers() -> tuple[int, int, int]:
        score: Any = client.post("/score", json={"inputs": IMAGES[0].tolist()})
        return score.status_code, client.get("/readyz").status_code, client.get("/healthz").status_code

    in_the_way = project.home / "predictions" / "small"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("in the way")
    assert client.get("/readyz").status_code == 503  # before anybody has asked for a score
    assert answers() == (503, 503, 200)
    in_the_way.unlink()
    assert client.get("/readyz").status_code == 200
    assert answers() == (200, 200, 200)
    assert [file.suffix for file in (in_the_way / "journal").iterdir()] == [".arrow"]  # the trial leaves nothing


def test_a_full_disk_makes_an_open_journal_not_ready(tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    detector = Detector(small_bundle(tmp_path / "bundle"))
    client = TestClient(detector_app(detector, "small", "3", journal=Journal(project, "small")))
    assert client.post("/score", json={"inputs": IMAGES[0].tolist()}).status_code == 200
    [file] = (project.home / "predictions" / "small" / "journal").glob("*.arrow")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))  # as on a full disk
    try:
        score = client.post("/score", json={"inputs": IMAGES[0].tolist()})
        ready = client.get("/readyz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (score.status_code, ready.status_code) == (503, 503)
    assert client.get("/readyz").status_code == 200
