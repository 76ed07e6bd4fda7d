"""What `ae score` says of a file with a series: its alarms as intervals, the score of each step, and what no window holds."""

import math
from typing import TYPE_CHECKING, Any

from ae_models.names import names_of
from aeops.kinds.series_times import describe_time
from aeops.kinds.series_windows import run_bounds

if TYPE_CHECKING:
    from aeops.bundle.detector import Detector
    from aeops.kinds.series_scores import SeriesScores

MAX_ALARMS = 40  # of the table; it shows those with the highest peaks
MAX_UNSCORED = 10  # runs that no window holds, by name


def series_document(series: "SeriesScores", detector: "Detector") -> dict[str, Any]:
    """Return the keys of `ae score --json` about a series: `alarms`, `steps` and `unscored`.

    A step has its score, whether it is alarmed, and for each channel the squared residual in lengths of its range; null where no
    window holds it.
    """
    windows, channels = series.windows, names_of(detector.spec.channels)
    steps = []
    rows = zip(
        windows.machines.tolist(),
        windows.times.tolist(),
        series.step_scores.tolist(),
        series.is_alarmed.tolist(),
        series.residuals.tolist(),
        strict=True,
    )
    for machine, time, score, is_alarmed, residuals in rows:
        named = {"machine": machine} if machine else {}
        steps.append(
            {
                **named,
                "time": describe_time(time),
                "score": _finite_or_none(score),
                "is_alarmed": is_alarmed,
                "residuals": dict(zip(channels, map(_finite_or_none, residuals), strict=True)),
            }
        )
    return {
        "alarms": [alarm.to_dict() for alarm in series.alarms],
        "steps": steps,
        "unscored": unscored_runs(series),
    }


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def unscored_runs(series: "SeriesScores") -> list[dict[str, Any]]:
    """Return the runs of steps that are shorter than a window: machine, start, end and their number."""
    windows, runs = series.windows, []
    unscored = windows.unscored
    for first, end in run_bounds(windows.machines, windows.times, windows.every):
        if unscored[first]:
            machine = {"machine": str(windows.machines[first])} if windows.machines[first] else {}
            start, last = map(describe_time, windows.times[[first, end - 1]].tolist())
            runs.append({**machine, "start": start, "end": last, "steps": end - first})
    return runs


def print_series(series: "SeriesScores", title: str) -> None:
    """Print the alarms in the order of time, of more than MAX_ALARMS those with the highest peaks, and what was not scored."""
    from rich.table import Table

    from aeops.cli.outputs import count_text, open_console
    from aeops.machine.terminal import escape_line

    console, alarms = open_console(), series.alarms
    if len(alarms) > MAX_ALARMS:
        title += f": the {MAX_ALARMS} highest of {len(alarms):,} alarms"
        alarms = sorted(sorted(alarms, key=lambda alarm: -alarm.peak_score)[:MAX_ALARMS], key=lambda alarm: alarm.first)
    has_machines = bool((series.windows.machines != "").any())
    table = Table(title=escape_line(title), title_justify="left")
    for name in (["machine"] if has_machines else []) + ["from", "to", "peak"]:
        table.add_column(name)
    table.add_column("score", justify="right")
    table.add_column("channels")
    for alarm in alarms:
        times = list(map(describe_time, (alarm.start, alarm.end, alarm.peak)))
        cells = ([alarm.machine] if has_machines else []) + [*times, f"{alarm.peak_score:.4f}", alarm.channels_text]
        table.add_row(*map(escape_line, cells))
    if alarms:
        console.print(table)
    steps = len(series.windows.times)
    console.print(
        f"{count_text(steps, 'step')} of {series.windows.every:g} s, {count_text(len(series.alarms), 'alarm')}, "
        f"{count_text(int(series.is_alarmed.sum()), 'step')} alarmed; the threshold {series.threshold:.4f} is passed by the mean "
        "score of a step's windows"
    )
    runs = unscored_runs(series)
    for run in runs[:MAX_UNSCORED]:
        named = f"{run['machine']} " if "machine" in run else ""
        steps_text = count_text(run["steps"], "step")
        console.print(escape_line(f"not scored: {named}{run['start']} to {run['end']}: {steps_text}, less than a window"))
    if len(runs) > MAX_UNSCORED:
        console.print(f"not scored: {len(runs) - MAX_UNSCORED} more such runs")
