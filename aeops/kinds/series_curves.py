"""Windows of series as lines of an SVG: all channels in one picture, or one picture a channel with its name and its values."""

import html

import numpy as np

from aeops.kinds.results import PageBlock
from aeops.kinds.samples import SampleSpec

CURVES_WIDTH, CURVES_HEIGHT, CURVES_MARGIN = 640, 158, 8  # of the SVG; the margin is above the highest value
CHANNEL_HEIGHT = 96  # of the picture of one channel


def svg_polyline(values: np.ndarray, style: str, spec: SampleSpec) -> str:
    """Return values (steps,) in raw units as a line of the SVG."""
    steps = np.linspace(0, CURVES_WIDTH, len(values))
    y_values = CURVES_HEIGHT - (values - spec.low) / spec.span * (CURVES_HEIGHT - CURVES_MARGIN)
    return _polyline(steps, y_values, style)


def _polyline(steps: np.ndarray, y_values: np.ndarray, style: str) -> str:
    points = " ".join(f"{step:.1f},{y_value:.1f}" for step, y_value in zip(steps, y_values, strict=True))
    return f'<polyline class="{style}" points="{points}"/>'


def svg_channels(batch: np.ndarray, style: str, spec: SampleSpec) -> list[str]:
    """Return the channels of one series (1, channels, steps) in raw units as lines of the SVG."""
    return [svg_polyline(channel, style, spec) for channel in batch[0]]


def svg_curves(lines: list[str], label: str, height: int = CURVES_HEIGHT) -> str:
    """Return lines as an SVG element."""
    box = f"0 0 {CURVES_WIDTH} {height}"
    return f'<svg class="curves" viewBox="{box}" role="img" aria-label="{html.escape(label)}">{"".join(lines)}</svg>'


def channel_curves(batch: np.ndarray, output: np.ndarray | None, nearest: np.ndarray | None, spec: SampleSpec) -> list[PageBlock]:
    """Return a picture for each channel of a window: the values that came, the reconstruction, and the nearest normal window.

    The vertical axis reaches over the values that are drawn; the caption says from where to where.

    Args:
        batch: (1, channels, steps) in raw units.
        output: the reconstruction, likewise; None where there is none.
        nearest: the nearest window of the training, likewise; None where there is none.
        spec: the model's, with its channels.
    """
    blocks = []
    for place, channel in enumerate(spec.channels):
        curves = {"given": batch[0, place]}
        if output is not None and output.shape == batch.shape:
            curves["made"] = output[0, place]
        if nearest is not None:
            curves["near"] = nearest[0, place]
        finite = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        span = high - low or 1.0
        lines = []
        for style, values in reversed(curves.items()):
            lines += _broken_line(values, style, low, span)
        drawn = (
            "given"
            + (", reconstructed" if "made" in curves else "")
            + (", nearest normal window dashed" if "near" in curves else "")
        )
        caption = f"{drawn}; from {low:g} to {high:g}, usually {channel.low:g} to {channel.high:g}"
        blocks.append(PageBlock("svg", svg_curves(lines, f"channel {channel.name}", CHANNEL_HEIGHT), channel.name, caption))
    return blocks


def _broken_line(values: np.ndarray, style: str, low: float, span: float) -> list[str]:
    """Return the lines of a channel, which break where a value is missing or infinite."""
    steps = np.linspace(0, CURVES_WIDTH, len(values))
    lines = []
    is_drawn = np.isfinite(values)
    edges = np.flatnonzero(np.diff(is_drawn.astype(np.int8))) + 1
    for part in np.split(np.arange(len(values)), edges):
        if is_drawn[part[0]]:
            y_values = CHANNEL_HEIGHT - CURVES_MARGIN - (values[part] - low) / span * (CHANNEL_HEIGHT - 2 * CURVES_MARGIN)
            lines.append(_polyline(steps[part], y_values, style))
    return lines
