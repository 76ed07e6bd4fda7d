"""Samples of different splits that are nearly the same: images by a perceptual hash, windows by the steps that they share.

Two images whose hashes differ in few bits (`aeops.data.image_hashes`) are compared pixel by pixel, so that what is reported is a
near copy and no chance. What was compared once is known by the contents of the two: each validation reads the images alone that
make pairs with new ones. `ae audit` looks longer: at the neighbours of every sample.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.spec import InputSpec
from aeops.data.dataset import read_shards
from aeops.data.image_hashes import BLOCK, ImageCache, Reader, near_hashes, perceptual_hashes
from aeops.data.sample_pairs import NEAR, Pairs, unique_pairs

MIN_CORRELATION = (
    0.985  # of the pixels of two near copies: of 5,000 digits none reaches it by chance, and two reach an audit's 0.98
)
MAX_WINDOWS = 50_000  # that are compared
MAX_NAMED = 20  # pairs that are named
_IMAGE_AXES, _WINDOW_AXES = 3, 2

PairChoice = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows of pairs (k,), (k,) -> bool (k,), which of them matter


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
        cache: the file of what is known of images, which is written anew.

    Returns:
        None where such samples are not compared: rows of tables, texts, steps of a series, or too many windows.
    """
    axes = len(spec.stored_shape)
    if spec.columns or spec.channels:
        return None
    if axes == _IMAGE_AXES:
        splits = index["split"].to_numpy(dtype=object)
        pairs = indexed_pairs(index, spec, read, cache, lambda first, second: splits[first] != splits[second])
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


def indexed_pairs(index: pd.DataFrame, spec: InputSpec, read: Reader, cache: Path, matters: PairChoice) -> Pairs:
    """Return the pairs of near copies among the images of an index.

    Args:
        index: of all samples, numbered from 0.
        spec: the section input.
        read: returns the samples at some rows of the index.
        cache: the file of what is known of images, which is written anew.
        matters: which pairs are of interest; the others are not compared.
    """
    known = ImageCache(cache, index["sha256"].to_numpy(dtype=object))
    hash_images(known, spec, read)
    pairs = image_pairs(known, read, matters)
    known.write()
    return pairs


def hash_images(known: ImageCache, spec: InputSpec, read: Reader) -> None:
    """Compute the hashes that are not known."""
    missing = np.flatnonzero(~known.is_hashed)
    for start in range(0, len(missing), BLOCK):
        rows = missing[start : start + BLOCK]
        known.add_hashes(rows, perceptual_hashes(read(rows)[:, : spec.shape[0] - spec.target_channels]))


def image_pairs(known: ImageCache, read: Reader, matters: PairChoice) -> Pairs:
    """Return the pairs of images whose hashes are near and whose pixels correlate, of those that matter."""
    first, second = near_hashes(known.hashes)
    chosen = matters(first, second)
    first, second = first[chosen], second[chosen]
    similarity = known.similarity(first, second)
    missing = np.flatnonzero(np.isnan(similarity))
    for start in range(0, len(missing), BLOCK):
        part = missing[start : start + BLOCK]
        similarity[part] = _correlation(first[part], second[part], read)
    known.add_similarity(first[missing], second[missing], similarity[missing])
    near = similarity >= MIN_CORRELATION
    return unique_pairs(NEAR, first[near], second[near], similarity[near])


def _correlation(first: np.ndarray, second: np.ndarray, read: Reader) -> np.ndarray:
    """Return the correlation of the values of the samples at some rows, (k,) each; 0 where one of the two is blank."""
    rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    values = read(rows).reshape(len(rows), -1).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1)
    one, other = places[: len(first)], places[len(first) :]
    return np.asarray(np.einsum("ij,ij->i", values[one], values[other]) / np.maximum(norms[one] * norms[other], 1e-9))


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
        wanted, places = np.unique(rows, return_inverse=True)
        found: np.ndarray | None = None
        for (folder, index), start, end in zip(parts, bounds[:-1], bounds[1:], strict=True):
            own = np.flatnonzero((wanted >= start) & (wanted < end))
            numbered = index.iloc[wanted[own] - start].assign(place=own)
            for part, block in read_shards(folder, numbered) if len(own) else ():
                if found is None:
                    found = np.empty((len(wanted), *block.shape[1:]), block.dtype)
                found[part["place"].to_numpy()] = block
        assert found is not None, "some rows are read"
        return found[places]

    return read
