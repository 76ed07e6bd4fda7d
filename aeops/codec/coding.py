"""Words of a learned codebook as bits and back: range coding (Martin 1979) with one static model a slot.

How likely a word is comes from the words of the training samples, which are in the bundle: nothing but the words has to be
sent. Probabilities are whole numbers over 2^24, so that every machine comes to the same bits.
"""

import zlib

import constriction
import numpy as np

from aeops.errors import DataError

TOTAL = 2**24  # what the probabilities of a slot's words sum to in constriction's coder
CHECK_BYTES = 4  # CRC-32 of the words, before their bits


def encode_words(words: np.ndarray, counts: np.ndarray) -> bytes:
    """The words (n, slots) as bytes, slot after slot: first their CRC-32, then their bits.

    Args:
        words: int64, each from 0 to words - 1.
        counts: how often each word was seen in each slot, (slots, words) int64.
    """
    encoder = constriction.stream.queue.RangeEncoder()
    for column, model in zip(words.T.astype(np.int32), models(counts), strict=True):
        encoder.encode(np.ascontiguousarray(column), model)
    bits: bytes = encoder.get_compressed().astype("<u4").tobytes()
    return check(words) + bits


def decode_words(coded: bytes, counts: np.ndarray, samples: int) -> np.ndarray:
    """The inverse of `encode_words` for as many samples: (samples, slots) int64.

    Raises:
        DataError: other words come out than went in.
    """
    decoder = constriction.stream.queue.RangeDecoder(stream_of(coded))
    try:
        words = np.stack([decoder.decode(model, samples) for model in models(counts)], axis=1).astype(np.int64)
    except AssertionError as error:  # constriction's word for bits that no words of these counts become
        raise other_words() from error
    if check(words) != coded[:CHECK_BYTES]:
        raise other_words()
    return words


def stream_of(coded: bytes) -> np.ndarray:
    if len(coded) < CHECK_BYTES or len(coded) % 4:
        raise other_words()
    return np.frombuffer(coded, "<u4", offset=CHECK_BYTES).astype(np.uint32)


def check(words: np.ndarray) -> bytes:
    return zlib.crc32(words.astype("<i8").tobytes()).to_bytes(CHECK_BYTES, "little")


def other_words() -> DataError:
    return DataError(
        "the words that come out are not those that went in: what wrote them coded them otherwise than "
        f"constriction {constriction_version()} here does; bring the project to the version that wrote them"
    )


def constriction_version() -> str:
    from importlib.metadata import version

    return version("constriction")


def frequencies(counts: np.ndarray) -> np.ndarray:
    """Each word's probability as a whole number over TOTAL, (slots, words) int64; each is at least 1.

    In proportion to counts + 1/2 (Krichevsky and Trofimov 1981): a word that was never seen can still be sent.
    """
    weights = 2 * counts.astype(np.int64) + 1
    room = TOTAL - counts.shape[1]
    shares = weights * room // weights.sum(axis=1, keepdims=True)
    shares[np.arange(len(shares)), shares.argmax(axis=1)] += room - shares.sum(axis=1)
    return np.asarray(shares + 1)


def models(counts: np.ndarray) -> list["constriction.stream.model.Categorical"]:
    """One of constriction's models a slot, with exactly our frequencies.

    It scales what it is given to a sum of TOTAL - words, rounds, and adds 1 to each: given whole numbers with that sum,
    it has nothing to round.
    """
    given = (frequencies(counts) - 1).astype(np.float64)
    return [constriction.stream.model.Categorical(row, perfect=False) for row in given]
