"""Does the map of anomaly mark the defects? Compared with the masks of the test images, beside the recipe's baselines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from aeops.data.sources.catalogue import read_masks
from aeops.drawing import mosaics
from aeops.drawing.words import format_number
from aeops.evaluation.baselines import ResidualTreatment
from aeops.evaluation.line_charts import DETECTOR_STYLES
from aeops.evaluation.pixel_metrics import aupro, find_regions, pixel_auroc
from aeops.evaluation.sampling import even_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.metric_names import MODEL_DETECTOR
from aeops.recipe.studies import PixelsStudy

OVERLAYS_FILE, SHOWN = "pixels_overlays.svg", 6
DISPLAY_LOW, DISPLAY_HIGH = 0.9, 0.999  # quantiles of all pixels of a detector's maps, between which its overlay fades in
MASK_COLOUR, HEAT_COLOUR = (0.1, 0.75, 0.95), (0.98, 0.25, 0.05)


def run_pixels_study(spec: PixelsStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Measure the maps of the model and of its baselines against the masks of the test images."""
    ids = context.data.table["id"].tolist()
    masks = read_masks(context.recipe, context.project, context.data.source["sha256"], ids)
    is_known = context.is_normal | masks.any(axis=(1, 2))  # a defect without a mask may be anywhere in its image
    maps = {MODEL_DETECTOR: model_maps(context)} | context.baselines.pixel_maps(context.inputs)
    measured: dict[str, dict[str, float | None]] = {}
    for name, values in maps.items():
        maps[name] = smooth_maps(values, spec.blur)
        known_maps = maps[name][is_known]
        measured[name] = {
            "pixel_auroc": pixel_auroc(known_maps, masks[is_known]),
            "aupro": aupro(known_maps, masks[is_known], spec.false_positive_rate),
        }
    rows = choose_examples(context, masks)
    figure_captions = []
    if len(rows):
        draw_overlays(figures / OVERLAYS_FILE, context, masks, maps, _best_baseline(measured), rows)
        figure_captions = [(OVERLAYS_FILE, _caption(_best_baseline(measured)))]
    counts = {
        "images": int(is_known.sum()),
        "without_mask": int((~is_known).sum()),
        "regions": find_regions(masks[is_known]).count,
        "defect_share": float(masks[is_known].mean()),
    }
    return _result(spec, context, measured, counts, figure_captions)


# ---------------------------------------------------------------- maps


def model_maps(context: EvaluationContext) -> np.ndarray:
    """Return the model's map of each test image, float32 (n, h, w): that of its score, or its residual as a baseline has it."""
    if context.detector.has_pixel_map:
        explained = context.detector.score(context.inputs, explanation=True)
        return np.asarray(explained["pixel_map"], np.float32)
    treatment = ResidualTreatment.of_score(context.recipe.fit.score)
    inputs = context.data.scale(context.inputs)
    residuals = treatment.blur_samples(inputs - context.reconstructions)
    return treatment.map_residuals(residuals, treatment.blur_samples(inputs), inputs.shape)


def smooth_maps(maps: np.ndarray, blur: float) -> np.ndarray:
    """Return maps (n, h, w) smoothed within each image by a Gaussian of so many pixels."""
    if blur == 0:
        return maps
    return np.asarray(gaussian_filter(maps, (0, blur, blur), mode="nearest"), np.float32)


def _best_baseline(measured: Mapping[str, Mapping[str, float | None]]) -> str | None:
    """Return the baseline with the largest AUPRO; None without baselines."""
    aupros = {}
    for name, values in measured.items():
        if name != MODEL_DETECTOR:
            aupros[name] = values["aupro"] or 0.0
    return max(aupros, key=aupros.__getitem__, default=None)


# ---------------------------------------------------------------- figures


def choose_examples(context: EvaluationContext, masks: np.ndarray) -> np.ndarray:
    """Return the rows of some test images with a mask, evenly spaced by label."""
    rows = np.flatnonzero(~context.is_normal & masks.any(axis=(1, 2)))
    rows = rows[np.argsort(context.data.labels[rows], kind="stable")]
    if not len(rows):
        return rows
    return np.asarray(rows[even_indices(len(rows), SHOWN)])


def draw_overlays(
    file: Path,
    context: EvaluationContext,
    masks: np.ndarray,
    maps: Mapping[str, np.ndarray],
    baseline: str | None,
    rows: np.ndarray,
) -> None:
    """Draw images, their masks, and the maps of the model and of one baseline over them."""
    images = to_rgb(context.data.scale(context.inputs[rows]))
    strips = {"image": images, "mask": tint(images, masks[rows].astype(np.float64) * 0.6, MASK_COLOUR)}
    shown = {"model": MODEL_DETECTOR} | ({} if baseline is None else {DETECTOR_STYLES[baseline].name: baseline})
    for title, name in shown.items():
        low, high = np.quantile(maps[name], (DISPLAY_LOW, DISPLAY_HIGH))
        opacity = ((maps[name][rows] - low) / max(high - low, 1e-12)).clip(0, 1)
        strips[title] = tint(images, 0.85 * opacity, HEAT_COLOUR)
    captions = list(map(context.recipe.label_text, context.data.labels[rows].tolist()))
    mosaics.draw_rows(file, strips, captions)


def to_rgb(images: np.ndarray) -> np.ndarray:
    """Return images (n, c, h, w) as (n, 3, h, w): three channels as they are, any other number as their mean."""
    if images.shape[1] == 3:
        return images
    return np.asarray(images.mean(axis=1, keepdims=True).repeat(3, axis=1))


def tint(images: np.ndarray, opacity: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """Return images (n, 3, h, w) with a colour laid over them, of an opacity (n, h, w) from 0 to 1."""
    paint = np.asarray(colour)[:, np.newaxis, np.newaxis]
    return np.asarray(images * (1 - opacity[:, np.newaxis]) + paint * opacity[:, np.newaxis])


def _caption(baseline: str | None) -> str:
    beside = "" if baseline is None else f", and of the best baseline ({DETECTOR_STYLES[baseline].name})"
    return f"Test images with a defect, their masks, and the map of the model{beside}, each from its own 90 % quantile on."


# ---------------------------------------------------------------- the result


def _result(
    spec: PixelsStudy,
    context: EvaluationContext,
    measured: Mapping[str, dict[str, float | None]],
    counts: dict[str, Any],
    figure_captions: list[tuple[str, str]],
) -> StudyResult:
    baseline = _best_baseline(measured)
    metrics: dict[str, Any] = {"settings": {"blur": spec.blur, "false_positive_rate": spec.false_positive_rate}}
    metrics |= counts | dict(measured) | {"lead": _lead(measured, baseline)}
    rows = []
    for name, values in measured.items():
        rows.append([DETECTOR_STYLES[name].name, _number(values["aupro"]), _number(values["pixel_auroc"])])
    return StudyResult(
        title="Where the defects are",
        lead=_lead_sentence(measured, baseline),
        head=["map of", f"AUPRO up to {spec.false_positive_rate:g}", "AUROC of pixels"],
        rows=rows,
        figures=figure_captions,
        metrics=metrics,
        note=_note(spec, counts, context.detector.has_pixel_map),
    )


def _lead(measured: Mapping[str, dict[str, float | None]], baseline: str | None) -> float | None:
    """Return the model's AUPRO less that of the best baseline; None where one of them is not defined."""
    model = measured[MODEL_DETECTOR]["aupro"]
    best = None if baseline is None else measured[baseline]["aupro"]
    if model is None or best is None:
        return None
    return model - best


def _lead_sentence(measured: Mapping[str, dict[str, float | None]], baseline: str | None) -> str:
    model = measured[MODEL_DETECTOR]
    sentence = f"The map of the model has an AUPRO of {_number(model['aupro'])} and an AUROC of pixels of "
    sentence += _number(model["pixel_auroc"])
    if baseline is not None:
        best = measured[baseline]
        sentence += f"; the best baseline, {DETECTOR_STYLES[baseline].name}, has {_number(best['aupro'])} and "
        sentence += _number(best["pixel_auroc"])
    return f"{sentence}."


def _note(spec: PixelsStudy, counts: Mapping[str, Any], has_pixel_map: bool) -> str:
    own_map = "the map of its score" if has_pixel_map else "its squared residual"
    limit = spec.false_positive_rate
    note = (
        f"{counts['regions']:,} defect regions in {counts['images']:,} test images; {counts['defect_share']:.2%} of the pixels "
        f"are marked. AUPRO: mean overlap with the regions over false-positive rates up to {limit:g}; a constant map has "
        f"{limit / 2:g}. The model's map is {own_map}; a baseline's is the terms of its own distance, with the same blur "
        f"and energy. All maps are smoothed by {spec.blur:g} pixels. Nothing else reads the masks."
    )
    if counts["without_mask"]:
        note += f" {counts['without_mask']} images of the novelty have no mask and are left out."
    return note


def _number(value: float | None) -> str:
    return "-" if value is None else format_number(value)
