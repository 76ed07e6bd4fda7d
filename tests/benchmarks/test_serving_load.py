"""benchmarks/serving_load.py on a real service."""

import json
from pathlib import Path

import pytest
import serving_load
from running_service import running
from small_bundles import small_bundle

from aeops.bundle.detector import Detector
from aeops.serving.limits import RequestLimits


def test_it_counts_the_answers_and_their_latencies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": [[[[100] * 4] * 4]]}), encoding="utf-8")
    with running(Detector(small_bundle(tmp_path / "bundle")), RequestLimits()) as service:
        serving_load.main([str(service.port), "/score", str(body), "application/json", "2", "0.2"])
        result = json.loads(capsys.readouterr().out)
        assert result["statuses"] == {"200": result["requests"]}
        assert 0 < result["p50"] <= result["p99"] < result["seconds"]
        body.write_bytes(b"{")
        serving_load.main([str(service.port), "/score", str(body), "application/json", "1", "0.1"])
        assert "200" not in json.loads(capsys.readouterr().out)["statuses"]


def test_a_response_without_its_length_is_refused() -> None:
    assert serving_load.content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12") == 12
    with pytest.raises(ValueError, match="Content-Length"):
        serving_load.content_length(b"HTTP/1.1 200 OK")
