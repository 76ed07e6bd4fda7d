"""Windows of series: arrays (channels, steps) in .npy files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aeops.errors import DataError
from aeops.kinds.arrays import (
    NPY_SUFFIX,
    ArrayKind,
    describe_form,
    fit_numbers,
    fit_range,
    format_shape,
    read_npy_file,
    require_file,
)
from aeops.kinds.results import ErrorLegend, Explanation, PageBlock, PageForm
from aeops.kinds.samples import FileSamples, FitOptions, FittedSample, SampleSpec

if TYPE_CHECKING:
    from ae_models.spec import InputSpec


CURVES_WIDTH, CURVES_HEIGHT, CURVES_MARGIN = 640, 158, 8  # of the SVG; the margin is above the highest value


def svg_polyline(values: np.ndarray, style: str, spec: SampleSpec) -> str:
    """Return values (steps,) in raw units as a line of the SVG."""
    steps = np.linspace(0, CURVES_WIDTH, len(values))
    y_values = CURVES_HEIGHT - (values - spec.low) / spec.span * (CURVES_HEIGHT - CURVES_MARGIN)
    points = [f"{step:.1f},{y_value:.1f}" for step, y_value in zip(steps, y_values, strict=True)]
    return f'<polyline class="{style}" points="{" ".join(points)}"/>'


def svg_channels(batch: np.ndarray, style: str, spec: SampleSpec) -> list[str]:
    """Return the channels of one series (1, channels, steps) in raw units as lines of the SVG."""
    return [svg_polyline(channel, style, spec) for channel in batch[0]]


def svg_curves(lines: list[str], label: str) -> str:
    """Return lines as an SVG element."""
    box = f"0 0 {CURVES_WIDTH} {CURVES_HEIGHT}"
    return f'<svg class="curves" viewBox="{box}" role="img" aria-label="{label}">{"".join(lines)}</svg>'


class SeriesKind(ArrayKind):
    """See `aeops.kinds.interface.DataKind`."""

    ERROR_LEGEND: ErrorLegend = ErrorLegend("The error is drawn as a curve, from 0 to 1, the range of values.")

    def read_file(self, path: Path, spec: SampleSpec) -> FileSamples:
        """Read a .npy file, one sample or a batch.

        Raises:
            UsageError: there is no such file.
            DataError: it cannot be read as .npy.
        """
        if path.is_dir():
            raise DataError(f"expected a {NPY_SUFFIX} file, got the folder {path}")
        require_file(path, f"a {NPY_SUFFIX} file")
        if path.suffix.lower() != NPY_SUFFIX:
            raise DataError(f"{path} does not end in {NPY_SUFFIX}: this recipe takes series: write them with numpy.save")
        return read_npy_file(path, spec)

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        """See `DataKind.fit_sample`: a .npy file, JSON or a row of numbers."""
        if media_type.startswith("image/"):
            raise DataError(f"expected a {NPY_SUFFIX} file or numbers, a series of {format_shape(spec.shape)}, got an image")
        return fit_numbers(content, media_type, spec, options, f"a {NPY_SUFFIX} file or text")

    def page_form(self, spec: "InputSpec") -> PageForm:
        """See `DataKind.page_form`."""
        return PageForm(
            intro=describe_form("a window of a series", spec),
            file_label="Drop a .npy file here, or choose one",
            text_label="or paste a row of numbers, or JSON",
            accepts=NPY_SUFFIX,
            has_row=True,
        )

    def page_panels(
        self, batch: np.ndarray, output: np.ndarray | None, spec: SampleSpec, explanation: Explanation | None = None
    ) -> tuple[list[PageBlock], str]:
        """See `DataKind.page_panels`: the channels as lines, under those of a reconstruction of the same shape."""
        lines = svg_channels(fit_range(batch, spec), "given", spec)
        if output is not None and output.shape == batch.shape:
            lines += svg_channels(output, "made", spec)
        blocks = [PageBlock("svg", svg_curves(lines, "given and made"), "Given, and what the model makes of it")]
        if explanation and "nearest" in explanation:
            nearest = np.asarray([explanation["nearest"]["sample"]])
            nearest_lines = svg_channels(fit_range(nearest, spec), "given", spec)
            blocks.append(
                PageBlock("svg", svg_curves(nearest_lines, "nearest normal sample"), "Nearest normal sample", "of the training")
            )
        return blocks, ""


KIND = SeriesKind()
