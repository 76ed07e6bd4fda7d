"""Series: windows (channels, steps) of numbers, bare ones in .npy files, or cut from a series that is stored step by step.

A series with `input.channels` has time stamps, machines and named channels, each with a range of its own: a dataset holds its
steps (`aeops.kinds.series_steps`), the stage prepare cuts windows of them, and files of readings are scored whole. See
docs/series.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_models.names import names_of
from ae_models.spec import LARGEST_EXCESS, REFUSE_MISSING
from aeops.errors import DataError
from aeops.kinds.arrays import (
    NPY_SUFFIX,
    ArrayEncoder,
    ArrayKind,
    describe_form,
    fit_numbers,
    fit_range,
    flag_statistics,
    format_shape,
    nested_schema,
    read_npy_file,
    require_file,
)
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.flags import FLAG_DTYPE, MISSING, OUT_OF_RANGE, REFUSED
from aeops.kinds.results import (
    BaselineSamples,
    ColumnSchema,
    ErrorLegend,
    ExpectedRange,
    ExpectedValue,
    Explanation,
    NamedColumn,
    PageBlock,
    PageForm,
)
from aeops.kinds.samples import CheckedSamples, FileSamples, FitOptions, FittedSample, SampleSpec
from aeops.kinds.series_blocks import BlockRule
from aeops.kinds.series_curves import channel_curves, svg_channels, svg_curves
from aeops.kinds.series_grid import to_steps
from aeops.kinds.series_readings import Readings, read_columns, require_numbers
from aeops.kinds.series_scores import READING_ANSWERS, score_readings
from aeops.kinds.series_steps import (
    STEP_COLUMNS,
    channel_expectations,
    from_columns,
    step_expectations,
    to_columns,
)
from aeops.kinds.series_times import write_stamps
from aeops.kinds.series_windows import SeriesWindows, run_bounds, window_starts
from aeops.kinds.table_rows import CSV_SUFFIXES, PARQUET_SUFFIX, cells_of_frame, read_columns_file, read_csv_columns

if TYPE_CHECKING:
    from ae_models.spec import InputSpec
    from aeops.kinds.scorer import SampleScorer

SERIES_SUFFIXES = (*CSV_SUFFIXES, PARQUET_SUFFIX)
EXAMPLE_MACHINE = "machine-1"  # of the input example of a served model


def unit_spec(spec: SampleSpec) -> SampleSpec:
    """Return the spec of the same samples after `SampleSpec.unit`: bare windows with values in [0, 1]."""
    return replace(spec, low=0.0, high=1.0, channels=(), steps=None)


def series_windows(columns: Mapping[str, Any], spec: SampleSpec, from_text: bool) -> SeriesWindows:
    """Return the series in columns of readings, and where its windows begin; see `read_series`."""
    return read_series(columns, spec, from_text)[1]


def read_series(columns: Mapping[str, Any], spec: SampleSpec, from_text: bool) -> tuple[Readings, SeriesWindows]:
    """Return the readings in columns by name, and their series with the places where its windows begin.

    Args:
        columns: by name, wide or long.
        spec: of a model of a series with channels.
        from_text: whether all cells are texts, as in CSV.

    Raises:
        DataError: the columns hold no such readings, a cell is no number, or no machine has a window's steps in a row.
    """
    assert spec.steps is not None, "a series with channels has steps"
    readings = read_columns(columns, spec.channels, spec.steps, from_text)
    require_numbers(readings)
    steps, length = to_steps(readings, spec.steps), spec.steps.length
    runs = run_bounds(steps.machines, steps.times, spec.steps.every)
    starts = window_starts(runs, length, spec.steps.stride)
    if not len(starts):
        longest = max(end - first for first, end in runs)
        raise DataError(
            f"expected {length} steps of {spec.steps.every:g} s in a row, a window of the model, got {longest} at most: gaps of "
            f"more than {spec.steps.fill} steps are not filled"
        )
    return readings, SeriesWindows(steps.machines, steps.times, steps.values, starts, length, spec.steps.every)


class SeriesEncoder(ArrayEncoder):
    """The encoder of windows whose channels have ranges of their own: the network takes float32 in raw units."""

    def __init__(self, spec: SampleSpec) -> None:
        super().__init__(spec)
        self._unit = ArrayEncoder(unit_spec(spec))

    def check(self, block: np.ndarray) -> CheckedSamples:
        """See `Encoder.check`."""
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which lies outside
            values = np.ascontiguousarray(block, dtype=np.float32)
        low, high = self.spec.allowed_range
        flags, rules = np.zeros(len(values), FLAG_DTYPE), self.spec.rules
        is_missing = np.isnan(values).any(axis=(1, 2))
        flags[((values < low) | (values > high)).any(axis=(1, 2))] |= OUT_OF_RANGE
        flags[is_missing] |= MISSING
        if rules is not None and rules.missing == REFUSE_MISSING:
            flags[is_missing] |= REFUSED
        if rules is not None and rules.expected:
            flags |= flag_statistics(self.spec.unit(values).reshape(len(values), -1), rules, self._unit.spec)
        return CheckedSamples(values, flags)

    def to_measured(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.to_measured`: float32 in [0, 1], by the range of each channel."""
        return self.spec.unit(samples)

    def explain(self, model_input: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[Explanation]:
        """See `Encoder.explain`: residuals in lengths of each channel's range, and the names of the channels."""
        scaled = {**outputs}
        if "reconstruction" in outputs:
            scaled["reconstruction"] = self.spec.unit(outputs["reconstruction"])
        explanations = self._unit.explain(self.spec.unit(model_input), scaled)
        low, high = self.spec.allowed_range
        excess = np.abs(model_input - np.clip(model_input, low, high)) / (high - low)
        for explanation, sample_excess in zip(explanations, excess.clip(max=LARGEST_EXCESS), strict=True):
            explanation["outside"] = int((sample_excess > 0).sum())
            explanation["excess"] = float(np.nansum(sample_excess, dtype=np.float64))
            for share in explanation.get("channels", []):
                share["name"] = self.spec.channels[share["channel"]].name
        return explanations


class SeriesKind(ArrayKind):
    """See `aeops.kinds.interface.DataKind`."""

    ERROR_LEGEND: ErrorLegend = ErrorLegend("The error is drawn as a curve, from 0 to 1, the range of values.")

    # ------------------------------------------------------------ reading

    def read_file(self, path: Path, spec: SampleSpec) -> FileSamples:
        """Read a .npy file, one sample or a batch; of a series with channels also CSV or Parquet with readings, cut into windows.

        Raises:
            UsageError: there is no such file.
            DataError: it cannot be read, or holds no series that the model takes.
        """
        if spec.channels and path.name.lower().endswith(SERIES_SUFFIXES):
            columns, from_text = read_columns_file(path, str(path))
            return self.read_columns(columns, from_text, path, spec)
        if path.is_dir():
            raise DataError(f"expected a {NPY_SUFFIX} file, got the folder {path}")
        require_file(path, f"a {NPY_SUFFIX} file")
        if path.suffix.lower() != NPY_SUFFIX:
            expected = "write them with numpy.save"
            if spec.channels:
                expected = f"readings come as {', '.join(SERIES_SUFFIXES)}, windows as {NPY_SUFFIX}"
            raise DataError(f"{path} does not end in {NPY_SUFFIX}: this recipe takes series: {expected}")
        return read_npy_file(path, spec)

    def read_columns(self, columns: Mapping[str, Any], from_text: bool, path: Path, spec: SampleSpec) -> FileSamples:
        """See `DataKind.read_columns`: readings, cut into windows."""
        try:
            windows = series_windows(columns, spec, from_text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return FileSamples(windows.names(), windows.cut(), series=windows)

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        """See `DataKind.fit_sample`: a .npy file, JSON or a row of numbers; of a series with channels also CSV with readings."""
        if media_type.startswith("image/"):
            raise DataError(f"expected a {NPY_SUFFIX} file or numbers, a series of {format_shape(spec.shape)}, got an image")
        if spec.channels and _is_csv(content, spec):
            return _fit_readings(content, spec, options)
        return fit_numbers(content, media_type, spec, options, f"a {NPY_SUFFIX} file or text")

    # ------------------------------------------------------------ a dataset

    def index_columns(self, spec: "InputSpec") -> Mapping[str, str]:
        """See `DataKind.index_columns`: those of steps, where the series has channels."""
        return STEP_COLUMNS if spec.channels else self.INDEX_COLUMNS

    def drift_columns(self, spec: "InputSpec") -> tuple[str, ...]:
        """See `DataKind.drift_columns`: none of a series with channels, whose channels are compared one by one."""
        return () if spec.channels else self.DRIFT_COLUMNS

    def stored_shape(self, block: np.ndarray) -> tuple[int, ...]:
        """See `DataKind.stored_shape`: of a step the number of its channels."""
        return block.shape[1:] if block.dtype.names is None else (len(block.dtype.names) - 3,)

    def stored_dtype(self, block: np.ndarray) -> str:
        """See `DataKind.stored_dtype`."""
        return block.dtype.name if block.dtype.names is None else "step"

    def to_table(self, block: np.ndarray, spec: "InputSpec") -> dict[str, Any] | None:
        """See `DataKind.to_table`: machine, time and channels of each step."""
        return to_columns(block, spec.channels) if spec.channels else None

    def from_table(self, columns: Mapping[str, Any], spec: "InputSpec") -> np.ndarray:
        """See `DataKind.from_table`."""
        return from_columns(columns, spec.channels)

    def table_expectations(self, spec: "InputSpec") -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.table_expectations`."""
        return channel_expectations(spec.channels)

    def recode(self, samples: np.ndarray, columns: "Sequence[Any]", served: SampleSpec) -> np.ndarray:
        """See `DataKind.recode`: raw windows are the same for every model of these channels."""
        return samples

    def statistics(self, samples: np.ndarray, spec: "InputSpec") -> dict[str, np.ndarray]:
        """See `DataKind.statistics`; those of steps are of their machines, and come with the source."""
        if not spec.channels:
            return super().statistics(samples, spec)
        return {}

    def expectations(
        self, spec: "InputSpec", bounds: Mapping[str, tuple[float, float]], refuse_blank: bool
    ) -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.expectations`."""
        if not spec.channels:
            return super().expectations(spec, bounds, refuse_blank)
        return step_expectations(spec, bounds.get("completeness", (0.0, 1.0))[0], refuse_blank)

    def served_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """See `DataKind.served_bounds`."""
        return super().served_bounds(bounds) if "sample_mean" in bounds else {}

    def moments(self, samples: np.ndarray | Sequence[str], low: Any, high: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `DataKind.moments`; low and high may be one for each channel."""
        if np.ndim(low) == 0:
            return super().moments(samples, low, high)
        lows, highs = np.asarray(low, np.float64)[:, np.newaxis], np.asarray(high, np.float64)[:, np.newaxis]
        return super().moments((np.asarray(samples, np.float64) - lows) / (highs - lows), 0.0, 1.0)

    def block_rule(self, spec: SampleSpec, windows: int) -> BlockRule | None:
        """See `DataKind.block_rule`: the threshold's blocks, or as many windows as a window has strides."""
        if spec.steps is None:
            return None
        if windows == 1:
            windows = -(-spec.steps.length // spec.steps.stride)
        return BlockRule(spec.steps.every, spec.steps.length, spec.steps.stride, windows)

    # ------------------------------------------------------------ the model

    def open_encoder(self, read_file: Callable[[str], bytes], spec: SampleSpec) -> ArrayEncoder:
        """See `DataKind.open_encoder`."""
        return SeriesEncoder(spec) if spec.channels else ArrayEncoder(spec)

    def example(self, spec: SampleSpec) -> Any:
        """See `DataKind.example`."""
        if not spec.channels:
            return super().example(spec)
        low, high = spec.value_range
        return (super().example(unit_spec(spec)) * (high - low) + low).astype(np.float32)

    def python_example(self, spec: SampleSpec) -> str:
        """See `DataKind.python_example`: every channel in the middle of its range."""
        if not spec.channels:
            return super().python_example(spec)
        low, high = spec.value_range
        rows = [f"[{middle:g}]*{spec.shape[1]}" for middle in ((low + high) / 2).reshape(-1).tolist()]
        return f"[{', '.join(rows)}]"

    def served_example(self, stored: np.ndarray | None, spec: SampleSpec, count: int) -> np.ndarray:
        """See `DataKind.served_example`; made-up ones lie in the middle of the channels' ranges."""
        if stored is not None or not spec.channels:
            return super().served_example(stored, spec, count)
        low, high = spec.value_range
        return np.broadcast_to((low + high) / 2, (count, *spec.shape)).astype(np.float32)

    def json_schema(self, spec: SampleSpec, longest: int) -> list[dict[str, Any]]:
        """See `DataKind.json_schema`."""
        if not spec.channels:
            return super().json_schema(spec, longest)
        return [nested_schema(spec.shape, {"type": ["number", "null"], "description": self.expected_values(spec)})]

    def expected_values(self, spec: SampleSpec) -> str:
        """See `DataKind.expected_values`."""
        if not spec.channels:
            return super().expected_values(spec)
        lows, highs = spec.allowed_range
        ranges = []
        for channel, low, high in zip(spec.channels, lows.flat, highs.flat, strict=True):
            ranges.append(f"{channel.name} from {low:g} to {high:g}")
        return ", ".join(ranges)

    def served_schema(self, spec: SampleSpec) -> ColumnSchema:
        """See `DataKind.served_schema`: windows of raw values, float32 (n, channels, steps); of channels readings by name."""
        if spec.steps is None:
            return ColumnSchema("float32", (-1, *spec.shape))
        columns = [NamedColumn(name, "any", True) for name in spec.steps.time_columns]  # texts, time stamps of pandas, or numbers
        if spec.steps.machine is not None:
            columns.append(NamedColumn(spec.steps.machine, "string", True))
        for channel in spec.channels:
            columns.append(NamedColumn(channel.name, "double", True))
        return ColumnSchema("float32", (-1, *spec.shape), tuple(columns), READING_ANSWERS, ("reconstruction",))

    def served_columns(self, samples: np.ndarray, spec: SampleSpec) -> dict[str, list[Any]] | None:
        """See `DataKind.served_columns`: the readings of the first window, at steps from 1970 on."""
        if spec.steps is None:
            return None
        times = np.arange(spec.steps.length) * spec.steps.every
        columns: dict[str, list[Any]] = dict(write_stamps(times.tolist(), spec.steps))
        if spec.steps.machine is not None:
            columns[spec.steps.machine] = [EXAMPLE_MACHINE] * spec.steps.length
        for channel, values in zip(spec.channels, samples[0], strict=True):
            columns[channel.name] = values.astype(np.float64).tolist()
        return columns

    def fewest_rows(self, spec: SampleSpec) -> int:
        """See `DataKind.fewest_rows`."""
        return 1 if spec.steps is None else spec.steps.length

    def score_frame(self, frame: Any, scorer: "SampleScorer", reconstruction: bool, code: bool) -> dict[str, np.ndarray]:
        """See `DataKind.score_frame`: a row is a reading, answered by what is said of its step."""
        if scorer.spec.steps is None:
            return super().score_frame(frame, scorer, reconstruction, code)
        if code:
            raise DataError("expected no param code with readings: a step is in several windows, and has no code of its own")
        columns = {str(name): cells_of_frame(frame[name]) for name in frame.columns}
        readings, windows = read_series(columns, scorer.spec, from_text=False)
        return score_readings(scorer, readings, windows, reconstruction)

    # ------------------------------------------------------------ evaluation and what is shown

    def baseline(self, samples: np.ndarray, spec: SampleSpec) -> BaselineSamples:
        """See `DataKind.baseline`: the values in lengths of their ranges, flat."""
        return BaselineSamples(vectors=spec.unit(samples).reshape(len(samples), -1))

    def describe_samples(self, shape: tuple[int, ...], spec: "InputSpec") -> str:
        """See `DataKind.describe_samples`."""
        if not spec.channels or spec.steps is None:
            return super().describe_samples(shape, spec)
        names = ", ".join(names_of(spec.channels))
        return f"windows of {spec.steps.length} steps of {spec.steps.every:g} s with the channels {names}"

    def page_form(self, spec: "InputSpec") -> PageForm:
        """See `DataKind.page_form`."""
        if spec.channels and spec.steps is not None:
            names = ", ".join((*spec.steps.stamp_columns, *names_of(spec.channels)))
            return PageForm(
                intro=f"This recipe takes readings with the columns {names}; {spec.steps.length} steps of {spec.steps.every:g} s "
                "make a window. Of a longer file choose which.",
                file_label="Drop a .csv file with readings or a .npy file with a window here, or choose one",
                text_label="or paste CSV with a header line, or JSON",
                accepts=f"{NPY_SUFFIX},.csv,text/csv",
                has_row=True,
            )
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
        nearest = None
        if explanation and "nearest" in explanation:
            nearest = np.asarray([explanation["nearest"]["sample"]])
        if spec.channels:
            return channel_curves(batch, output, nearest, spec), ""
        lines = svg_channels(fit_range(batch, spec), "given", spec)
        if output is not None and output.shape == batch.shape:
            lines += svg_channels(output, "made", spec)
        blocks = [PageBlock("svg", svg_curves(lines, "given and made"), "Given, and what the model makes of it")]
        if nearest is not None:
            nearest_lines = svg_channels(fit_range(nearest, spec), "given", spec)
            blocks.append(
                PageBlock("svg", svg_curves(nearest_lines, "nearest normal sample"), "Nearest normal sample", "of the training")
            )
        return blocks, ""


def _is_csv(content: bytes, spec: SampleSpec) -> bool:
    """Return whether bytes are CSV with readings: their first line names the column of time stamps."""
    assert spec.steps is not None, "a series with channels has steps"
    return spec.steps.time.encode() in content.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0] and not content.lstrip().startswith(
        (b"{", b"[")
    )


def _fit_readings(content: bytes, spec: SampleSpec, options: FitOptions) -> FittedSample:
    try:
        with decode_errors():
            columns = read_csv_columns(content)
    except DecodeError as error:
        raise DataError(f"expected readings as CSV with a header line, got something else ({error})") from error
    windows = series_windows(columns, spec, from_text=True)
    if not 0 <= options.row < len(windows.starts):
        raise DataError(f"expected a window from 0 to {len(windows.starts) - 1}, got {options.row}")
    changes = []
    if len(windows.starts) > 1:
        changes.append(
            f"Of {len(windows.starts):,} windows, number {options.row}, from {windows.names()[options.row]}, is shown."
        )
    return FittedSample(windows.cut()[options.row : options.row + 1], changes, [])


KIND = SeriesKind()
