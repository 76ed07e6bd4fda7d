"""Whole pages out of denoised tiles: their error against the clean pages, and the text that Tesseract reads on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skimage.filters.rank import median

from aeops.data.sources.tiles import assemble_tiles
from aeops.drawing import mosaics
from aeops.drawing.style import REPORT_WIDTH
from aeops.drawing.words import format_number, format_share
from aeops.errors import DataError
from aeops.evaluation import model_input, ocr
from aeops.evaluation.sampling import even_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.sources import ScansSource
from aeops.recipe.studies import DocumentsStudy

MEDIAN_WIDTH = 21  # pixels a side of the median that estimates the paper: a few strokes wide, so that text does not count
DARKNESS_STEPS = np.arange(0.02, 0.4, 0.02)  # how much darker than the paper ink may have to be, as shares of the range
ROWS = 500  # training tiles that the threshold is chosen on
CROP_SHAPE = (48, 250)  # pixels of the page pieces that are shown, at least: a line of text
LARGEST_SIDE = 2 * max(CROP_SHAPE)  # of a piece that is shown pixel by pixel
INK_BELOW = 0.5  # of a clean page's greys
WORD_GAP = 7  # pixels without ink between two words, at least
ALL_KINDS = "all"

PageImages = np.ndarray  # (n, h, w), values in [0, 1]
ErrorRates = dict[str, dict[str, float | None]]  # of each variant, for each kind of noise

VARIANT_TITLES = {"noisy": "noisy", "threshold": "threshold on the background", "model": "model"}
STRIP_TITLES = ("noisy", "threshold", "model", "clean")


@dataclass(frozen=True)
class CompleteScans:
    """The test scans of which every tile is there.

    Attributes:
        rows: the test samples that they consist of, in the order that `assemble_tiles` expects.
        kinds: of noise, (n,) int64; -1 where it is not known.
        incomplete: number of scans of which a tile is missing.
    """

    rows: np.ndarray
    kinds: np.ndarray
    incomplete: int


@dataclass(frozen=True)
class InkThreshold:
    """Ink is darker than the paper around it by `darker`; all other pixels get the paper's value `white`."""

    darker: float
    white: float

    def clean(self, pages: PageImages) -> PageImages:
        """Return the pages with everything but ink in the paper's value."""
        return np.asarray(np.where(pixel_darkness(pages) < self.darker, np.float32(self.white), pages))


def run_documents_study(spec: DocumentsStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Compare noisy, thresholded and denoised test pages with the clean ones.

    Raises:
        DataError: no test scan whose tiles are all there.
    """
    source: ScansSource = context.recipe.data.source
    facts = context.data.source["facts"]
    scans = _complete_scans(context.data.table, facts["rows"] * facts["columns"])

    def assemble_pages(tiles: np.ndarray) -> PageImages:
        return assemble_tiles(tiles[scans.rows], facts["rows"], facts["columns"], source.core, source.margin)[:, 0]

    noisy_pages, clean_pages = assemble_pages(context.data.scale(context.inputs)), assemble_pages(context.target)
    threshold = choose_threshold(*_training_tiles(context), source.margin)
    variants = {
        "noisy": noisy_pages,
        "threshold": threshold.clean(noisy_pages),
        "model": assemble_pages(context.reconstructions),
    }
    errors = {}
    for name, pages in variants.items():
        errors[name] = _grey_level_errors(context, pages, clean_pages, scans.kinds)
    error_rates: ErrorRates = {}
    if not ocr.installation_command():
        error_rates = measure_error_rates(variants, clean_pages, scans.kinds)
    noisy_crops = _noisiest_crops(variants | {"clean": clean_pages}, scans.kinds)
    titles = mosaics.muted_titles(STRIP_TITLES)
    for kind, rows in noisy_crops.items():
        file = figures / f"documents_{kind}.svg"
        mosaics.draw_tiles(file, rows, titles, [], REPORT_WIDTH / 2, side=LARGEST_SIDE)
    return _documents_result(errors, error_rates, scans, threshold, list(noisy_crops))


# ---------------------------------------------------------------- pages


def _complete_scans(table: pd.DataFrame, tiles_per_scan: int) -> CompleteScans:
    """Return the complete scans in a table of test samples; the number in an id is the tile's index in the source.

    Raises:
        DataError: none is complete.
    """
    tile_indices = table["id"].str.rpartition("-")[2].astype(np.int64).to_numpy()
    scan_indices, counts = np.unique(tile_indices // tiles_per_scan, return_counts=True)
    complete = scan_indices[counts == tiles_per_scan]
    if not len(complete):
        raise DataError(
            f"expected a test scan with all of its {tiles_per_scan} tiles, got none among {len(scan_indices)}: the bounds in the "
            "recipe's section validate have put tiles into quarantine; widen them"
        )
    order = np.argsort(tile_indices, kind="stable")
    rows = order[np.isin(tile_indices[order] // tiles_per_scan, complete)]
    labels = table["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    return CompleteScans(rows, labels[rows[::tiles_per_scan]], len(scan_indices) - len(complete))


def _grey_level_errors(
    context: EvaluationContext, pages: PageImages, clean_pages: PageImages, kinds: np.ndarray
) -> dict[str, float]:
    """Return the root mean squared error over all pixels in raw grey levels: of all pages, and by kind of noise."""
    page_errors = np.square(pages - clean_pages, dtype=np.float64).mean(axis=(1, 2))
    span = context.data.high - context.data.low
    errors = {}
    for name, is_kind in _pages_by_kind(kinds).items():
        errors[name] = float(np.sqrt(page_errors[is_kind].mean()) * span)
    return errors


def _pages_by_kind(kinds: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks of pages, bool (n,): of all of them, and of those of each kind of noise."""
    masks = {ALL_KINDS: np.ones(len(kinds), bool)}
    for kind in _noise_kinds(kinds):
        masks[str(kind)] = kinds == kind
    return masks


def _noise_kinds(kinds: np.ndarray) -> list[int]:
    return list(map(int, np.unique(kinds[kinds >= 0])))


# ---------------------------------------------------------------- the classical way


def _training_tiles(context: EvaluationContext) -> tuple[PageImages, PageImages]:
    """Return some of the training tiles, noisy and clean, (n, side, side) each."""
    train, source = context.data.train, context.recipe.fit.input
    tiles = train[even_indices(len(train), ROWS)]
    inputs = context.data.scale(model_input.served_inputs(context.recipe.fit, tiles, model_input.TRAIN_SEED))
    return inputs[:, 0], model_input.scaled_targets(source, context.data, tiles)[:, 0]


def choose_threshold(noisy_tiles: PageImages, clean_tiles: PageImages, margin: int) -> InkThreshold:
    """Return the threshold of least squared error on tiles.

    Their margins, where the median's window is cut off, do not count.
    """
    core = np.s_[:, margin : noisy_tiles.shape[1] - margin, margin : noisy_tiles.shape[2] - margin]
    target, white = clean_tiles[core], float(np.median(clean_tiles[core]))
    darkness = pixel_darkness(noisy_tiles)[core]
    errors = []
    for step in DARKNESS_STEPS:
        errors.append(np.square(np.where(darkness < step, white, noisy_tiles[core]) - target).mean())
    return InkThreshold(float(DARKNESS_STEPS[int(np.argmin(errors))]), white)


def pixel_darkness(pages: PageImages) -> PageImages:
    """Return how much darker each pixel is than the paper, which is the median around it."""
    levels = (pages * 255).round().astype(np.uint8)
    window = np.ones((MEDIAN_WIDTH, MEDIAN_WIDTH), np.uint8)
    paper_levels = np.stack([median(page, window) for page in levels])
    return np.asarray((paper_levels.astype(np.float32) - levels) / 255, dtype=np.float32)


# ---------------------------------------------------------------- reading


def measure_error_rates(variants: dict[str, PageImages], clean_pages: PageImages, kinds: np.ndarray) -> ErrorRates:
    """Return character error rates of each variant, of all pages and by kind of noise.

    The reference is the text that Tesseract reads on the clean pages: no other text of them exists.
    """
    pages, page_indices = np.unique(clean_pages, axis=0, return_inverse=True)  # several scans have one clean page
    texts = _read_texts(pages)
    expected_texts = texts[page_indices.ravel()]
    masks = _pages_by_kind(kinds)
    error_rates: ErrorRates = {}
    for name, variant_pages in variants.items():
        variant_texts = _read_texts(variant_pages)
        error_rates[name] = {}
        for kind, is_kind in masks.items():
            rate = ocr.character_error_rate(list(expected_texts[is_kind]), list(variant_texts[is_kind]))
            error_rates[name][kind] = rate
    return error_rates


def _read_texts(pages: PageImages) -> np.ndarray:
    return np.array(list(map(ocr.read_text, pages)), dtype=object)


# ---------------------------------------------------------------- the result


def _noisiest_crops(variants: dict[str, PageImages], kinds: np.ndarray) -> dict[str, list[list[np.ndarray | None]]]:
    """Return the noisiest piece of the first page with each kind of noise, as rows for `draw_tiles`, by kind."""
    first_pages = {}
    for kind in _noise_kinds(kinds):
        first_pages[str(kind)] = int(np.argmax(kinds == kind))
    if not first_pages:
        first_pages = {ALL_KINDS: 0}
    noisy_crops: dict[str, list[list[np.ndarray | None]]] = {}
    for name, page in first_pages.items():
        clean_page = variants["clean"][page]
        piece = whole_lines(clean_page, noisiest_piece(variants["noisy"][page] - clean_page))
        noisy_crops[name] = [[pages[page][piece][..., None].repeat(3, axis=2)] for pages in variants.values()]
    return noisy_crops


def noisiest_piece(noise: np.ndarray) -> tuple[slice, slice]:
    """Return the piece of CROP_SHAPE's size in which the squares of `noise` (h, w) are the largest.

    Candidates are half a height of a piece apart.
    """
    height, width = min(CROP_SHAPE[0], noise.shape[0]), min(CROP_SHAPE[1], noise.shape[1])
    row_step, column_step = CROP_SHAPE[0] // 2, CROP_SHAPE[1] // 2
    candidates = np.lib.stride_tricks.sliding_window_view(np.square(noise), (height, width))[::row_step, ::column_step]
    noise_power = candidates.mean(axis=(2, 3))
    row, column = np.unravel_index(int(noise_power.argmax()), noise_power.shape)
    top, left = int(row) * row_step, int(column) * column_step
    return slice(top, top + height), slice(left, left + width)


def whole_lines(page: np.ndarray, piece: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return a piece of a clean page, grown until its edges cut neither a line of text nor a word.

    Args:
        page: (h, w) in [0, 1], 1 is white.
        piece: rows and columns of the page.
    """
    rows, columns = piece
    has_ink = page < INK_BELOW
    rows = _grow(rows, np.asarray(has_ink.any(axis=1)))
    in_word = np.asarray(
        np.convolve(has_ink[rows].any(axis=0), np.ones(WORD_GAP), "same") > 0
    )  # gaps between letters count as ink
    return rows, _grow(columns, in_word)


def _grow(piece: slice, has_ink: np.ndarray) -> slice:
    """Return the piece with each end moved outwards to the next place without ink, or to the page's edge."""
    start, stop = piece.start, piece.stop
    while start > 0 and has_ink[start]:
        start -= 1
    while stop < len(has_ink) and has_ink[stop - 1]:
        stop += 1
    return slice(start, stop)


def _documents_result(
    errors: dict[str, dict[str, float]],
    error_rates: ErrorRates,
    scans: CompleteScans,
    threshold: InkThreshold,
    crop_kinds: list[str],
) -> StudyResult:
    count = len(scans.kinds)
    lead = (
        f"{count} test scans put together from their tiles: off by {format_number(errors['noisy'][ALL_KINDS], 1)} grey levels as "
        f"given, by {format_number(errors['model'][ALL_KINDS], 1)} denoised."
    )
    if error_rates:
        noisy_rate, model_rate = error_rates["noisy"][ALL_KINDS], error_rates["model"][ALL_KINDS]
        lead += (
            f" Tesseract gets {format_share(noisy_rate)} of the characters wrong on the noisy and {format_share(model_rate)} "
            "on the denoised pages, beside its own reading of the clean ones."
        )
    head, table = [""], []
    for kind in errors["model"]:
        head.append(kind if kind == ALL_KINDS else f"noise {kind}")
    for name, kind_errors in errors.items():
        table.append([f"RMSE, {VARIANT_TITLES[name]}", *(format_number(error, 1) for error in kind_errors.values())])
    for name, kind_rates in error_rates.items():
        table.append([f"characters wrong, {VARIANT_TITLES[name]}", *map(format_share, kind_rates.values())])
    return StudyResult(
        title="Documents",
        lead=lead,
        head=head,
        rows=table,
        figures=[(f"documents_{kind}.svg", _crop_caption(kind)) for kind in crop_kinds],
        metrics=_documents_metrics(errors, error_rates, count),
        note=_documents_note(scans, threshold, is_read=bool(error_rates)),
    )


def _crop_caption(kind: str) -> str:
    page = "a test page"
    if kind != ALL_KINDS:
        page += f" with noise {kind}"
    return f"Where {page} is noisiest: as given, by a threshold on the background, by the model, and clean."


def _documents_metrics(errors: dict[str, dict[str, float]], error_rates: ErrorRates, count: int) -> dict[str, Any]:
    no_rates = dict.fromkeys(errors["model"])
    return {
        "scans": count,
        "rmse": errors,
        "rmse_lead": min(errors["noisy"][ALL_KINDS], errors["threshold"][ALL_KINDS]) - errors["model"][ALL_KINDS],
        "character_error_rate": {name: error_rates.get(name, no_rates) for name in errors},
    }


def _documents_note(scans: CompleteScans, threshold: InkThreshold, *, is_read: bool) -> str:
    note = (
        "RMSE: root of the mean squared error over all pixels of the pages, 255 grey levels from black to white. The threshold "
        f"takes for ink what is {threshold.darker:.0%} of the range darker than the median of the {MEDIAN_WIDTH} x "
        f"{MEDIAN_WIDTH} pixels around it, and whitens the rest; chosen on training tiles."
    )
    if scans.incomplete:
        note += f" {scans.incomplete} test scans are left out: some of their tiles were set aside."
    if is_read:
        return f"{note} The true text is not known: what Tesseract reads on the clean page stands for it, mistakes and all."
    return (
        f"{note} What can be read was not measured: Tesseract is not installed here. Type {ocr.INSTALL_COMMAND} and evaluate "
        "again."
    )
