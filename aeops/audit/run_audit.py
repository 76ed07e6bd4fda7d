"""Audit a dataset: labels that look wrong, copies, and leaks between splits.

with open_subject(project, "digits", from_source=False, max_samples=100_000) as subject:
    report = audit(subject, AuditOptions())
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ae_models.spec import join_names
from aeops.audit.copies import exact_pairs, near_limit, near_method, near_pairs
from aeops.audit.features import AuditSamples, read_samples
from aeops.audit.findings import AuditReport, CopyCheck, CopyPair, LabelCheck, LabelSuspect, Leak
from aeops.audit.label_errors import (
    FOLDS,
    MIN_CLASS_SAMPLES,
    confidently_other,
    estimate_probabilities,
    rank_suspects,
)
from aeops.audit.subject import AuditSubject
from aeops.data.sample_pairs import NEAR, Pairs
from aeops.data.shared_steps import shared_step_pairs

MAX_SAMPLES = 100_000
EXAMPLES = 60  # suspects, pairs and leaks that are listed
LEAK_EXAMPLES = 12  # of each pair of splits
# What a split must not know of: the later ones are measured by the earlier ones.
KNOWN_FROM = {"validation": ("train",), "calibration": ("train",), "test": ("train", "validation", "calibration")}


@dataclass(frozen=True)
class AuditOptions:
    """How to audit.

    Attributes:
        near: similarity from which two samples are near copies; None: the default of their kind.
        examples: suspects and pairs that are listed.
    """

    near: float | None = None
    examples: int = EXAMPLES


def audit(subject: AuditSubject, options: AuditOptions) -> AuditReport:
    """Return all that is found.

    Raises:
        DataError: the dataset is damaged.
    """
    samples = read_samples(subject)
    all_pairs = find_pairs(subject, samples, options)
    return AuditReport(
        subject.name,
        subject.origin,
        subject.content_sha256,
        subject.kind_name,
        subject.rows,
        len(subject.index),
        {str(name): int(count) for name, count in subject.index["split"].value_counts().items()},
        check_labels(subject, samples, options.examples),
        summarize_copies(subject, samples, all_pairs, options),
        find_leaks(subject, all_pairs),
        _notes(subject),
    )


def _notes(subject: AuditSubject) -> list[str]:
    notes = []
    if len(subject.index) < subject.rows:
        notes.append(
            f"{len(subject.index):,} of {subject.rows:,} samples were looked at, those with the lowest SHA-256; "
            "--samples takes more"
        )
    if subject.origin == "source":
        notes.append("The source was read as it is now: nothing of it was validated, and bad rows are in it")
    return notes


# ---------------------------------------------------------------- labels


def check_labels(subject: AuditSubject, samples: AuditSamples, examples: int) -> LabelCheck:
    """Return which labels look wrong; why not where that cannot be said."""
    labels = subject.index["label"]
    counts = Counter(labels.dropna().astype(int).tolist())
    checked_labels = [label for label, count in counts.items() if count >= MIN_CLASS_SAMPLES]
    if not counts:
        return LabelCheck(skipped="its samples have no labels")
    if len(checked_labels) < 2:
        names = join_names([f"{subject.label_text(label)}: {count}" for label, count in counts.most_common(10)])
        return LabelCheck(
            skipped=f"expected two labels or more of at least {MIN_CLASS_SAMPLES} samples each, got {names}; nothing is compared"
        )
    rows = np.flatnonzero(labels.isin(checked_labels).fillna(False).to_numpy(bool))
    part = AuditSamples(
        None if samples.vectors is None else samples.vectors[rows],
        None if samples.texts is None else [samples.texts[row] for row in rows],
        samples.shape,
    )
    given_labels = labels.iloc[rows].to_numpy(np.int64)
    estimate = estimate_probabilities(part, given_labels, _group_keys(subject)[rows])
    targets = np.searchsorted(estimate.classes, given_labels)
    order, likeliest = rank_suspects(estimate.probabilities, targets)
    is_other = confidently_other(estimate.probabilities, targets)
    suspects = []
    for position in order[:examples]:
        row, column = int(rows[position]), int(likeliest[position])
        suspects.append(
            LabelSuspect(
                row,
                subject.index["id"].iloc[row],
                subject.index["split"].iloc[row],
                subject.label_text(int(given_labels[position])),
                subject.label_text(int(estimate.classes[column])),
                float(estimate.probabilities[position, targets[position]]),
                float(estimate.probabilities[position, column]),
            )
        )
    accuracy = float((estimate.probabilities.argmax(axis=1) == targets).mean())
    return LabelCheck("", estimate.classifier, FOLDS, accuracy, int(is_other.sum()), suspects)


def _group_keys(subject: AuditSubject) -> np.ndarray:
    """Return a key of each sample that its copies and its group share."""
    index = subject.index
    return np.where(index["group"] == index["id"], index["sha256"], index["group"]).astype(str)


# ---------------------------------------------------------------- copies and leaks


def find_pairs(subject: AuditSubject, samples: AuditSamples, options: AuditOptions) -> list[Pairs]:
    """Return the pairs of each relation; a near pair that is an exact one, too, is only that."""
    splits = subject.index["split"]
    exact = exact_pairs(subject.index["sha256"], splits)
    limit = near_limit(samples) if options.near is None else options.near
    near = near_pairs(samples, splits, limit)
    sha256 = subject.index["sha256"].to_numpy()
    differ = sha256[near.first] != sha256[near.second]
    found = [exact, Pairs(NEAR, near.first[differ], near.second[differ], near.similarity[differ])]
    if samples.are_windows:
        rows, windows = map(np.concatenate, zip(*subject.blocks(), strict=True))
        found.append(_in_rows(shared_step_pairs(windows), rows))
    return found


def _in_rows(pairs: Pairs, order: np.ndarray) -> Pairs:
    """Return pairs of positions as pairs of rows."""
    first, second = order[pairs.first], order[pairs.second]
    return Pairs(pairs.relation, np.minimum(first, second), np.maximum(first, second), pairs.similarity)


def summarize_copies(
    subject: AuditSubject, samples: AuditSamples, all_pairs: Sequence[Pairs], options: AuditOptions
) -> CopyCheck:
    """Return how many samples have copies, and some of the pairs."""
    counts, pair_counts, conflicts = {}, {}, 0
    labels = subject.index["label"].fillna(-1).to_numpy(np.int64)
    for pairs in all_pairs:
        counts[pairs.relation] = len(np.unique(np.concatenate([pairs.first, pairs.second])))
        pair_counts[pairs.relation] = len(pairs.first)
        pair_labels = labels[pairs.first], labels[pairs.second]
        conflicts += int(((pair_labels[0] != pair_labels[1]) & (pair_labels[0] >= 0) & (pair_labels[1] >= 0)).sum())
    return CopyCheck(
        near_method(samples),
        near_limit(samples) if options.near is None else options.near,
        counts,
        pair_counts,
        conflicts,
        _examples(subject, all_pairs, [np.ones(len(pairs.first), bool) for pairs in all_pairs], options.examples),
    )


def find_leaks(subject: AuditSubject, all_pairs: Sequence[Pairs]) -> list[Leak]:
    """Return, for each split, how many of its samples a split has a copy of that it must not know; none where there are none."""
    splits = subject.index["split"].to_numpy(str)
    leaks = []
    for split, earlier_splits in KNOWN_FROM.items():
        for known_from in earlier_splits:
            leaked_rows, by_relation, masks = [], {}, []
            for pairs in all_pairs:
                forwards = (splits[pairs.first] == split) & (splits[pairs.second] == known_from)
                backwards = (splits[pairs.second] == split) & (splits[pairs.first] == known_from)
                rows = np.unique(np.concatenate([pairs.first[forwards], pairs.second[backwards]]))
                masks.append(forwards | backwards)
                leaked_rows.append(rows)
                if len(rows):
                    by_relation[pairs.relation] = len(rows)
            leaked = len(np.unique(np.concatenate(leaked_rows)))
            if leaked:
                total = int((splits == split).sum())
                leaks.append(
                    Leak(split, known_from, total, leaked, by_relation, _examples(subject, all_pairs, masks, LEAK_EXAMPLES))
                )
    return leaks


def _examples(subject: AuditSubject, all_pairs: Sequence[Pairs], masks: Sequence[np.ndarray], count: int) -> list[CopyPair]:
    """Return some pairs of each relation, those with different labels first, then the most similar ones."""
    examples: list[CopyPair] = []
    labels = subject.index["label"].fillna(-1).to_numpy(np.int64)
    with_pairs = sum(bool(mask.any()) for mask in masks)
    for pairs, mask in zip(all_pairs, masks, strict=True):
        chosen = np.flatnonzero(mask)
        same_label = labels[pairs.first[chosen]] == labels[pairs.second[chosen]]
        order = np.lexsort((chosen, -pairs.similarity[chosen], same_label))
        for position in chosen[order][: count // max(with_pairs, 1)]:
            examples.append(_copy_pair(subject, pairs, int(position)))
    return examples


def _copy_pair(subject: AuditSubject, pairs: Pairs, position: int) -> CopyPair:
    first, second = int(pairs.first[position]), int(pairs.second[position])
    ids, splits = subject.index["id"], subject.index["split"]
    return CopyPair(
        pairs.relation,
        first,
        second,
        ids.iloc[first],
        ids.iloc[second],
        splits.iloc[first],
        splits.iloc[second],
        subject.label(first),
        subject.label(second),
        float(pairs.similarity[position]),
    )
