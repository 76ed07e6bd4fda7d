"""One style for all figures, written as SVG files whose bytes depend on the content alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from aeops.drawing.palette import GRID_COLOUR, MUTED_COLOUR, TEXT_COLOUR

REPORT_WIDTH = 10.6  # inches: the width of the report's column
FIGURE_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID_COLOUR,
    "axes.grid": True,
    "axes.labelcolor": MUTED_COLOUR,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT_COLOUR,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the layout is the same on every machine
    "font.size": 9,
    "grid.color": GRID_COLOUR,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": TEXT_COLOUR,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, readable by a screen reader, in the page's own font
    "svg.hashsalt": "ae",  # ids in the file come from its content, not from the clock
    "text.color": TEXT_COLOUR,
    "xtick.color": MUTED_COLOUR,
    "xtick.major.size": 0,
    "ytick.color": MUTED_COLOUR,
    "ytick.major.size": 0,
}


@contextmanager
def svg_axes(file: Path, width: float, height: float, columns: int = 1, rows: int = 1) -> Iterator[list[Axes]]:
    """Yield axes to draw on and write them to a file as SVG at the end.

    Args:
        file: the SVG file to write.
        width: of the figure, in inches.
        height: of the figure, in inches.
        columns: number of axes, side by side.
        rows: number of rows of them; they are yielded row by row.
    """
    with matplotlib.rc_context(FIGURE_STYLE):  # type: ignore[arg-type]  # the stub lists each key's name as a literal
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
        for subplot_axes in axes:
            subplot_axes.patch.set_alpha(0)
        yield axes
        # Not by `savefig`, which draws everything twice.
        FigureCanvasSVG(figure).print_svg(str(file), metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
