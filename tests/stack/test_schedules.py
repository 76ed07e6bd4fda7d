"""A schedule at an hour that daylight saving skips is said; Prefect itself runs it an hour early."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule

from aeops.cli.health_checks import check_schedules
from aeops.project import Project
from aeops.stack.schedules import find_skipped_run, find_skipped_schedules

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("cron", "zone", "told"),
    [
        ("30 2 * * *", "Europe/Berlin", "on 2027-03-28 there is no 02:30"),
        ("*/20 1-3 * * *", "America/New_York", "on 2027-03-14 there is no 02:00"),
        ("15 2 * * *", "Australia/Lord_Howe", "on 2027-10-03 there is no 02:15"),
        ("30 3 * * *", "Europe/Berlin", None),
        ("45 2 * * *", "Australia/Lord_Howe", None),  # its clocks go forward by half an hour
        ("30 2 * * *", "UTC", None),
        ("30 2 * * *", None, None),
        ("30 2 * * *", "Asia/Tokyo", None),
        ("30 * * * *", "Europe/Berlin", None),  # every hour: one run less is no matter
        ("30 2 * * *", "Mars/Olympus", "'Mars/Olympus' is no time zone"),
    ],
)
def test_a_time_that_the_clocks_skip_is_said(cron: str, zone: str | None, told: str | None) -> None:
    sentence = find_skipped_run({"cron": cron, "timezone": zone}, NOW)
    assert (sentence is None) == (told is None)
    assert told is None or told in str(sentence)


def test_prefect_runs_a_skipped_time_an_hour_early() -> None:
    schedule, berlin = CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin"), ZoneInfo("Europe/Berlin")
    [run] = asyncio.run(schedule.get_dates(1, start=datetime(2027, 3, 27, 12, tzinfo=UTC)))
    assert run.astimezone(berlin).strftime("%m-%d %H:%M") == "03-28 01:30"


@pytest.mark.slow
def test_doctor_says_so_and_our_own_schedules_are_never_skipped(tmp_path: Path) -> None:
    assert find_skipped_schedules(Project(ROOT, ROOT / ".ae"), NOW) == []
    schedules = [{"cron": "30 2 * * *", "timezone": "Europe/Berlin", "active": True}]
    text = yaml.safe_dump({"deployments": [{"name": "retrain-digits", "schedules": schedules}]})
    (tmp_path / "prefect.yaml").write_text(text, encoding="utf-8")
    [found] = check_schedules(Project(tmp_path, tmp_path / ".ae"))
    assert found.level == "note"
    assert found.message.startswith("retrain-digits: `30 2 * * *` in Europe/Berlin: on ")
