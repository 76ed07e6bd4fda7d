"""Predictions as rows: the columns of a recorded call, and the values that are derived from samples and codes.

`aeops.predictions.arrow_rows.build_rows` builds the rows.

Standard library only on import.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.files import data_sha256
from aeops.kinds.interface import load_kind

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from aeops.bundle.detector import Detector


CODE_PARTS = 16  # numbers that are recorded of a code


@dataclass(frozen=True)
class Prediction:
    """One score.

    Attributes:
        time: of the call, UTC.
        bundle_sha256: the bundle that scored.
        sample: what the sample was called, such as batch.npy[12].
        sample_sha256: of the sample's dtype, shape and bytes, as in a dataset's index; of a text, of its UTF-8.
        score, p_value: None where the sample was refused.
        threshold: the score above which it would have been flagged.
        channel: one of `CHANNELS`.
        mean, std: of the sample's values scaled to [0, 1], None without any value; of a text, how many characters it has, and 0.
        code: see `summary_of_code`; None where the sample was refused.
        values: of the watched columns, see `DataKind.watched_values`; None where the kind has none, in older files, and of a
            refused sample.
        flags: what is unlike the samples of the training, by the names in `aeops.kinds.flags`; None in files without this column.
        file: where this is recorded.
    """

    id: str
    time: datetime
    recipe: str
    version: str
    bundle_sha256: str
    sample: str
    sample_sha256: str
    score: float | None
    p_value: float | None
    is_anomaly: bool
    threshold: float
    channel: str
    mean: float | None
    std: float | None
    code: list[float] | None
    flags: list[str] | None
    values: list[float] | None
    file: Path


@dataclass(frozen=True)
class Scorer:
    """The version that scores, as its predictions name it, and the range of values that its samples have, or each channel has."""

    recipe: str
    version: str
    bundle_sha256: str
    threshold: float
    kind: str
    low: float | tuple[float, ...]
    high: float | tuple[float, ...]


def scorer_of(recipe: str, version: str, detector: "Detector") -> Scorer:
    """Return the scorer that a version's predictions name."""
    threshold = float(detector.bundle["threshold"]["value"])
    low: float | tuple[float, ...] = detector.low
    high: float | tuple[float, ...] = detector.high
    if detector.spec.channels:
        channel_lows, channel_highs = detector.spec.value_range
        low, high = tuple(channel_lows.reshape(-1).tolist()), tuple(channel_highs.reshape(-1).tolist())
    return Scorer(recipe, version, detector.sha256, threshold, detector.kind, low, high)


def predictions_schema() -> "pa.Schema":
    """Return the columns of a call's file and of a journal."""
    import pyarrow as pa

    text, number = pa.string(), pa.float32()
    kinds = {"id": text, "time": pa.timestamp("us", tz="UTC")}
    kinds |= dict.fromkeys(("recipe", "version", "bundle_sha256", "sample", "sample_sha256"), text)
    kinds |= {"score": number, "p_value": number, "is_anomaly": pa.bool_(), "threshold": pa.float64()}
    kinds |= {"channel": text, "mean": number, "std": number, "code": pa.list_(number), "flags": pa.list_(text)}
    kinds |= {"values": pa.list_(number)}
    return pa.schema(list(kinds.items()))


def ids_of_call(call: str, first_row: int, count: int) -> list[str]:
    """Return the ids of so many predictions of a call, from a position in it on.

    >>> ids_of_call("20261130T080000-3f2a", 7, 2)
    ['20261130T080000-3f2a-7', '20261130T080000-3f2a-8']
    """
    return [f"{call}-{row}" for row in range(first_row, first_row + count)]


def summary_of_code(code: "np.ndarray") -> "np.ndarray":
    """Shorten codes (n, ...) to float32 (n, k) with k of at most `CODE_PARTS`.

    A longer code is cut into so many neighbouring parts, as even as can be, and each is averaged.
    """
    import numpy as np

    flat = np.asarray(code, dtype=np.float32).reshape(len(code), -1)
    size = flat.shape[1]
    if size <= CODE_PARTS:
        return flat
    bounds = np.arange(CODE_PARTS + 1) * size // CODE_PARTS
    means: np.ndarray = np.add.reduceat(flat, bounds[:-1], axis=1, dtype=np.float64) / np.diff(bounds)
    return means.astype(np.float32)


def moments_of(samples: "Sequence[str] | np.ndarray", scorer: Scorer) -> "tuple[np.ndarray, np.ndarray]":
    """Return mean and standard deviation of each sample's values scaled to [0, 1], float32 (n,) each; NaN without any value.

    Of a text they are the number of its characters, and 0.
    """
    return load_kind(scorer.kind).moments(samples, scorer.low, scorer.high)


def sample_hashes(samples: "Sequence[str] | np.ndarray") -> list[str]:
    """Return the hash of each sample; see `Prediction`."""
    import numpy as np

    from aeops.data.statistics import sample_sha256

    if isinstance(samples, np.ndarray) and samples.dtype != object:
        return sample_sha256(samples.astype(samples.dtype.newbyteorder("="), copy=False))  # as a dataset stores it
    return list(map(_text_sha256, samples))


def _text_sha256(text: object) -> str:
    """Return the SHA-256 of a text, also of one without UTF-8: its sample is refused, and its record is not lost."""
    return data_sha256(str(text).encode("utf-8", "surrogatepass"))
