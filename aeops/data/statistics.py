"""The hash and the shape of each sample, whatever its kind."""

import numpy as np

from aeops.files import data_sha256


def sample_sha256(samples: np.ndarray) -> list[str]:
    """Return the SHA-256 over dtype, shape and bytes of each sample of (n, ...)."""
    prefix = f"{samples.dtype.name} {shape_text(samples)} ".encode()
    return [data_sha256(prefix + sample.tobytes()) for sample in samples]


def shape_text(samples: np.ndarray) -> str:
    """Return the shape of one sample of (n, ...), such as 1x28x28."""
    return "x".join(map(str, samples.shape[1:]))
