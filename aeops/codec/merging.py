"""Merge the entries of a trained codebook: fewer bytes for a larger error, without another training."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.cluster.hierarchy import fcluster, linkage


def load_codebooks(bundle: Path) -> np.ndarray:
    """Return a bundle's codebooks, (codebooks, entries, numbers): one a slot, or one for all slots."""
    return load_file(bundle / "weights.safetensors")["bottleneck.codebooks.words"]


def merge_entries(codebooks: np.ndarray, counts: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Return for each size the entry that replaces each entry where a slot may use only so many.

    Entries near to each other are merged (Ward 1963); the one nearest to their mean, weighted by use, replaces all of them.

    Args:
        codebooks: see `load_codebooks`.
        counts: how often each entry occurred in each slot, (slots, entries).
        sizes: each from 1 to entries.

    Returns:
        (sizes, slots, entries) int64.
    """
    linkage_matrices = [linkage(slot_codebook, "ward") for slot_codebook in codebooks]
    replacements = np.empty((len(sizes), *counts.shape), np.int64)
    for size_index, size in enumerate(sizes):
        groups = [fcluster(codebook_linkage, size, "maxclust") for codebook_linkage in linkage_matrices]
        for slot_index, slot_counts in enumerate(counts):
            codebook_index = slot_index % len(codebooks)
            replacements[size_index, slot_index] = choose_representatives(
                groups[codebook_index], codebooks[codebook_index], slot_counts + 0.5
            )
    return replacements


def choose_representatives(groups: np.ndarray, slot_codebook: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return for each entry the one that represents its group, (entries,) int64.

    Args:
        groups: the group of each entry, (entries,).
        slot_codebook: (entries, numbers).
        weights: of the entries, (entries,), positive.
    """
    representative_entries = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        entries = np.flatnonzero(groups == group)
        mean = np.average(slot_codebook[entries], axis=0, weights=weights[entries])
        representative_entries[entries] = entries[np.square(slot_codebook[entries] - mean).sum(axis=1).argmin()]
    return representative_entries


def replace_indices(indices: np.ndarray, replacements: np.ndarray) -> np.ndarray:
    """Return code indices (n, slots), each replaced by `replacements` (slots, entries)."""
    return np.asarray(replacements[np.arange(len(replacements)), indices])


def merge_counts(counts: np.ndarray, replacements: np.ndarray) -> np.ndarray:
    """Return how often each entry occurs in each slot after `replacements`, (slots, entries)."""
    merged_counts = np.zeros_like(counts)
    np.add.at(merged_counts, (np.arange(len(replacements))[:, None], replacements), counts)
    return merged_counts
