"""Scores and stored samples as pictures inside a page: SVG, or PNG in a data address."""

import math
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from aeops.kinds.pictures import png

BINS, WIDE, HIGH, FLOOR = 48, 640, 190, 158  # of the histogram: bars, width, height, where the bars stand
FAR = 1.5  # spans of the calibration scores beyond which a sample is drawn at the edge


def histogram(scores: np.ndarray, threshold: float, score: float) -> Markup:
    """The calibration scores as bars, the threshold as a line, and the sample's score as a mark; an element of a page."""
    low, high = float(min(scores.min(), threshold)), float(max(scores.max(), threshold))
    spread = (high - low) or 1.0
    left, right = max(min(low, score), low - FAR * spread), min(max(high, score), high + FAR * spread)
    margin = 0.02 * (right - left) or 0.5  # scores that are all the same have a place, too
    left, right = left - margin, right + margin
    counts, edges = np.histogram(scores, bins=BINS, range=(left, right))
    tallest = max(int(counts.max()), 1)

    def x(value: float) -> float:
        return round(12 + (WIDE - 24) * (min(max(value, left), right) - left) / (right - left), 1)

    bars = "".join(
        f'<rect class="normal" x="{x(edge):.1f}" y="{FLOOR - tall:.1f}" width="{x(edges[place + 1]) - x(edge) - 1:.1f}" '
        f'height="{tall:.1f}"/>'
        for place, edge in enumerate(edges[:-1])
        if (tall := 112 * math.sqrt(counts[place] / tallest))
    )
    side = "end" if x(threshold) > WIDE / 2 else "start"
    own = "end" if x(score) > WIDE * 0.75 else "start" if x(score) < WIDE * 0.25 else "middle"
    flagged = "flagged" if score > threshold else "calm"
    told = f"{len(scores)} calibration scores from {low:.4g} to {high:.4g}, threshold {threshold:.4g}, this sample {score:.4g}"
    off = " (off the scale)" if not left <= score <= right else ""
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(told)}">{bars}'
        f'<line class="floor" x1="0" x2="{WIDE}" y1="{FLOOR}" y2="{FLOOR}"/>'
        f'<line class="threshold" x1="{x(threshold)}" x2="{x(threshold)}" y1="24" y2="{FLOOR}"/>'
        f'<text x="{x(threshold) + (-6 if side == "end" else 6)}" y="34" text-anchor="{side}">threshold {threshold:.4g}</text>'
        f'<path class="{flagged}" d="M{x(score)} {FLOOR + 2} l-7 13 h14 z"/>'
        f'<line class="{flagged}" x1="{x(score)}" x2="{x(score)}" y1="44" y2="{FLOOR}"/>'
        f'<text class="{flagged}" x="{x(score)}" y="{HIGH - 3}" text-anchor="{own}">this sample {score:.4g}{off}</text></svg>'
    )


def of_sample(values: np.ndarray) -> str:
    """A stored sample whose range nobody knows here: bytes as they are, others from their least to their largest value."""
    if values.dtype == np.uint8:
        return png(values, 0, 255)
    finite: Any = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return png(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high if high > low else low + 1)
