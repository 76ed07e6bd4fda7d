"""What is measured of each sample, a block of samples at a time."""

import numpy as np

from ae_models.spec import TEXT, InputSpec
from aeops.files import data_sha256

DECIMALS = 9  # of what floating-point sums give: the last bits differ between CPUs, and a dataset's hash must not


def sample_sha256(samples: np.ndarray) -> list[str]:
    """SHA-256 over dtype, shape and bytes of each sample of (n, ...)."""
    kind = f"{samples.dtype.name} {shape_text(samples)} ".encode()
    return [data_sha256(kind + sample.tobytes()) for sample in samples]


def shape_text(samples: np.ndarray) -> str:
    """The shape of one sample of (n, ...), such as 1x28x28."""
    return "x".join(map(str, samples.shape[1:]))


def statistics_of(samples: np.ndarray, spec: InputSpec) -> dict[str, np.ndarray]:
    """Statistics of each sample of (n, ...), as its kind has them, each an array (n,)."""
    if spec.kind == TEXT:
        return text_statistics(samples)
    return sample_statistics(samples, spec.low, spec.high, spec.target_channels)


def sample_statistics(samples: np.ndarray, low: float, high: float, target_channels: int = 0) -> dict[str, np.ndarray]:
    """Statistics of each sample of (n, c, ...), each an array (n,).

    Args:
        samples: values that should lie in [low, high].
        low: the value that scales to 0.
        high: the value that scales to 1.
        target_channels: how many of the last channels are what is to be made of the others.

    Returns:
        Of all channels: `low` and `high`, the extremes in the samples' own units; `nans`, how many values are NaN. Of the
        given channels, without the targets: `mean` and `std` over the values scaled to [0, 1]; `blank`, whether all values
        are the same. NaN values are left out; where a sample has no other, its extremes, mean and std are NaN.
    """
    flat = samples.reshape(len(samples), -1)
    given = samples[:, : samples.shape[1] - target_channels].reshape(len(samples), -1)
    nans, given_nans = np.isnan(flat).sum(axis=1), np.isnan(given).sum(axis=1)
    least, most = extremes(flat)
    given_least, given_most = extremes(given) if target_channels else (least, most)
    mean, std = moments(given, given.shape[1] - given_nans)
    return {
        "low": least,
        "high": most,
        "mean": np.round((mean - low) / (high - low), DECIMALS),
        "std": np.round(std / (high - low), DECIMALS),
        "nans": nans,
        "blank": (given_least == given_most) & (given_nans == 0),
    }


def text_statistics(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of each text of (n, bytes), UTF-8 filled up with zeros, each an array (n,).

    Returns:
        `characters`, how many it has; `letters`, the share of letters among them; `filled`, the share of the bytes in use;
        `readable`, whether it is UTF-8 without a zero before its end; `blank`, whether it is white space only.
    """
    held = [sample.tobytes().rstrip(b"\0") for sample in samples]
    texts = [raw.decode(errors="replace") for raw in held]
    return {
        "characters": np.array([len(text) for text in texts]),
        "letters": np.array([round(sum(map(str.isalpha, text)) / max(1, len(text)), DECIMALS) for text in texts]),
        "filled": np.array([round(len(raw) / samples.shape[1], DECIMALS) for raw in held]),
        "readable": np.array([text.encode() == raw and "\0" not in text for text, raw in zip(texts, held, strict=True)]),
        "blank": np.array([not text.strip() for text in texts]),
    }


def extremes(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each row of (n, values) as float64, NaN left out."""
    return np.fmin.reduce(flat, axis=1).astype(np.float64), np.fmax.reduce(flat, axis=1).astype(np.float64)


def moments(flat: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row of (n, values) over its `counts` values that are not NaN.

    Whole numbers are summed as such, which is exact, so that every CPU gives the same bits.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite or no values give NaN, which the expectations judge
        if flat.dtype.kind == "u":
            total = flat.sum(axis=1, dtype=np.uint64)
            squares = np.einsum("ij,ij->i", flat, flat, dtype=np.uint64, casting="safe")  # no wide copy of the block
            spread = counts.astype(np.uint64) * squares - total * total
            return total / counts, np.sqrt(spread) / counts
        wide = flat.astype(np.float64)
        mean = np.nansum(wide, axis=1) / counts
        return mean, np.sqrt(np.nansum((wide - mean[:, None]) ** 2, axis=1) / counts)
