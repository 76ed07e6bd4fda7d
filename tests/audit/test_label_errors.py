"""Labels that look wrong: the ranking on real digits, its formulas, and the folds."""

import numpy as np
import pytest

from aeops.audit.features import AuditSamples
from aeops.audit.label_errors import confidently_other, estimate_probabilities, rank_suspects, split_folds


def as_samples(images: np.ndarray) -> AuditSamples:
    return AuditSamples(images.reshape(len(images), -1).astype(np.float32) / 255, None, (1, 28, 28))


def test_flipped_labels_of_digits_stand_first(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    given = labels.copy()
    flipped = np.arange(3, 400, 20)
    given[flipped] = (labels[flipped] + 1 + np.arange(20) % 9) % 10
    estimate = estimate_probabilities(as_samples(images), given, np.arange(400))
    np.testing.assert_allclose(estimate.probabilities.sum(axis=1), 1, atol=1e-9)
    order, likeliest = rank_suspects(estimate.probabilities, given)
    first = order[:20]
    assert np.isin(first, flipped).mean() >= 0.6  # at random it would be 0.05
    found = first[np.isin(first, flipped)]
    assert (likeliest[found] == labels[found]).mean() > 0.7  # and the other label is the right one
    assert confidently_other(estimate.probabilities, given)[flipped].mean() > 0.5


def test_order_and_confidence_are_those_of_a_worked_example() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    targets = np.array([0, 0, 0, 1])
    order, likeliest = rank_suspects(probabilities, targets)
    assert order.tolist() == [2, 1, 0, 3]
    assert likeliest.tolist() == [1, 1, 1, 0]
    # Thresholds: 1.7 / 3 of the first class, 0.9 of the second. The third sample reaches neither.
    assert confidently_other(probabilities, targets).tolist() == [False, False, False, False]
    probabilities[2] = [0.05, 0.95]
    assert confidently_other(probabilities, targets).tolist() == [False, False, True, False]


def test_no_group_is_trained_on_and_estimated() -> None:
    targets, groups = np.arange(120) % 3, np.arange(120) // 4
    seen = np.zeros(120, int)
    for train, test in split_folds(targets, groups):
        assert not set(groups[train]) & set(groups[test])
        seen[test] += 1
    assert (seen == 1).all()


def test_a_copy_does_not_speak_for_its_own_label(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    doubled, given = np.concatenate([images, images[:1]]), np.concatenate([labels, labels[:1]])
    given[[0, 400]] = 7  # a nought, twice, both times called a seven
    groups = np.arange(401)
    alone, grouped = (
        estimate_probabilities(as_samples(doubled), given, which).probabilities[0, 7]
        for which in (groups, np.where(groups == 400, 0, groups))
    )
    assert grouped < alone


@pytest.mark.parametrize("classes", [2, 3])
def test_texts_are_told_apart_by_their_words(classes: int) -> None:
    topics = ["the bank raised its interest rate again", "the striker scored a late goal", "the film won a prize for its actor"]
    texts = [f"{topics[number % classes]} on day {number}" for number in range(60)]
    estimate = estimate_probabilities(AuditSamples(None, texts, (80,)), np.arange(60) % classes, np.arange(60))
    assert (estimate.probabilities.argmax(axis=1) == np.arange(60) % classes).all()
