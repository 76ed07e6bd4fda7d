"""File size and quality of images that a quantised model codes, beside a linear codec of the same samples, JPEG, WebP and PNG."""

import re
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aeops.codec.archive import compress_samples, decompress_samples, require_quantised
from aeops.codec.baselines import encode_images
from aeops.codec.coding import encode_indices
from aeops.codec.container import ArchiveSource, pack_archive, unpack_archive
from aeops.codec.images import to_uint8
from aeops.codec.linear_codec import MAX_VALUES, LinearCodec, choose_step, fit_linear_codecs, fit_principal_axes
from aeops.codec.merging import load_codebooks, merge_counts, merge_entries, replace_indices
from aeops.drawing import mosaics
from aeops.drawing.palette import KNN_COLOUR, MODEL_COLOUR, MUTED_COLOUR, PCA_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.drawing.words import format_number
from aeops.evaluation.reconstruction import reconstruction_metrics
from aeops.evaluation.sampling import strip_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import CodecStudy

SINGLE_FILES = 100  # images that are also put into files of their own
CODEBOOK_DIVISORS = (2, 4, 8, 16)  # of the codebook's size, for the further points of the model's curve
LARGEST_BOOK = 4096  # entries that are merged for such a point: their distances fit in memory and are computed in seconds
STRIP_SAMPLES = 10  # images in the strips
LINEAR_ROWS = 20_000  # training samples that the linear codec is fitted on
STEP_FACTORS = (0.5, 0.5**0.5, 1.0, 2.0**0.5, 2.0)  # of the step at which it takes the model's bytes, for its curve
LINEAR = "PCA"
FAMILY_COLOURS = {"model": MODEL_COLOUR, LINEAR: PCA_COLOUR, "WebP": KNN_COLOUR, "JPEG": MUTED_COLOUR}
LOSSY_FORMATS = ("JPEG", "WebP")


@dataclass(frozen=True)
class CodecPoint:
    """One way to code the test images.

    Attributes:
        name: such as `WebP 5`.
        family: the name of its curve: model, PCA, JPEG, WebP or PNG.
        file_bytes: mean bytes of a file with one image.
        header_free: mean bytes without those that every file of the kind has in common.
        strip_images: some of the decoded images, (k, c, h, w) in [0, 1].
        quality: mse, psnr and ssim over all images.
    """

    name: str
    family: str
    file_bytes: float
    header_free: float
    strip_images: np.ndarray
    quality: dict[str, float | None]

    @property
    def psnr(self) -> float:
        """In dB; infinite where the images are decoded without loss."""
        return self.quality["psnr"] or 0.0

    @property
    def metrics(self) -> dict[str, Any]:
        """The point's section of metrics.json."""
        metrics = {"bytes": self.header_free, "bytes_alone": self.file_bytes} | self.quality
        if not np.isfinite(self.psnr):
            return metrics | {"psnr": None}
        return metrics | {"psnr": self.psnr}


def run_codec_study(spec: CodecStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Code and decode the normal test images, with the model, with a linear codec and with Pillow's formats."""
    images = context.inputs[context.is_normal]
    target = to_uint8(images, context.data.low, context.data.high)
    model, archive_bytes = _model_point(context, images, target)
    curve = [model, *_smaller_codebooks(context, target, model)]
    baselines = _linear_points(context, target, model)
    for image_format in LOSSY_FORMATS:
        for quality in spec.qualities:
            baselines.append(_baseline_point(target, image_format, quality))
    baselines.append(_baseline_point(target, "PNG", None))
    _draw_curves(figures / "codec_curves.svg", [*curve, *baselines])
    closest_webp = min(_family_points(baselines, "WebP"), key=lambda point: abs(point.header_free - model.header_free))
    _draw_images(figures / "codec_strips.svg", target, model, closest_webp)
    return _codec_result(len(target), archive_bytes, curve, baselines, closest_webp, min(LINEAR_ROWS, len(context.data.train)))


# ---------------------------------------------------------------- the model


def _model_point(context: EvaluationContext, images: np.ndarray, target: np.ndarray) -> tuple[CodecPoint, float]:
    """Code the images as `ae compress` does, and decode the file.

    Returns:
        The point, and the bytes an image of one file with all images.
    """
    count, recipe = len(images), context.recipe.name
    archive = compress_samples(context.detector, recipe, "1", [((ArchiveSource("images.npy", count),), images)])
    content = pack_archive(archive)
    raw = np.concatenate(list(decompress_samples(unpack_archive(content, "images.aez"), context.detector)))
    indices, counts = context.predictions["code"][context.is_normal], require_quantised(context.detector, recipe)
    file_sizes = []
    for row in range(min(SINGLE_FILES, count)):
        block = encode_indices(indices[row : row + 1], counts)
        file_sizes.append(len(pack_archive(replace(archive, sources=(ArchiveSource("0.png"),), blocks=(block,)))))
    output = _to_levels(context, raw)
    point = _make_point("model", "model", float(np.mean(file_sizes)), archive.coded_bytes / count, target, output)
    return point, len(content) / count


def _smaller_codebooks(context: EvaluationContext, target: np.ndarray, model: CodecPoint) -> list[CodecPoint]:
    """Return the points of the same model with smaller codebooks, in which entries that are alike are merged.

    Empty where a codebook has more than LARGEST_BOOK entries.
    """
    indices = context.predictions["code"][context.is_normal]
    counts = require_quantised(context.detector, context.recipe.name)
    entries = counts.shape[1]
    if entries > LARGEST_BOOK:
        return []
    sizes = []
    for divisor in CODEBOOK_DIVISORS:
        if entries // divisor >= 2:
            sizes.append(entries // divisor)
    points = []
    for size, replacements in zip(sizes, merge_entries(load_codebooks(context.bundle), counts, sizes), strict=True):
        merged_indices = replace_indices(indices, replacements)
        header_free = len(encode_indices(merged_indices, merge_counts(counts, replacements))) / len(indices)
        output = _to_levels(context, context.detector.decode(merged_indices))
        file_bytes = model.file_bytes - model.header_free + header_free
        points.append(_make_point(f"model, {size} words a slot", "model", file_bytes, header_free, target, output))
    return points


def _to_levels(context: EvaluationContext, raw: np.ndarray) -> np.ndarray:
    """Return reconstructions as `ae decompress` writes them, uint8."""
    return to_uint8(raw, context.data.low, context.data.high)


# ---------------------------------------------------------------- the baselines


def _linear_points(context: EvaluationContext, target: np.ndarray, model: CodecPoint) -> list[CodecPoint]:
    """Return points of a linear codec of training samples around the model's bytes; empty for images of too many values."""
    if int(np.prod(target.shape[1:])) > MAX_VALUES:
        return []
    train = to_uint8(np.asarray(context.data.train[:LINEAR_ROWS]), context.data.low, context.data.high)
    with threadpool_limits(1, "blas"):  # the same bits whatever else runs
        principal = fit_principal_axes(train)
        step = choose_step(principal, train, model.header_free)
        codecs = fit_linear_codecs(principal, train, [factor * step for factor in STEP_FACTORS])
        points = []
        for factor, codec in zip(STEP_FACTORS, codecs, strict=True):
            points.append(_linear_point(f"{LINEAR}, step x {factor:.2g}", codec, target, model))
        return points


def _linear_point(name: str, codec: LinearCodec, target: np.ndarray, model: CodecPoint) -> CodecPoint:
    indices = codec.encode(target)
    output = to_uint8(codec.decode(indices).reshape(target.shape), 0, 1)
    header_free = codec.code_bytes(indices)
    file_bytes = model.file_bytes - model.header_free + header_free  # a file of its own needs the same header
    return _make_point(name, LINEAR, file_bytes, header_free, target, output)


def _baseline_point(target: np.ndarray, image_format: str, quality: int | None) -> CodecPoint:
    encoded_images = encode_images(target, image_format, quality)
    name = image_format
    if quality is not None:
        name = f"{image_format} {quality}"
    file_bytes = float(encoded_images.file_sizes.mean())
    return _make_point(name, image_format, file_bytes, encoded_images.header_free, target, encoded_images.decoded_images)


def _make_point(
    name: str, family: str, file_bytes: float, header_free: float, target: np.ndarray, output: np.ndarray
) -> CodecPoint:
    scaled_target, scaled_output = target / np.float32(255), output / np.float32(255)
    strip_images = scaled_output[strip_indices(len(target), STRIP_SAMPLES)]
    return CodecPoint(name, family, file_bytes, header_free, strip_images, reconstruction_metrics(scaled_target, scaled_output))


def _family_points(points: list[CodecPoint], family: str) -> list[CodecPoint]:
    return [point for point in points if point.family == family]


def _sort_by_bytes(points: list[CodecPoint]) -> list[CodecPoint]:
    return sorted(points, key=lambda point: point.header_free)


def _psnr_values(points: list[CodecPoint]) -> np.ndarray:
    return np.array([point.psnr for point in points])


def psnr_at_bytes(points: list[CodecPoint], header_free: float) -> float | None:
    """Return the PSNR of a family of points at a number of bytes, on the line through them over the logarithm of bytes.

    Args:
        points: one or more.
        header_free: bytes an image without headers; below the smallest point, that point's PSNR is returned.

    Returns:
        In dB; None where a point has no finite PSNR, as it is lossless.
    """
    curve = _sort_by_bytes(points)
    psnr_values = _psnr_values(curve)
    if not np.isfinite(psnr_values).all():
        return None
    log_bytes = np.log([max(point.header_free, 1.0) for point in curve])
    return float(np.interp(np.log(header_free), log_bytes, psnr_values))


# ---------------------------------------------------------------- the result


def _codec_result(
    count: int,
    archive_bytes: float,
    curve: list[CodecPoint],
    baselines: list[CodecPoint],
    closest_webp: CodecPoint,
    train_rows: int,
) -> StudyResult:
    model = curve[0]
    baseline_psnrs, margins = {}, []
    for family in (LINEAR, *LOSSY_FORMATS):
        points = _family_points(baselines, family)
        if not points:
            continue
        baseline_psnr = psnr_at_bytes(points, model.header_free)
        baseline_psnrs[family] = baseline_psnr
        if baseline_psnr is not None:
            margins.append(model.psnr - baseline_psnr)
    comparison = _compare_with_webp(model, baselines, baseline_psnrs["WebP"])
    if LINEAR in baseline_psnrs:
        comparison += f" PCA with a uniform quantiser at as many bytes: {format_number(baseline_psnrs[LINEAR], 2)} dB."
    return StudyResult(
        title="Bytes an image",
        lead=f"{model.header_free:.1f} bytes an image at {model.psnr:.2f} dB. {comparison}",
        head=["", "bytes, header-free", "bytes, a file of its own", "PSNR (dB)", "SSIM"],
        rows=list(map(_point_row, (*curve, *baselines))),
        figures=[
            ("codec_curves.svg", "PSNR over bytes an image: without headers, and in a file of its own."),
            ("codec_strips.svg", f"Test images, what the model makes of them, and {closest_webp.name}."),
        ],
        metrics=model.metrics
        | {
            "bytes_in_a_set": archive_bytes,
            "images": count,
            "smaller": {point.name.split()[1]: point.metrics for point in curve[1:]},
            "rivals": {_metric_name(point.name): point.metrics for point in baselines},
            "at_like_bytes": {family.lower(): psnr for family, psnr in baseline_psnrs.items()},
            "lead_db": min(margins, default=None),
        },
        note=f"{count:,} normal test images; one .aez file of all of them has {archive_bytes:.1f} bytes an image. Header-free: "
        "of the model, the coded words alone; of the others, the file less that of a black image of the same size, which takes "
        "off more than their headers. Pillow at its smallest: JPEG with tables of its own, WebP with method 6. Fewer words a "
        "slot: those that lie near to each other merged into one, without another training."
        + _linear_note(LINEAR in baseline_psnrs, train_rows),
    )


def _linear_note(is_measured: bool, train_rows: int) -> str:
    """Return a sentence about the linear codec, and why it is missing where it is."""
    if not is_measured:
        return f" No linear codec: an image has more than {MAX_VALUES:,} values."
    return (
        f" PCA: all principal axes of {train_rows:,} training samples, every coordinate rounded to multiples of one step and "
        "coded with its frequencies among them. The step is that at which training samples take the model's bytes, times the "
        "number; a file of its own has the model's header."
    )


def _metric_name(point_name: str) -> str:
    """Return the name of a point in metrics.json.

    >>> _metric_name("WebP 5"), _metric_name("PCA, step x 0.71")
    ('webp_5', 'pca_step_x_0_71')
    """
    return re.sub(r"[^a-z0-9]+", "_", point_name.lower())


def _compare_with_webp(model: CodecPoint, baselines: list[CodecPoint], webp_psnr: float | None) -> str:
    """Return a sentence about WebP at the model's bytes, or about its smallest point where that is larger."""
    smallest_webp = _sort_by_bytes(_family_points(baselines, "WebP"))[0]
    if model.header_free < smallest_webp.header_free:
        return f"WebP needs {smallest_webp.header_free:.1f} or more beside its header, for {smallest_webp.psnr:.2f} dB."
    return f"WebP with as many beside its header: {format_number(webp_psnr, 2)} dB."


def _point_row(point: CodecPoint) -> list[str]:
    row = [point.name, f"{point.header_free:.1f}", f"{point.file_bytes:.1f}"]
    if not np.isfinite(point.psnr):
        return [*row, "lossless", ""]
    return [*row, format_number(point.psnr, 2), format_number(point.quality["ssim"])]


def _draw_curves(file: Path, points: list[CodecPoint]) -> None:
    """Draw the PSNR of each family over its bytes: header-free to the left, in files of their own to the right."""
    with svg_axes(file, REPORT_WIDTH, 3.6, columns=2) as panels:
        for axes, size_field in zip(panels, ("header_free", "file_bytes"), strict=True):
            for family, colour in FAMILY_COLOURS.items():
                curve = _sort_by_bytes(_family_points(points, family))
                if not curve:
                    continue
                sizes = list(map(attrgetter(size_field), curve))
                axes.plot(sizes, _psnr_values(curve), color=colour, marker="o", markersize=4, label=family)
            axes.set(xscale="log", xlabel="bytes an image", ylabel="PSNR (dB)")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.xaxis.set_minor_locator(NullLocator())
        panels[0].set_title("without headers")
        panels[1].set_title("in a file of its own")
        panels[0].legend(loc="upper left")


def _draw_images(file: Path, target: np.ndarray, model: CodecPoint, closest_webp: CodecPoint) -> None:
    original_images = target[strip_indices(len(target), STRIP_SAMPLES)] / np.float32(255)
    strips = {"given": original_images, "model": model.strip_images, closest_webp.family: closest_webp.strip_images}
    mosaics.draw_rows(file, strips)
