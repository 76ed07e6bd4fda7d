"""DeLong's estimate of an AUROC and of its variance, with groups of dependent samples where there are any."""

import numpy as np


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, float64 (n,), 1 for the lowest; equal values have the mean of theirs.

    One NaN makes all ranks NaN. It is `scipy.stats.rankdata`, which takes a second to load.

    >>> average_ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: np.ndarray = counts.cumsum() - (counts - 1) / 2
    return mean_ranks[places]


def structural_components(positive_scores: np.ndarray, negative_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return DeLong's structural components of an AUROC; the mean of either array is the AUROC.

    Midranks give them in O(n log n), ties counted half (Sun and Xu 2014, IEEE Signal Processing Letters 21).

    Args:
        positive_scores: scores of the positive class, (m,).
        negative_scores: scores of the negative class, (n,).

    Returns:
        The share of negatives below each positive, (m,), and the share of positives above each negative, (n,).
    """
    m, n = len(positive_scores), len(negative_scores)
    ranks = average_ranks(np.concatenate([positive_scores, negative_scores]))
    return (ranks[:m] - average_ranks(positive_scores)) / n, 1 - (ranks[m:] - average_ranks(negative_scores)) / m


def estimate_auroc(positive_scores: np.ndarray, negative_scores: np.ndarray) -> tuple[float, float]:
    """Estimate an AUROC and the variance of the estimate (DeLong et al. 1988, Biometrics 44).

    Args:
        positive_scores: scores of the positive class, (m,).
        negative_scores: scores of the negative class, (n,).

    Returns:
        The AUROC in [0, 1] and its variance. A class with a single member adds nothing to the variance.
    """
    components = structural_components(positive_scores, negative_scores)
    variance = 0.0
    for component in components:
        if len(component) > 1:
            variance += float(component.var(ddof=1)) / len(component)
    return float(components[0].mean()), variance


def grouped_variance(
    positive_components: np.ndarray,
    negative_components: np.ndarray,
    positive_groups: np.ndarray,
    negative_groups: np.ndarray,
    group_count: int,
) -> float:
    """Return the variance of a mean of structural components whose groups vary as a whole (Obuchowski 1997, Biometrics 53).

    Args:
        positive_components: components of the positives less their mean, (m,).
        negative_components: components of the negatives less their mean, (n,).
        positive_groups: the group of each positive, from 0 to `group_count` - 1, (m,).
        negative_groups: the group of each negative, (n,).
        group_count: number of groups of both classes together, 2 or more.
    """
    m, n = len(positive_components), len(negative_components)
    x = np.bincount(positive_groups, weights=positive_components, minlength=group_count) / m
    y = np.bincount(negative_groups, weights=negative_components, minlength=group_count) / n
    positive_factor = _bessel_factor(len(np.unique(positive_groups)))
    negative_factor = _bessel_factor(len(np.unique(negative_groups)))
    class_variance = positive_factor * (x @ x) + negative_factor * (y @ y)
    return float(class_variance + 2 * _bessel_factor(group_count) * (x @ y))


def _bessel_factor(count: int) -> float:
    return count / (count - 1)
