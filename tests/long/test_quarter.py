"""A quarter in minutes: data by the day, retrains by schedule and by alarm, a gate that decides, a service that swaps."""

import itertools
from types import ModuleType
from typing import Any

import pytest
from checkout import make_checkout

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # seconds, on a busy machine; a few minutes on two idle cores


@pytest.fixture(scope="module")
def story(quarter: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with quarter.Quarter(make_checkout(tmp_path_factory.mktemp("quarter") / "checkout").root).played() as told:
        return dict(told)


def days(story: dict[str, Any], words: str) -> list[int]:
    return [day for day, told in story["told"] if words in told]


def test_every_sample_of_every_day_was_scored_once(story: dict[str, Any], quarter: ModuleType) -> None:
    assert story["samples"] == quarter.DAYS * quarter.A_DAY


def test_no_alarm_came_before_the_change_and_one_soon_after_it(story: dict[str, Any], quarter: ModuleType) -> None:
    alarms = days(story, "alarm")
    assert alarms
    assert quarter.CHANGE <= alarms[0] < quarter.CHANGE + 14


def test_the_schedule_and_the_alarm_both_retrained_and_the_gate_decided_about_each(
    story: dict[str, Any], quarter: ModuleType
) -> None:
    assert days(story, "retrain by schedule") == list(quarter.SCHEDULED)
    decided = [event.split(" ")[0] for event in story["events"]]
    assert decided[0] == "promotion"
    assert set(decided) <= {"promotion", "refusal"}
    assert len(decided) == len(quarter.SCHEDULED) + 1
    promoted = [event.split(" ")[-1] for event in story["events"] if event.startswith("promotion")]
    assert len(promoted) >= 2, "what was trained after the change became champion"


def test_the_service_followed_every_promotion_and_no_request_failed(story: dict[str, Any]) -> None:
    promoted = [event.split(" ")[-1] for event in story["events"] if event.startswith("promotion")]
    assert story["failed_requests"] == []
    assert story["requests"] > 500
    assert [version for version, _ in itertools.groupby(story["versions_that_answered"])] == promoted
    assert "whole" in story["ledger"]
