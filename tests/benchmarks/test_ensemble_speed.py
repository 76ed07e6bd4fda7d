"""benchmarks/ensemble_speed.py at its smallest size."""

import json
from pathlib import Path

import ensemble_speed
import pytest
import torch

SMALL = ["--samples", "64", "--epochs", "1", "--repeats", "1"]


@pytest.mark.slow
def test_it_measures_trainings_and_steps_of_the_same_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    ensemble_speed.main([*SMALL, "--networks", "small_dense_8", "--ways", "one_after_another", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == record
    assert list(record["networks"]) == ["small_dense_8"]
    network = record["networks"]["small_dense_8"]
    assert network["setting"] == {"members": 8, "samples": 64, "epochs": 1, "batch": 64}
    training, step = network["training"], network["step"]
    assert set(training["seconds"]) == {"together", "one_after_another"}
    assert set(step["seconds"]) == {"loop", "stacked"}
    for way, reference, part in (("one_after_another", "together", training), ("stacked", "loop", step)):
        seconds = part["seconds"]
        assert part["ratios"] == {f"{way}_over_{reference}": pytest.approx(seconds[way] / seconds[reference], rel=0.2)}
    assert {"commit", "with_changes", "machine"} <= set(record)


def test_stacked_members_have_the_losses_of_single_ones() -> None:
    for task in ensemble_speed.build_tasks(epochs=1, samples=64).values():
        members, batches = ensemble_speed.draw_step(task.spec, task.samples)
        one_by_one, at_once = (way(members, batches)() for way in (ensemble_speed.loop_losses, ensemble_speed.stacked_losses))
        assert len(at_once) == task.spec.train.members
        assert torch.allclose(at_once, one_by_one, rtol=1e-4)


@pytest.mark.long  # two processes import torch and Lightning
def test_it_measures_processes_too(tmp_path: Path) -> None:
    ensemble_speed.main([*SMALL, "--networks", "small_dense_8", "--ways", "processes", "--out", str(tmp_path / "speed.json")])
    network = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["networks"]["small_dense_8"]
    assert network["training"]["seconds"]["processes"] > 0
