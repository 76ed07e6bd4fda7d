"""Figures of samples in rows and columns: inputs, reconstructions and their errors."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from aeops.drawing.palette import LABEL_COLOURS, MUTED_COLOUR, NOVELTY_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes

COLUMNS = 6  # samples in a strip
GRID_COLUMNS = 20  # samples in a row of the grid
STRIP_SIDE, GRID_SIDE = 64, 32  # largest side of a tile in pixels; larger samples are shrunk, as they are drawn that small
PLOT_HEIGHT, PLOT_WIDTHS = 48, (64, 128)  # pixels of the curve that stands for a window of a series
NEAREST_TITLE, DISTANCES_TITLE = "nearest\nnormal", "score\nmap"  # of the rows of nearest samples, and of distances
TINY_DISTANCE = 1e-12  # where all patches are known ones
CAPTION_POINTS, SMALLEST_POINTS, TITLE_POINTS, POINTS_AN_INCH = 7, 5, 8.5, 72
LINE_HEIGHT = 1.15  # in the size of a letter
LETTER_WIDTH = 0.68  # of a caption's letter, in its size; digits, of which names and scores are made, are the widest
COLOUR_LEVELS = 63  # above zero: a file of half the size, without a visible difference at this size
UNDER_ERRORS = 0.45  # brightness of a sample below the map of its errors
ERROR_MAP = "inferno"  # black: no error; light: an error as large as the range of values. Readable in grey, too.

Tile = np.ndarray
TileRow = list[Tile | None]  # None: no tile at this place


def draw_error_strip(
    file: Path,
    inputs: np.ndarray,
    outputs: np.ndarray,
    targets: np.ndarray | None,
    sample_captions: Sequence[str],
    nearest: np.ndarray | None = None,
    distances: np.ndarray | None = None,
) -> None:
    """Draw samples over their reconstructions over the error at each pixel (or step); all share the scale [0, 1].

    The error of an image is laid over the image itself in grey, so that one sees what it is an error of.

    Args:
        file: the SVG file to write.
        inputs: images (k, c, h, w) or series (k, c, steps) in [0, 1], k from 1 to COLUMNS.
        outputs: their reconstructions, of the same shape.
        targets: expected outputs where they are not the inputs; drawn as a row of its own.
        sample_captions: one a sample, written above it, of one line or more.
        nearest: the nearest normal samples, of the shape of the inputs, drawn as a row; None where they are not known.
        distances: how far each pixel is from normal, (k, h, w), 0 or more, drawn in the colours of the errors up to the largest
            one; None where that is not known.
    """
    sample_rows = {"input": inputs, "output": outputs}
    errors = np.abs(inputs - outputs)
    if targets is not None:
        sample_rows["target"] = targets
        errors = np.abs(targets - outputs)
    titles = []
    tile_rows: list[TileRow] = []
    padding: TileRow = [None] * (COLUMNS - len(inputs))  # strips of fewer samples keep the size of the others
    for title, samples in sample_rows.items():
        titles.append((title, MUTED_COLOUR))
        tile_rows.append(as_tiles(samples) + padding)
    titles.append(("error", MUTED_COLOUR))
    tile_rows.append(_error_tiles(errors, inputs) + padding)
    if distances is not None:
        titles.append((DISTANCES_TITLE, MUTED_COLOUR))
        tile_rows.append(_error_tiles(distances[:, None] / max(float(distances.max()), TINY_DISTANCE), inputs) + padding)
    if nearest is not None:
        titles.append((NEAREST_TITLE, MUTED_COLOUR))
        tile_rows.append(as_tiles(nearest) + padding)
    draw_tiles(file, tile_rows, titles, sample_captions, width=REPORT_WIDTH / 3)


def _error_tiles(errors: np.ndarray, inputs: np.ndarray) -> TileRow:
    """Return maps of errors over images in grey, or curves of errors of series.

    Args:
        errors: (k, c, h, w) or (k, c, steps), 0 to 1.
        inputs: the samples, likewise; their channels may be others.
    """
    if errors.ndim == 3:
        return as_tiles(errors)
    amount = errors.mean(axis=1)
    grey = UNDER_ERRORS * inputs.mean(axis=1)[..., None].repeat(3, axis=-1)
    opacity = np.sqrt(amount.clip(0, 1))[..., None]  # small errors show, too
    return list((1 - opacity) * grey + opacity * matplotlib.colormaps[ERROR_MAP](amount)[..., :3])


def draw_rows(file: Path, rows: dict[str, np.ndarray], sample_captions: Sequence[str] = (), width: float = REPORT_WIDTH) -> None:
    """Draw rows of samples, each beside its name.

    Args:
        file: the SVG file to write.
        rows: images (k, c, h, w) or series (k, c, steps) in [0, 1] by name, k the same in all.
        sample_captions: one a sample, written above the first row; empty for none.
        width: of the figure, in inches.
    """
    tile_rows = list(map(as_tiles, rows.values()))
    draw_tiles(file, tile_rows, muted_titles(rows), sample_captions, width)


def muted_titles(titles: Iterable[str]) -> list[tuple[str, str]]:
    """Return the titles for `draw_tiles`, all in the colour of what stands beside the data."""
    return [(title, MUTED_COLOUR) for title in titles]


def draw_board(file: Path, samples: np.ndarray, columns: int, width: float) -> None:
    """Draw samples side by side, `columns` in a row; width in inches."""
    tiles = as_tiles(samples)
    tiles += [None] * (-len(tiles) % columns)
    tile_rows = []
    for start in range(0, len(tiles), columns):
        tile_rows.append(tiles[start : start + columns])
    draw_tiles(file, tile_rows, [], [], width, GRID_SIDE)


def draw_samples(
    file: Path, samples: np.ndarray, scale: Callable[[np.ndarray], np.ndarray], labels: pd.Series, novelty: np.ndarray
) -> None:
    """Draw a row of test samples of each label, novelty marked; unlabelled samples fill a row.

    Args:
        file: the SVG file to write.
        samples: images (n, c, h, w) or series (n, c, steps) in raw units.
        scale: puts those that are drawn into [0, 1].
        labels: one a sample, missing for unlabelled ones.
        novelty: bool (n,).
    """
    names = labels.astype("string").fillna("").to_numpy()
    rows: list[TileRow] = []
    titles: list[tuple[str, str]] = []
    for name in sorted(set(names), key=lambda name: (len(name), name)):
        of_name = np.flatnonzero(names == name)[:GRID_COLUMNS]
        row = as_tiles(scale(samples[of_name]))
        rows.append(row + [None] * (GRID_COLUMNS - len(row)))
        if novelty[of_name].any():
            titles.append((name, NOVELTY_COLOUR))
        else:
            titles.append((name, MUTED_COLOUR))
    draw_tiles(file, rows, titles, [], REPORT_WIDTH, GRID_SIDE)


def draw_tiles(
    file: Path,
    rows: list[TileRow],
    titles: list[tuple[str, str]],
    sample_captions: Sequence[str],
    width: float,
    side: int = STRIP_SIDE,
) -> None:
    """Draw RGB images in rows and columns, with a coloured title beside each row and a caption above each column.

    Args:
        file: the SVG file to write.
        rows: RGB images (h, w, 3) in [0, 1] of one size, or None for an empty place.
        titles: text and colour of each row's title; empty for none.
        sample_captions: one a column; empty for none.
        width: of the figure, in inches.
        side: largest side of a tile in pixels; larger ones are shrunk.
    """
    rows = [_shrink_row(row, side) for row in rows]
    tile_height, tile_width = _tile_size(rows)
    gap_pixels = max(1, round(tile_width / 14))
    mosaic = _lay_out(rows, tile_height, tile_width, gap_pixels)
    left_margin, top_margin = _text_margins(titles, sample_captions)
    caption_size = _caption_size(sample_captions, (width - left_margin) / len(rows[0]))
    figure_height = (width - left_margin) * mosaic.shape[0] / mosaic.shape[1] + top_margin
    with svg_axes(file, width, figure_height) as [axes]:
        axes.get_figure().set_layout_engine("none")  # type: ignore[union-attr]
        axes.set_position((left_margin / width, 0, 1 - left_margin / width, 1 - top_margin / figure_height))
        axes.imshow(mosaic, interpolation="none", aspect="auto")  # every pixel as it is
        axes.set_axis_off()
        for i, (title, colour) in enumerate(titles):
            row_centre = (0, i * (tile_height + gap_pixels) + tile_height / 2)  # in pixels of the mosaic
            lines = title.split("\n")
            for line_number, line in enumerate(lines):
                offset = (-6.0, ((len(lines) - 1) / 2 - line_number) * LINE_HEIGHT * TITLE_POINTS)
                _write_line(axes, line, row_centre, offset, ha="right", va="center", color=colour, fontsize=TITLE_POINTS)
        line_count = _line_count(sample_captions)
        for j, sample_caption in enumerate(sample_captions):
            column_centre = j * (tile_width + gap_pixels) + tile_width / 2
            lines = sample_caption.split("\n")
            for line_number, line in enumerate(lines, start=1):  # first lines at one height, whatever follows
                column_top, offset = (column_centre, -gap_pixels), (0.0, (line_count - line_number) * LINE_HEIGHT * caption_size)
                _write_line(axes, line, column_top, offset, ha="center", va="bottom", color=MUTED_COLOUR, fontsize=caption_size)


def _write_line(axes: Axes, line: str, place: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write one line of text, `offset` points from a place in pixels of the mosaic.

    Each line is a text of its own: only then does the SVG say how it is aligned, whichever font the page has.
    """
    axes.annotate(line, place, offset, textcoords="offset points", annotation_clip=False, **style)


def _caption_size(sample_captions: Sequence[str], column_width: float) -> float:
    """Return the size in points at which the longest line of the captions fits a column of this width in inches.

    Below SMALLEST_POINTS nobody could read it, so a longer line stands out.
    """
    fitting_size = column_width * POINTS_AN_INCH / (LETTER_WIDTH * max(1, _longest_line(sample_captions)))
    return min(CAPTION_POINTS, max(SMALLEST_POINTS, fitting_size))


def _line_count(captions: Iterable[str]) -> int:
    """Return the lines of the caption with the most; 0 without captions."""
    return max((caption.count("\n") + 1 for caption in captions), default=0)


def _longest_line(texts: Iterable[str]) -> int:
    """Return the characters of the longest line of all texts."""
    return max(map(len, "\n".join(texts).split("\n")))


def _text_margins(titles: list[tuple[str, str]], sample_captions: Sequence[str]) -> tuple[float, float]:
    """Return the space for titles at the left and for captions at the top, in inches."""
    longest_title = _longest_line(title for title, _ in titles)
    left_margin = top_margin = 0.0
    if longest_title:
        left_margin = 0.13 + 0.07 * longest_title
    if sample_captions:
        top_margin = 0.08 + 0.12 * _line_count(sample_captions)
    return left_margin, top_margin


def _tile_size(rows: list[TileRow]) -> tuple[int, int]:
    """Return height and width of the tiles in pixels."""
    for row in rows:
        for tile in row:
            if tile is not None:
                return tile.shape[0], tile.shape[1]
    raise ValueError("expected one tile or more, got none")


def _lay_out(rows: list[TileRow], tile_height: int, tile_width: int, gap_pixels: int) -> np.ndarray:
    """Return one RGBA image, uint8, of all tiles; gaps and missing tiles are transparent."""
    row_step, column_step = tile_height + gap_pixels, tile_width + gap_pixels
    mosaic = np.zeros((len(rows) * row_step - gap_pixels, len(rows[0]) * column_step - gap_pixels, 4), np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if tile is not None:
                tile_pixels = mosaic[i * row_step : i * row_step + tile_height, j * column_step : j * column_step + tile_width]
                tile_pixels[:] = 255
                tile_pixels[..., :3] = ((tile.clip(0, 1) * COLOUR_LEVELS).round() * (255 / COLOUR_LEVELS)).round()
    return mosaic


def _shrink_row(row: TileRow, side: int) -> TileRow:
    shrunken_row: TileRow = []
    for tile in row:
        if tile is None:
            shrunken_row.append(None)
        else:
            shrunken_row.append(_shrink_tile(tile, side))
    return shrunken_row


def _shrink_tile(tile: Tile, side: int) -> Tile:
    """Return an RGB image (h, w, 3) with at most `side` pixels a side: means of square blocks, a rest at the edges left out."""
    block = -(-max(tile.shape[:2]) // side)
    if block == 1:
        return tile
    rows = max(1, tile.shape[0] // block)
    columns = max(1, tile.shape[1] // block)
    cropped_tile = tile[: rows * block, : columns * block]
    block_height = -(-cropped_tile.shape[0] // rows)  # less than a block where the image is that narrow
    block_width = -(-cropped_tile.shape[1] // columns)
    return np.asarray(cropped_tile.reshape(rows, block_height, columns, block_width, 3).mean(axis=(1, 3)))


def as_tiles(samples: np.ndarray) -> TileRow:
    """Return images (n, c, h, w) or series (n, c, steps) in [0, 1] as n RGB images (h, w, 3)."""
    if samples.ndim == 3:
        return list(map(_plot_window, samples))
    return list(_as_rgb(samples))


def _as_rgb(images: np.ndarray) -> np.ndarray:
    """Return (n, c, h, w) in [0, 1] as (n, h, w, 3): three channels are colours, any other number is shown as their mean."""
    if images.shape[1] != 3:
        images = images.mean(axis=1, keepdims=True).repeat(3, axis=1)
    return images.transpose(0, 2, 3, 1)


def _plot_window(window: np.ndarray) -> Tile:
    """Return a window of a series (c, steps) in [0, 1] as a small image of its curves, one colour a channel."""
    columns = int(np.clip(window.shape[1], *PLOT_WIDTHS))
    step_indices = np.linspace(0, window.shape[1] - 1, columns).round().astype(int)
    plot_pixels = np.ones((PLOT_HEIGHT, columns, 3))
    for channel, values in enumerate(window[:, step_indices]):
        pixel_rows = ((1 - values.clip(0, 1)) * (PLOT_HEIGHT - 1)).round().astype(int)
        colour = matplotlib.colors.to_rgb(LABEL_COLOURS[channel % len(LABEL_COLOURS)])
        for column in range(columns):
            low, high = sorted((pixel_rows[column], pixel_rows[max(0, column - 1)]))
            plot_pixels[low : high + 1, column] = colour
    return plot_pixels
