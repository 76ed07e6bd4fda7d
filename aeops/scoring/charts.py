"""The figures of a page about scoring. Each function writes one SVG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.collections import PolyCollection

from aeops.drawing.mosaics import COLUMNS, draw_rows, draw_strip
from aeops.drawing.palette import GRID, INK, MODEL, NOVELTY
from aeops.drawing.style import WIDE, drawing

BINS = 70
ROW = 0.42  # inches that a day takes
LETTER = 0.065  # inches that a letter of its words takes
TALLEST = 0.92  # of a row, that the fullest bin takes


@dataclass(frozen=True)
class Day:
    """The scores (n,) of a day, and how many of them were flagged."""

    name: str
    scores: np.ndarray
    flagged: int


def draw_days(file: Path, days: Sequence[Day], threshold: float) -> None:
    """The histogram of each day's scores, a row a day, and where the threshold is; what lies above it is orange."""
    edges, is_log = bins(np.concatenate([day.scores for day in days]), threshold)
    told = [f"{day.name}: {len(day.scores):,} samples, {day.flagged / len(day.scores):.1%} flagged" for day in days]
    tall, left = 0.9 + ROW * len(days), 0.1 + LETTER * max(map(len, told))
    with drawing(file, WIDE, tall) as [axes]:
        # By hand: the scoring of a small batch must not take longer over where the axes go than over the samples.
        axes.get_figure().set_layout_engine("none")  # type: ignore[union-attr]
        axes.set_position((left / WIDE, 0.5 / tall, 1 - (left + 0.05) / WIDE, 1 - 0.55 / tall))
        heights = [TALLEST * densities(day.scores, edges, is_log) for day in days]
        axes.hlines([-place for place in range(len(days))], edges[0], edges[-1], color=GRID, linewidth=0.6)
        is_below = edges[:-1] < threshold
        for colour, chosen in ((MODEL, is_below), (NOVELTY, ~is_below)):
            outlines = [outline(edges, np.where(chosen, each, 0.0), -place) for place, each in enumerate(heights)]
            axes.add_collection(PolyCollection(outlines, facecolor=colour, linewidth=0, alpha=0.75), autolim=False)
        lowest = 1 - len(days) - 0.1
        axes.vlines(threshold, lowest, TALLEST + 0.08, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.text(threshold, TALLEST + 0.12, f"threshold {threshold:.4g}", color=INK, fontsize=8, ha="center", va="bottom")
        axes.set_yticks([-place for place in range(len(days))], told, va="bottom", fontsize=8)
        axes.set(xlabel="anomaly score" + " (logarithmic)" * is_log, ylim=(lowest, TALLEST + 0.45))
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        if is_log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.3g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlim(edges[0], edges[-1])


def outline(edges: np.ndarray, heights: np.ndarray, base: float) -> np.ndarray:
    """The corners (k, 2) of a histogram that stands on `base`."""
    across, up = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])
    return np.column_stack([across, base + up])


def bins(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, bool]:
    """Edges that hold every score, the threshold among them, and whether they are spaced by ratios: where all is positive."""
    low, high = min(float(scores.min()), threshold), max(float(scores.max()), threshold)
    is_log = low > 0
    pad = 1.05
    spaced = np.geomspace(low / pad, high * pad, BINS) if is_log else np.linspace(low - 1e-9, high + 1e-9, BINS)
    return np.unique(np.append(spaced, threshold)), is_log


def densities(scores: np.ndarray, edges: np.ndarray, is_log: bool) -> np.ndarray:
    """The height of each bin of the histogram with area per sample kept, scaled so that the highest is 1."""
    widths = np.diff(np.log(edges) if is_log else edges)
    heights = np.histogram(scores, edges)[0] / widths
    return np.asarray(heights / heights.max())


def draw_anomalous(file: Path, inputs: np.ndarray, outputs: np.ndarray, captions: Sequence[str]) -> None:
    """Up to `COLUMNS` samples (k, c, ...) in [0, 1] over what the model made of them, with the error where they compare."""
    if inputs.shape == outputs.shape:
        draw_strip(file, inputs, outputs, None, captions)
        return
    blank = COLUMNS - len(inputs)
    rows = {"input": inputs, "output": outputs}
    filled = {name: np.concatenate([images, np.ones((blank, *images.shape[1:]))]) for name, images in rows.items()}
    draw_rows(file, filled, captions, width=WIDE / 3)
