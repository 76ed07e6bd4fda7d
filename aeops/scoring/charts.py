"""Draw the figures of the page of a scoring run. Each function writes one SVG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.collections import PolyCollection

from aeops.drawing.mosaics import COLUMNS, NEAREST_TITLE, draw_error_strip, draw_rows
from aeops.drawing.palette import GRID_COLOUR, MODEL_COLOUR, NOVELTY_COLOUR, TEXT_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes

HISTOGRAM_EDGES = 70
ROW_INCHES = 0.42  # height of a day
LETTER_INCHES = 0.065  # width of a letter of its label
PEAK_HEIGHT = 0.92  # of a row, for the fullest bin


@dataclass(frozen=True)
class DayScores:
    """The scores (n,) of a day, and how many of them were flagged."""

    name: str
    scores: np.ndarray
    flagged_count: int

    @property
    def label(self) -> str:
        """Date, number of samples and share of flagged ones."""
        flagged_share = self.flagged_count / len(self.scores)
        return f"{self.name}: {len(self.scores):,} samples, {flagged_share:.1%} flagged"


def draw_days(file: Path, days: Sequence[DayScores], threshold: float) -> None:
    """Draw the histogram of each day's scores, a row a day, with the threshold; the part above it is orange.

    Args:
        file: the SVG file to write.
        days: one or more, each with samples.
        threshold: of the scores.
    """
    all_scores, labels = [], []
    for day in days:
        all_scores.append(day.scores)
        labels.append(day.label)
    edges, is_log = histogram_edges(np.concatenate(all_scores), threshold)
    row_offsets = list(range(0, -len(days), -1))
    height, left_margin = 0.9 + ROW_INCHES * len(days), 0.1 + LETTER_INCHES * max(map(len, labels))
    with svg_axes(file, REPORT_WIDTH, height) as [axes]:
        # By hand: for a small batch, the layout engine would take longer than the scoring.
        axes.get_figure().set_layout_engine("none")  # type: ignore[union-attr]
        axes.set_position((left_margin / REPORT_WIDTH, 0.5 / height, 1 - (left_margin + 0.05) / REPORT_WIDTH, 1 - 0.55 / height))
        axes.hlines(row_offsets, edges[0], edges[-1], color=GRID_COLOUR, linewidth=0.6)
        bin_heights = [PEAK_HEIGHT * relative_densities(day.scores, edges, is_log) for day in days]
        is_below = edges[:-1] < threshold
        for colour, is_drawn in ((MODEL_COLOUR, is_below), (NOVELTY_COLOUR, ~is_below)):
            day_polygons = []
            for offset, day_heights in zip(row_offsets, bin_heights, strict=True):
                day_polygons.append(_histogram_outline(edges, np.where(is_drawn, day_heights, 0.0), offset))
            axes.add_collection(PolyCollection(day_polygons, facecolor=colour, linewidth=0, alpha=0.75), autolim=False)
        lowest_y = 1 - len(days) - 0.1
        axes.vlines(threshold, lowest_y, PEAK_HEIGHT + 0.08, color=TEXT_COLOUR, linewidth=1.2, linestyle=(0, (4, 2)))
        label = f"threshold {threshold:.4g}"
        axes.text(threshold, PEAK_HEIGHT + 0.12, label, color=TEXT_COLOUR, fontsize=8, ha="center", va="bottom")
        axes.set_yticks(row_offsets, labels, va="bottom", fontsize=8)
        axes.set(xlabel="anomaly score" + " (logarithmic)" * is_log, ylim=(lowest_y, PEAK_HEIGHT + 0.45))
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        if is_log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.3g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlim(edges[0], edges[-1])


def _histogram_outline(edges: np.ndarray, day_heights: np.ndarray, base: float) -> np.ndarray:
    """Return the corners (k, 2) of a histogram that stands on `base`."""
    x, y = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(day_heights, 2), [0.0]])
    return np.column_stack([x, base + y])


def histogram_edges(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, bool]:
    """Return edges that hold every score, the threshold among them, and whether they are spaced logarithmically.

    They are where every score and the threshold are positive.
    """
    low, high = min(float(scores.min()), threshold), max(float(scores.max()), threshold)
    if low > 0:
        pad = 1.05
        return np.unique(np.append(np.geomspace(low / pad, high * pad, HISTOGRAM_EDGES), threshold)), True
    return np.unique(np.append(np.linspace(low - 1e-9, high + 1e-9, HISTOGRAM_EDGES), threshold)), False


def relative_densities(scores: np.ndarray, edges: np.ndarray, is_log: bool) -> np.ndarray:
    """Return the density of the scores in each bin, scaled so that the highest is 1; of their logarithms where `is_log`."""
    widths = np.diff(np.log(edges) if is_log else edges)
    densities = np.histogram(scores, edges)[0] / widths
    return np.asarray(densities / densities.max())


def draw_anomalous(
    file: Path,
    inputs: np.ndarray,
    outputs: np.ndarray,
    captions: Sequence[str],
    nearest: np.ndarray | None,
    distances: np.ndarray | None,
) -> None:
    """Draw samples above the model's outputs, with the error where the two have the same shape.

    Args:
        file: the SVG file to write.
        inputs: (k, c, ...) in [0, 1], at most `COLUMNS`.
        outputs: (k, c, ...) in [0, 1].
        captions: one a sample.
        nearest: the nearest normal samples, as the inputs; None where the score knows none.
        distances: how far each pixel is from normal, as `draw_error_strip` takes them.
    """
    if inputs.shape == outputs.shape:
        draw_error_strip(file, inputs, outputs, None, captions, nearest, distances)
        return
    rows = {"input": _pad_columns(inputs), "output": _pad_columns(outputs)}
    if nearest is not None:
        rows[NEAREST_TITLE] = _pad_columns(nearest)
    draw_rows(file, rows, captions, width=REPORT_WIDTH / 3)


def _pad_columns(images: np.ndarray) -> np.ndarray:
    """Return `COLUMNS` images, of which those beyond the given ones are white."""
    white_images = np.ones((COLUMNS - len(images), *images.shape[1:]))
    return np.concatenate([images, white_images])
