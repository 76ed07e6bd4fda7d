"""What the report needs to draw any span of a series: one machine's steps, reduced where they are many, as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeops.evaluation.series_charts import GAP_STEPS, SeriesPicture, marked_spans

ZOOM_FILE = "series_zoom.json"  # in the folder of the figures
MAX_STEPS = 20_000  # of which a bin of time keeps those with the lowest and the highest value of each line
DIGITS = 5  # significant ones of a value


def write_zoom(file: Path, picture: SeriesPicture, length: int) -> None:
    """Write what the report draws from near.

    Args:
        file: to write.
        picture: of one machine.
        length: steps of a window.
    """
    file.write_text(json.dumps(zoom_document(picture, length), separators=(",", ":"), allow_nan=False), encoding="utf-8")


def zoom_document(picture: SeriesPicture, length: int) -> dict[str, Any]:
    """Return the content of the file.

    Returns:
        `start`, seconds since 1970; `every` and `window`, seconds; `widest`, the longest distance of two steps of a whole line;
        `steps`, counted from the start; `channels`, `scores` and `threshold`, null where there is no value; `alarms`, `known` and
        `training`, pairs of seconds.
    """
    rows = _kept_rows(picture)
    start = float(picture.times[0])
    steps = np.rint((picture.times[rows] - start) / picture.every).astype(np.int64)
    channels = []
    for place, name in enumerate(picture.channels):
        values, made = picture.values[rows, place], picture.reconstruction[rows, place]
        channels.append({"name": name, "values": _numbers(values), "reconstruction": _numbers(made)})
    bin_steps = 2 * len(picture.times) / max(1, len(rows)) * (len(picture.channels) + 1)
    return {
        "start": start,
        "every": picture.every,
        "window": length * picture.every,
        "widest": picture.every * (GAP_STEPS if len(rows) == len(picture.times) else max(GAP_STEPS, 2 * bin_steps)),
        "steps": steps.tolist(),
        "channels": channels,
        "scores": _numbers(picture.scores[rows]),
        "threshold": picture.threshold,
        "alarms": [[alarm.start, alarm.end + picture.every] for alarm in picture.alarms],
        "known": _pairs(marked_spans(picture.is_known, picture.times, picture.every)),
        "training": _pairs(marked_spans(picture.is_training, picture.times, picture.every)),
    }


def _pairs(spans: Sequence[tuple[float, float]]) -> list[list[float]]:
    return list(map(list, spans))


def _kept_rows(picture: SeriesPicture) -> np.ndarray:
    """Return the rows to keep: all, or of many those with the extremes of a line in their bin of time, ascending."""
    count = len(picture.times)
    if count <= MAX_STEPS:
        return np.arange(count)
    lines = [*picture.values.T, *picture.reconstruction.T, picture.scores]
    bins = MAX_STEPS // (2 * len(lines))
    edges = np.linspace(0, count, bins + 1).astype(np.int64)
    kept = {0, count - 1}
    for line in lines:
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            part = line[first:end]
            if np.isfinite(part).any():
                kept |= {first + int(np.nanargmin(part)), first + int(np.nanargmax(part))}
    return np.array(sorted(kept))


def _numbers(values: np.ndarray) -> list[float | None]:
    numbers: list[float | None] = []
    for value in values.tolist():
        numbers.append(float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None)
    return numbers
