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
from aeops.data.near_copies import (
    NearCopies,
    find_near_copies,
    image_pairs,
    known_hashes,
    near_hashes,
    on_one_side,
    perceptual_hashes,
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


def test_real_photographs_that_were_scaled_down_and_up_have_near_hashes() -> None:
    with np.load(shared_data("cifar10/cifar10_5k.npz")) as archive:
        images = archive["x_test"][:400].transpose(0, 3, 1, 2)
    softened = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((24, 24)).resize((32, 32))).transpose(2, 0, 1)
        for image in images[:50]
    ]
    both = np.concatenate([images, np.stack(softened)])
    pairs = image_pairs(perceptual_hashes(both), COLOUR, lambda rows: both[rows])
    found = {(int(one), int(other)) for one, other in zip(pairs.first, pairs.second, strict=True)}
    true = {(number, 400 + number) for number in range(50)}
    assert len(found & true) >= 40
    assert len(found - true) <= 2


def test_hashes_are_read_once_and_known_afterwards(room: Room, tmp_path: Path) -> None:
    images, read = room.images[:100, None], []

    def read_rows(rows: np.ndarray) -> np.ndarray:
        read.extend(rows.tolist())
        return images[rows]

    index, cache = index_of(100, ["train"] * 100), tmp_path / "hashes.npz"
    first = known_hashes(index.iloc[:90], IMAGE, read_rows, cache)
    assert len(read) == 90
    again = known_hashes(index, IMAGE, read_rows, cache)
    assert read[90:] == list(range(90, 100))
    np.testing.assert_array_equal(again[:90], first)
    np.testing.assert_array_equal(again, perceptual_hashes(images))


def test_pairs_of_hashes_are_those_of_a_look_at_every_pair() -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**63, 300, dtype=np.uint64)
    hashes[100:140] = hashes[:40] ^ (np.uint64(1) << np.arange(40, dtype=np.uint64))  # a bit each
    hashes[140:160] = hashes[:20] ^ np.uint64(0b111)
    first, second = near_hashes(hashes)
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = {tuple(pair) for pair in np.argwhere(np.triu(bits <= 4, k=1)).tolist()}
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert len(expected) >= 60


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
