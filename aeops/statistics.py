"""What is measured of each sample, a block of samples at a time."""

import hashlib

import numpy as np

DECIMALS = 9  # of what floating-point sums give: the last bits differ between CPUs, and a dataset's hash must not


def sample_sha256(samples: np.ndarray) -> list[str]:
    """SHA-256 over dtype, shape and bytes of each sample of (n, c, h, w)."""
    kind = f"{samples.dtype.name} {shape_text(samples)} ".encode()
    return [hashlib.sha256(kind + sample.tobytes()).hexdigest() for sample in samples]


def shape_text(samples: np.ndarray) -> str:
    """The shape of one sample of (n, c, h, w), such as 1x28x28."""
    return "x".join(map(str, samples.shape[1:]))


def sample_statistics(samples: np.ndarray, low: float, high: float) -> dict[str, np.ndarray]:
    """Statistics of each sample of (n, c, h, w), each an array (n,).

    Args:
        samples: values that should lie in [low, high].
        low: the value that scales to 0.
        high: the value that scales to 1.

    Returns:
        `low` and `high`, the extremes in the samples' own units; `mean` and `std` over the values scaled to [0, 1];
        `nans`, how many values are NaN; `blank`, whether all values are the same. NaN values are left out; where a
        sample has no other, its extremes, mean and std are NaN.
    """
    flat = samples.reshape(len(samples), -1)
    nans = np.isnan(flat).sum(axis=1)
    least, most = extremes(flat)
    mean, std = moments(flat, flat.shape[1] - nans)
    return {
        "low": least,
        "high": most,
        "mean": np.round((mean - low) / (high - low), DECIMALS),
        "std": np.round(std / (high - low), DECIMALS),
        "nans": nans,
        "blank": (least == most) & (nans == 0),
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
