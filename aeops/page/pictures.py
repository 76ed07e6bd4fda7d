"""Samples as pictures inside a page: PNG in a data address, or SVG. Standard library, numpy and Pillow."""

import base64
import io
import math
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

# The error map's colours from 0 to 1, as in the report (matplotlib's inferno at five places).
INFERNO = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
BINS, WIDE, HIGH, FLOOR = 48, 640, 190, 158  # of the histogram: bars, width, height, where the bars stand
FAR = 1.5  # spans of the calibration scores beyond which a sample is drawn at the edge


def png(values: np.ndarray, low: float, high: float) -> str:
    """An image (channels, height, width) in raw units as a data address; of two channels, the first is shown."""
    scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return address(np.rint(scaled * 255).astype(np.uint8))


def address(pixels: np.ndarray) -> str:
    """uint8 (channels, height, width) as a PNG in a data address."""
    shown = pixels if len(pixels) == 3 else pixels[:3] if len(pixels) > 3 else pixels[:1]
    image = Image.fromarray(shown[0]) if len(shown) == 1 else Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    written = io.BytesIO()
    image.save(written, "PNG")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def error_map(error: np.ndarray) -> str:
    """Errors in 0..1, (height, width), in the report's colours."""
    places = np.linspace(0, 1, len(INFERNO))
    flat = np.clip(error, 0, 1).ravel()
    colours = [np.interp(flat, places, [stop[channel] for stop in INFERNO]) for channel in range(3)]
    return address(np.rint(np.stack(colours)).astype(np.uint8).reshape(3, *error.shape))


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


def curves(given: np.ndarray, made: np.ndarray | None, low: float, high: float) -> Markup:
    """A window of a series (channels, steps) in raw units, and what was made of it, as lines in an SVG."""

    def line(values: np.ndarray, kind: str) -> str:
        steps = np.linspace(0, WIDE, len(values))
        heights = FLOOR - (values - low) / (high - low) * (FLOOR - 8)
        points = " ".join(f"{step:.1f},{tall:.1f}" for step, tall in zip(steps, heights, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    drawn = "".join(line(channel, "given") for channel in given)
    drawn += "".join(line(channel, "made") for channel in made) if made is not None else ""
    return Markup(f'<svg class="curves" viewBox="0 0 {WIDE} {FLOOR}" role="img" aria-label="given and made">{drawn}</svg>')


def of_sample(values: np.ndarray) -> str:
    """A stored sample whose range nobody knows here: bytes as they are, others from their least to their largest value."""
    if values.dtype == np.uint8:
        return png(values, 0, 255)
    finite: Any = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return png(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high if high > low else low + 1)
