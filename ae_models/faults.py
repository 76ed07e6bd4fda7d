"""Standard faults, injected into normal samples: damage of which nobody has to have seen an example. numpy only.

    for fault in standard_faults("image"):
        for strength in fault.strengths:
            damaged = inject(fault, strength, samples, rng_seed=0, input_spec=spec)
            is_faulty = find_changed(samples, damaged)     # a sample that stayed as it was is not faulty

docs/power.md says what each fault stands for. To add one: its function and its line in ae_models/image_faults.py,
series_faults.py, table_faults.py or text_faults.py. A kind of input has a line in `_FAULTS`.
"""

import zlib

import numpy as np
import numpy.typing as npt

from ae_models.errors import SampleError
from ae_models.fault_interface import DonorFunction, Fault
from ae_models.image_faults import IMAGE_FAULTS
from ae_models.sample_sets import SampleArray
from ae_models.series_faults import SERIES_FAULTS
from ae_models.spec import IMAGE, SERIES, TABLE, TEXT, InputSpec
from ae_models.table_faults import TABLE_FAULTS, RowDonors
from ae_models.text_faults import TEXT_FAULTS
from ae_models.value_range import allowed_range, value_range

__all__ = ["find_changed", "inject", "standard_faults"]

_FAULTS = {IMAGE: IMAGE_FAULTS, SERIES: SERIES_FAULTS, TABLE: TABLE_FAULTS, TEXT: TEXT_FAULTS}
_TAKEN_AS_THEY_ARE = (TEXT, TABLE)
_ANY_FINITE = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))  # normal windows may go beyond the training's
_SMALLEST_CHANGE = 1e-6  # of the range: what a rotation or a blur changes less is an error of rounding


def standard_faults(kind: str) -> tuple[Fault, ...]:
    """Return the faults of a kind of input.

    Raises:
        ValueError: there is no such kind.

    >>> [fault.name for fault in standard_faults("text")]
    ['words-replaced', 'words-shuffled', 'foreign-text']
    """
    if kind not in _FAULTS:
        raise ValueError(f"kind: expected one of {', '.join(_FAULTS)}, got {kind!r}")
    return _FAULTS[kind]


def inject(
    fault: Fault, strength: float, samples: SampleArray, rng_seed: int, input_spec: InputSpec, rows: range | None = None
) -> SampleArray:
    """Return the samples with a fault each; the given ones stay as they are.

    Every sample has a random generator of its own, which depends on the seed, the fault and its row. So the fault of a sample
    keeps its place and its direction when the strength grows, and one sample more changes nothing but which donors are drawn.
    Target channels stay as they are. Where a model is served corrupted samples, inject before corrupting them.

    A fault may leave a sample as it was: blur a constant image, shuffle a text of one word, patch the only sample with another.
    `find_changed` tells; such a sample must not be counted as faulty.

    Args:
        fault: one of `standard_faults(input_spec.kind)`.
        strength: in the fault's unit, above 0 and at most `fault.highest`.
        samples: clean, normal and raw, (n, *input_spec.shape) in [low, high], also memory-mapped; texts as uint8, rows of a
            table as float64.
        rng_seed: 0 or more.
        input_spec: the section input of the recipe.
        rows: of the samples that are returned, with the faults that they have among all; None for all.

    Returns: Samples of the same shape and dtype in [low, high], whole numbers rounded; rows of a table may have any values.
        Beside them, no more than two samples are in memory at once.

    Raises:
        ValueError: a strength out of bounds, or a fault of another kind of input.
        SampleError: no samples, another shape or dtype, or values out of [low, high] or NaN.
    """
    if not 0 < strength <= fault.highest:
        raise ValueError(f"strength of {fault.name}: expected more than 0 and at most {fault.highest:g}, got {strength:g}")
    if fault not in standard_faults(input_spec.kind):
        names = ", ".join(known.name for known in standard_faults(input_spec.kind))
        raise ValueError(f"fault: expected one of kind {input_spec.kind} ({names}), got {fault.name}")
    if rows is None:
        rows = range(len(samples))
    _require_clean_samples(samples[rows.start : rows.stop], input_spec)
    damaged_samples = np.empty((len(rows), *samples.shape[1:]), samples.dtype)
    for place, row in enumerate(rows):
        generator = np.random.default_rng([rng_seed, zlib.crc32(fault.name.encode()), row])
        draw_donor = _donor_function(samples, row, generator, input_spec)
        sample = _to_unit(samples[row], input_spec)
        damaged = fault.damage(sample, strength, generator, draw_donor)
        damaged_samples[place] = _to_raw(damaged, sample, samples[row], input_spec)
    return damaged_samples


def find_changed(samples: SampleArray, damaged: SampleArray) -> npt.NDArray[np.bool_]:
    """Return True for each sample that a fault has changed, (n,), of the samples before and after it."""
    differs = samples != damaged
    if samples.dtype.kind == "f":
        differs &= ~(np.isnan(samples) & np.isnan(damaged))
    changed: npt.NDArray[np.bool_] = differs.reshape(len(samples), -1).any(axis=1)
    return changed


def _require_clean_samples(samples: SampleArray, input_spec: InputSpec) -> None:
    shape = tuple(input_spec.shape)
    if samples.shape[1:] != shape or len(samples) == 0:
        expected_shape = ", ".join(map(str, ("n", *shape)))
        raise SampleError(
            f"the samples have shape {samples.shape}, expected ({expected_shape}) with n >= 1 (input.shape in the spec)"
        )
    if input_spec.kind == TEXT:
        if samples.dtype != np.uint8:
            raise SampleError(f"the texts have dtype {samples.dtype}, expected uint8: their UTF-8 bytes, padded with zeros")
        return
    if input_spec.kind == TABLE:
        if samples.dtype != np.float64:
            raise SampleError(f"the rows have dtype {samples.dtype}, expected float64")
        return
    low, high = (input_spec.low, input_spec.high) if not input_spec.channels else _ANY_FINITE
    for row, sample in enumerate(samples):
        if not (low <= sample.min() and sample.max() <= high):  # true for NaN, too
            raise SampleError(
                f"sample {row} has values from {sample.min()} to {sample.max()}, expected {low:g} to "
                f"{high:g} (input.low and input.high in the spec)"
            )


def _donor_function(samples: SampleArray, row: int, generator: np.random.Generator, input_spec: InputSpec) -> DonorFunction:
    """Return a function that draws another sample; the sample itself where there is no other."""

    def draw_donor() -> SampleArray:
        if len(samples) == 1:
            return _to_unit(samples[row], input_spec)
        other_row = (row + 1 + int(generator.integers(len(samples) - 1))) % len(samples)
        return _to_unit(samples[other_row], input_spec)

    if input_spec.kind == TABLE:
        return RowDonors(draw_donor, samples[0], input_spec.columns)
    return draw_donor


def _to_unit(sample: SampleArray, input_spec: InputSpec) -> SampleArray:
    """Return the input channels of a raw sample in [0, 1]; a text and the row of a table as they are."""
    if input_spec.kind in _TAKEN_AS_THEY_ARE:
        return np.asarray(sample)
    inputs = sample[: len(sample) - input_spec.target_channels]
    low, high = value_range(input_spec)
    unit: SampleArray = (np.asarray(inputs, np.float64) - low) / (high - low)
    return unit


def _to_raw(damaged: SampleArray, sample: SampleArray, raw: SampleArray, input_spec: InputSpec) -> SampleArray:
    """Return a damaged sample in raw units; values that did not change keep their bits, and so do the target channels."""
    if input_spec.kind in _TAKEN_AS_THEY_ARE:
        return damaged
    result = np.array(raw)
    low, high = value_range(input_spec)
    values = (low + damaged * (high - low)).clip(*allowed_range(input_spec))
    if raw.dtype.kind in "iu":
        values = values.round()
    is_changed = np.abs(damaged - sample) > _SMALLEST_CHANGE
    inputs = result[: len(sample)]
    inputs[is_changed] = values.astype(raw.dtype)[is_changed]
    return result
