"""Cuts pages into square tiles that overlap, and puts them together again.

A tile is a core, which it alone covers, with a margin on each side. The margins show a model what surrounds the core; at
the border of a page they are its mirror image. Only the cores go back into the page, so no seam shows where a model's
outputs fade at a tile's border.
"""

import numpy as np


def cut_tiles(pages: np.ndarray, core: int, margin: int) -> np.ndarray:
    """Cut all pages into tiles, page by page, each row by row from its upper left corner.

    Args:
        pages: (n, c, h, w); `core` divides h and w.
        core: pixels a side that each tile alone covers.
        margin: pixels around the core, below h and w.

    Returns:
        (n * h / core * w / core, c, core + 2 margin, core + 2 margin).
    """
    side = core + 2 * margin
    padded_pages = np.pad(pages, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded_pages, (side, side), axis=(2, 3))[:, :, ::core, ::core]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, pages.shape[1], side, side)


def assemble_tiles(tiles: np.ndarray, rows: int, columns: int, core: int, margin: int) -> np.ndarray:
    """Put tiles in the order of `cut_tiles` together again: its inverse.

    Args:
        tiles: (n * rows * columns, c, core + 2 margin, core + 2 margin).
        rows: tiles from top to bottom of a page.
        columns: tiles from left to right of a page.
        core: pixels a side that each tile alone covers.
        margin: pixels around the core, which are left out.

    Returns:
        (n, c, rows * core, columns * core).
    """
    cores = tiles[:, :, margin : margin + core, margin : margin + core]
    grid = cores.reshape(-1, rows, columns, tiles.shape[1], core, core)
    return grid.transpose(0, 3, 1, 4, 2, 5).reshape(-1, tiles.shape[1], rows * core, columns * core)
