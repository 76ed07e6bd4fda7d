"""Near copies in two splits are found and named, and no chance is; where the recipe asks, they end on one side."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room, shared_data
from PIL import Image

from ae_models.spec import InputSpec
from aeops.data.dataset import read_index
from aeops.data.image_hashes import MAX_BITS, MAX_BUCKET, ImageCache, near_hashes, perceptual_hashes
from aeops.data.near_copies import (
    MIN_CORRELATION,
    NearCopies,
    find_near_copies,
    hash_images,
    indexed_pairs,
    on_one_side,
)
from aeops.data.near_copies_text import warning_text
from aeops.data.sample_pairs import NEAR, Pairs
from aeops.errors import UsageError
from aeops.stages.ingest import ingest

IMAGE = InputSpec(kind="image", shape=(1, 28, 28), low=0, high=255)
COLOUR = InputSpec(kind="image", shape=(3, 32, 32), low=0, high=255)


def as_jpeg(image: np.ndarray, quality: int = 80) -> np.ndarray:
    """What is left of a grey image (h, w) that was stored as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def index_of(count: int, splits: list[str]) -> pd.DataFrame:
    names = [f"{number:03d}.png" for number in range(count)]
    return pd.DataFrame({"id": names, "split": splits, "sha256": [f"{number:064x}" for number in range(count)]})


def look(images: np.ndarray, splits: list[str], cache: Path, spec: InputSpec = IMAGE) -> NearCopies:
    found = find_near_copies(index_of(len(images), splits), spec, lambda rows: images[rows], cache)
    assert found is not None
    return found


def test_copies_that_were_stored_again_or_brightened_are_found_across_splits_and_no_chance_is(room: Room, tmp_path: Path) -> None:
    digits = room.images[::2]
    copies = np.stack([as_jpeg(digits[0]), np.clip(digits[1].astype(int) * 9 // 10 + 20, 0, 255).astype(np.uint8), digits[2]])
    images = np.concatenate([digits, copies])[:, None]
    splits = ["train"] * len(digits) + ["test", "calibration", "train"]
    found = look(images, splits, tmp_path / "hashes.npz")
    pairs = {(pair["first"], pair["second"]) for pair in found.pairs}
    assert pairs == {("000.png", "300.png"), ("001.png", "301.png")}
    assert found.samples == {"calibration": 1, "test": 1, "train": 2}
    assert (found.relation, found.count) == (NEAR, 2)
    assert "2 pairs of near copies lie in two splits (1 samples of calibration, 1 of test, 2 of train)" in warning_text(
        found.to_dict()
    )
    assert look(images[:-3], ["train", "test"] * 150, tmp_path / "others.npz").count == 0
    assert warning_text({"relation": NEAR, "count": 0}) == ""


def test_real_photographs_that_were_scaled_down_and_up_have_near_hashes(tmp_path: Path) -> None:
    with np.load(shared_data("cifar10/cifar10_5k.npz")) as archive:
        images = archive["x_test"][:400].transpose(0, 3, 1, 2)
    softened = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((24, 24)).resize((32, 32))).transpose(2, 0, 1)
        for image in images[:50]
    ]
    both = np.concatenate([images, np.stack(softened)])
    index = index_of(450, ["train"] * 450)
    pairs = indexed_pairs(index, COLOUR, lambda rows: both[rows], tmp_path / "known.npz", every_pair)
    found = {(int(one), int(other)) for one, other in zip(pairs.first, pairs.second, strict=True)}
    true = {(number, 400 + number) for number in range(50)}
    assert len(found & true) >= 40
    assert len(found - true) <= 2


def every_pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.ones(len(first), bool)


class CountedImages:
    """Reads images and notes which."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.rows = images, list[int]()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += rows.tolist()
        return self.images[rows]


def test_hashes_are_read_once_and_known_afterwards(room: Room, tmp_path: Path) -> None:
    images, index, cache = CountedImages(room.images[:100, None]), index_of(100, ["train"] * 100), tmp_path / "hashes.npz"
    first = ImageCache(cache, index["sha256"].to_numpy(object)[:90])
    hash_images(first, IMAGE, images)
    first.write()
    assert len(images.rows) == 90
    again = ImageCache(cache, index["sha256"].to_numpy(object))
    hash_images(again, IMAGE, images)
    assert images.rows[90:] == list(range(90, 100))
    np.testing.assert_array_equal(again.hashes[:90], first.hashes)
    np.testing.assert_array_equal(again.hashes, perceptual_hashes(images.images))


def noisy_copies(images: np.ndarray, count: int) -> np.ndarray:
    """Images (n, h, w) with so many nearly equal ones of each behind them, (n * (count + 1), 1, h, w)."""
    noise = np.random.default_rng(0).integers(0, 12, (count, *images.shape))
    return np.concatenate([images, *np.clip(images + noise, 0, 255).astype(np.uint8)])[:, None]


def test_images_that_were_compared_are_not_read_again_and_the_pairs_are_those_of_a_first_look(room: Room, tmp_path: Path) -> None:
    images = CountedImages(noisy_copies(room.images[:40], 2))
    index = index_of(120, ["train", "test", "train"] * 40)

    def pairs_of(rows: np.ndarray, cache: str) -> set[tuple[int, int, float]]:
        images.rows.clear()
        own = index.iloc[rows].reset_index(drop=True)
        pairs = indexed_pairs(own, IMAGE, lambda part: images(rows[part]), tmp_path / cache, every_pair)
        return set(zip(rows[pairs.first].tolist(), rows[pairs.second].tolist(), pairs.similarity.tolist(), strict=True))

    everything = np.arange(120)
    expected = pairs_of(everything, "whole.npz")
    assert len(expected) >= 100
    assert len(pairs_of(everything[:119], "grown.npz")) < len(expected)
    assert pairs_of(everything, "grown.npz") == expected
    new_pairs = {pair for pair in expected if 119 in pair[:2]}
    assert set(images.rows) == {row for pair in new_pairs for row in pair[:2]}, "the new image and its neighbours alone"
    assert pairs_of(everything, "grown.npz") == expected
    assert images.rows == []
    left = np.delete(everything, [3, 50])[::-1].copy()  # two have gone, and the order is another one
    remaining = {pair for pair in expected if not {3, 50} & {*pair[:2]}}
    assert {(*sorted(pair[:2]), pair[2]) for pair in pairs_of(left, "grown.npz")} == remaining
    assert images.rows == []


def test_pairs_of_images_are_those_of_a_look_at_every_pair_pixel_by_pixel(room: Room, tmp_path: Path) -> None:
    images = noisy_copies(room.images[:60], 1)
    splits = np.array(["train"] * 50 + ["test"] * 70, object)
    pairs = indexed_pairs(
        index_of(120, splits.tolist()),
        IMAGE,
        lambda rows: images[rows],
        tmp_path / "known.npz",
        lambda first, second: splits[first] != splits[second],
    )
    hashes, correlation = perceptual_hashes(images), np.corrcoef(images.reshape(120, -1).astype(float))
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= MAX_BITS
    expected = np.argwhere(np.triu(near & (correlation >= MIN_CORRELATION) & (splits[:, None] != splits[None, :]), k=1))
    assert list(zip(pairs.first, pairs.second, strict=True)) == [tuple(pair) for pair in expected.tolist()]
    np.testing.assert_allclose(pairs.similarity, correlation[pairs.first, pairs.second])
    assert len(expected) >= 20


def test_pairs_of_hashes_are_those_of_a_look_at_every_pair() -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**63, 300, dtype=np.uint64)
    hashes[100:140] = hashes[:40] ^ (np.uint64(1) << np.arange(40, dtype=np.uint64))  # a bit each
    hashes[140:160] = hashes[:20] ^ np.uint64(0b111)
    hashes[160:180] = hashes[40:60] ^ np.uint64(0x0001_0020_0400_8000)  # a bit of each band
    hashes[180:200] = hashes[60:80] ^ np.uint64(0x1001_0020_0400_8000)  # one too many
    first, second = near_hashes(hashes)
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = [tuple(pair) for pair in np.argwhere(np.triu(bits <= MAX_BITS, k=1)).tolist()]
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert len(expected) >= 80


def test_a_pattern_that_many_images_share_makes_no_pairs() -> None:
    for count, expected in ((MAX_BUCKET, MAX_BUCKET * (MAX_BUCKET - 1) // 2), (MAX_BUCKET + 1, 0)):
        first, second = near_hashes(np.full(count, 5, np.uint64))
        assert len(first) == len(second) == expected
    assert len(near_hashes(np.empty(0, np.uint64))[0]) == 0


def test_windows_that_overlap_in_time_are_counted(tmp_path: Path) -> None:
    series = np.cumsum(np.random.default_rng(1).normal(size=700)).astype(np.float32)
    windows = np.stack([series[start : start + 32] for start in range(0, 640, 8)])[:, None]
    splits = ["train", "train", "train", "test"] * 20
    spec = InputSpec(kind="series", shape=(1, 32), low=-50, high=50)
    found = find_near_copies(index_of(80, splits), spec, lambda rows: windows[rows], tmp_path / "none.npz")
    assert found is not None
    assert found.samples["test"] == 20  # each of them shares steps with a window that is trained on
    assert "pairs of windows that share steps lie in two splits" in warning_text(found.to_dict())
    far = np.stack([series[start : start + 32] for start in range(0, 640, 32)])[:, None]
    apart = find_near_copies(index_of(20, ["train", "test"] * 10), spec, lambda rows: far[rows], tmp_path / "none.npz")
    assert apart is not None
    assert apart.count == 0


def test_a_new_near_copy_goes_to_the_side_of_the_earlier_one_and_an_earlier_one_never_moves() -> None:
    index = index_of(6, ["train", "test", "test", "calibration", "train", "validation"])
    fixed = np.array([True, True, False, False, False, False])
    pairs = Pairs(NEAR, np.array([0, 0, 1, 3]), np.array([2, 1, 2, 4]), np.array([0.999, 0.99, 0.985, 0.99]))
    splits = on_one_side(index, fixed, pairs).tolist()
    assert splits == ["train", "test", "train", "calibration", "calibration", "validation"]


def test_the_recipe_puts_near_copies_on_one_side_and_they_stay_there(room: Room) -> None:
    copies = np.stack([as_jpeg(image) for image in room.images[:60]])
    room.edit(data={"near_copies": "same-split"})
    room.save(images=np.concatenate([room.images, copies]), labels=np.r_[room.labels, room.labels[:60]])
    room.accept_unjudged()
    splits = read_index(room.data).set_index("id")["split"]
    moved = [splits[f"mine-{number:06d}"] == splits[f"mine-{600 + number:06d}"] for number in range(60)]
    assert np.mean(moved) >= 0.95
    ingest(room.recipe, room.project, room.incoming)
    again = read_index(room.incoming).set_index("id")["split"]
    pd.testing.assert_series_equal(again, splits.loc[again.index])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"near_copies": "group"}, "near_copies"),
        ({"on_duplicate": "drop"}, "on_duplicate"),
        ({"on_duplicate": 3}, "on_duplicate"),
    ],
)
def test_a_rule_that_there_is_not_is_refused(room: Room, changes: dict[str, object], words: str) -> None:
    room.edit(data=changes)
    with pytest.raises(UsageError, match=words):
        _ = room.recipe


def test_one_side_is_refused_where_it_cannot_be(room: Room) -> None:
    room.ask_for_texts(32, {"kind": "npy", "path": "texts.npy"})
    room.edit(data={"near_copies": "same-split"})
    with pytest.raises(UsageError, match=r"data\.near_copies: expected warn or ignore for other samples than images"):
        _ = room.recipe
