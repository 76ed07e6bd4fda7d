"""A smaller codebook out of a trained one: fewer bytes for a larger error, without another training."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.cluster.hierarchy import fcluster, linkage


def codebooks(bundle: Path) -> np.ndarray:
    """The words of a bundle's codebooks, (books, words, numbers): one book a slot, or one for all slots."""
    return load_file(bundle / "weights.safetensors")["bottleneck.codebooks.words"]


def merged_words(books: np.ndarray, counts: np.ndarray, sizes: list[int]) -> np.ndarray:
    """For each size, which word stands for each word where a slot may have only so many: (sizes, slots, words) int64.

    Words that lie near to each other become one (Ward 1963); the one that is nearest to their mean, weighted by use, stands
    for all of them.

    Args:
        books: as `codebooks` gives them.
        counts: how often each word was seen in each slot, (slots, words).
        sizes: each from 1 to words.
    """
    trees = [linkage(book, "ward") for book in books]
    swaps = np.empty((len(sizes), *counts.shape), np.int64)
    for place, size in enumerate(sizes):
        groups = [fcluster(tree, size, "maxclust") for tree in trees]
        for slot, seen in enumerate(counts):
            book = slot % len(books)
            swaps[place, slot] = representatives(groups[book], books[book], seen + 0.5)
    return swaps


def representatives(groups: np.ndarray, book: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each word the one that stands for its group, (words,) int64."""
    chosen = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        mean = np.average(book[members], axis=0, weights=weights[members])
        chosen[members] = members[np.square(book[members] - mean).sum(axis=1).argmin()]
    return chosen


def swapped(words: np.ndarray, swaps: np.ndarray) -> np.ndarray:
    """Words (n, slots) with each replaced by the one that stands for it, by swaps (slots, words)."""
    return np.asarray(swaps[np.arange(len(swaps)), words])


def recounted(counts: np.ndarray, swaps: np.ndarray) -> np.ndarray:
    """How often each word stands in each slot once `swaps` are made, (slots, words)."""
    found = np.zeros_like(counts)
    np.add.at(found, (np.arange(len(swaps))[:, None], swaps), counts)
    return found
