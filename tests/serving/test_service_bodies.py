"""What the service takes and says: JSON, .npy and Arrow, the same numbers in each; hostile bodies, each told in one line."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from small_bundles import SIDE, small_bundle, text_bundle

from aeops.bundle.detector import Detector
from aeops.errors import DataError, GateError, UsageError
from aeops.kinds import npy_bytes
from aeops.kinds.arrays import small_numbers
from aeops.serving import arrow
from aeops.serving.app import detector_app
from aeops.serving.json_responses import build_error_response, is_expected_error
from aeops.serving.limits import RequestLimits

NPY, ARROW = npy_bytes.MEDIA_TYPE, arrow.MEDIA_TYPE
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 1, SIDE, SIDE), dtype=np.uint8)
TEXTS = ["a b c", "c d", "b"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(small_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture(scope="module")
def client(detector: Detector) -> TestClient:
    return TestClient(detector_app(detector, "small", "7"))


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(detector_app(Detector(text_bundle(tmp_path_factory.mktemp("texts") / "bundle")), "texts", "3"))


def as_npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=values.dtype == object)
    return stream.getvalue()


def as_arrow(column: pa.Array, **options: Any) -> bytes:
    batch = pa.record_batch([column], names=["sample"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def listed(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values[0].size)


def post(client: TestClient, path: str, body: bytes, media_type: str, accept: str = "*/*") -> Any:
    return client.post(path, content=body, headers={"content-type": media_type, "accept": accept})


def read_stream(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(body)).read_all()


# ---------------------------------------------------------------- the same in every form


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (as_npy(IMAGES), NPY),
        (as_npy(np.asfortranarray(IMAGES.astype(np.float64))), NPY),
        (as_npy(IMAGES.astype(">i4")), NPY),
        (as_npy(IMAGES[:, 0]), NPY),
        (as_arrow(listed(IMAGES)), ARROW),
        (as_arrow(listed(IMAGES.astype(np.float32))), ARROW),
        (orjson.dumps({"inputs": IMAGES.tolist()}), "application/json; charset=utf-8"),
        (orjson.dumps({"inputs": IMAGES[:, 0].astype(float).tolist()}), "application/json"),
    ],
)
def test_every_form_of_a_body_is_scored_the_same(client: TestClient, detector: Detector, body: bytes, media_type: str) -> None:
    answer = post(client, "/score", body, media_type)
    assert answer.status_code == 200, answer.text
    assert [row["score"] for row in answer.json()["predictions"]] == detector.score(IMAGES)["score"].tolist()


def test_scores_are_told_as_npy_and_as_arrow(client: TestClient, detector: Detector) -> None:
    wanted = detector.score(IMAGES, reconstruction=True, code=True)
    records = np.load(io.BytesIO(post(client, "/score?reconstruction=true&code=true", as_npy(IMAGES), NPY, NPY).content))
    table = read_stream(post(client, "/score?reconstruction=true&code=true", as_npy(IMAGES), NPY, ARROW).content)
    assert list(records.dtype.names) == table.column_names == list(wanted)
    assert set(records["flags"]) == set(table["flags"].to_pylist()) == {""}
    del wanted["flags"]
    for name, values in wanted.items():
        np.testing.assert_array_equal(records[name], values)
        assert table[name].to_pylist() == values.reshape(len(values), *[-1] * (values.ndim > 1)).tolist()


def test_codes_and_reconstructions_are_told_in_every_form(client: TestClient, detector: Detector) -> None:
    wanted = detector.score(IMAGES, reconstruction=True, code=True)
    for path, name in (("/embed", "code"), ("/reconstruct", "reconstruction")):
        as_json = post(client, path, as_npy(IMAGES), NPY).json()[f"{name}s"]
        np.testing.assert_array_equal(np.asarray(as_json, np.float32), wanted[name])
        np.testing.assert_array_equal(np.load(io.BytesIO(post(client, path, as_npy(IMAGES), NPY, NPY).content)), wanted[name])
        column = read_stream(post(client, path, as_npy(IMAGES), NPY, ARROW).content)[name]
        assert column.to_pylist() == wanted[name].reshape(5, -1).tolist()


def test_texts_are_taken_and_told_in_every_form(of_texts: TestClient) -> None:
    bodies = [
        (orjson.dumps({"inputs": TEXTS}), "application/json"),
        (as_npy(np.array(TEXTS)), NPY),
        (as_npy(np.array([list(b"a b c"), list(b"c d\0\0"), list(b"b\0\0\0\0")], np.uint8)), NPY),
        (as_arrow(pa.array(TEXTS)), ARROW),
    ]
    answers = [post(of_texts, "/reconstruct", *body).json() for body in bodies]
    assert answers == [{"reconstructions": ["a c c", "c d", "c"]}] * 4
    assert np.load(io.BytesIO(post(of_texts, "/reconstruct", *bodies[0], NPY).content)).tolist() == ["a c c", "c d", "c"]
    assert read_stream(post(of_texts, "/reconstruct", *bodies[0], ARROW).content)["reconstruction"].to_pylist()[0] == "a c c"


# ---------------------------------------------------------------- explanations


def test_the_shares_of_an_explanation_are_those_of_the_squared_residual(client: TestClient) -> None:
    [told] = post(client, "/explain", as_npy(IMAGES[:1]), NPY).json()["predictions"]
    residual = np.square(IMAGES[0] / np.float32(255) - 0.5)
    np.testing.assert_allclose(told["residual"], residual, atol=1e-6)
    assert told["total"] == pytest.approx(residual.sum(), rel=1e-5)
    assert told["score"] == pytest.approx(residual.mean(), rel=1e-5)  # as this model scores
    assert sum(area["share"] for area in told["areas"]) == pytest.approx(1)
    for area in told["areas"]:
        (top, left), (bottom, right) = area["from"], area["to"]
        assert area["share"] == pytest.approx(residual[0, top:bottom, left:right].sum() / residual.sum(), rel=1e-4)
    assert told["worst"][0]["residual"] == pytest.approx(residual.max(), rel=1e-5)
    assert residual[tuple(told["worst"][0]["at"])] == pytest.approx(residual.max(), rel=1e-5)


def test_a_perfect_reconstruction_has_no_share_anywhere(client: TestClient) -> None:
    [told] = post(client, "/explain", as_npy(np.full((1, SIDE, SIDE), 127.5)), NPY).json()["predictions"]
    assert (told["total"], {area["share"] for area in told["areas"]}) == (0, {0})


def test_the_explanation_of_a_text_names_the_tokens_that_are_wrong(of_texts: TestClient) -> None:
    first, second, _ = post(of_texts, "/explain", orjson.dumps({"inputs": TEXTS}), "application/json").json()["predictions"]
    [wrong] = [entry for entry in first["wrong"] if entry["given"].strip()]
    assert (wrong["given"].strip(), wrong["made"].strip(), first["share"]) == ("b", "c", len(first["wrong"]) / first["tokens"])
    assert (second["wrong"], second["share"]) == ([], 0)


# ---------------------------------------------------------------- what cannot be


def npy_with(header: str, data: bytes = b"", version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    raw = header.encode()
    size = struct.pack("<H", len(raw) if length is None else length)
    return b"\x93NUMPY" + version + size + raw + data


WHOLE = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
BAD_NPY = [
    (b"", "magic string"),
    (b"\x93NUMPY\x01\x00\xff\xff", "EOF"),
    (npy_with(WHOLE % "(1000000000, 1000000000, 1000000000)", b"x"), "promises"),
    (npy_with(WHOLE % "(-1, 4, 4)", b"x" * 16), "up to 8 axes"),
    (npy_with(WHOLE % f"({'1,' * 60})", b"x"), "up to 8 axes"),
    (npy_with(WHOLE % "(1, 4, 4)", b"x" * 15), "15 bytes follow"),
    (npy_with(WHOLE % "(1, 4, 4)", b"x" * 17), "17 bytes follow"),
    (npy_with("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x" * 8), "dtype object"),
    (
        npy_with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"x" * 4),
        "expected whole or real numbers or texts",
    ),
    (npy_with("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", b"x" * 8), "dtype complex64"),
    (npy_with("{'descr': '<U0', 'fortran_order': False, 'shape': (9,), }"), "expected whole or real numbers or texts"),
    (npy_with("__import__('os').system('true')"), ""),
    (npy_with("-" * 900 + "1"), ""),
    (npy_with("(" * 900), ""),
    (npy_with(WHOLE % "(1, 4, 4)" + " " * 2000, b"x" * 16), "max_header_size"),
    (npy_with(WHOLE % "(1, 4, 4)", b"x" * 16, version=b"\x03\x00"), "got 3.0"),
    (as_npy(np.array([{"a": 1}], dtype=object)), "dtype object"),
]


@pytest.mark.parametrize(("body", "told"), BAD_NPY)
def test_a_hostile_npy_is_refused_in_one_line(client: TestClient, body: bytes, told: str) -> None:
    refused(post(client, "/score", body, NPY), 400, told)


def refused(answer: Any, status: int, told: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert told in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


BAD_ARROW = [
    (b"", "ArrowInvalid"),
    (b"\xff\xff\xff\xff\x00\x00\x00\x00", ""),
    (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 64, ""),
    (as_arrow(listed(np.zeros((64, 16))), compression="zstd"), "a compressed record batch"),
    (as_arrow(listed(np.zeros((64, 16))), compression="lz4"), "a compressed record batch"),
    (as_arrow(pa.array(["a"] * 9).dictionary_encode()), "got a dictionary"),
    (as_arrow(listed(np.zeros((2, 17)))), "one column of fixed-size lists of 16 numbers"),
    (as_arrow(pa.array([1.0, 2.0])), "one column of fixed-size lists"),
    (as_arrow(pa.array([[1.0] * 16])), "one column of fixed-size lists"),
    (as_arrow(pa.array([None, [1.0] * 16], pa.list_(pa.float64(), 16))), "expected samples, got null"),
    (as_arrow(listed(IMAGES))[:-40], ""),
]


@pytest.mark.parametrize(("body", "told"), BAD_ARROW)
def test_a_hostile_arrow_stream_is_refused_in_one_line(client: TestClient, body: bytes, told: str) -> None:
    refused(post(client, "/score", body, ARROW), 400, told)


def test_too_many_record_batches_are_refused(client: TestClient) -> None:
    batch = pa.record_batch([listed(IMAGES[:1])], names=["sample"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        for _ in range(arrow.MAX_RECORD_BATCHES + 1):
            stream.write_batch(batch)
    refused(post(client, "/score", bytes(sink.getvalue()), ARROW), 400, "put more samples into each")


def test_an_arrow_stream_without_samples_is_refused(client: TestClient) -> None:
    refused(post(client, "/score", as_arrow(listed(IMAGES)[:0]), ARROW), 422, "expected at least one sample")


@pytest.mark.slow
@pytest.mark.parametrize("media_type", [NPY, ARROW])
def test_a_body_with_flipped_bytes_is_scored_or_refused_and_never_a_fault(client: TestClient, media_type: str) -> None:
    whole = as_npy(IMAGES) if media_type == NPY else as_arrow(listed(IMAGES))
    rng = np.random.default_rng(0)
    for _ in range(300):
        body = bytearray(whole)
        for place in rng.integers(0, len(body), rng.integers(1, 6)):
            body[place] = rng.integers(0, 256)
        assert post(client, "/score", bytes(body), media_type).status_code in (200, 400, 413, 422)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([["a" * 100_000] + ["b"] * 50_000], "texts"),  # numpy alone would ask for 20 GB
        ([[[True, False, True, False]] * 4], "booleans"),
        ([[[True, 1, 1, 1]] * 4], "booleans"),
        ([{"a": 1}], "objects"),
        ([[[None, 1, 1, 1]] * 4], "missing values, expected values from 0 to 255"),
        (json.loads("[" * 200 + "]" * 200), "unequal shapes"),
        ([[[0] * 4] * 4] * 3 + [[[0] * 3] * 4], "unequal shapes"),
        ([[[1e308, 0, 0, 0]] * 4], "values from 0 to 255"),
    ],
)
def test_json_that_holds_no_samples_is_refused_in_one_line(client: TestClient, inputs: Any, told: str) -> None:
    refused(post(client, "/score", orjson.dumps({"inputs": inputs}), "application/json"), 422, told)


@pytest.mark.parametrize("shape", [(4,), (1, 4, 4), (3, 1, 4, 4), (2, 1, 1)])
def test_small_whole_numbers_are_read_as_numpy_reads_them(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape)
    read = small_numbers(values.tolist())
    assert read is not None
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    "inputs",
    [[], [[]], "ab", ["ab", "cd"], [-1, 0], [0, 256], [0, 1.0], [0, None], [[0], [0, 1]], [0, [1]], [[0], 1], [[1], {"a": 1}]],
)
def test_all_else_is_left_to_numpy(inputs: Any) -> None:
    assert small_numbers(inputs) is None


def test_a_fault_of_any_other_kind_is_500_and_goes_to_the_servers_log() -> None:
    for error in (UsageError("u"), GateError("g"), KeyError("k")):
        assert build_error_response(error).status_code == 500
        assert not is_expected_error(error)
    assert is_expected_error(DataError("d"))
    assert build_error_response(DataError("d")).status_code == 422


def test_a_body_of_another_kind_or_with_unknown_params_is_refused(client: TestClient) -> None:
    refused(post(client, "/score", b"x", "text/csv"), 415, f"a body of type application/json, {NPY}, {ARROW}, got text/csv")
    refused(post(client, "/score?codes=true", as_npy(IMAGES), NPY), 400, "did you mean code?")
    refused(post(client, "/score?code=1", as_npy(IMAGES), NPY), 400, "expected true or false for the param code, got '1'")
    refused(client.get("/score"), 405, "Method Not Allowed")
    refused(client.get("/nothing"), 404, "Not Found")


def test_too_much_is_refused_before_it_is_worked_on(detector: Detector, tmp_path: Path) -> None:
    limits = RequestLimits(body_bytes=2000, samples=3, answer_values=40, text_bytes=10)
    client = TestClient(detector_app(detector, "small", "7", limits))
    refused(post(client, "/score", b" " * 2001, "application/json"), 413, "at most 2000 bytes")
    pieces = iter([b" " * 1500] * 2)  # without saying before how many
    refused(client.post("/score", content=pieces, headers={"content-type": NPY}), 413, "at most 2000 bytes")
    refused(post(client, "/score", as_npy(IMAGES), NPY), 413, "expected at most 3 samples in one request, got 5")
    refused(post(client, "/score", as_npy(IMAGES[:, 0]), NPY), 413, "got 5: send smaller batches")
    refused(
        post(client, "/reconstruct", as_npy(IMAGES[:3]), NPY),
        413,
        "expected at most 2 samples for a JSON reply, got 3: send fewer",
    )
    assert post(client, "/reconstruct", as_npy(IMAGES[:3]), NPY, NPY).status_code == 200
    of_texts = TestClient(detector_app(Detector(text_bundle(tmp_path / "texts")), "texts", "3", limits))
    for inputs, told in (
        (["a"] * 4, "at most 3 samples in one request, got 4"),
        (["b" * 11], "at most 10 characters, got 11 in text 0"),
    ):
        refused(post(of_texts, "/score", orjson.dumps({"inputs": inputs}), "application/json"), 413, told)


def test_a_client_names_its_request_where_the_name_is_sane(client: TestClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "order-7.b"}).headers["x-request-id"] == "order-7.b"
    for odd in ("", "a b", "x" * 65, "-a", "a/b", "é".encode()):
        assert client.get("/healthz", headers={"x-request-id": odd}).headers["x-request-id"] != odd  # type: ignore[dict-item]


def test_the_page_needs_no_outside_host_and_no_script(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "POST /explain" in page
    assert "//" not in page.replace("http://127.0.0.1:", "")  # of the command that scores a sample
    assert "<script" not in page


def test_the_metrics_count_what_was_answered(client: TestClient) -> None:
    def counted(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next((line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)), "0"))

    ok, bad, samples = (
        'ae_requests_total{path="/score",status="200"}',
        'ae_requests_total{path="/score",status="400"}',
        "ae_samples_total",
    )
    before = counted(ok), counted(bad), counted(samples)
    post(client, "/score", as_npy(IMAGES), NPY)
    post(client, "/score", b"x", NPY)
    client.get("/" + "x" * 50)
    assert (counted(ok), counted(bad), counted(samples)) == (before[0] + 1, before[1] + 1, before[2] + 5)
    assert "xxx" not in client.get("/metrics").text  # or whoever asks for odd paths would fill the memory
