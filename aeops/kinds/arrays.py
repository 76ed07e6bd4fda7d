"""Base of images and series: samples are arrays of numbers of one shape, in one range."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain, pairwise, product, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_models.spec import LARGEST_EXCESS, REFUSE_MISSING, SampleRules
from aeops.errors import DataError, UsageError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.defaults import KindDefaults
from aeops.kinds.flags import FLAG_DTYPE, MISSING, OUT_OF_RANGE, REFUSED, flag_bit
from aeops.kinds.npy_bytes import MEDIA_TYPE, map_npy, read_npy
from aeops.kinds.results import (
    DUPLICATE_COLUMNS,
    SAMPLE_COLUMNS,
    STATISTIC_DECIMALS,
    AreaShare,
    BaselineSamples,
    ColumnSchema,
    ExpectedRange,
    ExpectedValue,
    Explanation,
    TextTable,
    ValueShare,
)
from aeops.kinds.samples import CheckedSamples, FileSamples, FitOptions, FittedSample, NumberedNames, SampleSpec
from aeops.kinds.text_bytes import decode_utf8

if TYPE_CHECKING:
    from ae_models.spec import InputSpec

NPY_SUFFIX = ".npy"
MAX_PASTED_LISTS = 200_000  # and objects, in JSON that a person gives: some 6,000 images of 28 rows
MAX_PASTED_NUMBERS = 1_000_000  # likewise: some 1,200 images of 784 pixels
ROWS_AT_ONCE = 1024  # samples scored at once: bounds the memory that activations take
VALUES_AT_ONCE = 2**20  # and values: fewer samples at once where they are large
AXIS_PARTS = 4  # areas that an explanation cuts an axis into
WORST_VALUES = 10  # values, channels and steps that an explanation names one by one
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: Rec. ITU-R BT.601-7, section 2.5.1


# ---------------------------------------------------------------- reading


def read_npy_file(path: Path, spec: SampleSpec) -> FileSamples:
    """Read a .npy file with one sample or a batch, memory-mapped.

    Raises:
        DataError: it cannot be read.
    """
    try:
        values = map_npy(path)
    except DecodeError as error:
        raise DataError(f"{path} cannot be read as .npy ({error}): write it again with numpy.save") from error
    if values.shape in sample_shapes(spec) or values.ndim == 0:
        return FileSamples(NumberedNames(path.name, range(1)), values)
    return FileSamples(NumberedNames(path.name, range(len(values))), values)


def require_file(path: Path, expected: str) -> None:
    """Raise UsageError where there is no such file."""
    if not path.is_file():
        raise UsageError(f"no file {path}: expected {expected}")


def sample_shapes(spec: SampleSpec) -> set[tuple[int, ...]]:
    """Return the shapes that one sample may have: the leading axis of a one-channel sample may be left out."""
    if spec.shape[0] == 1:
        return {spec.shape, spec.shape[1:]}
    return {spec.shape}


def expected_shapes(spec: SampleSpec) -> str:
    """Return the supported shapes, for a message."""
    return f"one sample of shape {spec.shape} or a batch of shape ({', '.join(['n', *map(str, spec.shape)])})"


def fit_numbers(content: bytes, media_type: str, spec: SampleSpec, options: FitOptions, expected: str) -> FittedSample:
    """Take one sample out of a .npy file's bytes or of what was typed.

    Args:
        content: the bytes.
        media_type: application/x-npy, application/json or text/*; others are refused.
        spec: the model's.
        options: which of several samples.
        expected: the supported inputs, for a message.

    Raises:
        DataError: there is no such sample.
    """
    if not content.strip():
        raise DataError("nothing was given: drop a file or paste a sample")
    if media_type == MEDIA_TYPE:
        return fit_array(content, spec, options)
    if media_type.startswith("text/") or media_type == "application/json":
        return fit_pasted(decode_utf8(content), spec, options)
    raise DataError(f"expected {expected}, got a file of type {media_type or 'unknown'}")


def fit_array(content: bytes, spec: SampleSpec, options: FitOptions) -> FittedSample:
    """Take one sample out of a .npy file's bytes; raise DataError where there is none."""
    try:
        values = read_npy(content)
    except DecodeError as error:
        raise DataError(f"the file cannot be read as .npy ({error}): write it again with numpy.save") from error
    require_numbers(values, f"an array of dtype {values.dtype}")
    return fit_values(values, spec, options.row)


def fit_pasted(text: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
    """Take one sample out of what was typed: JSON (a sample, a batch, or a request's {"inputs": ...}), or numbers in a row.

    Raises:
        DataError: it is neither, or holds no such sample.
    """
    refusal = "the text is neither JSON of numbers nor a row of numbers, such as 0 0 12.5 255 or [[0, 1], [2, 3]]"
    list_count = text.count("[") + text.count("{")
    if list_count > MAX_PASTED_LISTS:  # Python makes an object of each, so that 8 MB could take hundreds
        raise DataError(f"expected JSON of at most {MAX_PASTED_LISTS:,} lists, got {list_count:,}: give fewer samples")
    comma_count = text.count(",")
    if comma_count > MAX_PASTED_NUMBERS:
        raise DataError(f"expected at most {MAX_PASTED_NUMBERS:,} numbers, got {comma_count:,}: give fewer samples")
    try:
        with decode_errors():
            numbers = json.loads(text.strip())
    except DecodeError as error:
        if isinstance(error.__cause__, RecursionError):
            raise DataError("the JSON is nested too deeply; a sample or a list of samples is allowed") from error
        numbers = split_row(text, spec)
    else:
        if isinstance(numbers, dict) and "inputs" in numbers:
            numbers = numbers["inputs"]
        if holds_other_than_numbers(numbers):
            raise DataError(refusal)
    try:
        with decode_errors():
            values = np.asarray(numbers, dtype=np.float64)
    except DecodeError as error:
        raise DataError(refusal) from error
    return fit_values(values, spec, options.row)


def split_row(text: str, spec: SampleSpec) -> list[str]:
    """Return the words between white space, commas and semicolons; raise DataError where a sample has fewer numbers."""
    size = math.prod(spec.shape)
    words = text.replace(",", " ").replace(";", " ").split(maxsplit=size)
    if len(words) > size:
        raise DataError(f"expected JSON of numbers or a row of {size} numbers, got a row of more")
    return words


def fit_values(values: np.ndarray, spec: SampleSpec, row: int) -> FittedSample:
    """Take one sample out of an array: as it is, of a batch one row, or a flat row of as many numbers as the model takes."""
    shapes, size = sample_shapes(spec), math.prod(spec.shape)
    changes = []
    if values.shape in shapes:
        sample = values
    elif values.ndim > 0 and values.shape[1:] in shapes | {(size,)} and len(values):
        if not 0 <= row < len(values):
            raise DataError(f"expected a sample from 0 to {len(values) - 1}, got {row}")
        sample = values[row]
        if len(values) > 1:
            changes.append(f"Of {len(values):,} samples given, number {row} is shown.")
    elif values.shape == (size,):
        sample = values
        changes.append(f"A row of {size} numbers was laid out as {format_shape(spec.shape)}.")
    else:
        expected = f"one sample of {format_shape(spec.shape)}, a batch of such, or a row of {size} numbers"
        raise DataError(f"expected {expected}, got {describe_shape(values)}")
    batch = sample.reshape(1, *spec.shape)
    hints = []
    if not is_inside(batch, spec).all():
        hints.append(f"The sample holds values outside {spec.low:g} to {spec.high:g}, or none in some places.")
    return FittedSample(batch, changes, hints)


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape for a person, such as 1 x 28 x 28."""
    return " x ".join(map(str, shape))


def describe_shape(values: np.ndarray) -> str:
    if values.ndim == 1:
        return f"{values.size} numbers"
    return f"an array of {format_shape(values.shape) or 'a single number'}"


def require_numbers(values: np.ndarray, description: str) -> None:
    """Raise DataError unless the array holds whole or real numbers."""
    if values.dtype.kind not in "uif":
        raise DataError(f"expected whole or real numbers, got {description}")


def small_numbers(inputs: Any) -> np.ndarray | None:
    """Return nested lists of whole numbers from 0 to 255, such as pictures are, as uint8; None for all else.

    numpy takes five times as long for them: it asks each number for its type.
    """
    shape: list[int] = []
    level = [inputs]
    try:
        while isinstance(level[0], list):
            [length] = set(map(len, level))
            shape.append(length)
            level = list(chain.from_iterable(level))
        return np.frombuffer(bytes(level), np.uint8).reshape(shape)
    except (TypeError, ValueError, IndexError):  # other numbers, no numbers, or lists of unequal lengths
        return None


def holds_other_than_numbers(inputs: Any) -> bool:
    """Return whether something else than numbers, lists and null is in parsed JSON."""
    open_values = [inputs]
    while open_values:
        value = open_values.pop()
        if isinstance(value, str | dict | bool):
            return True
        if isinstance(value, list):
            open_values.extend(value)
    return False


# ---------------------------------------------------------------- statistics


def row_extremes(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of each row of (n, values) as float64, NaN left out."""
    return np.fmin.reduce(flat, axis=1).astype(np.float64), np.fmax.reduce(flat, axis=1).astype(np.float64)


def mean_and_std(flat: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each row of (n, values) over its `counts` values that are not NaN.

    Whole numbers are summed as such, which is exact, so that every CPU gives the same bits.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite or no values give NaN, which the expectations judge
        if flat.dtype.kind == "u":
            total = flat.sum(axis=1, dtype=np.uint64)
            square_sum = np.einsum("ij,ij->i", flat, flat, dtype=np.uint64, casting="safe")  # no wide copy of the block
            spread = counts.astype(np.uint64) * square_sum - total * total
            return total / counts, np.sqrt(spread) / counts
        float_values = flat.astype(np.float64)
        mean = np.nansum(float_values, axis=1) / counts
        return mean, np.sqrt(np.nansum((float_values - mean[:, None]) ** 2, axis=1) / counts)


def describe_values(flat: np.ndarray, spec: "InputSpec | SampleSpec") -> dict[str, np.ndarray]:
    """Return `mean`, `std` and `blank` of each row of (n, values); see `ArrayKind.statistics`."""
    nan_counts = count_nans(flat)
    minima, maxima = row_extremes(flat)
    mean, std = mean_and_std(flat, flat.shape[1] - nan_counts)
    span = spec.high - spec.low
    return {
        "mean": np.round((mean - spec.low) / span, STATISTIC_DECIMALS),
        "std": np.round(std / span, STATISTIC_DECIMALS),
        "blank": (minima == maxima) & (nan_counts == 0),
    }


def count_nans(flat: np.ndarray) -> np.ndarray:
    """Return how many values of each row of (n, values) are NaN."""
    if flat.dtype.kind != "f":
        return np.zeros(len(flat), np.int64)
    return np.asarray(np.isnan(flat).sum(axis=1))


def fit_range(values: np.ndarray, spec: SampleSpec) -> np.ndarray:
    """Return values as they are drawn: clipped to the range, the lowest one where a value is missing."""
    return np.asarray(np.nan_to_num(np.clip(values, spec.low, spec.high), nan=spec.low))


def limit_values(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values (float32 or wider) whose distance from the range is at most the largest that counts: none is infinite."""
    reach = LARGEST_EXCESS * (high - low)
    wide_values = values.astype(np.result_type(values, np.float32), copy=False)
    return np.asarray(np.clip(wide_values, low - reach, high + reach))


# ---------------------------------------------------------------- the model


class ArrayEncoder:
    """The encoder of arrays: the network takes float32 in raw units."""

    def __init__(self, spec: SampleSpec) -> None:
        self.spec = spec

    def encode(self, samples: Any) -> np.ndarray:
        """See `Encoder.encode`; the leading axis of a one-channel sample may be left out."""
        try:
            values: np.ndarray = np.asanyarray(samples)
        except ValueError as error:
            raise DataError(f"expected {expected_shapes(self.spec)}, got samples of unequal shapes") from error
        require_numbers(values, f"samples of dtype {values.dtype}")
        shapes = sample_shapes(self.spec)
        if values.shape in shapes:
            values = values[None]
        if values.shape[1:] not in shapes or values.ndim == 0:
            raise DataError(f"expected {expected_shapes(self.spec)}, got samples of shape {values.shape}")
        if len(values) == 0:
            raise DataError("expected at least one sample, got none")
        return values.reshape(len(values), *self.spec.shape)

    def check(self, block: np.ndarray) -> CheckedSamples:
        """See `Encoder.check`. A sample that is to be refused, for a network that takes no such values, becomes a blank one."""
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which lies outside
            values = np.ascontiguousarray(block, dtype=np.float32)
        flags = flag_values(block, values, self.spec)
        if self.spec.rules is None and (flags & REFUSED).any():
            values = np.array(values)  # it may be the client's own memory
            values[flags & REFUSED > 0] = self.spec.low
        return CheckedSamples(values, flags)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """See `Encoder.decode`."""
        return outputs

    def to_measured(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.to_measured`: float32 in [0, 1]."""
        return scale_values(samples, self.spec)

    def explain(self, model_input: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[Explanation]:
        """See `Encoder.explain`: the squared residuals of values scaled to [0, 1], and where they lie.

        A value outside the range has the residual of itself, not of the clipped one; a missing one has none. There are no
        residuals where reconstructions are of another shape than samples, such as the edges of a photograph.
        """
        low, high = self.spec.low, self.spec.high
        values = limit_values(model_input, low, high)
        excess = np.abs(values - np.clip(values, low, high)) / self.spec.span
        explanations: list[Explanation] = [{} for _ in values]
        if is_comparable(self.spec):
            reconstructions = outputs["reconstruction"]
            if makes_colours(self.spec.shape, self.spec.output_shape):
                reconstructions = luma(reconstructions, np.float32)[:, None]
            residuals = np.nan_to_num(np.square((values - reconstructions) / self.spec.span))
            explanations = list(map(explain_residual, residuals))
        for explanation, sample_excess in zip(explanations, excess, strict=True):
            explanation["outside"] = int((sample_excess > 0).sum())
            explanation["excess"] = float(np.nansum(sample_excess, dtype=np.float64))
            explanation["missing"] = int(np.isnan(sample_excess).sum())
        return explanations


def is_inside(values: np.ndarray, spec: SampleSpec) -> np.ndarray:
    """Return whether each value lies in the range; false for NaN."""
    return np.asarray((values >= spec.low) & (values <= spec.high))


def flag_values(block: np.ndarray, values: np.ndarray, spec: SampleSpec) -> np.ndarray:
    """Return the flags of each sample, (n,).

    Args:
        block: (n, *shape) as they came, whose statistics are those of a dataset.
        values: the same as float32, which the network takes.
        spec: the model's.
    """
    flags = np.zeros(len(block), FLAG_DTYPE)
    if not is_dtype_within(block.dtype, spec.low, spec.high):
        flags |= flag_range(values.reshape(len(values), -1), spec)
    if spec.rules is not None and spec.rules.expected:
        flags |= flag_statistics(block.reshape(len(block), -1), spec.rules, spec)
    return flags


def flag_range(flat: np.ndarray, spec: SampleSpec) -> np.ndarray:
    """Return the flags of samples (n, values) with values that are missing or outside the range; see `flag_values`."""
    flags = np.zeros(len(flat), FLAG_DTYPE)
    with np.errstate(invalid="ignore"):
        is_regular = (flat.min(axis=1) >= spec.low) & (flat.max(axis=1) <= spec.high)  # false where a value is NaN
    if is_regular.all():
        return flags
    is_outside, is_missing = ((flat < spec.low) | (flat > spec.high)).any(axis=1), np.isnan(flat).any(axis=1)
    flags[is_outside] |= OUT_OF_RANGE
    flags[is_missing] |= MISSING
    if spec.rules is None:
        flags[~is_regular] |= REFUSED
    elif spec.rules.missing == REFUSE_MISSING:
        flags[is_missing] |= REFUSED
    return flags


def flag_statistics(flat: np.ndarray, rules: SampleRules, spec: SampleSpec) -> np.ndarray:
    """Return the flags of samples (n, values) whose statistics are unlike those of the training; see `flag_values`."""
    flags = np.zeros(len(flat), FLAG_DTYPE)
    with np.errstate(over="ignore"):  # infinite ones lie outside, too
        statistics = describe_values(flat, spec)
    for name, (low, high) in rules.expected.items():
        is_expected = (statistics[name] >= low) & (statistics[name] <= high)  # false where it is NaN
        if not is_expected.all():  # quicker than an empty selection, for the one sample of most requests
            flags[~is_expected] |= flag_bit(name)
    return flags


@cache  # numpy is slow to look up a dtype's limits
def is_dtype_within(dtype: np.dtype[Any], low: float, high: float) -> bool:
    """Return whether every number of that dtype lies in [low, high], so that none has to be checked."""
    return dtype.kind in "ui" and bool(low <= np.iinfo(dtype).min and np.iinfo(dtype).max <= high)


def scale_values(samples: np.ndarray, spec: SampleSpec) -> np.ndarray:
    """Return raw values as float32 in [0, 1]."""
    return np.asarray((samples.astype(np.float32) - spec.low) / spec.span, dtype=np.float32)


def nested_schema(shape: tuple[int, ...], value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of nested arrays of this shape."""
    for size in reversed(shape):
        value = {"type": "array", "items": value, "minItems": size, "maxItems": size}
    return value


def makes_colours(shape: tuple[int, ...], output_shape: tuple[int, ...]) -> bool:
    """Return whether a model makes a colour image of a grey one, by the shapes of sample and reconstruction."""
    return (shape[0], output_shape[0]) == (1, 3) and shape[1:] == output_shape[1:]


def luma(images: np.ndarray, dtype: type[np.floating[Any]] = np.float64) -> np.ndarray:
    """Return the brightness of colour images (n, 3, h, w) as (n, h, w)."""
    return np.asarray(np.tensordot(images, LUMA.astype(dtype), axes=([1], [0])))


# ---------------------------------------------------------------- explanations


def explain_residual(squared_errors: np.ndarray) -> Explanation:
    """Return the shares of areas, channels, steps and of the largest values in the squared errors (channels, *axes) of a sample.

    Of a single channel there is no share, and steps are those of a series, (channels, steps).
    """
    total = float(squared_errors.sum(dtype=np.float64))
    divisor = total or 1.0  # a perfect reconstruction: every share is 0
    order = np.argsort(squared_errors, axis=None, kind="stable")[::-1][:WORST_VALUES]
    worst_values: list[ValueShare] = []
    for index in zip(*np.unravel_index(order, squared_errors.shape), strict=True):
        value = float(squared_errors[index])
        worst_values.append({"at": list(map(int, index)), "residual": value, "share": value / divisor})
    areas: list[AreaShare] = []
    for start, end, values in split_areas(squared_errors):
        areas.append({"from": start, "to": end, "share": float(values.sum(dtype=np.float64)) / divisor})
    explanation: Explanation = {"residual": squared_errors, "total": total, "areas": areas, "worst": worst_values}
    if len(squared_errors) > 1:
        channel_shares = rank_shares(squared_errors.reshape(len(squared_errors), -1).sum(axis=1, dtype=np.float64) / divisor)
        explanation["channels"] = [{"channel": channel, "share": share} for channel, share in channel_shares]
    if squared_errors.ndim == 2:
        step_shares = rank_shares(squared_errors.sum(axis=0, dtype=np.float64) / divisor)
        explanation["steps"] = [{"step": step, "share": share} for step, share in step_shares]
    return explanation


def rank_shares(shares: np.ndarray) -> list[tuple[int, float]]:
    """Return place and share of the largest of (n,), the largest first; of equal ones the first."""
    order = np.argsort(-shares, kind="stable")[:WORST_VALUES]
    return [(int(place), float(shares[place])) for place in order]


def split_areas(squared_errors: np.ndarray) -> list[tuple[list[int], list[int], np.ndarray]]:
    """Return areas that cover all positions, of all channels: (start, end, values)."""
    spans = []
    for size in squared_errors.shape[1:]:
        bounds = np.linspace(0, size, min(AXIS_PARTS, size) + 1).astype(int).tolist()
        spans.append(list(pairwise(bounds)))
    parts = []
    for area in product(*spans):
        start, end = zip(*area, strict=True)
        parts.append((list(start), list(end), squared_errors[(slice(None), *starmap(slice, area))]))
    return parts


def mse_per_image(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each sample, float64 (n,); `target` and `output` are (n, ...)."""
    return np.asarray(np.square(target - output, dtype=np.float64).reshape(len(target), -1).mean(axis=1))


def describe_form(sample_name: str, spec: "InputSpec") -> str:
    """Return a sentence about the samples of a form, which `sample_name` calls "an image" or the like."""
    shape = " × ".join(map(str, spec.shape))
    return (
        f"This recipe takes {sample_name} of {shape} with values from {spec.low:g} to {spec.high:g}; "
        "every change to make a sample fit is shown."
    )


def is_comparable(spec: SampleSpec) -> bool:
    """Return whether reconstructions are compared with samples value by value: they have their shape, or colour a grey image."""
    return spec.output_shape == spec.shape or makes_colours(spec.shape, spec.output_shape)


# ---------------------------------------------------------------- the kind


class ArrayKind(KindDefaults):
    """What images and series share of `aeops.kinds.interface.DataKind`, whose methods say what these do."""

    SAMPLE_DTYPES: tuple[str, ...] = ("uint8", "float32", "float64")
    FIXED_SHAPE: bool = True
    IS_DRAWABLE: bool = True
    NOT_COMPRESSIBLE: str = ""
    INDEX_COLUMNS: Mapping[str, str] = {
        **SAMPLE_COLUMNS,
        "low": "float64",
        "high": "float64",
        "mean": "float64",
        "std": "float64",
        "nans": "int64",
        **DUPLICATE_COLUMNS,
    }
    DRIFT_COLUMNS: tuple[str, ...] = ("mean", "std")
    MEASURED_AS: str = "values"
    ERROR_NAME: str = "mean squared error"
    ERROR_HEAD: str = "MSE"
    MEASURING_NOTE: str = (
        ", values scaled to [0, 1]; all outputs clipped to that range. PSNR is that of the mean squared error over all samples"
    )

    def read_json(self, inputs: Any, spec: SampleSpec, only_numbers: bool) -> np.ndarray:
        """See `DataKind.read_json`."""
        # numpy would make room for the longest text in every place, so that a small body could ask for any memory; and it takes
        # true for 1.
        if not only_numbers and holds_other_than_numbers(inputs):
            raise DataError("expected whole or real numbers, got samples with texts, booleans or objects")
        pixels = small_numbers(inputs)
        if pixels is not None:
            return pixels
        try:
            values = np.asarray(inputs)
            if values.dtype == object and values.ndim > 0:  # null, which is a missing value, or numbers too large for any integer
                values = values.astype(np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"expected {expected_shapes(spec)}, got samples of unequal shapes") from error
        return values

    def read_array(self, values: np.ndarray | list[str] | Mapping[str, Any], spec: SampleSpec) -> np.ndarray:
        """See `DataKind.read_array`; shape and dtype are left to the encoder."""
        return np.asarray(values)

    def count(self, samples: np.ndarray, spec: SampleSpec) -> int:
        """See `DataKind.count`."""
        return samples.size // math.prod(spec.shape)

    def longest_sample(self, samples: np.ndarray) -> tuple[int, int]:
        """See `DataKind.longest_sample`."""
        return 0, 0

    def text_bytes(self, samples: np.ndarray, limit: int) -> int:
        """See `DataKind.text_bytes`."""
        return 0

    def values_per_sample(self, spec: SampleSpec) -> int | None:
        """See `DataKind.values_per_sample`."""
        return math.prod(spec.shape)

    def stored_form(self, samples: np.ndarray, spec: SampleSpec, is_json: bool) -> np.ndarray:
        """See `DataKind.stored_form`. Whole numbers of a range up to 255 in JSON are taken for bytes, all others for float32."""
        if is_json:
            is_whole = samples.dtype.kind in "ui" and (spec.low, spec.high) == (0, 255)
            if is_whole and (samples.dtype == np.uint8 or is_inside(samples, spec).all()):
                samples = samples.astype(np.uint8)
            else:
                with np.errstate(over="ignore"):  # what float32 cannot hold is recorded as infinite
                    samples = samples.astype(np.float32)
        return samples.reshape(-1, *spec.shape)

    def dataset_array(self, samples: np.ndarray, spec: SampleSpec) -> np.ndarray:
        """See `DataKind.dataset_array`: whole numbers of 0 to 255 stay bytes, all others are float32."""
        dtype = np.dtype(np.uint8) if samples.dtype == np.uint8 else np.dtype(np.float32)
        return np.ascontiguousarray(samples.reshape(-1, *spec.stored_shape), dtype)

    def statistics(self, samples: np.ndarray, spec: "InputSpec") -> dict[str, np.ndarray]:
        """Return statistics of each sample of (n, c, ...), each an array (n,).

        Args:
            samples: values that should lie in [low, high].
            spec: `low` scales to 0 and `high` to 1; the last `target_channels` are what is to be made of the others.

        Returns:
            Of all channels: `low` and `high`, the extremes in the samples' own units; `nans`, how many values are NaN. Of the
            given channels, without the targets: `mean` and `std` over the values scaled to [0, 1]; `blank`, whether all values
            are the same. NaN values are left out; where a sample has no other, its extremes, mean and std are NaN.
        """
        flat = samples.reshape(len(samples), -1)
        inputs = samples[:, : samples.shape[1] - spec.target_channels].reshape(len(samples), -1)
        minima, maxima = row_extremes(flat)
        described = describe_values(inputs, spec)
        return {
            "low": minima,
            "high": maxima,
            "mean": described["mean"],
            "std": described["std"],
            "nans": count_nans(flat),
            "blank": described["blank"],
        }

    def expectations(
        self, spec: "InputSpec", bounds: Mapping[str, tuple[float, float]], refuse_blank: bool
    ) -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.expectations`; the range is that of the target channels too."""
        values = f"{spec.low:g} to {spec.high:g}"
        expected: list[ExpectedRange | ExpectedValue] = [
            ExpectedRange("nan", "nans", 0, 0, "none", "{} NaN values", "No value of a sample is missing.", True),
            ExpectedRange(
                *("range_low", "low", spec.low, None, values, "a smallest value of {}"),
                *(f"Each value of a sample is {spec.low:g} or more.", True),
            ),
            ExpectedRange(
                *("range_high", "high", None, spec.high, values, "a largest value of {}"),
                *(f"Each value of a sample is {spec.high:g} or less.", True),
            ),
        ]
        if refuse_blank:
            blank = "values that are all the same"
            expected.append(ExpectedValue("blank", "blank", False, "values that differ", blank, "A sample's values differ."))
        for name, column, title in (("sample_mean", "mean", "mean"), ("sample_std", "std", "standard deviation")):
            low, high = bounds[name]
            sentence = f"The {title} of a sample's values, scaled to 0 to 1, is {low:g} to {high:g}."
            expected.append(
                ExpectedRange(name, column, low, high, f"{low:g} to {high:g}", sentence=sentence, setting=f"validate.{name}")
            )
        return expected

    def served_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """See `DataKind.served_bounds`."""
        return {"mean": bounds["sample_mean"], "std": bounds["sample_std"]}

    def moments(self, samples: np.ndarray | Sequence[str], low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each sample's values scaled to [0, 1], float32 (n,) each; NaN without any."""
        flat = np.asarray(samples).reshape(len(samples), -1)
        if flat.dtype.kind == "f":
            flat = limit_values(flat, low, high)
        mean, std = mean_and_std(flat, flat.shape[1] - count_nans(flat))
        span = high - low
        return ((mean - low) / span).astype(np.float32), (std / span).astype(np.float32)

    def open_encoder(self, read_file: Callable[[str], bytes], spec: SampleSpec) -> ArrayEncoder:
        """See `DataKind.open_encoder`."""
        return ArrayEncoder(spec)

    def example(self, spec: SampleSpec) -> Any:
        """Return two samples in raw units: a ramp over the range, and the same turned round."""
        sample = np.linspace(spec.low, spec.high, math.prod(spec.shape), dtype=np.float32).reshape(spec.shape)
        return np.stack([sample, sample[..., ::-1]])

    def python_example(self, spec: SampleSpec) -> str:
        """See `DataKind.python_example`."""
        source_code = f"{spec.low:g}"
        for size in reversed(spec.shape):
            source_code = f"[{source_code}]*{size}"
        return source_code

    def rows_at_once(self, values: int) -> int:
        """See `DataKind.rows_at_once`."""
        return max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // max(1, values)))

    def served_schema(self, spec: SampleSpec) -> ColumnSchema:
        """See `DataKind.served_schema`: raw values."""
        return ColumnSchema("float32", (-1, *spec.shape))

    def served_example(self, stored: np.ndarray | None, spec: SampleSpec, count: int) -> np.ndarray:
        """See `DataKind.served_example`; made-up ones lie at the low end of the range."""
        if stored is None:
            return np.full((count, *spec.shape), spec.low, np.float32)
        return np.asarray(stored[:, : spec.shape[0]], dtype=np.float32)

    def json_schema(self, spec: SampleSpec, longest: int) -> list[dict[str, Any]]:
        """See `DataKind.json_schema`; the leading axis of a one-channel sample may be left out, and null is a missing value."""
        shapes = [spec.shape]
        if spec.shape[0] == 1:
            shapes.append(spec.shape[1:])
        value: dict[str, Any] = {"type": "number", "minimum": spec.low, "maximum": spec.high}
        if spec.rules is not None:
            value = {"type": ["number", "null"], "description": f"from {spec.low:g} to {spec.high:g}; others are flagged"}
        return [nested_schema(shape, value) for shape in shapes]

    def baseline(self, samples: np.ndarray, spec: SampleSpec) -> BaselineSamples:
        """See `DataKind.baseline`: the values in [0, 1], flat."""
        return BaselineSamples(vectors=scale_values(samples, spec).reshape(len(samples), -1))

    def errors(self, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """See `DataKind.errors`."""
        return mse_per_image(target, output)

    def mean_error(self, target: np.ndarray, output: np.ndarray) -> float:
        """See `DataKind.mean_error`."""
        return float(mse_per_image(target, output).mean())

    def quality(self, target: np.ndarray, output: np.ndarray) -> tuple[str, np.ndarray]:
        """See `DataKind.quality`."""
        return "mse", mse_per_image(target, output)

    def examples(
        self, stored: np.ndarray, decoded: np.ndarray, target: np.ndarray, output: np.ndarray, spec: SampleSpec
    ) -> TextTable | None:
        """See `DataKind.examples`."""
        return None

    def describe_samples(self, shape: tuple[int, ...], spec: "InputSpec") -> str:
        """See `DataKind.describe_samples`."""
        return f"samples of {format_shape(shape)} with values from {spec.low:g} to {spec.high:g} and flags others"
