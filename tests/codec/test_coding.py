"""Words as bits: exactly reversible, as short as the entropy allows, the same bytes on every machine and in every year."""

import zlib

import numpy as np
import pytest

from aeops.codec.coding import CHECK_BYTES, TOTAL_FREQUENCY, decode_indices, encode_indices, index_frequencies
from aeops.errors import DataError

SLOTS, WORDS = 5, 64


def drawn(samples: int, seed: int) -> np.ndarray:
    """Words with a skewed distribution of its own in each slot, int64 (samples, SLOTS)."""
    weights = np.random.default_rng(0).dirichlet(np.full(WORDS, 0.2), SLOTS)
    random = np.random.default_rng(seed)
    return np.stack([random.choice(WORDS, samples, p=row) for row in weights], axis=1)


def counted(words: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(column, minlength=WORDS) for column in words.T])


COUNTS = counted(drawn(3000, seed=1))


@pytest.mark.parametrize("samples", [1, 2, 999])
def test_the_same_words_come_out(samples: int) -> None:
    words = drawn(samples, seed=2)
    np.testing.assert_array_equal(decode_indices(encode_indices(words, COUNTS), COUNTS, samples), words)


def test_words_that_training_never_saw_come_out_too() -> None:
    counts = np.zeros((SLOTS, WORDS), np.int64)
    counts[:, 0] = 10**9
    words = np.random.default_rng(0).integers(0, WORDS, (200, SLOTS))
    np.testing.assert_array_equal(decode_indices(encode_indices(words, counts), counts, 200), words)


def test_the_largest_codebook_is_coded() -> None:
    counts = np.ones((1, 65536), np.int64)
    words = np.arange(0, 65536, 7)[:, None]
    np.testing.assert_array_equal(decode_indices(encode_indices(words, counts), counts, len(words)), words)


def test_the_bytes_are_as_few_as_the_entropy_allows() -> None:
    words = drawn(4000, seed=3)
    shares = (COUNTS + 0.5) / (COUNTS + 0.5).sum(axis=1, keepdims=True)
    needed = -np.log2(shares[np.arange(SLOTS), words]).sum() / 8
    assert needed <= len(encode_indices(words, COUNTS)) < needed * 1.001 + 16


def test_frequencies_are_whole_numbers_over_the_same_total() -> None:
    found = index_frequencies(COUNTS)
    assert found.dtype == np.int64
    assert found.min() >= 1
    np.testing.assert_array_equal(found.sum(axis=1), TOTAL_FREQUENCY)
    np.testing.assert_allclose(found / TOTAL_FREQUENCY, (COUNTS + 0.5) / (COUNTS + 0.5).sum(axis=1, keepdims=True), atol=1e-5)


def test_a_textbook_decoder_reads_our_bytes() -> None:
    """The format in a few lines, without constriction: a file of today can be read when that library is gone."""
    words = drawn(300, seed=4)
    coded = encode_indices(words, COUNTS)
    np.testing.assert_array_equal(read_by_hand(coded[CHECK_BYTES:], 300), words)
    assert int.from_bytes(coded[:CHECK_BYTES], "little") == zlib.crc32(words.astype("<i8").tobytes())


def read_by_hand(coded: bytes, samples: int) -> np.ndarray:
    """A range decoder (Martin 1979) with 64 bits of state, renewed 32 bits at a time."""
    stream = [int(word) for word in np.frombuffer(coded, "<u4")] + [0, 0]
    low, span, point = 0, 2**64 - 1, stream.pop(0) << 32 | stream.pop(0)
    words = np.zeros((samples, SLOTS), np.int64)
    for slot, row in enumerate(index_frequencies(COUNTS)):
        starts = np.concatenate([[0], np.cumsum(row)])
        for sample in range(samples):
            unit = span // TOTAL_FREQUENCY
            word = int(np.searchsorted(starts, (point - low) % 2**64 // unit, side="right")) - 1
            low, span = (low + unit * int(starts[word])) % 2**64, unit * int(row[word])
            if span < 2**32:
                low, span, point = low << 32 & 2**64 - 1, span << 32, (point << 32 & 2**64 - 1) | (stream.pop(0) if stream else 0)
            words[sample, slot] = word
    return words


def test_the_bytes_are_those_of_the_first_release() -> None:
    counts = np.array([[7, 0, 3, 1], [0, 0, 0, 9]])
    words = np.array([[0, 3], [2, 3], [0, 1], [3, 3], [1, 0]])
    assert encode_indices(words, counts).hex() == "4821c6d40ae5bc70"


def test_bytes_that_mean_other_words_are_refused() -> None:
    coded = encode_indices(drawn(50, seed=5), COUNTS)
    for wrong in (
        coded[:-4],
        coded[:3],
        coded + b"\0",
        bytes(CHECK_BYTES) + coded[CHECK_BYTES:],
        coded[:CHECK_BYTES] + b"\xff" * 64,
    ):
        with pytest.raises(DataError, match="not those that went in"):
            decode_indices(wrong, COUNTS, 50)
    with pytest.raises(DataError, match="not those that went in"):
        decode_indices(coded, COUNTS[:, ::-1], 50)
