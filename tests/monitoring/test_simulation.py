"""docs/monitoring.md says what the simulation's record says, and the record keeps the promise."""

import importlib.util
from types import ModuleType

import numpy as np
import pytest
from monitored_project import ROOT

from aeops.machine.stored_json import read_json
from aeops.recipe.monitoring import TEST_SIGNALS


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("monitoring_simulation", ROOT / "benchmarks" / "monitoring_simulation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_monitoring_says_what_the_record_says(simulation: ModuleType) -> None:
    recorded = read_json(simulation.RECORD) if simulation.RECORD.is_file() else None
    text = simulation.DOCS.read_text(encoding="utf-8")
    assert simulation.update_page(text, recorded) == text, "python benchmarks/monitoring_simulation.py --docs-only"


def test_the_record_has_a_thousand_streams_or_more_and_no_test_cries_wolf_more_often_than_its_level(
    simulation: ModuleType,
) -> None:
    assert simulation.RECORD.is_file(), "not measured yet: python benchmarks/monitoring_simulation.py"
    recorded = read_json(simulation.RECORD)
    assert set(recorded["false_alarms"]["tests"]) == set(TEST_SIGNALS)
    for found in recorded["false_alarms"]["tests"].values():
        assert found["streams"] >= 1000
        assert found["interval"][0] <= recorded["level_of_false_alarms"]
    for found in recorded["false_alarms"]["naive"].values():
        assert found["interval"][0] > 10 * recorded["level_of_false_alarms"]
    assert (recorded["level_of_delays"], recorded["calibration"]) == (simulation.USUAL, simulation.CALIBRATION)


def test_a_delay_counts_the_day_of_the_alarm_and_leaves_out_streams_that_alarmed_before(simulation: ModuleType) -> None:
    log_e = np.zeros((4, simulation.DAYS))
    change, alarm = simulation.CHANGE - 1, 100.0
    log_e[0, change] = log_e[1, change + 4] = log_e[2, change - 1] = alarm
    found = simulation.delay_summary(log_e)
    assert found == {"streams": 3, "noticed": 2, "half": 5, "nine_in_ten": None}


def test_streams_change_on_the_day_that_is_said(simulation: ModuleType) -> None:
    counts = simulation.more_alarms(5, 40, 1000, np.random.default_rng(0))[..., 1]
    before, after = counts[:, : simulation.CHANGE - 1].mean(axis=1), counts[:, simulation.CHANGE - 1 :].mean(axis=1)
    np.testing.assert_allclose(after / before, 5, rtol=0.15)
