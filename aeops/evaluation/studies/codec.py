"""What a quantised model makes of an image's bytes, beside JPEG, WebP and PNG."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from aeops.codec.archive import compress_samples, decompress_samples, require_quantised
from aeops.codec.baselines import encode_images
from aeops.codec.coding import encode_indices
from aeops.codec.container import ArchiveSource, pack_archive, unpack_archive
from aeops.codec.images import to_uint8
from aeops.codec.merging import load_codebooks, merge_counts, merge_entries, replace_indices
from aeops.drawing import mosaics
from aeops.drawing.palette import KNN_COLOUR, MODEL_COLOUR, PCA_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.drawing.words import format_number
from aeops.evaluation.reconstruction import reconstruction_metrics
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import CodecStudy

ALONE = 100  # images that are also put into files of their own
SHARES = (2, 4, 8, 16)  # the words of a codebook are divided by these for the further points of the model's curve
LARGEST_BOOK = 4096  # words that are merged for such a point: their distances fit in memory and are computed in seconds
SHOWN = 10  # images in the strips
COLOURS = {"model": MODEL_COLOUR, "JPEG": PCA_COLOUR, "WebP": KNN_COLOUR}


@dataclass(frozen=True)
class CodecPoint:
    """One way to code the test images.

    Attributes:
        name: such as `WebP 5`.
        family: what its curve is called: model, JPEG, WebP or PNG.
        stored: mean bytes of a file with one image.
        header_free: mean bytes without what every file of the kind has in common.
        shown: some of the images that come out again, (k, c, h, w) in [0, 1].
        quality: mse, psnr and ssim over all images.
    """

    name: str
    family: str
    stored: float
    header_free: float
    shown: np.ndarray
    quality: dict[str, float | None]


def run_codec_study(spec: CodecStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Codes the normal test images and reads them again, with the model and with what Pillow has."""
    images = scene.inputs[scene.is_normal]
    target = to_uint8(images, scene.data.low, scene.data.high)
    model, set_stored = model_point(scene, images, target)
    curve = [model, *smaller(scene, target, model)]
    rivals = [rival(target, form, quality) for form in ("JPEG", "WebP") for quality in spec.qualities]
    rivals.append(rival(target, "PNG", None))
    draw_curves(figures / "codec_curves.svg", [*curve, *rivals])
    near = min(
        (point for point in rivals if point.family == "WebP"), key=lambda point: abs(point.header_free - model.header_free)
    )
    draw_strips(figures / "codec_strips.svg", target, model, near)
    return tell(len(target), set_stored, curve, rivals, near)


# ---------------------------------------------------------------- the model


def model_point(scene: EvaluationContext, images: np.ndarray, target: np.ndarray) -> tuple[CodecPoint, float]:
    """The model through the whole way, file included; and the bytes an image of a file with all of them."""
    count = len(images)
    archive = compress_samples(scene.detector, scene.recipe.name, "1", [((ArchiveSource("images.npy", count),), images)])
    content = pack_archive(archive)
    raw = np.concatenate(list(decompress_samples(unpack_archive(content, "images.aez"), scene.detector)))
    words, counts = scene.predictions["code"][scene.is_normal], require_quantised(scene.detector, scene.recipe.name)
    alone = []
    for index in range(min(ALONE, count)):
        block = encode_indices(words[index : index + 1], counts)
        alone.append(len(pack_archive(replace(archive, sources=(ArchiveSource("0.png"),), blocks=(block,)))))
    point = point_of("model", "model", float(np.mean(alone)), archive.coded_bytes / count, target, as_levels(scene, raw))
    return point, len(content) / count


def smaller(scene: EvaluationContext, target: np.ndarray, whole: CodecPoint) -> list[CodecPoint]:
    """Points below the model's own: the same model with codebooks of fewer words, those alike merged into one.

    None where a codebook has more than LARGEST_BOOK words.
    """
    words, counts = scene.predictions["code"][scene.is_normal], require_quantised(scene.detector, scene.recipe.name)
    if counts.shape[1] > LARGEST_BOOK:
        return []
    sizes = [counts.shape[1] // share for share in SHARES if counts.shape[1] // share >= 2]
    points = []
    for size, swaps in zip(sizes, merge_entries(load_codebooks(scene.bundle), counts, sizes), strict=True):
        sent = replace_indices(words, swaps)
        free = len(encode_indices(sent, merge_counts(counts, swaps))) / len(words)
        made = as_levels(scene, scene.detector.decode(sent))
        stored = whole.stored - whole.header_free + free
        points.append(point_of(f"model, {size} words a slot", "model", stored, free, target, made))
    return points


def as_levels(scene: EvaluationContext, raw: np.ndarray) -> np.ndarray:
    """Reconstructions as `ae decompress` writes them, uint8."""
    return to_uint8(raw, scene.data.low, scene.data.high)


# ---------------------------------------------------------------- the others


def rival(target: np.ndarray, form: str, quality: int | None) -> CodecPoint:
    found = encode_images(target, form, quality)
    name = form if quality is None else f"{form} {quality}"
    return point_of(name, form, float(found.file_sizes.mean()), found.header_free, target, found.decoded_images)


def point_of(name: str, family: str, stored: float, header_free: float, target: np.ndarray, made: np.ndarray) -> CodecPoint:
    wanted, scaled = target / np.float32(255), made / np.float32(255)
    return CodecPoint(name, family, stored, header_free, scaled[shown_of(len(target))], reconstruction_metrics(wanted, scaled))


def shown_of(count: int) -> np.ndarray:
    """Places of the images in the strips."""
    return np.linspace(0, count - 1, min(SHOWN, count)).astype(int)


def psnr_at_bytes(points: list[CodecPoint], header_free: float) -> float | None:
    """PSNR of a family of points at so many bytes, on the line through them over the logarithm of bytes.

    Below its smallest point, that one: more bytes than were asked for. None where a point has no PSNR, as it is lossless.
    """
    known = sorted(points, key=lambda point: point.header_free)
    heights = np.array([decibels(point) for point in known])
    if not np.isfinite(heights).all():
        return None
    places = np.log([max(point.header_free, 1.0) for point in known])
    return float(np.interp(np.log(header_free), places, heights))


def decibels(point: CodecPoint) -> float:
    """PSNR; infinite where the images come out as they went in."""
    return point.quality["psnr"] or 0.0


# ---------------------------------------------------------------- telling


def tell(count: int, set_stored: float, curve: list[CodecPoint], rivals: list[CodecPoint], near: CodecPoint) -> StudyResult:
    model = curve[0]
    like = {
        form: psnr_at_bytes([point for point in rivals if point.family == form], model.header_free) for form in ("JPEG", "WebP")
    }
    leads = [decibels(model) - height for height in like.values() if height is not None]
    return StudyResult(
        title="Bytes an image",
        lead=f"{model.header_free:.1f} bytes an image at {decibels(model):.2f} dB. {beside(model, rivals, like['WebP'])}",
        head=["", "bytes, header-free", "bytes, a file of its own", "PSNR (dB)", "SSIM"],
        rows=[row(point) for point in (*curve, *rivals)],
        figures=[
            ("codec_curves.svg", "PSNR over bytes an image: without headers, and in a file of its own."),
            ("codec_strips.svg", f"Test images, what the model makes of them, and {near.name}."),
        ],
        metrics=plain(model)
        | {
            "bytes_in_a_set": set_stored,
            "images": count,
            "smaller": {point.name.split()[1]: plain(point) for point in curve[1:]},
            "rivals": {point.name.lower().replace(" ", "_"): plain(point) for point in rivals},
            "at_like_bytes": {form.lower(): height for form, height in like.items()},
            "lead_db": min(leads, default=None),
        },
        note=f"{count:,} normal test images; one .aez file of all of them has {set_stored:.1f} bytes an image. Header-free: of "
        "the model, the coded words alone; of the others, the file less that of a black image of the same size, which takes off "
        "more than their headers. Pillow at its smallest: JPEG with tables of its own, WebP with method 6. Fewer words a "
        "slot: those that lie near to each other merged into one, without another training.",
    )


def beside(model: CodecPoint, rivals: list[CodecPoint], like: float | None) -> str:
    """WebP at the model's bytes, or at its least where that is more."""
    least = min((point for point in rivals if point.family == "WebP"), key=lambda point: point.header_free)
    if model.header_free < least.header_free:
        return f"WebP needs {least.header_free:.1f} or more beside its header, for {decibels(least):.2f} dB."
    return f"WebP with as many beside its header: {format_number(like, 2)} dB."


def row(point: CodecPoint) -> list[str]:
    known = np.isfinite(decibels(point))
    shown = [format_number(decibels(point), 2), format_number(point.quality["ssim"])] if known else ["lossless", ""]
    return [point.name, f"{point.header_free:.1f}", f"{point.stored:.1f}", *shown]


def plain(point: CodecPoint) -> dict[str, Any]:
    finite = {"psnr": decibels(point) if np.isfinite(decibels(point)) else None}
    return {"bytes": point.header_free, "bytes_alone": point.stored} | point.quality | finite


def draw_curves(file: Path, points: list[CodecPoint]) -> None:
    """PSNR of each family over its bytes: header-free to the left, in files of their own to the right."""
    with svg_axes(file, REPORT_WIDTH, 3.6, columns=2) as panels:
        for axes, name in zip(panels, ("header_free", "stored"), strict=True):
            for family, colour in COLOURS.items():
                known = sorted((point for point in points if point.family == family), key=lambda point: point.header_free)
                places, heights = [getattr(point, name) for point in known], [decibels(point) for point in known]
                axes.plot(places, heights, color=colour, marker="o", markersize=4, label=family)
            axes.set(xscale="log", xlabel="bytes an image", ylabel="PSNR (dB)")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.xaxis.set_minor_locator(NullLocator())
        panels[0].set_title("without headers")
        panels[1].set_title("in a file of its own")
        panels[0].legend(loc="upper left")


def draw_strips(file: Path, target: np.ndarray, model: CodecPoint, near: CodecPoint) -> None:
    given = target[shown_of(len(target))] / np.float32(255)
    mosaics.draw_rows(file, {"given": given, "model": model.shown, near.family: near.shown})
