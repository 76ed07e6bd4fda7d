"""benchmarks/serving_speed.py: all servers at its smallest size (make test-long), and without them what one process can show."""

import json
import os
from pathlib import Path

import pytest
import serving_speed
from benchmark_tools import ROOT
from running_service import running

from aeops.bundle.detector import Detector
from aeops.serving.limits import RequestLimits


@pytest.mark.long
def test_every_server_is_measured_on_the_same_bundle(tmp_path: Path) -> None:
    out = tmp_path / "serving.json"
    serving_speed.main(["--turns", "1", "--seconds", "0.3", "--models", "linear", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    [turn] = record["models"]["linear"]["turns"]
    assert set(turn) == {serving_speed.OURS, serving_speed.MLFLOW, serving_speed.LITSERVE, serving_speed.BARE}
    assert all(result["images_a_second"] > 0 for result in turn.values())
    assert "Beside LitServe" in serving_speed.summarize(record)


def test_a_server_is_loaded_by_single_samples_and_by_batches(trained: Path, tmp_path: Path) -> None:
    requests = serving_speed.write_requests(tmp_path)
    with running(Detector(trained / "bundle"), RequestLimits()) as service:
        ours = serving_speed.Contender(
            serving_speed.OURS, service.port, "/score", requests["single"], requests["npy"], os.getpid()
        )
        for request in (ours.single, ours.batch):
            assert serving_speed.load(ours, request, 2, 0.2)["requests"] > 0
        bad = serving_speed.Request(requests["single"].body, "text/plain")
        with pytest.raises(RuntimeError, match="expected 200 alone"):
            serving_speed.load(ours, bad, 1, 0.1)
    assert serving_speed.processor_seconds(ours.pid) > 0


def test_bare_onnxruntime_is_measured_beside_them(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serving_speed.main(["--bare", str(trained / "bundle"), "--seconds", "0.1"])
    images, cpu_seconds = map(float, capsys.readouterr().out.split())
    assert images > 0
    assert cpu_seconds > 0


def test_ratios_are_those_within_a_turn() -> None:
    record = json.loads((ROOT / "benchmarks" / "records" / "serving.json").read_text(encoding="utf-8"))
    model = record["models"]["linear"]
    assert serving_speed.medians(model["turns"]) == model["median"]
    ratios = serving_speed.ratios(model)
    each = [
        turn[serving_speed.OURS]["requests_a_second"] / turn[serving_speed.MLFLOW]["requests_a_second"] for turn in model["turns"]
    ]
    assert min(each) <= ratios["requests"] <= max(each)
