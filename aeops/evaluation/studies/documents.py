"""Whole pages out of denoised tiles: how near they come to the clean pages, and what Tesseract reads on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skimage.filters.rank import median

from aeops.data.sources.tiles import assemble_tiles
from aeops.drawing import mosaics
from aeops.drawing.palette import MUTED_COLOUR
from aeops.drawing.style import REPORT_WIDTH
from aeops.drawing.words import format_number, format_share
from aeops.errors import DataError, UsageError
from aeops.evaluation import model_input, ocr
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.sources import ScansSource
from aeops.recipe.studies import DocumentsStudy

WINDOW = 21  # pixels a side of the median that finds the paper: a few strokes wide, so that text does not count
STEPS = np.arange(0.02, 0.4, 0.02)  # how much darker than the paper ink may have to be, as shares of the range
ROWS = 500  # training tiles that the threshold is chosen on
CROP = (48, 250)  # pixels of the page pieces that are shown: a line of text
ALL = "all"

Pages = np.ndarray  # (n, h, w), values in [0, 1]


@dataclass(frozen=True)
class Scans:
    """The test scans of which every tile is there.

    Attributes:
        rows: which test samples they are made of, in the order of `assembled`.
        kinds: what noise each has, (n,) int64; -1 where that is not known.
        left_out: scans of which a tile was set aside.
    """

    rows: np.ndarray
    kinds: np.ndarray
    left_out: int


@dataclass(frozen=True)
class Threshold:
    """Ink is what is darker than the paper around it by `darker`; all else becomes the paper's `white`."""

    darker: float
    white: float

    def clean(self, pages: Pages) -> Pages:
        return np.asarray(np.where(darkness(pages) < self.darker, np.float32(self.white), pages))


def run_documents_study(spec: DocumentsStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Noisy, thresholded and denoised test pages beside the clean ones.

    Raises:
        UsageError: the recipe's source does not cut pages into tiles.
        DataError: no test scan whose tiles are all there.
    """
    source, facts = require_scans(scene), scene.data.source["facts"]
    scans = whole_scans(scene.data.table, facts["rows"] * facts["columns"])

    def pages(tiles: np.ndarray) -> Pages:
        return assemble_tiles(tiles[scans.rows], facts["rows"], facts["columns"], source.core, source.margin)[:, 0]

    noisy, clean = pages(scene.data.scale(scene.inputs)), pages(scene.target)
    threshold = choose_threshold(*training_tiles(scene), source.margin)
    made = {"noisy": noisy, "threshold": threshold.clean(noisy), "model": pages(scene.reconstructions)}
    errors = {name: grey_levels(scene, found, clean, scans.kinds) for name, found in made.items()}
    read = {} if ocr.installation_command() else error_rates(made, clean, scans.kinds)
    shown = chosen_crops(made | {"clean": clean}, scans.kinds)
    for kind, rows in shown.items():
        mosaics.draw_tiles(
            figures / f"documents_{kind}.svg", rows, [(name, MUTED_COLOUR) for name in SHORT], [], REPORT_WIDTH / 2, side=max(CROP)
        )
    return tell(errors, read, scans, threshold, list(shown))


NAMES = {"noisy": "noisy", "threshold": "threshold on the background", "model": "autoencoder"}
SHORT = ("noisy", "threshold", "model", "clean")


# ---------------------------------------------------------------- pages


def require_scans(scene: EvaluationContext) -> ScansSource:
    """The source, which must have cut the tiles; raises UsageError."""
    source: ScansSource = scene.recipe.data.source
    if not source.is_tiled:
        raise UsageError(
            f"recipes/{scene.recipe.name}.yaml: evaluate.studies.documents: it puts tiles together to pages: data.source of kind "
            f"scans is allowed; {source.kind} given"
        )
    return source


def whole_scans(table: pd.DataFrame, each: int) -> Scans:
    """The scans in a table of test samples, `each` tiles a scan; the number in an id is the tile's place in the source.

    Raises:
        DataError: none is whole.
    """
    places = table["id"].str.rpartition("-")[2].astype(np.int64).to_numpy()
    scan, counts = np.unique(places // each, return_counts=True)
    whole = scan[counts == each]
    if not len(whole):
        raise DataError(
            f"none of the {len(scan)} test scans has all of its {each} tiles: some were set aside as the bounds in the recipe's "
            "section validate ask; widen them"
        )
    order = np.argsort(places, kind="stable")
    rows = order[np.isin(places[order] // each, whole)]
    labels = table["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    return Scans(rows, labels[rows[::each]], len(scan) - len(whole))


def grey_levels(scene: EvaluationContext, made: Pages, clean: Pages, kinds: np.ndarray) -> dict[str, float]:
    """Root of the mean squared error over all pixels of the pages, in raw grey levels: of all pages, and by kind of noise."""
    squares = np.square(made - clean, dtype=np.float64).mean(axis=(1, 2))
    span = scene.data.high - scene.data.low
    return {name: float(np.sqrt(squares[chosen].mean()) * span) for name, chosen in by_kind(kinds).items()}


def by_kind(kinds: np.ndarray) -> dict[str, np.ndarray]:
    """Which pages are meant, bool (n,): all of them, and those of each kind of noise."""
    return {ALL: np.ones(len(kinds), bool)} | {str(kind): kinds == kind for kind in known(kinds)}


def known(kinds: np.ndarray) -> list[int]:
    return [int(kind) for kind in np.unique(kinds) if kind >= 0]


# ---------------------------------------------------------------- the classical way


def training_tiles(scene: EvaluationContext) -> tuple[Pages, Pages]:
    """Some of the training tiles, noisy and clean, (n, side, side) each."""
    train, source = scene.data.train, scene.recipe.fit.input
    chosen = train[np.unique(np.linspace(0, len(train) - 1, min(ROWS, len(train))).round().astype(int))]
    noisy = scene.data.scale(model_input.served_inputs(scene.recipe.fit, chosen, model_input.TRAIN_SEED))
    return noisy[:, 0], model_input.scaled_targets(source, scene.data, chosen)[:, 0]


def choose_threshold(noisy: Pages, clean: Pages, margin: int) -> Threshold:
    """The threshold of least squared error on tiles; their margins, where the median's window is cut off, do not count."""
    core = np.s_[:, margin : noisy.shape[1] - margin, margin : noisy.shape[2] - margin]
    wanted, white, dark = clean[core], float(np.median(clean[core])), darkness(noisy)[core]
    errors = [np.square(np.where(dark < step, white, noisy[core]) - wanted).mean() for step in STEPS]
    return Threshold(float(STEPS[int(np.argmin(errors))]), white)


def darkness(pages: Pages) -> Pages:
    """How much darker each pixel is than the paper, which is the median around it."""
    levels = (pages * 255).round().astype(np.uint8)
    window = np.ones((WINDOW, WINDOW), np.uint8)
    paper = np.stack([median(page, window) for page in levels])
    return np.asarray((paper.astype(np.float32) - levels) / 255, dtype=np.float32)


# ---------------------------------------------------------------- reading


def error_rates(made: dict[str, Pages], clean: Pages, kinds: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Character error rates of each, of all pages and by kind of noise.

    They are against what Tesseract reads on the clean pages: no other text of them exists.
    """
    pages, place = np.unique(clean, axis=0, return_inverse=True)  # several scans have one clean page
    texts = [ocr.read_text(page) for page in pages]
    references = np.array([texts[i] for i in place.ravel()], dtype=object)
    read = {name: np.array([ocr.read_text(page) for page in found], dtype=object) for name, found in made.items()}
    return {
        name: {
            kind: ocr.character_error_rate(list(references[chosen]), list(found[chosen]))
            for kind, chosen in by_kind(kinds).items()
        }
        for name, found in read.items()
    }


# ---------------------------------------------------------------- telling


def chosen_crops(made: dict[str, Pages], kinds: np.ndarray) -> dict[str, list[list[np.ndarray | None]]]:
    """Of the first page with each kind of noise the piece with the most of it, as `draw_tiles` takes it: kind -> rows."""
    firsts = {str(kind): int(np.argmax(kinds == kind)) for kind in known(kinds)} or {ALL: 0}
    places = {kind: noisiest(made["noisy"][page] - made["clean"][page]) for kind, page in firsts.items()}
    return {
        kind: [[pages[page][places[kind]][..., None].repeat(3, axis=2)] for pages in made.values()]
        for kind, page in firsts.items()
    }


def noisiest(noise: np.ndarray) -> tuple[slice, slice]:
    """The piece of CROP's size, among those half its sides apart, in which the squares of `noise` (h, w) are the largest."""
    sides = [min(side, size) for side, size in zip(CROP, noise.shape, strict=True)]
    pieces = np.lib.stride_tricks.sliding_window_view(np.square(noise), sides)[:: CROP[0] // 2, :: CROP[1] // 2]
    powers = pieces.mean(axis=(2, 3))
    row, column = np.unravel_index(int(powers.argmax()), powers.shape)
    top, left = int(row) * (CROP[0] // 2), int(column) * (CROP[1] // 2)
    return slice(top, top + sides[0]), slice(left, left + sides[1])


def tell(
    errors: dict[str, dict[str, float]],
    read: dict[str, dict[str, float | None]],
    scans: Scans,
    threshold: Threshold,
    shown: list[str],
) -> StudyResult:
    count = len(scans.kinds)
    lead = (
        f"{count} test scans put together from their tiles: off by {format_number(errors['noisy'][ALL], 1)} grey levels as given, "
        f"by {format_number(errors['model'][ALL], 1)} denoised."
    )
    if read:
        lead += (
            f" Tesseract gets {format_share(read['noisy'][ALL])} of the characters wrong on the noisy and {format_share(read['model'][ALL])} "
            "on the denoised pages, beside its own reading of the clean ones."
        )
    rows = [[f"RMSE, {NAMES[name]}", *(format_number(off, 1) for off in found.values())] for name, found in errors.items()]
    rows += [[f"characters wrong, {NAMES[name]}", *map(format_share, found.values())] for name, found in read.items()]
    return StudyResult(
        title="Documents",
        lead=lead,
        head=["", *(kind if kind == ALL else f"noise {kind}" for kind in errors["model"])],
        rows=rows,
        figures=[(f"documents_{kind}.svg", caption(kind)) for kind in shown],
        metrics=metrics(errors, read, count),
        note=note(scans, threshold, bool(read)),
    )


def caption(kind: str) -> str:
    of = "" if kind == ALL else f" with noise {kind}"
    return f"Where a test page{of} is noisiest: as given, by a threshold on the background, by the autoencoder, and clean."


def metrics(errors: dict[str, dict[str, float]], read: dict[str, dict[str, float | None]], count: int) -> dict[str, Any]:
    unread = dict.fromkeys(errors["model"])
    return {
        "scans": count,
        "rmse": errors,
        "rmse_lead": min(errors["noisy"][ALL], errors["threshold"][ALL]) - errors["model"][ALL],
        "character_error_rate": {name: read.get(name, unread) for name in errors},
    }


def note(scans: Scans, threshold: Threshold, read: bool) -> str:
    told = (
        "RMSE: root of the mean squared error over all pixels of the pages, 255 grey levels from black to white. The threshold "
        f"takes for ink what is {threshold.darker:.0%} of the range darker than the median of the {WINDOW} x {WINDOW} pixels "
        "around it, and whitens the rest; chosen on training tiles."
    )
    if scans.left_out:
        told += f" {scans.left_out} test scans are left out: some of their tiles were set aside."
    if read:
        return told + " The true text is not known: what Tesseract reads on the clean page stands for it, mistakes and all."
    return (
        told
        + f" What can be read was not measured: Tesseract is not installed here. Type {ocr.INSTALL_COMMAND} and evaluate again."
    )
