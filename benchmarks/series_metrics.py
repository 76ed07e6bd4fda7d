"""Measures of scores over time beside labelled windows, without point adjustment: VUS-PR, and NAB's own score."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["best_nab_score", "find_detections", "nab_score", "vus_pr"]

THRESHOLDS = 120  # of a curve, at even quantiles of the scores
BUFFERS = 9  # lengths of the buffer around a window, from none to the longest
FALSE_POSITIVE, FALSE_NEGATIVE = 0.11, 1.0  # weights of NAB's standard profile; a true positive has 1
FAR = 3.0  # window lengths after a window, from which on a false positive counts in full


def segments(is_marked: np.ndarray) -> list[tuple[int, int]]:
    """Return first step and end of each run of marked steps."""
    places = np.flatnonzero(is_marked)
    if not len(places):
        return []
    parts = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def soften(labels: np.ndarray, buffer: int) -> np.ndarray:
    """Return labels (n,) in [0, 1] that fall off on both sides of a window, over half the buffer, by a square root."""
    soft = labels.astype(float)
    for first, end in segments(labels):
        for distance in range(1, buffer // 2 + 1):
            value = math.sqrt(1 - distance / buffer)
            for place in (first - distance, end - 1 + distance):
                if 0 <= place < len(soft):
                    soft[place] = min(1.0, soft[place] + value * (not labels[place]))
    return soft


def range_auc_pr(scores: np.ndarray, labels: np.ndarray, buffer: int) -> float:
    """Return the area below the curve of precision and recall with soft labels.

    Recall counts each window that has no alarm at all as missed as a whole. (Paparrizos et al. 2022, Volume under the surface: a
    new accuracy evaluation measure for time-series anomaly detection, section 4)
    """
    soft, labelled = soften(labels, buffer), labels.astype(bool)
    windows, positives = segments(soft > 0), float(labels.sum())
    thresholds = np.unique(np.quantile(scores, np.linspace(1, 0, THRESHOLDS)))[::-1]
    area = last_recall = 0.0
    for threshold in thresholds:
        is_alarm = scores >= threshold
        hit = float(soft[is_alarm].sum())
        expected = (positives + float(np.where(labelled, 1.0, soft * is_alarm).sum())) / 2
        found = sum(bool(is_alarm[first:end].any()) for first, end in windows) / len(windows)
        recall = min(1.0, hit / expected) * found
        area += max(0.0, recall - last_recall) * hit / is_alarm.sum()
        last_recall = max(last_recall, recall)
    return area


def vus_pr(scores: np.ndarray, labels: np.ndarray, longest: int) -> float:
    """Return the mean area over buffers from 0 to the longest, in steps.

    >>> labels = np.zeros(50, int)
    >>> labels[20:25] = 1
    >>> vus_pr(labels.astype(float), labels, 0)
    1.0
    """
    buffers = sorted({round(length) for length in np.linspace(0, longest, BUFFERS)})
    return float(np.mean([range_auc_pr(scores, labels, buffer) for buffer in buffers]))


# ---------------------------------------------------------------- NAB


def _sigmoid(position: float) -> float:
    return -1.0 if position > FAR else 2 / (1 + math.exp(5 * position)) - 1


def find_detections(scores: np.ndarray, threshold: float, first: int, apart: int) -> np.ndarray:
    """Return the first steps of the alarms: alarmed steps less than so many steps apart are one.

    Args:
        scores: (n,); a step above the threshold is alarmed.
        threshold: of the alarms.
        first: the first step that counts.
        apart: steps; 1 makes each alarmed step a detection of its own.

    >>> find_detections(np.array([9, 0, 9, 9, 0, 0, 9]), 1, 1, 3).tolist()
    [2, 6]
    """
    alarmed = first + np.flatnonzero(scores[first:] > threshold)
    return alarmed[np.diff(alarmed, prepend=-apart) >= apart]


def nab_score(scores: np.ndarray, labels: np.ndarray, threshold: float, first: int, apart: int = 1) -> float:
    """Return NAB's raw score of one series by its standard profile (Lavin and Ahmad 2015, section III).

    Args:
        scores: (n,).
        labels: whether a step lies in a window, (n,).
        threshold: of the detections.
        first: the first step after the probationary period; nothing before it counts.
        apart: of detections, as `find_detections` takes it.
    """
    windows = [(max(start, first), end) for start, end in segments(labels) if end > first]
    detections = find_detections(scores, threshold, first, apart)
    total = 0.0
    for start, end in windows:
        inside = detections[(detections >= start) & (detections < end)]
        if len(inside):
            total += _sigmoid(-(end - int(inside[0])) / (end - start)) / _sigmoid(-1.0)
        else:
            total -= FALSE_NEGATIVE
    for place in detections.tolist():
        if labels[place]:
            continue
        before = [window for window in windows if window[1] <= place]
        if not before:
            total -= FALSE_POSITIVE
        else:
            start, end = before[-1]
            total += FALSE_POSITIVE * _sigmoid((place - end + 1) / max(1, end - start - 1))
    return total


def best_nab_score(series: Sequence[Mapping[str, np.ndarray | int]], candidates: int = 60) -> float:
    """Return NAB's score over a corpus at its best threshold: 0 without any detection, 100 for a perfect detector.

    Args:
        series: each with scores, labels, first and, where it is not 1, apart, as `nab_score` takes them; the scores have one
            scale.
        candidates: thresholds that are tried.
    """
    windows = sum(len([1 for _, end in segments(np.asarray(one["labels"])) if end > int(one["first"])]) for one in series)
    pooled = np.concatenate([np.asarray(one["scores"])[int(one["first"]) :] for one in series])
    tried = [*np.quantile(pooled, 1 - np.geomspace(1e-4, 0.3, candidates)), np.inf]
    best = -math.inf
    for threshold in tried:
        raw = 0.0
        for one in series:
            scores, labels = np.asarray(one["scores"]), np.asarray(one["labels"])
            raw += nab_score(scores, labels, float(threshold), int(one["first"]), int(one.get("apart", 1)))
        best = max(best, 100 * (raw + FALSE_NEGATIVE * windows) / ((1 + FALSE_NEGATIVE) * windows))
    return best
