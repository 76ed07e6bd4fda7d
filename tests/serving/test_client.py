"""The Python client, and the examples of the service's pages, on a running service."""

import html
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
from running_service import running

from aeops.bundle.detector import Detector
from aeops.client import Prediction, ScoringClient, ScoringError
from aeops.client.scoring_client import to_lists
from aeops.serving.limits import RequestLimits


@pytest.fixture(scope="module")
def served(linear_bundle: Path) -> Iterator[SimpleNamespace]:
    with running(Detector(linear_bundle), RequestLimits()) as service:
        yield service


@pytest.fixture(scope="module")
def address(served: SimpleNamespace) -> str:
    return f"http://127.0.0.1:{served.port}"


def test_the_client_gives_what_the_detector_says(address: str, linear_bundle: Path, digits: np.ndarray) -> None:
    expected = Detector(linear_bundle).score(digits[:3])
    with ScoringClient(address) as client:
        predictions = client.score(digits[:3], code=True)
        assert [one.score for one in predictions] == pytest.approx(expected["score"].tolist(), rel=1e-5)
        assert [one.is_anomaly for one in predictions] == expected["is_anomaly"].tolist()
        assert all(isinstance(one, Prediction) and len(one.details["code"]) for one in predictions)
        assert client.score(digits[:1].tolist())[0].score == pytest.approx(predictions[0].score)
        assert "residual" in client.explain(digits[:1])[0].details
        assert len(client.embed(digits[:2])) == 2
        model = client.model()
    assert (model.name, model.version) == ("small", "1")


def test_a_refusal_is_an_error_with_the_services_words(address: str) -> None:
    with ScoringClient(address) as client, pytest.raises(ScoringError) as refused:
        client.score([[1, 2, 3]])
    assert refused.value.status == 422
    assert str(refused.value) == httpx.post(f"{address}/score", json={"inputs": [[1, 2, 3]]}).json()["error"]


def test_a_service_that_does_not_answer_is_an_error_without_a_status() -> None:
    with ScoringClient("http://127.0.0.1:9") as client, pytest.raises(ScoringError, match="does not answer") as failed:
        client.model()
    assert failed.value.status is None


def test_waiting_ends_where_a_version_is_served_and_fails_in_time_where_none_is(address: str) -> None:
    with ScoringClient(address) as client:
        client.wait_until_ready(10)
    with ScoringClient("http://127.0.0.1:9") as client, pytest.raises(ScoringError, match=r"not ready within 0\.3 s") as failed:
        client.wait_until_ready(0.3)
    assert failed.value.status is None


def test_frames_are_sent_as_rows_by_name_with_what_is_missing_as_null() -> None:
    frame = pd.DataFrame({"hue": [1.5, np.nan], "cultivar": ["a", "b"], "proline": np.array([3, 4])})
    rows = [{"hue": 1.5, "cultivar": "a", "proline": 3}, {"hue": None, "cultivar": "b", "proline": 4}]
    assert to_lists(frame) == rows
    assert json.dumps(to_lists(frame), allow_nan=False)
    assert to_lists(np.arange(4).reshape(2, 2)) == [[0, 1], [2, 3]]


def test_a_password_is_asked_for_and_sent(linear_bundle: Path, digits: np.ndarray) -> None:
    with running(Detector(linear_bundle), RequestLimits(), password="secret") as service:
        address = f"http://127.0.0.1:{service.port}"
        with ScoringClient(address) as client, pytest.raises(ScoringError) as refused:
            client.score(digits[:1])
        assert refused.value.status == 401
        with ScoringClient(address, password="secret") as client:
            assert len(client.score(digits[:1])) == 1


def test_the_documents_example_is_a_request_with_its_answer(address: str) -> None:
    operation = httpx.get(f"{address}/openapi.json").json()["paths"]["/score"]["post"]
    request = operation["requestBody"]["content"]["application/json"]["example"]
    expected = operation["responses"]["200"]["content"]["application/json"]["example"]["predictions"]
    (answer,) = httpx.post(f"{address}/score", json=request).json()["predictions"]
    assert answer.keys() == expected[0].keys()
    assert answer["score"] == pytest.approx(expected[0]["score"], rel=1e-5)


def test_the_first_page_shows_commands_that_work_and_tells_each_error_once(address: str, served: SimpleNamespace) -> None:
    served.service.address = address
    page, document = httpx.get(f"{address}/"), httpx.get(f"{address}/openapi.json").json()
    assert page.headers["content-type"].startswith("text/html")
    answers = {}  # without ids, as nothing is recorded here
    for path, item in document["paths"].items():
        for sample in item.get("post", {}).get("x-codeSamples", ()):
            assert html.escape(sample["source"]) in page.text
            done = subprocess.run(["bash", "-c", sample["source"]], capture_output=True, text=True, timeout=60, check=True)
            answers[path] = json.loads(done.stdout).keys()
    assert answers == {
        "/score": {"predictions"},
        "/invocations": {"predictions"},
        "/embed": {"codes"},
        "/reconstruct": {"reconstructions"},
        "/explain": {"predictions"},
    }
    for status, response in document["components"]["responses"].items():
        assert page.text.count(html.escape(response["description"])) == 1, status
        assert json.dumps(document).count(json.dumps(response["description"])) == 1, status
