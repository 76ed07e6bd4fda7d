"""Schedules of prefect.yaml at an hour that daylight saving skips: Prefect then begins the run an hour early."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aeops.errors import UsageError
from aeops.project import Project
from aeops.recipe.yaml_reader import read_yaml

DAYS_AHEAD = 400  # more than a year, so that every change of the clocks is seen
STEP = timedelta(minutes=30)  # in UTC, at whose whole multiples clocks are changed: Lord Howe's at half past
FIELD_RANGES = ((0, 59), (0, 23))  # of minute and hour in a cron expression


@dataclass(frozen=True)
class SkippedTime:
    """Local times that a change of the clocks skips: from `start` up to `end`, both without a zone."""

    start: datetime
    end: datetime


def find_skipped_schedules(project: Project, now: datetime) -> list[str]:
    """Return a sentence for each schedule of prefect.yaml that a change of the clocks will skip.

    Args:
        now: with its zone; the next 400 days are checked.

    Raises:
        UsageError: prefect.yaml is no YAML, or not of the form that Prefect reads.
    """
    file = project.root / "prefect.yaml"
    if not file.is_file():
        return []
    sentences: dict[str, None] = {}  # in order, each once
    for deployment in _mappings_at(file, read_yaml(file), "deployments"):
        for schedule in _mappings_at(file, deployment, "schedules"):
            if "cron" in schedule and (sentence := find_skipped_run(schedule, now)):
                sentences[f"{deployment.get('name')}: {sentence}"] = None
    return list(sentences)


def _mappings_at(file: Path, document: object, key: str) -> list[dict[str, Any]]:
    """Return the list of mappings at a key of prefect.yaml; empty where it has no such key."""
    if not isinstance(document, dict):
        raise UsageError(f"{file}: expected a mapping with the key {key}, got {type(document).__name__}: correct the file")
    values = document.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise UsageError(f"{file}: {key}: expected a list of mappings, got {str(values)[:100]}: correct the file")
    return values


def find_skipped_run(schedule: Mapping[str, Any], now: datetime) -> str | None:
    """Return when the clocks skip a schedule's time; None where they never do in the next 400 days."""
    cron, zone_name = str(schedule["cron"]), str(schedule.get("timezone") or "UTC")
    fields = cron.split()
    if len(fields) != 5 or fields[1].startswith("*"):
        return None  # Prefect refuses what is no cron expression; a run of every hour loses one at most
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError):
        return f"{zone_name!r} is no time zone: expected one such as UTC or Europe/Berlin"
    minute_range, hour_range = FIELD_RANGES
    minutes, hours = parse_field(fields[0], *minute_range), parse_field(fields[1], *hour_range)
    for skipped in skipped_times(zone, now):
        timestamp = skipped.start
        while timestamp < skipped.end:
            if timestamp.minute in minutes and timestamp.hour in hours:
                return (
                    f"`{cron}` in {zone_name}: on {timestamp:%Y-%m-%d} there is no {timestamp:%H:%M}, since the clocks go "
                    "forward over it, and Prefect begins that run an hour early; set `timezone: UTC`, or an hour that every day "
                    "has"
                )
            timestamp += timedelta(minutes=1)
    return None


def parse_field(text: str, low: int, high: int) -> set[int]:
    """Return the values of a field of a cron expression; empty where it is none that this reads."""
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            first, last = str(low), str(high)
        if not first.isdecimal() or not (last or first).isdecimal() or not (step or "1").isdecimal():
            return set()
        end = int(last or (high if step else first))
        values |= set(range(int(first), end + 1, int(step or 1) or 1))
    return values


def skipped_times(zone: ZoneInfo, now: datetime) -> Iterator[SkippedTime]:
    """Yield the local times that the clocks of a zone skip in the next 400 days."""
    timestamp = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    before = timestamp.astimezone(zone)
    for _ in range(timedelta(days=DAYS_AHEAD) // STEP):
        timestamp += STEP
        after = timestamp.astimezone(zone)
        jump = (after.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        if jump > timedelta():
            end = after.replace(tzinfo=None)
            yield SkippedTime(end - jump, end)
        before = after
