"""benchmarks/bench.py at its smallest size, on a checkout of its own."""

import json
import subprocess
from pathlib import Path

import bench
import pytest
from benchmark_checkout import make_benchmark_checkout
from checkout import Checkout

SMALL = ["--help-runs", "1", "--samples", "64", "--epochs", "1", "--repeats", "1"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = make_benchmark_checkout(tmp_path / "checkout")
    monkeypatch.chdir(made.root)
    return made


def head(checkout: Checkout) -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=checkout.root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_help_is_measured_on_the_commit_that_the_record_names(checkout: Checkout, tmp_path: Path) -> None:
    # Not committed, so the clone of HEAD does not have it.
    (checkout.root / "aeops" / "cli" / "main.py").write_text("raise RuntimeError('not measured')\n", encoding="utf-8")
    bench.main(["--parts", "help", *SMALL, "--out", str(tmp_path / "pipeline.json")])
    record = json.loads((tmp_path / "pipeline.json").read_text(encoding="utf-8"))
    assert record["commit"] == head(checkout)
    assert record["with_changes"] is True
    assert list(record["seconds"]) == ["help"]


@pytest.mark.long
def test_training_speed_is_measured_on_the_commit_that_the_record_names(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.root / "ae_models" / "fit.py").write_text("raise RuntimeError('not measured')\n", encoding="utf-8")
    bench.main(["--parts", "training_speed", *SMALL, "--out", str(tmp_path / "pipeline.json")])
    record = json.loads((tmp_path / "pipeline.json").read_text(encoding="utf-8"))
    assert record["commit"] == record["training_speed"]["commit"] == head(checkout)
    assert (record["with_changes"], record["training_speed"]["with_changes"]) == (True, False)
    assert record["training_speed"]["setting"]["samples"] == 64


def test_the_second_run_is_not_measured_without_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--parts", "second_run_nothing_changed"])
    assert "needs first_run" in capsys.readouterr().err


@pytest.mark.long
def test_a_newcomers_way_is_measured_whole(checkout: Checkout, tmp_path: Path) -> None:
    bench.main([*SMALL, "--out", str(tmp_path / "pipeline.json")])
    record = json.loads((tmp_path / "pipeline.json").read_text(encoding="utf-8"))
    assert list(record["seconds"]) == list(bench.PARTS[:-1])
    assert record["seconds"]["second_run_nothing_changed"] < record["seconds"]["first_run"]
