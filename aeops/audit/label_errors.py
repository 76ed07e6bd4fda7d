"""Samples that look least like their label, by out-of-fold probabilities of a classifier.

The classifier of vectors is kernel ridge regression on 1,000 landmarks (scikit-learn's PCA, Nystroem and RidgeClassifier), whose
scores a logistic regression turns into probabilities; of texts a ridge regression on TF-IDF. Squared loss bounds what one wrong
label can do, and the regression is solved at once, so 60,000 images take a minute. What was tried beside it: docs/audit.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline

from aeops.audit.features import AuditSamples

FOLDS = 5
MIN_CLASS_SAMPLES = 2 * FOLDS  # of a label that is checked
MAX_CLASSES = 300  # labels that are checked: time grows with the square of their number, memory with their number
COMPONENTS = 50  # principal components of vectors
LANDMARKS = 1_000
KERNEL_WIDTH = 1.0  # gamma times twice the total variance of the components
RIDGE = 0.1


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold estimates.

    Attributes:
        probabilities: (n, classes), each row by a classifier that has seen neither the sample nor its group.
        classes: (classes,) the labels in the order of the columns.
        classifier: in words.
    """

    probabilities: np.ndarray
    classes: np.ndarray
    classifier: str


def estimate_probabilities(samples: AuditSamples, labels: np.ndarray, groups: Sequence[str] | np.ndarray) -> OutOfFold:
    """Return out-of-fold probabilities of all labels.

    Args:
        samples: (n).
        labels: (n,), at least two different ones, each of at least `MIN_CLASS_SAMPLES` samples.
        groups: (n,); samples of one group are in one fold, so that a copy does not speak for its own label.
    """
    classes, targets = np.unique(labels, return_inverse=True)
    folds = split_folds(targets, np.unique(np.asarray(groups), return_inverse=True)[1])
    inputs = samples.vectors if samples.texts is None else np.asarray(samples.texts, object)
    assert inputs is not None
    scores = np.zeros((len(targets), len(classes)))
    classifier = _classifier(samples, len(targets))
    for train, test in folds:
        if holds_several(targets[train]):
            classifier.fit(inputs[train], targets[train])
            scores[test] = _class_scores(classifier, inputs[test], len(classes))
    probabilities = np.zeros_like(scores)
    for train, test in folds:
        if holds_several(targets[train]):
            fitted = LogisticRegression(max_iter=200).fit(scores[train], targets[train])
            probabilities[np.ix_(test, fitted.classes_)] = fitted.predict_proba(scores[test])
        else:
            probabilities[test, targets[train][0]] = 1.0
    return OutOfFold(probabilities, classes, describe_classifier(samples))


def split_folds(targets: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows to train on and those to estimate, for each fold; no group is in both."""
    if len(np.unique(groups)) == len(groups):
        return list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(targets, targets))
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(targets, targets, groups))


def describe_classifier(samples: AuditSamples) -> str:
    """Return the classifier in words."""
    if samples.texts is not None:
        return "ridge regression on TF-IDF of words and pairs of words"
    return f"kernel ridge regression on {COMPONENTS} principal components and up to {LANDMARKS:,} landmarks"


def _classifier(samples: AuditSamples, rows: int) -> Pipeline:
    if samples.texts is not None:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if rows > 100 else 1)
        return make_pipeline(words, RidgeClassifier(alpha=1.0, solver="sparse_cg"))
    assert samples.vectors is not None
    train_rows = rows - -(-rows // FOLDS) - 1
    components = max(1, min(COMPONENTS, samples.vectors.shape[1], train_rows))
    projection = PCA(components, svd_solver="randomized", random_state=0)
    variance = float(samples.vectors.var(axis=0).sum()) or 1.0
    kernel = Nystroem(gamma=KERNEL_WIDTH / (2 * variance), n_components=max(1, min(LANDMARKS, train_rows)), random_state=0)
    return make_pipeline(projection, kernel, RidgeClassifier(alpha=RIDGE))


def _class_scores(classifier: Pipeline, inputs: np.ndarray, classes: int) -> np.ndarray:
    """Return the classifier's score of each class, (n, classes); of one that it has not seen the lowest of all."""
    scores = np.asarray(classifier.decision_function(inputs))
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    if scores.shape[1] == classes:
        return scores
    of_all = np.full((len(scores), classes), scores.min(initial=0.0))
    of_all[:, classifier.classes_] = scores
    return of_all


def holds_several(targets: np.ndarray) -> bool:
    """Return whether there are different ones among some targets (n,) with n >= 1."""
    return bool((targets != targets[0]).any())


# ---------------------------------------------------------------- which labels look wrong


def rank_suspects(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows by the probability of their label, the lowest first, and the column of the likeliest other one of each row.

    The probability of the label alone ("self-confidence" in the literature) finds more wrong labels than its ratio to, or its
    difference from, that of the likeliest other one: benchmarks/label_errors.py.
    """
    rows = np.arange(len(targets))
    others = probabilities.copy()
    others[rows, targets] = -1.0
    return np.argsort(probabilities[rows, targets], kind="stable"), others.argmax(axis=1)


def confidently_other(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return whether each sample is confidently of another class than its label, (n,) bool.

    A sample is confidently of a class where its probability is at least the mean probability of that class among the samples with
    that label (Northcutt, Jiang and Chuang 2021, "Confident learning", JAIR 70, equations 1 and 2); of several the likeliest.
    """
    classes = probabilities.shape[1]
    thresholds = np.array([probabilities[targets == column, column].mean() for column in range(classes)])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.asarray((confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != targets))
