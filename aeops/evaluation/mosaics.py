"""The figures made of samples: what came in, what the model made of it, and where it went wrong."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from aeops.evaluation.palette import MUTED, NOVELTY
from aeops.evaluation.style import WIDE, drawing

COLUMNS = 6  # samples in a strip
GRID_COLUMNS = 20  # samples in a row of the grid
ERROR_MAP = "inferno"  # black: no error; light: an error as large as the range of values. Readable in grey, too.
ROWS = ("input", "output", "error")


def draw_strip(file: Path, inputs: np.ndarray, outputs: np.ndarray, captions: Sequence[str]) -> None:
    """Samples over their reconstructions over the error at each pixel; all three share the scale [0, 1].

    Args:
        file: the SVG file to write.
        inputs, outputs: (k, c, h, w) in [0, 1], k from 1 to COLUMNS.
        captions: one a sample, written above it.
    """
    errors = matplotlib.colormaps[ERROR_MAP](np.abs(inputs - outputs).mean(axis=1))[..., :3]
    rows = [list(as_rgb(inputs)), list(as_rgb(outputs)), list(errors)]
    blank = COLUMNS - len(inputs)  # strips of fewer samples keep the size of the others
    draw_tiles(file, [row + [None] * blank for row in rows], [(name, MUTED) for name in ROWS], captions, width=WIDE / 3)


def draw_samples(file: Path, samples: np.ndarray, labels: pd.Series, novelty: np.ndarray) -> None:
    """A row of test samples of each label, novelty marked; unlabelled samples fill two rows."""
    names = labels.astype("string").fillna("").to_numpy()
    rows: list[list[np.ndarray | None]] = []
    titles: list[tuple[str, str]] = []
    for name in sorted(set(names), key=lambda name: (len(name), name)):
        of_name = np.flatnonzero(names == name)[:GRID_COLUMNS]
        row = list(as_rgb(samples[of_name]))
        rows.append(row + [None] * (GRID_COLUMNS - len(row)))
        titles.append((name, NOVELTY if novelty[of_name].any() else MUTED))
    draw_tiles(file, rows, titles, [], width=WIDE)


def draw_tiles(
    file: Path,
    rows: list[list[np.ndarray | None]],
    titles: list[tuple[str, str]],
    captions: Sequence[str],
    width: float,
) -> None:
    """RGB images in rows and columns, with a coloured title beside each row and a caption above each column."""
    first = next(tile for row in rows for tile in row if tile is not None)
    height, breadth = first.shape[:2]
    gap = max(1, round(breadth / 14))
    board = laid_out(rows, height, breadth, gap)
    left, top = 0.55 if any(title for title, _ in titles) else 0.0, 0.2 if captions else 0.0  # inches for the words
    tall = (width - left) * board.shape[0] / board.shape[1] + top
    with drawing(file, width, tall) as [axes]:
        axes.get_figure().set_layout_engine("none")  # type: ignore[union-attr]
        axes.set_position((left / width, 0, 1 - left / width, 1 - top / tall))
        axes.imshow(board, interpolation="none", aspect="auto")  # every pixel as it is
        axes.set_axis_off()
        for i, (title, colour) in enumerate(titles):
            axes.text(-3 * gap, i * (height + gap) + height / 2, title, ha="right", va="center", color=colour, fontsize=8.5)
        for j, caption in enumerate(captions):
            axes.text(j * (breadth + gap) + breadth / 2, -gap, caption, ha="center", va="bottom", color=MUTED, fontsize=7)


def laid_out(rows: list[list[np.ndarray | None]], height: int, breadth: int, gap: int) -> np.ndarray:
    """One RGBA image, uint8, of all tiles; gaps and missing tiles are transparent."""
    board = np.zeros((len(rows) * (height + gap) - gap, len(rows[0]) * (breadth + gap) - gap, 4), np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if tile is not None:
                at = np.s_[i * (height + gap) : i * (height + gap) + height, j * (breadth + gap) : j * (breadth + gap) + breadth]
                board[at] = 255
                board[at][..., :3] = (tile.clip(0, 1) * 255).round()
    return board


def as_rgb(images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) in [0, 1] as (n, h, w, 3): three channels are colours, any other number is shown as their mean."""
    if images.shape[1] != 3:
        images = images.mean(axis=1, keepdims=True).repeat(3, axis=1)
    return images.transpose(0, 2, 3, 1)
