"""The figures made of samples: what came in, what the model made of it, and where it went wrong."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from aeops.drawing.palette import LABELS, MUTED, NOVELTY
from aeops.drawing.style import WIDE, drawing

COLUMNS = 6  # samples in a strip
GRID_COLUMNS = 20  # samples in a row of the grid
STRIP_SIDE, GRID_SIDE = 64, 32  # pixels that a tile may have a side: what is larger is shrunk, as it is drawn that small
PLOT_HEIGHT, PLOT_WIDTHS = 48, (64, 128)  # pixels of the curve that stands for a window of a series
LEVELS = 63  # of a colour above none: a file of half the size, and no eye tells at this size
ERROR_MAP = "inferno"  # black: no error; light: an error as large as the range of values. Readable in grey, too.


def draw_strip(file: Path, inputs: np.ndarray, outputs: np.ndarray, targets: np.ndarray | None, captions: Sequence[str]) -> None:
    """Samples over their reconstructions over the error at each pixel (or step); all share the scale [0, 1].

    Args:
        file: the SVG file to write.
        inputs, outputs: images (k, c, h, w) or series (k, c, steps) in [0, 1], k from 1 to COLUMNS.
        targets: what the outputs should be, where that is not the input; a row of its own.
        captions: one a sample, written above it.
    """
    wanted = inputs if targets is None else targets
    rows = {"input": inputs, "output": outputs} | ({} if targets is None else {"target": targets})
    errors = np.abs(wanted - outputs)
    tiles = {name: as_tiles(samples) for name, samples in rows.items()} | {
        "error": as_tiles(errors) if errors.ndim == 3 else list(matplotlib.colormaps[ERROR_MAP](errors.mean(axis=1))[..., :3])
    }
    blank = COLUMNS - len(inputs)  # strips of fewer samples keep the size of the others
    filled = [row + [None] * blank for row in tiles.values()]
    draw_tiles(file, filled, [(name, MUTED) for name in tiles], captions, width=WIDE / 3)


def draw_rows(file: Path, rows: dict[str, np.ndarray], captions: Sequence[str] = (), width: float = WIDE) -> None:
    """Rows of samples, each under its name: images (k, c, h, w) or series (k, c, steps) in [0, 1], k the same in all."""
    draw_tiles(file, [as_tiles(samples) for samples in rows.values()], [(name, MUTED) for name in rows], captions, width)


def draw_board(file: Path, samples: np.ndarray, columns: int, width: float) -> None:
    """Samples side by side, `columns` in a row."""
    tiles = as_tiles(samples)
    tiles += [None] * (-len(tiles) % columns)
    draw_tiles(file, [tiles[at : at + columns] for at in range(0, len(tiles), columns)], [], [], width, GRID_SIDE)


def draw_samples(file: Path, samples: np.ndarray, labels: pd.Series, novelty: np.ndarray) -> None:
    """A row of test samples of each label, novelty marked; unlabelled samples fill a row."""
    names = labels.astype("string").fillna("").to_numpy()
    rows: list[list[np.ndarray | None]] = []
    titles: list[tuple[str, str]] = []
    for name in sorted(set(names), key=lambda name: (len(name), name)):
        of_name = np.flatnonzero(names == name)[:GRID_COLUMNS]
        row = as_tiles(samples[of_name])
        rows.append(row + [None] * (GRID_COLUMNS - len(row)))
        titles.append((name, NOVELTY if novelty[of_name].any() else MUTED))
    draw_tiles(file, rows, titles, [], WIDE, GRID_SIDE)


def draw_tiles(
    file: Path,
    rows: list[list[np.ndarray | None]],
    titles: list[tuple[str, str]],
    captions: Sequence[str],
    width: float,
    side: int = STRIP_SIDE,
) -> None:
    """RGB images in rows and columns, with a coloured title beside each row and a caption above each column."""
    rows = [[None if tile is None else shrunk(tile, side) for tile in row] for row in rows]
    first = next(tile for row in rows for tile in row if tile is not None)
    height, breadth = first.shape[:2]
    gap = max(1, round(breadth / 14))
    board = laid_out(rows, height, breadth, gap)
    longest = max((len(title) for title, _ in titles), default=0)
    left, top = 0.13 + 0.07 * longest if longest else 0.0, 0.2 if captions else 0.0  # inches for the words
    tall = (width - left) * board.shape[0] / board.shape[1] + top
    with drawing(file, width, tall) as [axes]:
        axes.get_figure().set_layout_engine("none")  # type: ignore[union-attr]
        axes.set_position((left / width, 0, 1 - left / width, 1 - top / tall))
        axes.imshow(board, interpolation="none", aspect="auto")  # every pixel as it is
        axes.set_axis_off()
        for i, (title, colour) in enumerate(titles):
            middle, beside = (0, i * (height + gap) + height / 2), (-6, 0)  # in pixels of the board; in points
            axes.annotate(title, middle, beside, textcoords="offset points", ha="right", va="center", color=colour, fontsize=8.5)
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
                board[at][..., :3] = ((tile.clip(0, 1) * LEVELS).round() * (255 / LEVELS)).round()
    return board


def shrunk(tile: np.ndarray, side: int) -> np.ndarray:
    """An RGB image (h, w, 3) with at most `side` pixels a side: the means of square blocks, a rest at the edges left out."""
    block = -(-max(tile.shape[:2]) // side)
    if block == 1:
        return tile
    rows, columns = (max(1, size // block) for size in tile.shape[:2])
    kept = tile[: rows * block, : columns * block]
    tall, broad = -(-kept.shape[0] // rows), -(-kept.shape[1] // columns)  # less than a block where the image is that narrow
    return np.asarray(kept.reshape(rows, tall, columns, broad, 3).mean(axis=(1, 3)))


def as_tiles(samples: np.ndarray) -> list[np.ndarray | None]:
    """Images (n, c, h, w) or series (n, c, steps) in [0, 1] as n RGB images (h, w, 3)."""
    return [plotted(window) for window in samples] if samples.ndim == 3 else list(as_rgb(samples))


def as_rgb(images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) in [0, 1] as (n, h, w, 3): three channels are colours, any other number is shown as their mean."""
    if images.shape[1] != 3:
        images = images.mean(axis=1, keepdims=True).repeat(3, axis=1)
    return images.transpose(0, 2, 3, 1)


def plotted(window: np.ndarray) -> np.ndarray:
    """A window of a series (c, steps) in [0, 1] as a small picture of its curves, one colour a channel."""
    columns = int(np.clip(window.shape[1], *PLOT_WIDTHS))
    places = np.linspace(0, window.shape[1] - 1, columns).round().astype(int)
    picture = np.ones((PLOT_HEIGHT, columns, 3))
    for channel, values in enumerate(window[:, places]):
        heights = ((1 - values.clip(0, 1)) * (PLOT_HEIGHT - 1)).round().astype(int)
        colour = matplotlib.colors.to_rgb(LABELS[channel % len(LABELS)])
        for column in range(columns):
            low, high = sorted((heights[column], heights[max(0, column - 1)]))
            picture[low : high + 1, column] = colour
    return picture
