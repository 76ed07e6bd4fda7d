"""Columns of a table by name: how far each has moved, its values beside the usual ones, and who says so."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wine_table
import yaml

from ae_models.spec import CATEGORY, NUMBER
from aeops.bundle.detector import Detector
from aeops.cli.monitor import print_signals
from aeops.evaluation.reference import read_reference, write_reference
from aeops.kinds.results import WatchedColumn
from aeops.monitoring import paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.check_steps import build_result_verdict, evaluate_signals, page_content
from aeops.monitoring.column_changes import measure_move
from aeops.monitoring.daily_counts import read_recent_predictions
from aeops.monitoring.drift import order_by_drift, read_drift_tables
from aeops.monitoring.history import read_history
from aeops.monitoring.monitoring_page import write_page
from aeops.monitoring.verdict import MonitoringVerdict
from aeops.monitoring.verdict_text import format_markdown
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.redaction import redact_predictions
from aeops.predictions.rows import scorer_of
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger

ROWS = 120  # scored on each day
Watch = Callable[..., MonitoringVerdict]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wine_table.fit_wines(tmp_path_factory.mktemp("wine"))


@pytest.fixture
def project(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose champion of `wine` is that bundle, with its reference; there is no MLflow."""
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    (tmp_path / "recipes").mkdir()
    shutil.copy(Path(__file__).parents[2] / "dvc.yaml", tmp_path)
    recipe = {
        "recipe": "wine",
        "about": "Wines.",
        "purpose": "reconstruct",
        "data": {
            "dataset": "wine",
            "source": {"kind": "table", "path": "wine.csv"},
            "split": {"validation": 0.1, "calibration": 0.3, "test": 0.2},
        },
        "validate": {"rows": {"min": 1, "max": 1000}, "mean_drift": 0.5, "quarantine_budget": 0.1},
        "input": {"kind": "table", "columns": wine_table.COLUMNS},
        **wine_table.SECTIONS,
        "evaluate": {},
        "gate": {"served": {"check": "served"}},
    }
    project.recipe_file("wine").write_text(yaml.safe_dump(recipe, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    ledger.append_entry(project, ledger.Decision("promotion", "wine", "1", who="a test", why="first", to_version="1"))
    file = paths.reference_file(project, "wine", "1")
    file.parent.mkdir(parents=True)
    write_reference(file, load_recipe(project, "wine").fit, wine_table.wine_rows()[120:], Detector(bundle))
    return project


@pytest.fixture
def watch(project: Project, bundle: Path) -> Watch:
    """Scores frames, one a day, and checks."""
    detector = Detector(bundle)

    def score_and_check(*days: pd.DataFrame) -> MonitoringVerdict:
        start = datetime.now(UTC)
        for day, frame in enumerate(days, 1):
            batch = detector.data_kind.read_array({name: frame[name].to_numpy() for name in frame}, detector.spec)
            time, call = start + timedelta(days=day), prediction_store.new_call(project)
            rows = build_rows(
                scorer_of("wine", "1", detector),
                call=call,
                channel="service",
                time=time,
                names=[str(row) for row in range(len(frame))],
                samples=batch,
                outputs=detector.score(batch, code=True),
            )
            prediction_store.write_call(prediction_store.call_file(project, "wine", time, call), [rows])
        recipe, now = load_recipe(project, "wine"), start + timedelta(days=len(days), hours=1)
        [entry] = ledger.read_entries(project, "wine")
        period = ChampionPeriod("1", entry.time, entry.timestamp)
        result = evaluate_signals(project, recipe, period, now)
        verdict = build_result_verdict(project, recipe, period, result, now)
        history = read_history(paths.history_file(project, "wine"))
        write_page(paths.page_file(project, "wine"), page_content(project, recipe, period, result, verdict, history))
        return verdict

    return score_and_check


def day(seed: int, **changes: Any) -> pd.DataFrame:
    """Wines of a day, drawn from those of calibration; `changes` are columns or functions of them."""
    frame = wine_table.wines()[120:].sample(ROWS, replace=True, random_state=seed, ignore_index=True)
    return frame.assign(**changes)


def inputs_of(verdict: MonitoringVerdict) -> dict[str, Any]:
    [signal] = [signal for signal in verdict["signals"] if signal["name"] == "inputs"]
    return dict(signal)


@pytest.mark.slow
def test_the_reference_holds_the_columns_and_their_values(project: Project) -> None:
    reference = read_reference(paths.reference_file(project, "wine", "1"))
    assert [column.name for column in reference.columns] == [column["name"] for column in wine_table.COLUMNS]
    assert reference.columns[4].categories == ("grignolino", "barolo", "barbera")
    rows = wine_table.wine_rows()[120:]
    np.testing.assert_allclose(reference.values, np.sort(rows, axis=0), rtol=1e-6)  # each column by itself
    assert not any((np.isclose(reference.values, row, rtol=1e-6, equal_nan=True)).all(axis=1).any() for row in rows)


def test_what_has_not_changed_is_quiet(watch: Watch) -> None:
    verdict = watch(day(0), day(1))
    assert inputs_of(verdict)["verdict"] == "quiet"
    assert [column["column"] for column in verdict["columns"] if column["alarm"]] == []
    assert max(column["moved"] for column in verdict["columns"]) < 0.5


def test_a_moved_column_alarms_by_name_with_its_value_beside_the_usual_range(
    watch: Watch, project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # a wide table, with borders
    verdict = watch(day(0), *(day(seed, proline=lambda frame: frame["proline"] + 900) for seed in range(1, 6)))
    first = verdict["columns"][0]
    assert (first["column"], first["alarm"]) == ("proline", True)
    assert first["moved"] > 2
    low, high = (int(value.replace(",", "")) for value in first["usual"].split(" to "))
    recent = int(first["recent"].split(" (")[0].replace(",", ""))
    assert 250 < low < high < 1700
    assert recent > 1300
    moved = [column["moved"] for column in verdict["columns"]]
    assert moved == sorted(moved, reverse=True)
    inputs = inputs_of(verdict)
    assert inputs["verdict"] == "alarm"
    assert f"proline {first['recent']}, usually {first['usual']}" in inputs["says"]
    page = paths.page_file(project, "wine").read_text()
    assert page.index('<td class="name">proline</td>') < page.index('<td class="name">hue</td>')
    assert f'<td class="values">{first["recent"]}</td>' in page
    print_signals(verdict, project)
    printed = capsys.readouterr().out
    assert printed.index("│ proline") < printed.index("│ hue")
    assert first["usual"] in printed
    assert format_markdown(verdict).index("| proline |") < format_markdown(verdict).index("| hue |")


def test_a_new_category_and_lost_values_are_seen(watch: Watch) -> None:
    lost = np.where(np.arange(ROWS) % 2, np.nan, 1.0)
    days = [day(seed, cultivar="merlot", hue=lambda frame: frame["hue"] * lost) for seed in range(3)]
    columns = {column["column"]: column for column in watch(*days)["columns"]}
    assert columns["cultivar"]["recent"] == "a rare or unknown category (100 %)"
    assert columns["cultivar"]["alarm"]
    assert columns["hue"]["missing_recently"] > 0.5 > columns["hue"]["missing_usually"]
    assert columns["hue"]["moved"] > 1


def test_distances_are_measured_in_spreads_and_ordered_by_what_moved() -> None:
    draw = np.random.default_rng(0)
    before, number, category = draw.normal(10, 2, 4000), WatchedColumn("a", NUMBER), WatchedColumn("b", CATEGORY, ("x", "y"))
    assert measure_move(before, before + 6, number) == pytest.approx(3, rel=0.05)
    assert measure_move(before, before, number) == 0
    assert measure_move(before, np.full(9, np.inf), number) == pytest.approx(30, rel=0.02)
    assert measure_move(before, np.full(9, np.nan), number) == 3
    half = np.arange(1000) % 2.0
    assert measure_move(half, np.zeros(100), category) == pytest.approx(1)  # half of the mass, in spreads of a half
    assert measure_move(np.full(50, np.nan), np.full(50, np.nan), number) == 0
    assert measure_move(np.full(50, 7.0), np.full(50, 8.0), number) == 30  # constant in calibration


def test_the_drift_report_has_the_columns_in_the_place_of_mean_and_deviation(watch: Watch, project: Project) -> None:
    watch(day(0, alcohol=lambda frame: frame["alcohol"] + 4))
    reference = paths.reference_file(project, "wine", "1")
    [recent] = prediction_store.predictions_folder(project, "wine").glob("*/*.parquet")
    before, now = read_drift_tables(reference, recent)
    assert list(before.columns)[:4] == ["score", "column alcohol", "column proline", "column hue"]
    assert "mean" not in before.columns
    columns = [name for name in before.columns if name.startswith("column")]
    assert order_by_drift(before, now, columns)[0] == "column alcohol"


def test_a_forgotten_row_leaves_no_values(watch: Watch, project: Project) -> None:
    watch(day(0))
    assert redact_predictions(project, "wine", ["3"], []) == 1
    values = prediction_store.read_predictions(project, "wine")["values"].to_pylist()
    assert [row for row, value in enumerate(values) if value is None] == [3]


def test_of_many_predictions_so_many_are_drawn_from_all_calls_alike(watch: Watch, project: Project) -> None:
    watch(day(0, proline=1), day(1, proline=2), day(2, proline=3))
    [entry] = ledger.read_entries(project, "wine")
    period, until = ChampionPeriod("1", entry.time, entry.timestamp), datetime.now(UTC) + timedelta(days=4)
    tables = [read_recent_predictions(project, "wine", period, until, 7, limit, ["service"]) for limit in (60, 60, 1000)]
    assert [table.num_rows for table in tables] == [60, 60, 3 * ROWS]
    assert tables[0]["score"].equals(tables[1]["score"])
    drawn = np.array(tables[0]["values"].to_pylist())[:, 1]
    assert min(np.bincount(drawn.astype(int), minlength=4)[1:]) > 8
