"""One look for all figures, and bytes that depend on nothing but what is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from aeops.drawing.palette import GRID, INK, MUTED

WIDE = 10.6  # inches: the width of the report's column
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the layout is the same on every machine
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, readable by a screen reader, in the page's own font
    "svg.hashsalt": "ae",  # ids in the file come from its content, not from the clock
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}


@contextmanager
def drawing(file: Path, width: float, height: float, columns: int = 1) -> Iterator[list[Axes]]:
    """Axes to draw on, `columns` side by side; written to `file` as SVG at the end. Size in inches."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]  # the stub lists each key's name as a literal
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = list(figure.subplots(1, columns, squeeze=False)[0])
        for one in axes:
            one.patch.set_alpha(0)
        yield axes
        # Not by `savefig`, which draws everything twice.
        FigureCanvasSVG(figure).print_svg(str(file), metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
