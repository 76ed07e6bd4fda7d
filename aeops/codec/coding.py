"""Encode indices into a learned codebook as bits: range coding (Martin 1979) with one static model a slot.

The probability of an index comes from the training samples' codes, whose counts are in the bundle: nothing but the indices has
to be sent. Probabilities are whole numbers over 2^24, so that every machine computes the same bits.
"""

import zlib

import constriction
import numpy as np

from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors

TOTAL_FREQUENCY = 2**24  # sum of the frequencies of a slot's indices in constriction's coder
CHECK_BYTES = 4  # CRC-32 of the indices, before their bits


def encode_indices(indices: np.ndarray, counts: np.ndarray) -> bytes:
    """Return code indices as bytes, slot after slot: first their CRC-32, then their bits.

    Args:
        indices: (n, slots) int64, each from 0 to entries - 1.
        counts: how often each index occurred in each slot, (slots, entries) int64.
    """
    encoder = constriction.stream.queue.RangeEncoder()
    for column, model in zip(indices.T.astype(np.int32), _slot_models(counts), strict=True):
        encoder.encode(np.ascontiguousarray(column), model)
    bits: bytes = encoder.get_compressed().astype("<u4").tobytes()
    return _indices_crc(indices) + bits


def decode_indices(data: bytes, counts: np.ndarray, samples: int) -> np.ndarray:
    """Return the indices that `encode_indices` has encoded, (samples, slots) int64.

    Args:
        data: the bytes.
        counts: those that the indices were encoded with.
        samples: how many there are.

    Raises:
        DataError: the decoded indices are not those that were encoded.
    """
    decoder = constriction.stream.queue.RangeDecoder(_read_stream(data))
    try:
        with decode_errors():  # constriction raises for bits that no indices of these counts become
            columns = [decoder.decode(model, samples) for model in _slot_models(counts)]
    except DecodeError as error:
        raise _mismatch_error() from error
    indices = np.stack(columns, axis=1).astype(np.int64)
    if _indices_crc(indices) != data[:CHECK_BYTES]:
        raise _mismatch_error()
    return indices


def _read_stream(data: bytes) -> np.ndarray:
    if len(data) < CHECK_BYTES or len(data) % 4:
        raise _mismatch_error()
    return np.frombuffer(data, "<u4", offset=CHECK_BYTES).astype(np.uint32)


def _indices_crc(indices: np.ndarray) -> bytes:
    return zlib.crc32(indices.astype("<i8").tobytes()).to_bytes(CHECK_BYTES, "little")


def _mismatch_error() -> DataError:
    from importlib.metadata import version

    return DataError(
        "the decoded code indices are not those that went in: they were encoded otherwise than by "
        f"constriction {version('constriction')}; bring the project to the version that wrote them"
    )


def index_frequencies(counts: np.ndarray) -> np.ndarray:
    """Return each index's probability as a whole number over TOTAL_FREQUENCY, (slots, entries) int64; each is at least 1.

    In proportion to counts + 1/2 (Krichevsky and Trofimov 1981): an index that never occurred can still be sent.
    """
    weights = 2 * counts.astype(np.int64) + 1
    free_total = TOTAL_FREQUENCY - counts.shape[1]
    shares = weights * free_total // weights.sum(axis=1, keepdims=True)
    shares[np.arange(len(shares)), shares.argmax(axis=1)] += free_total - shares.sum(axis=1)
    return np.asarray(shares + 1)


def _slot_models(counts: np.ndarray) -> list["constriction.stream.model.Categorical"]:
    """Return one of constriction's models a slot, with exactly our frequencies.

    It scales its input to a sum of TOTAL_FREQUENCY - entries, rounds, and adds 1 to each: for whole numbers with that sum,
    it has nothing to round.
    """
    weights = (index_frequencies(counts) - 1).astype(np.float64)
    return [constriction.stream.model.Categorical(row, perfect=False) for row in weights]
