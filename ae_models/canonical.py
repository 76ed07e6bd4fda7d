"""Tensors by content: one hash wherever they lie, whatever file holds them, however their memory is ordered. numpy only."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np


def tensor_sha256(name: str, values: np.ndarray) -> str:
    """SHA-256 of a tensor's canonical bytes: name, dtype and shape as a line of JSON, then its values in C order, little-endian.

    An array of no dimension counts as one of a single value: files of weights make no difference between the two.
    """
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    total = hashlib.sha256(json.dumps([name, plain.dtype.str, list(plain.shape)]).encode() + b"\n")
    total.update(plain.data)
    return total.hexdigest()


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over those of the tensors, in the order of their names."""
    sums = (tensor_sha256(name, tensors[name]) for name in sorted(tensors))
    return hashlib.sha256("".join(f"{one}\n" for one in sums).encode()).hexdigest()
