"""Perceptual hashes of images, the pairs of them that are near, and a cache of both that goes by the images' contents.

A hash has 64 bits, the signs of the lowest frequencies of the image's cosine transform beside their median (Zauner 2010,
"Implementation and benchmarking of perceptual image hash functions").
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from aeops.files import make_folder, replace_file, temporary_path

MAX_BITS = 4  # in which the hashes of near copies differ
SIDE, LOW = 32, 8  # the image that is transformed, and its frequencies that count, a side
BANDS, BAND_BITS = 4, 16
MAX_BUCKET = 64  # samples whose hashes share a band; more are a pattern of the set and no copies
BLOCK = 2_048

Reader = Callable[[np.ndarray], np.ndarray]  # rows -> samples (k, ...)


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """Return the hashes of images (n, channels, height, width), uint64 (n,)."""
    from scipy.fft import dctn

    grey = images.astype(np.float32).mean(axis=1)
    rows, columns = (np.arange(SIDE) * size // SIDE for size in grey.shape[1:])
    small = _shrunk(grey) if min(grey.shape[1:]) > SIDE else grey[:, rows][:, :, columns]
    lowest = dctn(small, axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(images), -1)
    lowest[:, 0] = 0  # the brightness
    bits = lowest > np.median(lowest, axis=1, keepdims=True)
    return np.asarray((bits.astype(np.uint64) << np.arange(64, dtype=np.uint64)).sum(axis=1, dtype=np.uint64))


def _shrunk(grey: np.ndarray) -> np.ndarray:
    """Return images (n, SIDE, SIDE) of the means of as even blocks as there are."""
    for axis in (1, 2):
        size = grey.shape[axis]
        bounds = np.arange(SIDE) * size // SIDE
        counts = np.diff([*bounds, size]).astype(np.float32)
        shape = (-1, 1) if axis == 1 else (1, -1)
        grey = np.add.reduceat(grey, bounds, axis=axis) / counts.reshape(shape)
    return grey


# ---------------------------------------------------------------- near hashes


def near_hashes(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of pairs whose hashes differ in MAX_BITS at most, (k,) each in order, `first` below.

    No pair is missed but those of large buckets: hashes that differ in four bits share one of four bands, or differ in a
    single bit of each. So it is enough to look at the hashes that are equal in a band, or in the first one but for a bit.
    """
    count, found = len(hashes), [np.empty(0, np.int64)]
    for keys in _bucket_keys(hashes):
        for one, other in _bucket_pairs(keys):
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= MAX_BITS
            low, high = np.minimum(one[near], other[near]), np.maximum(one[near], other[near])
            found.append(low * count + high)
    codes = np.unique(np.concatenate(found))
    return codes // max(1, count), codes % max(1, count)


def _bucket_keys(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield keys (n,), of which two near hashes have one in common: each band, and the first band without one of its bits.

    They are numbers of 16 bits, which numpy sorts in a few passes.
    """
    bands = [(hashes >> np.uint64(band * BAND_BITS)).astype(np.uint16) for band in range(BANDS)]
    yield from bands
    for bit in range(BAND_BITS):
        yield bands[0] & np.uint16(~(1 << bit) & (2**BAND_BITS - 1))


def _bucket_pairs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of all pairs with one key, (k,) each, of keys that MAX_BUCKET samples at most share."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    sizes = np.diff([*starts, len(keys)])
    is_looked_at = (sizes > 1) & (sizes <= MAX_BUCKET)
    # How many samples of its bucket follow each place of the order.
    following = np.repeat(starts + sizes, sizes) - np.arange(len(keys)) - 1
    following[np.repeat(~is_looked_at, sizes)] = 0
    places = np.flatnonzero(following)
    distance = 1
    while len(places):
        yield order[places], order[places + distance]
        distance += 1
        places = places[following[places] >= distance]


# ---------------------------------------------------------------- what is known


class ImageCache:
    """What is known of images: their hashes, and the similarity of pairs that were compared. It goes by their contents.

    Attributes:
        hashes: of the samples, uint64 (n,); 0 where `is_hashed` is False.
        is_hashed: bool (n,).
    """

    def __init__(self, file: Path, contents: np.ndarray) -> None:
        """Read a cache, as far as it is about some contents.

        Args:
            file: the cache; it may not exist.
            contents: SHA-256 of the samples, (n,) str.
        """
        self._file, self._is_changed = file, True
        self._numbers, self._contents = pd.factorize(contents)  # each sample's content by its number
        self._hashes = np.zeros(len(self._contents), np.uint64)
        self._is_hashed = np.zeros(len(self._contents), bool)
        self._codes, self._similarity = np.empty(0, np.int64), np.empty(0)  # of pairs of contents, in order
        if file.is_file():
            with np.load(file, allow_pickle=False) as stored:
                self._take_over(dict(stored))

    def _take_over(self, stored: dict[str, np.ndarray]) -> None:
        places = pd.Index(stored["sha256"]).get_indexer(self._contents)
        self._is_hashed = places >= 0
        self._hashes[self._is_hashed] = stored["hashes"][places[self._is_hashed]]
        self._is_changed = not self._is_hashed.all() or len(places) != len(stored["sha256"])
        if "similarity" in stored:
            numbers = np.full(len(stored["sha256"]), -1)  # of today, of the contents that were stored
            numbers[places[self._is_hashed]] = np.flatnonzero(self._is_hashed)
            first, second = numbers[stored["first"]], numbers[stored["second"]]
            is_there = (first >= 0) & (second >= 0)
            self._add(self._code(first[is_there], second[is_there]), stored["similarity"][is_there])

    @property
    def hashes(self) -> np.ndarray:
        """The hash of each sample."""
        return self._hashes[self._numbers]

    @property
    def is_hashed(self) -> np.ndarray:
        """Whether the hash of each sample is known."""
        return self._is_hashed[self._numbers]

    def add_hashes(self, rows: np.ndarray, hashes: np.ndarray) -> None:
        """Note the hashes of some samples."""
        self._hashes[self._numbers[rows]], self._is_hashed[self._numbers[rows]] = hashes, True

    def similarity(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the similarity of pairs by their rows, (k,) each; NaN where it is not known."""
        found = np.full(len(first), np.nan)
        if len(self._codes):
            codes = self._code(self._numbers[first], self._numbers[second])
            places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
            is_known = self._codes[places] == codes
            found[is_known] = self._similarity[places[is_known]]
        return found

    def add_similarity(self, first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> None:
        """Note the similarity of pairs by their rows."""
        if len(first):
            self._is_changed = True
            self._add(self._code(self._numbers[first], self._numbers[second]), similarity)

    def write(self) -> None:
        """Write the cache where it holds something new or something that has gone."""
        if not self._is_changed:
            return
        make_folder(self._file.parent)
        count = max(1, len(self._contents))
        with temporary_path(self._file).open("wb") as stream:
            np.savez(
                stream,
                sha256=self._contents.astype(str),
                hashes=self._hashes,
                first=(self._codes // count).astype(np.uint32),
                second=(self._codes % count).astype(np.uint32),
                similarity=self._similarity,
            )
        replace_file(temporary_path(self._file), self._file)
        self._is_changed = False

    def _code(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return a number for each pair of contents, whatever their order."""
        low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other)
        return np.asarray(low * len(self._contents) + high)

    def _add(self, codes: np.ndarray, similarity: np.ndarray) -> None:
        codes, similarity = np.concatenate([self._codes, codes]), np.concatenate([self._similarity, similarity])
        self._codes, places = np.unique(codes, return_index=True)
        self._similarity = similarity[places]
