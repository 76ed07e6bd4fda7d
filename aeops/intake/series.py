"""Readings over time in a file of rows: whether they are a series, and the recipe that is proposed for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ae_models.names import names_not_in, names_of
from ae_models.spec import join_names
from aeops.drawing.words import format_count
from aeops.errors import DataError, UsageError
from aeops.intake.column_roles import ColumnRoles
from aeops.intake.common_sections import TRIM, gate_section
from aeops.intake.proposal import Choices, Proposal, Understanding, label_values, split_labels
from aeops.intake.recipe_text import Entry, changed_values, list_entries
from aeops.intake.series_search import GAP, LEAST_STEPS, LEAST_WINDOWS, LENGTHS, SHARES, FoundSeries
from aeops.intake.sizing import batch_for, count_anomalies, epochs_for, threads_for
from aeops.intake.wording import is_or_are
from aeops.kinds.series_readings import CHANNEL_COLUMN, VALUE_COLUMN, is_long
from aeops.recipe.gate_rules import MIN_GROUPS
from aeops.recipe.sources import SeriesSource

BLOCKS = (16, 8, 4, 2)  # windows in a row that raise one alarm
RATES = ((99, 0.01), (19, 0.05), (9, 0.1))  # blocks of the calibration windows from which -> rate that they can promise
LARGEST_CODE = 16
BANK_WINDOWS = 5_000
WINDOWS_SEEN = 60_000  # that pass through a training, at most


@dataclass(frozen=True)
class Windows:
    """The windows that are proposed.

    Attributes:
        length, stride: in steps.
        train: windows to train on.
        block: windows that raise one alarm.
        rate: share of normal blocks that may raise one.
    """

    length: int
    stride: int
    train: int
    block: int
    rate: float


def propose_series(found: FoundSeries, understood: Understanding, roles: ColumnRoles, dataset: str, choices: Choices) -> Proposal:
    """Propose a recipe for readings over time.

    Raises:
        DataError: there are too few steps.
        UsageError: an option that does not fit.
    """
    if choices.identity is not None:
        raise UsageError("--id is of tables: a step of a series is named by its machine and time")
    understood.kind, understood.count = SeriesSource.kind, found.step_count
    machine_count = len(np.unique(found.readings.machines))
    windows = choose_windows(found.step_count, machine_count, found.calibration_runs)
    labels = list(roles.label_counts) if len(roles.label_counts) > 1 else []
    anomalies = split_labels(labels, choices, understood) if labels else ()
    labels = names_not_in(labels, anomalies) + list(anomalies)  # a step has the highest of its readings
    _describe(understood, found, roles, labels)
    anomaly_windows = _anomaly_windows(roles, anomalies, windows)
    return Proposal(
        understood,
        understood.source,
        f"Readings of {understood.source}.",
        [
            _data_section(dataset, found, understood.source, roles, labels, anomalies),
            _validate_section(found),
            _input_section(found, windows),
            *_model_sections(found, windows),
            _threshold_section(windows, found.every),
            _train_section(found, windows),
            Entry("evaluate", {"pca_components": _code_size(found, windows), "neighbours": 5}, "baselines beside the model"),
            gate_section(anomaly_windows, count_test_windows(found.step_count, windows.length, machine_count) - anomaly_windows),
        ],
    )


def choose_windows(step_count: int, machine_count: int, calibration_runs: Sequence[int]) -> Windows:
    """Return windows for so many steps: the longest that leave enough of them, and the rate that their blocks can promise.

    All but the shortest leave as many test windows as the gate needs to compare a challenger with the champion.

    Args:
        step_count: of all machines.
        machine_count: how many they are.
        calibration_runs: lengths of the unbroken runs of steps in the part that calibrates; no window reaches over two.

    Raises:
        DataError: there are too few steps.

    >>> choose_windows(22_000, 1, [4_400])
    Windows(length=64, stride=4, train=2734, block=16, rate=0.05)
    """
    for length in LENGTHS:
        if length > LENGTHS[-1] and count_test_windows(step_count, length, machine_count) < MIN_GROUPS:
            continue
        stride = max(1, length // 16)
        calibration = _count_calibration_windows(calibration_runs, length, stride, machine_count)
        for block in BLOCKS:
            for least, rate in RATES:
                if step_count >= LEAST_WINDOWS * length and calibration // block >= least:
                    train = int(((1 - sum(SHARES.values())) * step_count - length) / stride)
                    return Windows(length, stride, train, block, rate)
    raise DataError(
        f"expected at least {LEAST_STEPS} steps, got {step_count}: a part is trained on, a part calibrates the "
        "threshold and a part tests it; bring a longer series"
    )


def _count_calibration_windows(runs: Sequence[int], length: int, stride: int, machine_count: int) -> int:
    """Return how many windows calibrate, at least: after the border in time, each machine loses the steps of one.

    >>> _count_calibration_windows([400], 16, 1, 1), _count_calibration_windows([300, 10, 90], 16, 1, 1)
    (368, 342)
    """
    count = 0
    for run in runs:
        count += max(0, run - length) // stride
    return count - machine_count * (length // stride)


def count_test_windows(step_count: int, length: int, machine_count: int) -> int:
    """Return how many test windows share no step, at least: after a border in time, each machine loses a window.

    >>> count_test_windows(2500, 32, 1), count_test_windows(2500, 16, 1)
    (14, 30)
    """
    return int(SHARES["test"] * step_count) // length - machine_count


# ---------------------------------------------------------------- what was understood


def _describe(understood: Understanding, found: FoundSeries, roles: ColumnRoles, labels: Sequence[str]) -> None:
    first, last = _format_minute(found.readings.times.min()), _format_minute(found.readings.times.max())
    machines = len(np.unique(found.readings.machines))
    of = f" of {machines:,} machines ({found.machine})" if found.machine is not None else ""
    count, channels = len(found.readings.times), format_count(len(found.channels), "channel")
    understood.facts += [
        (
            "kind",
            f"series: {format_count(count, 'reading')}{of} of {channels}, {understood.source}",
        ),
        ("time", f"{_describe_times(found)}: every {found.every:g} s, {first} to {last} UTC"),
    ]
    for place, name in enumerate(found.channels):
        values = found.readings.values[:, place]
        values = values[np.isfinite(values)]
        span = f"{values.min():g} to {values.max():g}" if len(values) else "no values"
        understood.facts.append(("channel", f"{name}: {span}"))
    if labels:
        counts = ", ".join(f"{name} ({roles.label_counts[name]:,})" for name in labels)
        understood.facts.append(("labels", f"column {roles.labels}: {counts}"))
    if found.gaps:
        gaps = f"{format_count(found.gaps, 'gap')} {is_or_are(found.gaps)} longer than {GAP:g} steps"
        understood.oddities.append(f"{gaps}: short ones are filled, no window lies over others")
    if roles.time_profile is not None and roles.time_profile.ambiguous:
        understood.oddities.append(f"{found.time}: {roles.time_profile.ambiguous}")
    if found.readings.untimed:
        count, reason = len(found.readings.untimed), next(iter(found.readings.untimed.values()))
        understood.oddities.append(f"{format_count(count, 'row')} without a time will be set aside: {reason}")
    if roles.time_note and not is_long(found.columns, ()):  # in the long form each channel repeats the times
        repaired = "readings are put in order, and those of one step are averaged"
        understood.oddities.append(f"{found.time}: {roles.time_note}: {repaired}")
    used = {*found.channels, *found.steps.stamp_columns, roles.labels, CHANNEL_COLUMN, VALUE_COLUMN}
    left_out = names_not_in(names_of(roles.kept), used)
    if left_out:
        are = "are" if len(left_out) > 1 else "is"
        understood.oddities.append(f"{join_names(left_out)} {are} left out: a channel of a series is a number")
    for name in found.constant:
        understood.oddities.append(f"{name} is left out: it is constant")
    if found.slowest is not None:
        understood.oddities.append(
            f"{found.slowest} is read every {found.every:g} s, others more often: these are averaged over a step"
        )
    if found.incomplete:
        understood.oddities.append(f"{found.incomplete:.1%} of the steps lack a reading of a channel, and will be set aside")
    if found.resting:
        understood.oddities.append(f"{_describe_resting(found)}: accepted, by validate.blank")
    understood.oddities += roles.describe_left_out(used)


def _describe_times(found: FoundSeries) -> str:
    if found.steps.time_of_day is not None:
        return f"columns {found.time}"
    unit = found.steps.time_unit
    return f"column {found.time}" if unit is None else f"column {found.time}, {unit} since 1970"


def _describe_resting(found: FoundSeries) -> str:
    """Return which channels never change at which machine; of many machines the first."""
    machine, channels = next(iter(found.resting.items()))
    at_machine = f" at {machine}" if found.machine is not None else ""
    more = f" (and others at {len(found.resting) - 1:,} more machines)" if len(found.resting) > 1 else ""
    never = "never change" if len(channels) > 1 else "never changes"
    return f"{join_names(channels)} {never}{at_machine}{more}"


def _format_minute(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M")


# ---------------------------------------------------------------- the recipe


def _anomaly_windows(roles: ColumnRoles, anomalies: Sequence[str], windows: Windows) -> int:
    """Return how many windows that share no step hold the steps with anomalies, at least one where there are some."""
    steps = count_anomalies(roles.label_counts, anomalies)
    return -(-steps // windows.length)


def _data_section(
    dataset: str, found: FoundSeries, path: str, roles: ColumnRoles, labels: Sequence[str], anomalies: Sequence[str]
) -> Entry:
    source = [Entry("kind", SeriesSource.kind), Entry("path", path)]
    if found.text is not None:
        source.append(Entry("text", changed_values(found.text), "dialect of the file, as it was found"))
    if found.time_format is not None:
        source.append(Entry("time_format", found.time_format, "of time stamps, which are not ISO 8601"))
    if labels:
        source.append(Entry("labels", roles.labels, "a step has the highest label of its readings, in the order below"))
    entries = [Entry("dataset", dataset, "names the folder in data/; recipes may share one"), Entry("source", source)]
    if labels:
        entries.append(Entry("labels", label_values(labels, labels)))
        reason = "windows with such a step are held out of training, calibration and threshold: the model has to flag them"
        if not anomalies:
            reason = "no label is an anomaly: all steps are normal, and the gate judges by injected faults"
        entries.append(Entry("novelty", label_values(anomalies, labels), reason))
    reason = "the first part trains, the last one tests, and a window's length is left out after each border (docs/series.md)"
    entries.append(Entry("split", {"by": "time", **SHARES}, reason))
    return Entry("data", entries)


def _validate_section(found: FoundSeries) -> Entry:
    steps, completeness = found.step_count, round(max(0.0, found.coverage - 0.1), 2)
    budget = round(min(0.5, max(0.02, 2 * (found.incomplete + found.untimed_share))), 3)
    entries = [
        Entry("rows", {"min": max(1, steps // 2), "max": 20 * steps}, "steps; half of what is there now is too few"),
        Entry("mean_drift", 0.5, "standard deviations by which a channel's mean may move from the last accepted version"),
        Entry(
            "quarantine_budget", budget, f"share of the steps that may be set aside; {found.incomplete:.1%} lack a channel now"
        ),
        Entry("completeness", completeness, f"share of its steps that a machine has readings at; {found.coverage:.0%} now"),
    ]
    if found.resting:
        entries.append(Entry("blank", "accept", f"{_describe_resting(found)}; without this line such a machine is set aside"))
    return Entry("validate", entries, "what fails these bounds goes to quarantine with its reason")


def _input_section(found: FoundSeries, windows: Windows) -> Entry:
    channels = []
    for place, name in enumerate(found.channels):
        values = found.readings.values[:, place]
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        room = high - low or max(1.0, abs(high))
        channel = {"name": name, "min": float(f"{low - room:.4g}"), "max": float(f"{high + room:.4g}")}
        channels.append(Entry("", channel, f"{low:g} to {high:g}; as much again on both sides is allowed"))
    steps: dict[str, Any] = {"every": found.every, "length": windows.length, "stride": windows.stride, "time": found.steps.time}
    if found.steps.time_unit is not None:
        steps["time_unit"] = found.steps.time_unit
    if found.steps.time_of_day is not None:
        steps["time_of_day"] = found.steps.time_of_day
    if found.machine is not None:
        steps["machine"] = found.machine
    seconds = windows.length * found.every
    reason = f"a window is {windows.length} steps, {_format_span(seconds)}; choose a length that holds what repeats"
    return Entry("input", [Entry("kind", SeriesSource.kind), Entry("channels", channels), Entry("steps", steps, reason)])


def _format_span(seconds: float) -> str:
    """Return a length of time in the largest unit that it holds twice.

    >>> _format_span(45), _format_span(1200), _format_span(19_200)
    ('45 s', '20 min', '5.3 h')
    """
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}" if unit == "min" else f"{seconds / length:.2g} {unit}"
    return f"{seconds:g} s"


def _values(found: FoundSeries, windows: Windows) -> int:
    return len(found.channels) * windows.length


def _code_size(found: FoundSeries, windows: Windows) -> int:
    return max(2, min(LARGEST_CODE, _values(found, windows) // 8))


def _model_sections(found: FoundSeries, windows: Windows) -> list[Entry]:
    values = _values(found, windows)
    hidden = 64 if values <= 128 else 128
    rows, neighbours = min(BANK_WINDOWS, windows.train), min(10, max(2, windows.train // 10))
    scores = [
        {"kind": "knn", "neighbours": min(5, neighbours), "rows": rows, "energy": 0, "level": 0.75},
        {"kind": "local-hull", "neighbours": neighbours, "ridge": 0.1, "rows": rows, "energy": 0, "level": 0.75},
        {"kind": "normalised-residual", "energy": 0},
    ]
    model = [
        Entry("corrupt", {"kind": "none"}),
        Entry("encode", {"kind": "dense", "widths": [hidden]}, f"{values} numbers a window"),
        Entry("bottleneck", {"kind": "identity", "size": _code_size(found, windows)}, "an eighth of them, and 16 at most"),
        Entry("decode", {"kind": "dense", "widths": [hidden]}),
        Entry("compare", {"kind": "mse"}),
    ]
    reason = "windows by their shape above all; the network goes in where it finds clearly more faults (docs/series.md)"
    score = [
        Entry("kind", "combined"),
        Entry("choose", "networks-by-power", reason),
        Entry("scores", list_entries(scores)),
    ]
    return [Entry("model", model), Entry("score", score)]


def _threshold_section(windows: Windows, every: float) -> Entry:
    span = _format_span(windows.block * windows.stride * every)
    block = f"windows overlap, so {windows.block} in a row ({span}) are one block"
    reason = f"{block}: at most this share of normal blocks raises an alarm"
    return Entry("threshold", {"kind": "block-conformal", "false_alarm_rate": windows.rate, "block": windows.block}, reason)


def _train_section(found: FoundSeries, windows: Windows) -> Entry:
    values, batch = _values(found, windows), batch_for(windows.train)
    epochs, reason = epochs_for(windows.train, values, WINDOWS_SEEN)
    entries = [
        Entry("epochs", epochs, f"{reason}, by the size of the data (docs/own-data.md)"),
        Entry("batch", batch),
        Entry("threads", threads_for(batch, values), "of the CPU; small batches are no quicker on two"),
        Entry("learning_rate", 0.003),
        TRIM,
        Entry("seed", 0),
    ]
    return Entry("train", entries)
