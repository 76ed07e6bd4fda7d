"""Audit a dataset: labels that look wrong, copies, and leaks between splits.

with open_subject(project, "digits", from_source=False, max_samples=100_000) as subject:
    report = audit(subject, AuditOptions())
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ae_models.spec import join_names
from aeops.audit.copies import exact_pairs, near_limit, near_method, near_pairs
from aeops.audit.features import AuditSamples, read_samples
from aeops.audit.findings import AuditReport, CopyCheck, CopyPair, LabelCheck, LabelSuspect, Leak
from aeops.audit.label_errors import (
    FOLDS,
    MAX_CLASSES,
    MIN_CLASS_SAMPLES,
    OutOfFold,
    confidently_other,
    estimate_probabilities,
    rank_suspects,
)
from aeops.audit.near_rows import count_by_chance, equal_rows_are_ordinary
from aeops.audit.row_cells import LabelColumns, pair_cells
from aeops.audit.subject import AuditSubject
from aeops.data.sample_pairs import EXACT, NEAR, Pairs
from aeops.data.shared_steps import shared_step_pairs

MAX_SAMPLES = 100_000
EXAMPLES = 60  # suspects, pairs and leaks that are listed
NAMED_LABELS = 10  # of a message
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
    copies = summarize_copies(subject, samples, all_pairs, options)
    copies_are_records = not equal_rows_are_ordinary(copies.samples[EXACT], copies.by_chance.get(EXACT, 0))
    return AuditReport(
        subject.name,
        subject.origin,
        subject.content_sha256,
        subject.kind_name,
        subject.rows,
        len(subject.index),
        {str(name): int(count) for name, count in subject.index["split"].value_counts().items()},
        check_labels(subject, samples, _group_keys(subject, copies_are_records), options.examples),
        copies,
        find_leaks(subject, samples, all_pairs),
        _notes(subject, copies),
        [] if samples.rows is None else samples.rows.names,
    )


def _notes(subject: AuditSubject, copies: CopyCheck) -> list[str]:
    notes = []
    for relation, by_chance in copies.by_chance.items():
        if equal_rows_are_ordinary(copies.samples[relation], by_chance):
            notes.append(
                f"Chance explains most of the {copies.samples[relation]:,} {relation} copies: with the values of each column "
                f"shuffled, {by_chance:,} rows have one. Such rows are ordinary, and no leaks"
            )
    if len(subject.index) < subject.rows:
        notes.append(
            f"{len(subject.index):,} of {subject.rows:,} samples were looked at, those with the lowest SHA-256; "
            "--samples takes more"
        )
    if subject.origin == "source":
        notes.append("The source was read as it is now: nothing of it was validated, and bad rows are in it")
    return notes


# ---------------------------------------------------------------- labels


def check_labels(subject: AuditSubject, samples: AuditSamples, groups: np.ndarray, examples: int) -> LabelCheck:
    """Return which labels look wrong; why not where that cannot be said.

    Args:
        subject: what is audited.
        samples: of it, (n).
        groups: a key of each sample, (n,); samples with the same key are in one fold.
        examples: suspects that are listed.
    """
    labels = subject.index["label"]
    counts = Counter(labels.dropna().astype(int).tolist())
    checked_labels = [label for label, count in counts.items() if count >= MIN_CLASS_SAMPLES]
    if reason := _why_not_checked(subject, counts, len(checked_labels)):
        return LabelCheck(skipped=reason)
    rows = np.flatnonzero(labels.isin(checked_labels).fillna(False).to_numpy(bool))
    part = AuditSamples(
        None if samples.vectors is None else samples.vectors[rows],
        None if samples.texts is None else [samples.texts[row] for row in rows],
        samples.shape,
    )
    given_labels = labels.iloc[rows].to_numpy(np.int64)
    if len(np.unique(groups[rows])) < FOLDS:
        return LabelCheck(skipped=f"expected {FOLDS} different samples or groups or more, got {len(np.unique(groups[rows]))}")
    estimate = estimate_probabilities(part, given_labels, groups[rows])
    targets = np.searchsorted(estimate.classes, given_labels)
    is_other = confidently_other(estimate.probabilities, targets)
    accuracy = float((estimate.probabilities.argmax(axis=1) == targets).mean())
    suspects = _list_suspects(subject, samples, rows, estimate, targets, examples)
    return LabelCheck("", estimate.classifier, FOLDS, accuracy, int(is_other.sum()), suspects)


def _why_not_checked(subject: AuditSubject, counts: Counter[int], checked: int) -> str:
    """Return why labels cannot be checked; empty where they can.

    Args:
        subject: what is audited.
        counts: samples of each label.
        checked: labels with samples enough.
    """
    if not counts:
        return "its samples have no labels"
    if checked > MAX_CLASSES:
        return f"expected at most {MAX_CLASSES} labels of at least {MIN_CLASS_SAMPLES} samples each, got {checked:,}"
    if checked >= 2:
        return ""
    names = [f"{subject.label_text(label)}: {count}" for label, count in counts.most_common(NAMED_LABELS)]
    more = f" and {len(counts) - NAMED_LABELS:,} more" if len(counts) > NAMED_LABELS else ""
    return (
        f"expected two labels or more of at least {MIN_CLASS_SAMPLES} samples each, got {join_names(names)}{more}; nothing is "
        "compared"
    )


def _list_suspects(
    subject: AuditSubject, samples: AuditSamples, rows: np.ndarray, estimate: OutOfFold, targets: np.ndarray, examples: int
) -> list[LabelSuspect]:
    """Return the samples that look least like their label, the worst first.

    Args:
        subject: what is audited.
        samples: of it, (n).
        rows: places of the samples that were estimated, (k,).
        estimate: of these.
        targets: the column of the estimate that is their label, (k,).
        examples: how many to list.
    """
    order, likeliest = rank_suspects(estimate.probabilities, targets)
    columns = None
    if samples.rows is not None:
        columns = LabelColumns(samples.rows, subject.index["label"].fillna(-1).to_numpy(np.int64))
    suspects = []
    for position in order[:examples]:
        row, label = int(rows[position]), int(estimate.classes[targets[position]])
        suggested = int(estimate.classes[likeliest[position]])
        suspects.append(
            LabelSuspect(
                row,
                subject.index["id"].iloc[row],
                subject.index["split"].iloc[row],
                subject.label_text(label),
                subject.label_text(suggested),
                float(estimate.probabilities[position, targets[position]]),
                float(estimate.probabilities[position, likeliest[position]]),
                [] if columns is None else columns.suspect_cells(row, label, suggested),
            )
        )
    return suspects


def _group_keys(subject: AuditSubject, copies_are_records: bool) -> np.ndarray:
    """Return a key of each sample that its group shares, and its copies, where equal samples are one record twice."""
    index = subject.index
    if not copies_are_records:
        return index["group"].to_numpy(str)
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
    limit = near_limit(samples) if options.near is None else options.near
    return CopyCheck(
        near_method(samples),
        limit,
        counts,
        pair_counts,
        conflicts,
        _examples(subject, samples, all_pairs, [np.ones(len(pairs.first), bool) for pairs in all_pairs], options.examples),
        {} if samples.rows is None else count_by_chance(samples.rows, limit),
    )


def find_leaks(subject: AuditSubject, samples: AuditSamples, all_pairs: Sequence[Pairs]) -> list[Leak]:
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
                examples = _examples(subject, samples, all_pairs, masks, LEAK_EXAMPLES)
                leaks.append(Leak(split, known_from, total, leaked, by_relation, examples))
    return leaks


def _examples(
    subject: AuditSubject, samples: AuditSamples, all_pairs: Sequence[Pairs], masks: Sequence[np.ndarray], count: int
) -> list[CopyPair]:
    """Return some pairs of each relation: those with different labels first, then of different samples, then the most similar."""
    examples: list[CopyPair] = []
    labels = subject.index["label"].fillna(-1).to_numpy(np.int64)
    with_pairs = sum(bool(mask.any()) for mask in masks)
    for pairs, mask in zip(all_pairs, masks, strict=True):
        chosen = np.flatnonzero(mask)
        same_label = labels[pairs.first[chosen]] == labels[pairs.second[chosen]]
        # A sample with thousands of copies would fill the list: its second pair comes after the first ones of all others.
        repeated = pd.Series(pairs.first[chosen]).groupby([pairs.first[chosen], same_label]).cumcount().to_numpy()
        order = np.lexsort((chosen, -pairs.similarity[chosen], repeated, same_label))
        for position in chosen[order][: count // max(with_pairs, 1)]:
            examples.append(_copy_pair(subject, samples, pairs, int(position)))
    return examples


def _copy_pair(subject: AuditSubject, samples: AuditSamples, pairs: Pairs, position: int) -> CopyPair:
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
        [] if samples.rows is None else pair_cells(samples.rows, first, second),
    )
