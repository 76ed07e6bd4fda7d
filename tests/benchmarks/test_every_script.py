"""Every script of benchmarks/ is run by a test at its smallest size, and tells how it is used."""

import importlib
import re
from pathlib import Path

import pytest
from benchmark_tools import ROOT

MODULES = {
    "anomaly_cells",
    "anomaly_tables",
    "benchmark_tools",
    "growth_pictures",
    "growth_records",
    "growth_samples",
    "growth_step",
    "labelled_sets",
    "series_metrics",
    "served_champion",
    "table_detectors",
}  # code that scripts share
SCRIPTS = sorted({file.stem for file in (ROOT / "benchmarks").glob("*.py")} - MODULES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_test_of_its_own_runs_the_script(name: str) -> None:
    file = Path(__file__).with_name(f"test_{name}.py")
    assert file.is_file(), f"benchmarks/{name}.py has no test: run it at its smallest size in tests/benchmarks/{file.name}"
    assert re.search(rf"\b{name}\.main\(", file.read_text(encoding="utf-8")), f"{file.name} never calls {name}.main"


@pytest.mark.parametrize("name", SCRIPTS)
def test_its_help_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
