"""How near the colours that a model gives to grey images come to the true ones."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from skimage.color import rgb2lab

from aeops.drawing import mosaics
from aeops.drawing.words import format_number
from aeops.evaluation import model_input
from aeops.evaluation.reconstruction import psnr
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.kinds.arrays import mse_per_image
from aeops.recipe.studies import ColourStudy

ROWS = 20_000  # training samples that the mean colour is taken of
SHOWN = 8  # images in the strips: more would make a large file

Images = np.ndarray  # (n, c, h, w), values in [0, 1]


@dataclass(frozen=True)
class Colours:
    """How near colours come to the true ones.

    Attributes:
        psnr: in dB, over all three channels.
        ab_distance: mean Euclidean distance of a pixel's a*, b* to the true ones, in units of CIE L*a*b* (1976, D65).
        chroma: mean distance of a pixel's a*, b* from grey: how colourful the images are.
    """

    psnr: float
    ab_distance: float
    chroma: float


def run_colour_study(spec: ColourStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Grey, grey tinted by the mean colour, and coloured test normals beside the true ones."""
    normal = scene.is_normal
    true, grey = scene.target[normal], scene.data.scale(scene.inputs[normal]).repeat(3, axis=1)
    made = {"grey": grey, "mean": (grey + mean_colour(scene)).clip(0, 1), "model": scene.reconstructions[normal], "true": true}
    found = {name: compare_colours(images, true) for name, images in made.items()}
    chosen = np.linspace(0, len(true) - 1, min(SHOWN, len(true))).astype(int)
    mosaics.draw_rows(figures / "colour_strips.svg", {name: made[name][chosen] for name in ("grey", "model", "true")})
    return tell(found, len(true))


def mean_colour(scene: EvaluationContext) -> np.ndarray:
    """What red, green and blue are above the grey of a training pixel on average, (1, 3, 1, 1)."""
    chosen = scene.data.train[:ROWS]
    grey = scene.data.scale(model_input.served_inputs(scene.recipe.fit, chosen, model_input.TRAIN_SEED))
    offset = (scene.data.scale(chosen) - grey).mean(axis=(0, 2, 3), dtype=np.float64, keepdims=True)
    return np.asarray(offset, dtype=np.float32)


def compare_colours(made: Images, true: Images) -> Colours:
    ab, true_ab = chromaticity(made), chromaticity(true)
    return Colours(
        psnr=psnr(float(mse_per_image(true, made).mean())),
        ab_distance=float(np.linalg.norm(ab - true_ab, axis=-1).mean()),
        chroma=float(np.linalg.norm(ab, axis=-1).mean()),
    )


def chromaticity(images: Images) -> np.ndarray:
    """a* and b* of each pixel of sRGB images, (n, h, w, 2)."""
    return np.asarray(rgb2lab(images.transpose(0, 2, 3, 1))[..., 1:])


def tell(found: dict[str, Colours], rows: int) -> StudyResult:
    names = {"grey": "grey as given", "mean": "grey and the mean colour", "model": "autoencoder", "true": "true"}
    grey, mean, model, true = (found[name] for name in names)
    gain, nearer = model.psnr - max(grey.psnr, mean.psnr), min(grey.ab_distance, mean.ab_distance) - model.ab_distance
    pale = "paler" if model.chroma < true.chroma else "stronger"
    return StudyResult(
        title="Colours",
        lead=f"The made colours are {abs(gain):.2f} dB {'nearer to' if gain >= 0 else 'farther from'} the true ones than the "
        f"better baseline, and their mean distance in the plane of a*, b* is {format_number(model.ab_distance, 2)} where grey has "
        f"{format_number(grey.ab_distance, 2)}. They are {pale} than the true ones: chroma {format_number(model.chroma, 1)} beside "
        f"{format_number(true.chroma, 1)}.",
        head=["", "PSNR (dB)", "distance in a*, b*", "chroma"],
        rows=[row(names[name], colours, name == "true") for name, colours in found.items()],
        figures=[("colour_strips.svg", "Test images: grey as given, with the colours that the autoencoder makes, and true.")],
        metrics={name: asdict(found[name]) for name in ("grey", "mean", "model")}
        | {"true": {"chroma": true.chroma}, "gain_db": gain, "ab_gain": nearer},
        note=f"{rows:,} normal test images. Chroma: how far a pixel is from grey. The mean colour is what red, green and blue "
        "are above grey on average in training images. Squared error asks for the mean of all colours that a pixel might have, "
        "which is pale.",
    )


def row(name: str, colours: Colours, true: bool) -> list[str]:
    errors = ["", ""] if true else [format_number(colours.psnr, 2), format_number(colours.ab_distance, 2)]
    return [name, *errors, format_number(colours.chroma, 1)]
