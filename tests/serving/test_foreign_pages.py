"""A browser's requests on behalf of other pages, to the scoring service: none is scored and none is recorded."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from running_service import running
from small_bundles import SIDE, small_bundle

from aeops.bundle.detector import Detector
from aeops.predictions import prediction_store
from aeops.predictions.journal import Journal
from aeops.project import Project
from aeops.serving.app import detector_app
from aeops.serving.limits import RequestLimits

ONE = json.dumps({"inputs": np.zeros((SIDE, SIDE), int).tolist()}).encode()
JSON = "application/json"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(small_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture(scope="module")
def local(detector: Detector) -> Iterator[SimpleNamespace]:
    """The service as `ae serve` starts it without a password."""
    with running(detector, RequestLimits(), own_names_only=True) as found:
        yield found


def status(local: SimpleNamespace, headers: dict[str, str], body: bytes = ONE, path: str = "/score") -> int:
    client = HTTPConnection("127.0.0.1", local.port, timeout=20)
    client.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"host": f"127.0.0.1:{local.port}", "content-length": str(len(body))} | headers).items():
        client.putheader(name, value)
    client.endheaders(body)
    return client.getresponse().status


@pytest.mark.parametrize(
    "media_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/plain; x=application/json", ""],
)
def test_no_body_that_a_form_can_send_is_scored_or_recorded(detector: Detector, tmp_path: Path, media_type: str) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    client = TestClient(detector_app(detector, "small", "3", journal=Journal(project, "small")))
    told = client.post("/score", content=ONE, headers={"content-type": media_type} if media_type else {})
    assert told.status_code == 415
    assert f"got {media_type.partition(';')[0] or 'none'}" in told.json()["error"]
    assert len(prediction_store.read_predictions(project, "small")) == 0
    assert client.post("/score", content=ONE, headers={"content-type": JSON}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:9", "http://127.0.0.1:1", "null"])
def test_a_page_of_another_origin_is_refused_whole_and_in_pieces(local: SimpleNamespace, origin: str) -> None:
    assert status(local, {"content-type": JSON, "origin": origin}) == 403
    large = json.dumps({"inputs": np.zeros((6000, SIDE, SIDE), int).tolist()}).encode()
    assert status(local, {"content-type": JSON, "origin": origin}, large) == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8100", ""])
def test_another_name_is_refused_where_there_is_no_password(local: SimpleNamespace, host: str) -> None:
    assert status(local, {"content-type": JSON, "host": host}) == 403


def test_programs_and_the_services_own_pages_are_answered(local: SimpleNamespace) -> None:
    own = f"http://127.0.0.1:{local.port}"
    for headers in ({}, {"origin": own, "sec-fetch-site": "same-origin"}, {"host": "localhost"}):
        assert status(local, {"content-type": JSON} | headers) == 200
    assert status(local, {"content-type": JSON, "sec-fetch-site": "same-site"}) == 403


def test_with_a_password_any_name_is_answered_and_no_foreign_page(detector: Detector) -> None:
    with running(detector, RequestLimits(), password="secret") as found:
        access = {"authorization": "Basic YWU6c2VjcmV0", "content-type": JSON, "host": "ae.example.org"}
        assert status(found, access) == 200
        assert status(found, access | {"origin": "https://evil.example"}) == 403
        for header in ("Basic \xff", "Basic w6k6w6k=", "Basic"):
            assert status(found, access | {"authorization": header}) == 401


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_body_is_refused_and_not_read_as_it_is(local: SimpleNamespace, encoding: str) -> None:
    assert status(local, {"content-type": JSON, "content-encoding": encoding}) == 415
    assert status(local, {"content-type": JSON, "content-encoding": "identity"}) == 200


@pytest.mark.parametrize("path", ["/score%00", "/%00", "/score?code=%00"])
def test_a_nul_character_in_the_address_is_a_bad_request(local: SimpleNamespace, path: str) -> None:
    assert status(local, {"content-type": JSON}, path=path) == 400
