"""Sections of the recipes of images: bounds, model, score, training and baselines, by the size and number of the samples."""

import math
from collections.abc import Sequence

from aeops.intake.common_sections import TRIM
from aeops.intake.image_probe import ValueRange
from aeops.intake.recipe_text import Entry
from aeops.intake.sizing import batch_for, epochs_for, threads_for

DENSE_PIXELS = 1024  # of an image, up to which the code is of the whole image; above, one for each place


def image_validate_section(count: int, values: ValueRange, bad_share: float) -> Entry:
    """Return the section validate by the measured means and deviations."""
    low_mean, high_mean = max(0.0, values.means[0] * 0.5), min(1.0, values.means[1] * 1.5 + 0.05)
    budget = round(min(0.5, max(0.02, 2 * bad_share)), 3)
    return Entry(
        "validate",
        [
            Entry("rows", {"min": max(1, count // 2), "max": max(100_000, 20 * count)}, "half of what is there now is too few"),
            Entry("mean_drift", 0.1, "how far the means may move from the last accepted version"),
            Entry(
                "sample_mean",
                {"min": round(low_mean, 4), "max": round(high_mean, 4)},
                f"measured: {values.means[0]:.3f} to {values.means[1]:.3f} of the range; with room on both sides",
            ),
            Entry(
                "sample_std",
                {"min": round(values.stds[0] * 0.3, 4), "max": round(min(0.5, values.stds[1] * 1.5 + 0.02), 4)},
                f"measured: {values.stds[0]:.3f} to {values.stds[1]:.3f}",
            ),
            Entry(
                "quarantine_budget",
                budget,
                f"{bad_share:.1%} of what was looked at cannot be a sample; more than this is refused",
            ),
            Entry("duplicates", "accept", "equal images are no dirt: they never lie on two sides of a split"),
        ],
        "bounds that were measured on the data; what fails them goes to quarantine with its reason",
    )


HULL = {"kind": "local-hull", "neighbours": 20, "ridge": 0.3}
BANK_ROWS = 3000  # at most
MOST_CELLS = 12  # of histograms along the longer side of an image
LEAST_CELL = 4  # pixels


def model_sections(shape: Sequence[int], train_count: int) -> list[Entry]:
    """Return the sections model and score, by the size of a sample."""
    channels, height, width = shape
    if _is_small(shape):
        size, is_map, reason = 16 if channels == 1 else 32, False, "small images: one code of the whole image"
    else:
        size, is_map, reason = 2 * (height // 4) * (width // 4), True, "two numbers for each place of 4 x 4 pixels"
    return [
        Entry(
            "model",
            [
                Entry("corrupt", {"kind": "none"}),
                Entry("encode", {"kind": "conv", "widths": [16, 32], "kernel": 4} | ({"map": True} if is_map else {}), reason),
                Entry("bottleneck", {"kind": "identity", "size": size}),
                Entry("decode", {"kind": "conv", "widths": [32, 16], "kernel": 4} | ({"map": True} if is_map else {})),
                Entry("compare", {"kind": "mse"}),
            ],
        ),
        Entry(
            "score",
            [
                Entry("kind", "combined"),
                Entry(
                    "choose", "by-power", "which of these go in is chosen by injected faults, without a label (docs/scores.md)"
                ),
                Entry("networks_only_raise", True, "a network may rebuild what is simpler than its training samples"),
                Entry("scores", _score_entries(shape, min(BANK_ROWS, train_count))),
            ],
        ),
    ]


def _is_small(shape: Sequence[int]) -> bool:
    return math.prod(shape[1:]) <= DENSE_PIXELS


def _score_entries(shape: Sequence[int], rows: int) -> list[Entry]:
    """Return the scores among which a calibration chooses: of the networks, of pixels and of the directions of edges."""
    pixels = HULL | {"energy": 0.5, "blur": 1, "rows": rows, "tangents": True}
    cell = max(LEAST_CELL, math.ceil(max(shape[1:]) / MOST_CELLS))
    edges = HULL | {"space": "orientations", "blur": 0.7 if _is_small(shape) else 0, "pool": cell, "rows": rows}
    if _is_small(shape):
        edges["tangents"] = True
    return [
        Entry("", {"kind": "normalised-residual", "energy": 0.5, "blur": 1}),
        Entry("", {"kind": "disagreement", "energy": 0.5, "blur": 1}),
        Entry("", pixels, "small moves of an image are no difference"),
        Entry("", edges, f"directions of edges, in cells of {cell} pixels: level and contrast are no difference"),
    ]


def train_section(shape: Sequence[int], train_count: int) -> Entry:
    """Return the section train, by the size and number of the samples."""
    epochs, reason = epochs_for(train_count, math.prod(shape))
    batch = batch_for(train_count)
    return Entry(
        "train",
        [
            Entry("epochs", epochs, f"{reason}, by the size of the data (docs/own-data.md)"),
            Entry("members", 2, "two networks: where they differ, a sample is unlike the training"),
            Entry("batch", batch),
            Entry("threads", threads_for(batch, math.prod(shape)), "of the CPU; small batches are no quicker on two"),
            Entry("learning_rate", 0.003),
            TRIM,
            Entry("seed", 0),
        ],
    )


def evaluate_section(train_count: int, has_masks: bool) -> Entry:
    """Return the section evaluate."""
    entries = [
        Entry("pca_components", min(16, train_count // 4), "baselines, measured beside the model"),
        Entry("neighbours", 5),
    ]
    if has_masks:
        entries.append(Entry("studies", {"pixels": {"blur": 1}}, "does the map of pixels mark the defects, by the masks"))
    return Entry("evaluate", entries)
