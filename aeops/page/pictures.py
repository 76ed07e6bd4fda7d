"""Scores and stored samples as pictures inside a page: SVG, or PNG in a data address."""

import math

import numpy as np
from markupsafe import Markup, escape

from aeops.kinds.pictures import png

BIN_COUNT = 48
SVG_WIDTH, SVG_HEIGHT = 640, 190
FLOOR_Y = 158  # the bottom of the bars
BAR_HEIGHT = 112  # of the tallest bar
SIDE_MARGIN = 12
SCALE_LIMIT = 1.5  # ranges of the calibration scores beyond which a sample is drawn at the edge


class ScoreAxis:
    """The horizontal axis of the histogram, which shows a distant sample at its edge."""

    def __init__(self, low: float, high: float, score: float) -> None:
        spread = (high - low) or 1.0
        low_edge = max(min(low, score), low - SCALE_LIMIT * spread)
        high_edge = min(max(high, score), high + SCALE_LIMIT * spread)
        margin = 0.02 * (high_edge - low_edge) or 0.5  # equal scores get some width, too
        self.shows_score = low_edge <= score <= high_edge
        self.low_edge = low_edge - margin
        self.high_edge = high_edge + margin

    def x(self, value: float) -> float:
        fraction = (min(max(value, self.low_edge), self.high_edge) - self.low_edge) / (self.high_edge - self.low_edge)
        return round(SIDE_MARGIN + (SVG_WIDTH - 2 * SIDE_MARGIN) * fraction, 1)


def histogram(scores: np.ndarray, threshold: float, score: float) -> Markup:
    """Draw the calibration scores as bars, the threshold as a line and the sample's score as a mark.

    Args:
        scores: (n,), n >= 1.
    """
    low, high = float(min(scores.min(), threshold)), float(max(scores.max(), threshold))
    axis = ScoreAxis(low, high, score)
    threshold_x, score_x = axis.x(threshold), axis.x(score)
    description = (
        f"{len(scores)} calibration scores from {low:.4g} to {high:.4g}, threshold {threshold:.4g}, this sample {score:.4g}"
    )
    threshold_label = (threshold_x + 6, "start")
    if threshold_x > SVG_WIDTH / 2:
        threshold_label = (threshold_x - 6, "end")
    css_class, scale_remark = "calm", ""
    if score > threshold:
        css_class = "flagged"
    if not axis.shows_score:
        scale_remark = " (off the scale)"
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {SVG_WIDTH} {SVG_HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{histogram_bars(scores, axis)}"
        f'<line class="floor" x1="0" x2="{SVG_WIDTH}" y1="{FLOOR_Y}" y2="{FLOOR_Y}"/>'
        f'<line class="threshold" x1="{threshold_x}" x2="{threshold_x}" y1="24" y2="{FLOOR_Y}"/>'
        f'<text x="{threshold_label[0]}" y="34" text-anchor="{threshold_label[1]}">threshold {threshold:.4g}</text>'
        f'<path class="{css_class}" d="M{score_x} {FLOOR_Y + 2} l-7 13 h14 z"/>'
        f'<line class="{css_class}" x1="{score_x}" x2="{score_x}" y1="44" y2="{FLOOR_Y}"/>'
        f'<text class="{css_class}" x="{score_x}" y="{SVG_HEIGHT - 3}" text-anchor="{text_anchor(score_x)}">'
        f"this sample {score:.4g}{scale_remark}</text></svg>"
    )


def histogram_bars(scores: np.ndarray, axis: ScoreAxis) -> str:
    """Return an SVG rectangle for each bin that is not empty; heights are square roots, so that rare scores can be seen."""
    counts, edges = np.histogram(scores, bins=BIN_COUNT, range=(axis.low_edge, axis.high_edge))
    max_count = max(int(counts.max()), 1)
    bar_elements = []
    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        if count == 0:
            continue
        height = BAR_HEIGHT * math.sqrt(count / max_count)
        start_x, end_x = axis.x(start), axis.x(end)
        bar_elements.append(
            f'<rect class="normal" x="{start_x:.1f}" y="{FLOOR_Y - height:.1f}" '
            f'width="{end_x - start_x - 1:.1f}" height="{height:.1f}"/>'
        )
    return "".join(bar_elements)


def text_anchor(x: float) -> str:
    """Return the side of a text that stands at x, so that it stays inside the picture."""
    if x > SVG_WIDTH * 0.75:
        return "end"
    if x < SVG_WIDTH * 0.25:
        return "start"
    return "middle"


def sample_image(values: np.ndarray) -> str:
    """Return a stored sample (channels, height, width) as the data address of a PNG.

    The range of a stored sample is not known here: bytes are shown as they are, other values from the least to the largest.
    """
    if values.dtype == np.uint8:
        return png(values, 0, 255)
    finite_values = values[np.isfinite(values)]
    low, high = 0.0, 1.0
    if finite_values.size:
        low, high = float(finite_values.min()), float(finite_values.max())
    if high <= low:
        high = low + 1
    return png(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
