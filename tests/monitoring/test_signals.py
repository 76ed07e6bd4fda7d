"""What the signals say of real predictions: quiet while nothing changes, an alarm soon after a planted change, and why not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aeops.bundle.detector import Detector
from aeops.evaluation.reference import CalibrationReference, read_reference, write_reference
from aeops.monitoring import history, paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.check import run_check
from aeops.monitoring.check_steps import evaluate_signals
from aeops.monitoring.signals import Signal
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.rows import scorer_of
from aeops.project import Project
from aeops.recipe.monitoring import MonitorSpec, VolumeSpec
from aeops.recipe.reader import Recipe
from aeops.registry import ledger

TESTS = ("alarm_rate", "scores", "codes", "inputs")


def signals(project: Project, recipe: Recipe, now: datetime, since: datetime | None = None) -> dict[str, Signal]:
    move = ledger.last_move(ledger.read_entries(project, "digits"))
    assert move is not None
    period = ChampionPeriod("1", move.time, since or move.timestamp)
    return {one.name: one for one in evaluate_signals(project, recipe, period, now).signals}


def verdicts(found: dict[str, Signal]) -> list[str]:
    return [found[name].verdict for name in TESTS]


def of(normal: np.ndarray, day: int, count: int = 80) -> np.ndarray:
    return normal[day * count : (day + 1) * count]


@pytest.fixture
def usual(score: Callable[..., None], normal: np.ndarray) -> None:
    """Thirty days of digits like those of the calibration."""
    for day in range(1, 31):
        score(day, of(normal, day), channel="service" if day % 2 else "batch")


@pytest.mark.usefixtures("usual")
def test_digits_like_those_of_the_calibration_are_quiet(project: Project, recipe: Recipe, at: Callable[[int], datetime]) -> None:
    found = signals(project, recipe, at(31))
    assert verdicts(found) == ["quiet"] * 4
    assert all(found[name].samples == 30 * 80 for name in TESTS)
    assert found["alarm_rate"].message.startswith(f"{flagged(project)} of 2,400 samples flagged")
    assert (found["stale"].verdict, found["volume"].verdict) == ("quiet", "quiet")


def flagged(project: Project) -> int:
    return int(np.sum(prediction_store.read_predictions(project, "digits")["is_anomaly"].to_numpy()))


@pytest.mark.usefixtures("usual")
def test_darker_digits_alarm_within_a_day_or_two_by_scores_codes_and_inputs(
    project: Project, recipe: Recipe, score: Callable[..., None], normal: np.ndarray, at: Callable[[int], datetime]
) -> None:
    for day in (31, 32):
        score(day, (of(normal, day) * 0.7).astype(np.uint8))
    found = signals(project, recipe, at(32))
    assert verdicts(found)[1:] == ["alarm"] * 3
    first = prediction_store.read_predictions(project, "digits")["time"][0].as_py().date() + timedelta(days=30)
    for name in TESTS[1:]:
        since = found[name].since
        assert since is not None
        assert since >= first.isoformat()
        assert f"an alarm since {since}" in found[name].message
    assert "lie among the lowest" in found["scores"].message


@pytest.mark.usefixtures("usual")
def test_more_flagged_than_promised_alarms_by_its_rate(
    project: Project, recipe: Recipe, score: Callable[..., None], normal: np.ndarray, at: Callable[[int], datetime]
) -> None:
    random = np.random.default_rng(0)
    for day in (31, 32, 33):
        shown = of(normal, day).copy()
        shown[:24] = random.integers(0, 256, (24, 1, 28, 28))  # noise, which the model flags
        score(day, shown)
    found = signals(project, recipe, at(33))
    assert found["alarm_rate"].verdict == "alarm"
    assert "where 4.98 % is promised" in found["alarm_rate"].message


@pytest.mark.usefixtures("usual")
def test_refused_samples_are_told_and_are_part_of_no_test_of_scores(
    project: Project, recipe: Recipe, score: Callable[..., None], normal: np.ndarray, at: Callable[[int], datetime]
) -> None:
    shown = of(normal, 31).astype(np.float32)
    shown[:5, 0, 0, 0] = np.nan
    shown[5] = np.nan
    score(31, shown)
    found = signals(project, recipe, at(31))
    assert [found[name].samples for name in TESTS] == [31 * 80 - 6] * 3 + [31 * 80 - 1]
    assert "6 are unlike the training's samples" in found["alarm_rate"].message


@pytest.mark.usefixtures("usual")
def test_what_is_scored_by_hand_or_by_another_version_or_later_or_before_the_promotion_does_not_count(
    project: Project,
    recipe: Recipe,
    score: Callable[..., None],
    normal: np.ndarray,
    at: Callable[[int], datetime],
    promoted: datetime,
) -> None:
    dark = (normal[:400] * 0.3).astype(np.uint8)
    score(31, dark, channel="hand")
    score(31, dark, version="2")
    score(40, dark)
    score(-1, dark)
    found = signals(project, recipe, at(31))
    assert verdicts(found) == ["quiet"] * 4
    assert found["scores"].samples == 30 * 80
    assert verdicts(signals(project, recipe, at(31), since=promoted - timedelta(days=2)))[1:] == ["alarm"] * 3


def test_without_data_or_reference_each_test_is_unknown_and_says_why(
    project: Project, recipe: Recipe, at: Callable[[int], datetime]
) -> None:
    found = signals(project, recipe, at(2))
    assert verdicts(found) == ["unknown"] * 4
    assert "nothing scored since the promotion" in found["scores"].message
    period = ChampionPeriod("1", "", at(0))
    place = paths.monitoring_folder(project, "digits") / "reference-1.parquet"
    pq.write_table(pq.read_table(place).slice(0, 0), place)
    few = {one.name: one for one in evaluate_signals(project, recipe, period, at(2)).signals}
    assert "0 calibration samples are too few" in few["codes"].message


def test_predictions_of_older_form_leave_codes_and_inputs_unknown(
    project: Project, recipe: Recipe, score: Callable[..., None], normal: np.ndarray, at: Callable[[int], datetime]
) -> None:
    score(1, normal[:50])
    [file] = (project.home / "predictions" / "digits").glob("*-*-*/*.parquet")
    table = pq.read_table(file).drop_columns(["mean", "std", "code"])
    pq.write_table(table, file)
    found = signals(project, recipe, at(2))
    assert verdicts(found) == ["unknown"] * 4
    assert found["scores"].message.startswith(
        "too few samples to tell: 50 since the promotion, and 100 are needed; of the scores"
    )
    assert "none of 50 predictions holds what this signal looks at" in found["inputs"].message


def test_one_sample_is_too_few_to_tell(
    project: Project, recipe: Recipe, score: Callable[..., None], at: Callable[[int], datetime]
) -> None:
    score(1, np.full((1, 1, 28, 28), 255, np.uint8))
    found = signals(project, recipe, at(1))
    assert verdicts(found) == ["unknown"] * 4
    assert found["scores"].message.startswith("too few samples to tell: 1 since the promotion, and 100 are needed; ")
    assert found["scores"].e_value is not None, "the evidence is there all the same"


def test_a_gross_change_alarms_before_there_are_samples_enough_to_be_quiet(
    project: Project, recipe: Recipe, score: Callable[..., None], normal: np.ndarray, at: Callable[[int], datetime]
) -> None:
    score(1, (normal[:60] * 0.3).astype(np.uint8))
    assert "alarm" in verdicts(signals(project, recipe, at(2)))


def test_a_champion_is_stale_after_its_days(project: Project, recipe: Recipe, at: Callable[[int], datetime]) -> None:
    assert signals(project, recipe, at(89))["stale"].verdict == "quiet"
    found = signals(project, recipe, at(91))["stale"]
    assert found.verdict == "alarm"
    assert "90 are allowed" in found.message


def test_volume_judges_the_last_whole_day_and_silence(
    project: Project, recipe: Recipe, score: Callable[..., None], normal: np.ndarray, at: Callable[[int], datetime]
) -> None:
    bounds = replace(recipe, monitor=MonitorSpec(volume=VolumeSpec(min=10, max=40, silent_days=3)))

    def volume(day: int) -> tuple[str, str]:
        found = signals(project, bounds, at(day))["volume"]
        return found.verdict, found.message

    assert volume(1) == ("unknown", "no sample scored in 3 whole days, and the champion has not been watched for as long")
    assert volume(3) == ("alarm", "0 samples on the last whole day; at least 10 are usual")
    score(3, normal[:30])
    score(4, normal[:50])
    assert volume(4)[0] == "quiet"
    assert volume(5) == ("alarm", "50 samples on the last whole day; at most 40 are usual")
    assert volume(8) == ("alarm", "no sample scored in 3 whole days")


def test_an_alarm_stays_while_the_champion_does_and_not_with_another_one(
    project: Project,
    recipe: Recipe,
    score: Callable[..., None],
    normal: np.ndarray,
    at: Callable[[int], datetime],
    promoted: datetime,
) -> None:
    """Also where what was scored is gone, as an old day's folder may be."""
    name = ledger.last_move(ledger.read_entries(project, "digits"))
    assert name is not None
    seen = Signal(
        "scores",
        "alarm",
        "changed",
        samples=50,
        e_value=2.0,
        highest_e_value=5000.0,
        log10_e=0.3,
        level=0.001,
        since="2026-01-01",
    )
    history.append_check(
        paths.history_file(project, "digits"), at(1), "digits", ChampionPeriod("1", name.time, name.timestamp), [seen]
    )
    assert "no longer there" in signals(project, recipe, at(2))["scores"].message
    score(1, normal[:150])
    assert signals(project, recipe, at(2))["scores"].since == "2026-01-01"
    stricter = replace(recipe, monitor=replace(recipe.monitor, level=0.0001))
    assert signals(project, stricter, at(2))["scores"].verdict == "quiet"
    other = ChampionPeriod("1", (promoted + timedelta(seconds=1)).isoformat(), promoted)
    again = {one.name: one for one in evaluate_signals(project, recipe, other, at(2)).signals}
    assert again["scores"].verdict == "quiet"


def test_a_recipe_without_a_champion_is_told_so_at_once(recipe: Recipe, tmp_path: Path, at: Callable[[int], datetime]) -> None:
    found = run_check(Project(root=tmp_path, home=tmp_path / ".ae"), recipe, at(0))
    assert found["version"] is None
    assert {one["verdict"] for one in found["signals"]} == {"unknown"}
    assert "ae run digits" in found["decision"]["why"][0]
    assert paths.verdict_file(Project(root=tmp_path, home=tmp_path / ".ae"), "digits").is_file()


# ---------------------------------------------------------------- the reference


def test_the_reference_holds_what_predictions_of_the_calibration_samples_hold(
    linear_bundle: Path, digits: np.ndarray, recipe: Recipe, tmp_path: Path
) -> None:
    detector, calibration = Detector(linear_bundle), digits[1000:1200]
    for name in ("one", "two"):
        write_reference(tmp_path / name, recipe.fit, calibration, detector)
    found: CalibrationReference = read_reference(tmp_path / "one")
    scorer, said = scorer_of("digits", "1", detector), detector.score(calibration, code=True)
    rows = build_rows(
        scorer,
        call="0" * 8,
        channel="batch",
        time=datetime.now().astimezone(),
        names=[""] * 200,
        samples=calibration,
        outputs=said,
    )
    for name in ("score", "mean", "std"):
        np.testing.assert_array_equal(getattr(found, name), rows[name].to_numpy())
    np.testing.assert_array_equal(found.code, np.array(rows["code"].to_pylist(), dtype=np.float32))
    assert (found.rank, found.bundle_sha256) == (191, detector.sha256)
    assert (np.sort(found.score)[found.rank - 1]) == pytest.approx(detector.bundle["threshold"]["value"], rel=1e-5)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
