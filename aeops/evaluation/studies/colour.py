"""Errors of the colours that a model gives to grey images."""

from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path

import numpy as np
from skimage.color import rgb2lab

from aeops.drawing import mosaics
from aeops.drawing.words import format_number
from aeops.evaluation import model_input
from aeops.evaluation.reconstruction import psnr
from aeops.evaluation.sampling import strip_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.kinds.arrays import mse_per_image
from aeops.recipe.studies import ColourStudy

ROWS = 20_000  # training samples that the mean colour is taken of
STRIP_SAMPLES = 8  # images in the strips: more would make a large file

RgbImages = np.ndarray  # (n, c, h, w), values in [0, 1]

VARIANT_NAMES = {"grey": "grey as given", "mean": "grey and the mean colour", "model": "model", "true": "true"}


@dataclass(frozen=True)
class ColourErrors:
    """Distance of colours to the true ones.

    Attributes:
        psnr: in dB, over all three channels.
        ab_distance: mean Euclidean distance of a pixel's a*, b* to the true ones, in units of CIE L*a*b* (1976, D65).
        chroma: mean distance of a pixel's a*, b* from grey: how colourful the images are.
    """

    psnr: float
    ab_distance: float
    chroma: float


def run_colour_study(spec: ColourStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Compare grey, grey tinted by the mean colour, and coloured test normals with the true ones."""
    normal = context.is_normal
    truth, grey = context.target[normal], context.data.scale(context.inputs[normal]).repeat(3, axis=1)
    variants = {
        "grey": grey,
        "mean": (grey + mean_colour(context)).clip(0, 1),
        "model": context.reconstructions[normal],
        "true": truth,
    }
    errors = {name: compare_colours(images, truth) for name, images in variants.items()}
    strip_rows = strip_indices(len(truth), STRIP_SAMPLES)
    strips = {name: variants[name][strip_rows] for name in ("grey", "model", "true")}
    mosaics.draw_rows(figures / "colour_strips.svg", strips)
    return _colour_result(errors, len(truth))


def mean_colour(context: EvaluationContext) -> np.ndarray:
    """Return how much red, green and blue exceed the grey of a training pixel on average, (1, 3, 1, 1)."""
    samples = context.data.train[:ROWS]
    grey = context.data.scale(model_input.served_inputs(context.recipe.fit, samples, model_input.TRAIN_SEED))
    offset = (context.data.scale(samples) - grey).mean(axis=(0, 2, 3), dtype=np.float64, keepdims=True)
    return np.asarray(offset, dtype=np.float32)


def compare_colours(images: RgbImages, truth: RgbImages) -> ColourErrors:
    """Compare images with the true ones."""
    chroma_plane, true_plane = lab_chroma(images), lab_chroma(truth)
    return ColourErrors(
        psnr=psnr(float(mse_per_image(truth, images).mean())),
        ab_distance=float(np.linalg.norm(chroma_plane - true_plane, axis=-1).mean()),
        chroma=float(np.linalg.norm(chroma_plane, axis=-1).mean()),
    )


def lab_chroma(images: RgbImages) -> np.ndarray:
    """Return a* and b* of each pixel of sRGB images, (n, h, w, 2)."""
    return np.asarray(rgb2lab(images.transpose(0, 2, 3, 1))[..., 1:])


def _colour_result(errors: dict[str, ColourErrors], rows: int) -> StudyResult:
    grey, mean, model, truth = errors["grey"], errors["mean"], errors["model"], errors["true"]
    gain = model.psnr - max(grey.psnr, mean.psnr)
    ab_gain = min(grey.ab_distance, mean.ab_distance) - model.ab_distance
    direction = "nearer to" if gain >= 0 else "farther from"
    strength = "paler" if model.chroma < truth.chroma else "stronger"
    metrics: dict[str, object] = {"grey": asdict(grey), "mean": asdict(mean), "model": asdict(model)}
    return StudyResult(
        title="Colours",
        lead=f"The made colours are {abs(gain):.2f} dB {direction} the true ones than the better baseline, and their "
        f"mean distance in the plane of a*, b* is {format_number(model.ab_distance, 2)} where grey has "
        f"{format_number(grey.ab_distance, 2)}. They are {strength} than the true ones: "
        f"chroma {format_number(model.chroma, 1)} beside {format_number(truth.chroma, 1)}.",
        head=["", "PSNR (dB)", "distance in a*, b*", "chroma"],
        rows=list(starmap(_colour_row, errors.items())),
        figures=[("colour_strips.svg", "Test images: grey as given, with the colours that the model makes, and true.")],
        metrics=metrics | {"true": {"chroma": truth.chroma}, "gain_db": gain, "ab_gain": ab_gain},
        note=f"{rows:,} normal test images. Chroma: how far a pixel is from grey. The mean colour is what red, green and blue "
        "are above grey on average in training images. Squared error asks for the mean of all colours that a pixel might have, "
        "which is pale.",
    )


def _colour_row(name: str, colours: ColourErrors) -> list[str]:
    chroma = format_number(colours.chroma, 1)
    if name == "true":
        return [VARIANT_NAMES[name], "", "", chroma]
    return [VARIANT_NAMES[name], format_number(colours.psnr, 2), format_number(colours.ab_distance, 2), chroma]
