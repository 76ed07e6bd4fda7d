"""benchmarks/serving.py: all servers at its smallest size (make test-long), and without them what one process can show."""

import json
from pathlib import Path

import pytest
import serving
from benchmark_tools import ROOT
from served_champion import our_service, scratch_project

from aeops.machine.servers import free_port


@pytest.mark.long
def test_every_server_is_measured_on_the_same_bundle(tmp_path: Path) -> None:
    out = tmp_path / "serving.json"
    serving.main(["--turns", "1", "--seconds", "0.3", "--models", "linear", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    [turn] = record["models"]["linear"]["turns"]
    assert set(turn) == {serving.OURS, serving.MLFLOW, serving.LITSERVE, serving.BARE}
    assert all(result["images_a_second"] > 0 for result in turn.values())
    assert "Beside LitServe" in serving.summarize(record)


def test_our_service_is_loaded_by_single_samples_and_by_batches(trained: Path, tmp_path: Path) -> None:
    project, port = scratch_project(tmp_path / "project", trained / "bundle"), free_port()
    requests = serving.write_requests(tmp_path)
    with our_service(project, port) as service:
        ours = serving.Contender(serving.OURS, port, "/score", requests["single"], requests["npy"], service.pid)
        turn = serving.run_turn([ours], trained / "bundle", 0.2)
    assert turn[serving.OURS]["requests_a_second"] > 0
    assert turn[serving.OURS]["cpu_an_image"] < turn[serving.OURS]["cpu_a_request"]
    assert turn[serving.BARE]["images_a_second"] > 0


def test_ratios_are_those_within_a_turn() -> None:
    record = json.loads((ROOT / "benchmarks" / "records" / "serving.json").read_text(encoding="utf-8"))
    model = record["models"]["linear"]
    assert serving.medians(model["turns"]) == model["median"]
    ratios = serving.ratios(model)
    each = [turn[serving.OURS]["requests_a_second"] / turn[serving.MLFLOW]["requests_a_second"] for turn in model["turns"]]
    assert min(each) <= ratios["requests"] <= max(each)
