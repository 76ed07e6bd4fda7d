"""Samples of different splits that are nearly the same: images by a perceptual hash, windows by the steps that they share.

A hash has 64 bits, the signs of the lowest frequencies of the image's cosine transform beside their median (Zauner 2010,
"Implementation and benchmarking of perceptual image hash functions"). Two images whose hashes differ in few bits are compared
pixel by pixel, so that what is reported is a near copy and no chance. `ae audit` looks longer: at the neighbours of every sample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.mappings import values_at
from ae_models.spec import InputSpec
from aeops.data.dataset import read_shards
from aeops.data.sample_pairs import NEAR, Pairs, unique_pairs
from aeops.files import make_folder, replace_file, temporary_path

MIN_CORRELATION = (
    0.985  # of the pixels of two near copies: of 5,000 digits none reaches it by chance, and two reach an audit's 0.98
)
MAX_BITS = 4  # in which the hashes of near copies differ
SIDE, LOW = 32, 8  # the image that is transformed, and its frequencies that count, a side
BANDS, BAND_BITS = 4, 16
MAX_BUCKET = 64  # samples whose hashes share a band; more are a pattern of the set and no copies
MAX_WINDOWS = 50_000  # that are compared
MAX_NAMED = 20  # pairs that are named
BLOCK = 2_048
_IMAGE_AXES, _WINDOW_AXES = 3, 2

Reader = Callable[[np.ndarray], np.ndarray]  # rows -> samples (k, ...)


@dataclass(frozen=True)
class NearCopies:
    """Pairs of samples in different splits that are nearly the same.

    Attributes:
        relation: `near` or `shared steps`.
        count: pairs in all.
        samples: of each split, how many have such a copy in another one.
        pairs: the most similar ones: ids, splits and similarity.
    """

    relation: str
    count: int
    samples: dict[str, int]
    pairs: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return them as validation.json has them."""
        return {"relation": self.relation, "count": self.count, "samples": self.samples, "pairs": self.pairs}


def find_near_copies(index: pd.DataFrame, spec: InputSpec, read: Reader, cache: Path) -> NearCopies | None:
    """Look for near copies across splits.

    Args:
        index: of all samples, numbered from 0.
        spec: the section input.
        read: returns the samples at some rows of the index.
        cache: the file of hashes that are known, which is written anew.

    Returns:
        None where such samples are not compared: rows of tables, texts, steps of a series, or too many windows.
    """
    axes = len(spec.stored_shape)
    if spec.columns or spec.channels:
        return None
    if axes == _IMAGE_AXES:
        pairs = image_pairs(known_hashes(index, spec, read, cache), spec, read)
        return describe_pairs(pairs, index)
    if axes == _WINDOW_AXES and len(index) <= MAX_WINDOWS:
        from aeops.data.shared_steps import shared_step_pairs

        return describe_pairs(shared_step_pairs(read(np.arange(len(index)))), index)
    return None


def describe_pairs(pairs: Pairs, index: pd.DataFrame) -> NearCopies:
    """Return the pairs whose samples are in different splits, in words and numbers."""
    splits, ids = index["split"].to_numpy(dtype=object), index["id"].to_numpy(dtype=object)
    crosses = splits[pairs.first] != splits[pairs.second]
    first, second, similarity = pairs.first[crosses], pairs.second[crosses], pairs.similarity[crosses]
    involved = np.unique(np.concatenate([first, second]))
    counts = pd.Series(splits[involved]).value_counts().sort_index()
    order = np.argsort(-similarity, kind="stable")[:MAX_NAMED]
    named: list[dict[str, Any]] = []
    for one, other, like in zip(first[order], second[order], similarity[order], strict=True):
        named.append(
            {
                "first": str(ids[one]),
                "first_split": str(splits[one]),
                "second": str(ids[other]),
                "second_split": str(splits[other]),
                "similarity": round(float(like), 4),
            }
        )
    return NearCopies(pairs.relation, len(first), {str(name): int(count) for name, count in counts.items()}, named)


# ---------------------------------------------------------------- images


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


def known_hashes(index: pd.DataFrame, spec: InputSpec, read: Reader, cache: Path) -> np.ndarray:
    """Return the hash of each sample of the index, uint64 (n,); of contents that the cache knows without reading them."""
    known = pd.Series(dtype=np.uint64)
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as stored:
            known = pd.Series(stored["hashes"], index=stored["sha256"])
    hashes = np.zeros(len(index), np.uint64)
    contents = index["sha256"].to_numpy(dtype=object)
    there = pd.Index(contents).isin(known.index)
    hashes[there] = known[~known.index.duplicated()].loc[contents[there]].to_numpy(np.uint64)
    for start in range(0, int((~there).sum()), BLOCK):
        rows = np.flatnonzero(~there)[start : start + BLOCK]
        hashes[rows] = perceptual_hashes(read(rows)[:, : spec.shape[0] - spec.target_channels])
    if not there.all() or len(known) != len(index):
        make_folder(cache.parent)
        with temporary_path(cache).open("wb") as stream:
            np.savez(stream, sha256=contents.astype(str), hashes=hashes)
        replace_file(temporary_path(cache), cache)
    return hashes


def image_pairs(hashes: np.ndarray, spec: InputSpec, read: Reader) -> Pairs:
    """Return the pairs of images whose hashes are near and whose pixels correlate."""
    first, second = near_hashes(hashes)
    similarity = np.zeros(len(first))
    for start in range(0, len(first), BLOCK):
        part = slice(start, start + BLOCK)
        similarity[part] = _correlation(read(first[part]), read(second[part]))
    near = similarity >= MIN_CORRELATION
    return unique_pairs(NEAR, first[near], second[near], similarity[near])


def near_hashes(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of pairs whose hashes differ in MAX_BITS at most and share a band of bits, (k,) each, `first` below."""
    pairs = set[tuple[int, int]]()
    for band in range(BANDS):
        keys = (hashes >> np.uint64(band * BAND_BITS)) & np.uint64(2**BAND_BITS - 1)
        for rows in _buckets(keys):
            differences = np.bitwise_count(hashes[rows][:, None] ^ hashes[rows][None, :])
            for one, other in np.argwhere(np.triu(differences <= MAX_BITS, k=1)):
                pairs.add((int(rows[one]), int(rows[other])))
    found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of each key that some samples share, ascending."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        if 1 < end - start <= MAX_BUCKET:
            yield order[start:end]


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation of the values of samples (k, ...) and (k, ...), (k,); 0 where one of them is blank."""
    centred = []
    for samples in (one, other):
        values = samples.reshape(len(samples), -1).astype(np.float64)
        centred.append(values - values.mean(axis=1, keepdims=True))
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    return np.asarray((centred[0] * centred[1]).sum(axis=1) / np.maximum(norms, 1e-9))


# ---------------------------------------------------------------- on one side


def on_one_side(index: pd.DataFrame, fixed: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return the split of each sample, object (n,), with each new one in that of the near copy that came before it.

    Samples that are fixed stay where they are: a split never changes. So two of them may remain on two sides.

    Args:
        index: of all samples, numbered from 0.
        fixed: bool (n,), which of them the dataset held before.
        pairs: of near copies.
    """
    splits = index["split"].to_numpy(dtype=object).copy()
    neighbours: dict[int, list[tuple[float, int]]] = {}
    for one, other, like in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist(), strict=True):
        neighbours.setdefault(one, []).append((like, other))
        neighbours.setdefault(other, []).append((like, one))
    settled = set(np.flatnonzero(fixed).tolist())
    for row in sorted(neighbours.keys() - settled):
        earlier = [(like, -other) for like, other in neighbours[row] if other in settled]
        if earlier:
            splits[row] = splits[-max(earlier)[1]]
        settled.add(row)
    return splits


def read_rows_of(parts: list[tuple[Path, pd.DataFrame]]) -> Reader:
    """Return a reader of samples that lie in several datasets: their indexes one after another are that of the rows."""
    bounds = np.cumsum([0, *(len(index) for _, index in parts)])

    def read(rows: np.ndarray) -> np.ndarray:
        found: dict[int, np.ndarray] = {}
        for (folder, index), start, end in zip(parts, bounds[:-1], bounds[1:], strict=True):
            own = np.unique(rows[(rows >= start) & (rows < end)])
            numbered = index.iloc[own - start].assign(place=own)
            for part, block in read_shards(folder, numbered) if len(own) else ():
                found |= dict(zip(part["place"].tolist(), block, strict=True))
        return np.stack(values_at(found, rows.tolist()))

    return read
