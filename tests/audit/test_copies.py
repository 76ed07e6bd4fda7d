"""Copies: exact ones, near ones of images and texts, and windows that share steps."""

import itertools

import numpy as np
import pandas as pd
import pytest
from data_project import shared_data

from aeops.audit.copies import IMAGE_LIMIT, exact_pairs, near_pairs, near_texts
from aeops.audit.features import AuditSamples, shrink
from aeops.data.shared_steps import shared_step_pairs


def pair_set(pairs: object) -> set[tuple[int, int]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))  # type: ignore[attr-defined]


def test_exact_copies_are_paired_with_the_first_of_each_split() -> None:
    sha256 = pd.Series(["a", "b", "a", "a", "c", "a"])
    splits = pd.Series(["train", "train", "train", "test", "test", "test"])
    assert pair_set(exact_pairs(sha256, splits)) == {(0, 2), (0, 3), (0, 5), (2, 3), (3, 5)}


def test_a_brighter_and_a_noisy_digit_are_near_copies_and_no_others(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0].reshape(400, -1).astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.03, 784).astype(np.float32)
    vectors = np.concatenate([images, images[:1] * 0.7 + 0.1, (images[50:51] + noise).clip(0, 1)])
    splits = pd.Series(["train"] * 400 + ["test"] * 2)
    found = near_pairs(AuditSamples(vectors, None, (1, 28, 28)), splits, IMAGE_LIMIT)
    assert {(0, 400), (50, 401)} <= pair_set(found)
    natural = near_pairs(AuditSamples(images, None, (1, 28, 28)), splits[:400], IMAGE_LIMIT)
    assert pair_set(found) == {(0, 400), (50, 401)} | pair_set(natural)
    assert len(natural.first) <= 2


def test_a_leak_is_found_behind_many_copies_in_its_own_split(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0].reshape(400, -1).astype(np.float32) / 255
    random = np.random.default_rng(0)
    copies = images[7] + random.normal(0, 0.002, (12, 784)).astype(np.float32)
    far = images[7] + random.normal(0, 0.02, (1, 784)).astype(np.float32)  # the one in train is the least alike
    splits = pd.Series(["train"] * 401 + ["test"] * 12)
    vectors = np.concatenate([np.delete(images, 7, axis=0), far, images[8:9], copies])
    found = pair_set(near_pairs(AuditSamples(vectors, None, (1, 28, 28)), splits, IMAGE_LIMIT))
    assert {(399, row) for row in range(401, 413)} <= found


def test_blank_images_are_near_nothing() -> None:
    vectors = np.zeros((30, 64), np.float32)
    vectors[:20] = np.random.default_rng(0).random((20, 64))
    assert pair_set(near_pairs(AuditSamples(vectors, None, (1, 8, 8)), pd.Series(["train"] * 30), IMAGE_LIMIT)) == set()


@pytest.mark.slow
def test_exposures_of_one_tile_are_found() -> None:
    archive = np.load(shared_data("magnetic_tile/magnetic_tile_96.npz"))
    images, groups = archive["images"][::2], archive["group"][::2]
    vectors = images.reshape(len(images), -1).astype(np.float32) / 255
    found = near_pairs(AuditSamples(vectors, None, (1, 96, 96)), pd.Series(["train"] * len(images)), 0.95)
    assert len(found.first) > 50
    assert (groups[found.first] == groups[found.second]).all()  # the set's own groups link a correlation above 0.93


def test_near_texts_equal_a_slow_search_over_all_pairs() -> None:
    random = np.random.default_rng(1)
    words = [f"word{number}" for number in range(60)]
    texts = [" ".join(random.choice(words, random.integers(3, 12))) for _ in range(80)]
    texts += [f"{text} more" for text in texts[:20]] + ["", "!!"]
    sets = [set(text.replace("!", "").split()) for text in texts]
    for limit in (0.5, 0.8, 1.0):
        expected = {
            (first, second)
            for first, second in itertools.combinations(range(len(texts)), 2)
            if sets[first] and len(sets[first] & sets[second]) / len(sets[first] | sets[second]) >= limit - 1e-12
        }
        assert pair_set(near_texts(texts, limit)) == expected


def test_overlapping_windows_equal_a_slow_search() -> None:
    random = np.random.default_rng(0)
    series = random.normal(size=(2, 200)).astype(np.float32)
    series[:, 100:140] = 0.0  # a flat stretch is shared by all, and says nothing
    starts = random.integers(0, 180, 60)
    windows = np.stack([series[:, start : start + 20] for start in starts])
    found = shared_step_pairs(windows)
    expected = set()
    for first, second in itertools.permutations(range(60), 2):
        offset = starts[second] - starts[first]
        beginning = windows[second][:, :5]
        if 1 <= offset <= 15 and max(len(np.unique(channel)) for channel in beginning) >= 3:
            expected.add((min(first, second), max(first, second)))
    assert pair_set(found) == expected
    shares = {round(share * 20) for share in found.similarity}
    assert shares <= set(range(5, 20))


def test_windows_that_do_not_overlap_share_nothing() -> None:
    windows = np.random.default_rng(0).normal(size=(50, 1, 16))
    assert pair_set(shared_step_pairs(windows)) == set()
    assert pair_set(shared_step_pairs(np.zeros((50, 1, 16)))) == set()
    assert pair_set(shared_step_pairs(windows[:, :, :3])) == set()


def test_large_images_are_averaged_until_they_are_small() -> None:
    image = np.arange(2 * 8 * 8, dtype=np.float32).reshape(1, 2, 8, 8)
    small = shrink(image, max_values=32)
    np.testing.assert_allclose(small, image.reshape(1, 2, 4, 2, 4, 2).mean(axis=(3, 5)))
