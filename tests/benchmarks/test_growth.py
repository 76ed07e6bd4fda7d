"""benchmarks/growth.py at its smallest sizes, its exponents, and its record as docs/scale.md quotes it."""

import json
from pathlib import Path

import growth
import pytest
from benchmark_tools import RECORDS, ROOT


def cells_of(seconds: dict[int, float]) -> dict[str, dict[str, float]]:
    return {str(size): {"cpu_seconds": value} for size, value in seconds.items()}


@pytest.mark.slow
def test_steps_are_measured_by_themselves_and_cells_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smallest calls and ledgers; the long test has every axis."""
    command = ["--sizes", "ledger lines=1,3", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "growth.json")]
    growth.main(command)
    record = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    steps = record["cells"]["ledger lines"]
    assert list(steps) == ["ae history", "append", "page"]
    for figures in steps.values():
        assert set(figures) == {"1", "3"}
        assert all(cell["seconds"] > 0 and cell["peak_mib"] > 10 for cell in figures.values())
    assert record["exponents"]["ledger lines"]["append"] is None, "two sizes say nothing of growth"
    assert "ledger lines 3: append" in capsys.readouterr().out
    monkeypatch.setattr(growth, "run_cell", None)  # every cell is there
    growth.main(command)
    assert json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))["cells"] == record["cells"]
    assert {file.suffix for file in (tmp_path / "work").iterdir()} == {".json", ".log"}, "what a step needed is deleted"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_step_of_every_axis_is_measured(tmp_path: Path) -> None:
    sizes = ["samples=1500", "pictures=60", "predictions=100", "calls=100", "recipes=1", "versions=1", "ledger lines=1"]
    growth.main(["--sizes", *sizes, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "growth.json")])
    record = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    measured = {(axis, name) for axis, steps in record["cells"].items() for name in steps}
    assert measured == {(step.axis, step.name) for step in growth.STEPS}
    [pictures] = record["cells"]["pictures"]["evaluate"].values()
    assert pictures["peak_mib"] < 1430, "1.5 GB"


@pytest.mark.parametrize(
    ("exponent", "seconds"),
    [
        (0.0, {1: 2.0, 10: 2.1, 100: 2.2}),
        (1.0, {100: 2.1, 1000: 3.0, 10_000: 12.0}),
        (2.0, {10: 1.1, 100: 11.0, 1000: 1001.0}),
        (1.5, {100: 1.0, 1000: 1.0, 10_000: 1000.0}),  # the middle says nothing: over all sizes
        (0.0, {1000: 0.14, 10_000: 0.16, 1_000_000: 0.18}),
        (None, {1: 1.0, 2: 2.0}),
    ],
)
def test_the_exponent_leaves_out_what_every_size_costs(exponent: float | None, seconds: dict[int, float]) -> None:
    assert growth.growth_exponent(cells_of(seconds)) == pytest.approx(exponent, abs=0.1)


def test_what_grows_faster_than_its_work_is_named() -> None:
    measured = {
        "samples": {
            "evaluate": cells_of({100: 1.0, 1000: 2.0, 10_000: 101.0}),
            "train a step": cells_of({100: 0.1, 1000: 0.2, 10_000: 1.1}),
            "ingest": cells_of({100: 1.0, 1000: 1.9, 10_000: 10.9}),
        }
    }
    record = growth.build_record(measured, is_full=False)
    assert record["faster_than_its_work"] == ["train a step (samples)", "evaluate (samples)"]
    text = growth.summarize(with_memory(record))
    assert "Grows faster than its work: train a step (samples), evaluate (samples)." in text
    assert "| ingest | 1.0 s, 100 MiB | 1.9 s, 100 MiB | 11 s, 100 MiB | 1.00 |" in text


def with_memory(record: dict) -> dict:
    for steps in record["cells"].values():
        for figures in steps.values():
            for cell in figures.values():
                cell["peak_mib"] = 100
    return record


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(SystemExit, match="expected one of samples, pictures"):
        growth.main(["--sizes", "cats=1"])


def test_a_cell_that_takes_too_long_ends_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "CELL_SECONDS", 0.01)
    measured = growth.measure_axis("ledger lines", [1, 2], tmp_path)
    assert measured == {"ae history": {"1": {"stopped_after": 0.01}}}
    assert growth.cell_text({"stopped_after": 1800}) == "over 1,800 s"


def test_the_documentation_quotes_the_record(tmp_path: Path) -> None:
    record = json.loads((RECORDS / "growth.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert growth.summarize(record) in text
    assert "growth.svg" in text
    growth.draw_growth(tmp_path / "growth.svg", record)
    assert (tmp_path / "growth.svg").read_bytes() == growth.PICTURE.read_bytes()


def test_evaluation_of_pictures_stays_below_its_memory() -> None:
    """By the record: 1.5 GB for any set."""
    record = json.loads((RECORDS / "growth.json").read_text(encoding="utf-8"))
    for figures in record["cells"]["pictures"]["evaluate"].values():
        assert figures["peak_mib"] < 1430
