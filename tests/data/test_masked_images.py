"""Images with masks: groups share a split, masks are found again by the samples' ids, and nothing but whole files is taken."""

from typing import Any

import numpy as np
import pytest
from data_project import Room

from aeops.data.dataset import read_index
from aeops.data.sources.catalogue import source_digest
from aeops.data.sources.masked_images import read_masks
from aeops.errors import DataError, UsageError

SOURCE = {"kind": "masked-images", "path": "parts.npz", "groups": "part"}
PLAIN = {
    "score": {"kind": "normalised-residual"},
    "evaluate": {"pca_components": 4, "neighbours": 5},
    "gate": {"served": {"check": "served"}},
}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """300 images of 12 x 8 pixels of 60 parts, some with a marked corner."""
    draw = np.random.default_rng(0)
    masks = np.zeros((300, 12, 8), np.uint8)
    masks[::7, :3, :3] = 1
    return {
        "images": draw.integers(0, 256, (300, 12, 8)).astype(np.uint8),
        "masks": masks,
        "labels": masks.any(axis=(1, 2)).astype(np.uint8),
        "part": np.arange(300, dtype=np.int16) // 5,
    }


@pytest.fixture
def parts(room: Room, arrays: dict[str, np.ndarray]) -> Room:
    """A room whose recipe reads them."""
    write(room, arrays)
    room.replace(**PLAIN)
    room.edit(input={"shape": [1, 12, 8]}, data={"source": SOURCE, "labels": ["good", "bad"], "novelty": ["bad"]})
    return room


def write(room: Room, arrays: dict[str, Any]) -> None:
    np.savez_compressed(room.root / "parts.npz", **arrays)


def test_images_of_a_part_share_a_split_and_masks_are_found_by_id(parts: Room, arrays: dict[str, np.ndarray]) -> None:
    samples = parts.samples()
    np.testing.assert_array_equal(samples.array[:, 0], arrays["images"])
    assert samples.metadata == {"masked": 43}
    parts.ingest()
    index = read_index(parts.incoming)
    assert (index.groupby("group")["split"].nunique() == 1).all()
    assert index["group"].nunique() == 60
    chosen = index.sample(20, random_state=0)
    masks = read_masks(parts.recipe, parts.project, source_digest(parts.recipe, parts.project), chosen["id"].tolist())
    np.testing.assert_array_equal(masks, arrays["masks"][chosen.index] > 0)


def test_shrunken_images_are_means_and_a_pixel_is_marked_where_any_was(parts: Room, arrays: dict[str, np.ndarray]) -> None:
    parts.edit(input={"shape": [1, 6, 4]}, data={"source": SOURCE | {"shrink": 2}})
    images = parts.samples().array[:, 0]
    np.testing.assert_array_equal(images, np.rint(arrays["images"].reshape(300, 6, 2, 4, 2).mean(axis=(2, 4))))
    digest = source_digest(parts.recipe, parts.project)
    [mask] = read_masks(parts.recipe, parts.project, digest, ["mine-000007"])
    assert mask[:2, :2].all()
    assert mask.sum() == 4


def test_colours_come_with_channels_first(parts: Room, arrays: dict[str, np.ndarray]) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (300, 12, 8, 3)).astype(np.uint8)
    write(parts, arrays | {"images": colours})
    parts.edit(input={"shape": [3, 12, 8]})
    np.testing.assert_array_equal(parts.samples().array, colours.transpose(0, 3, 1, 2))


def test_masks_of_another_file_are_refused(parts: Room, arrays: dict[str, np.ndarray]) -> None:
    digest = source_digest(parts.recipe, parts.project)
    write(parts, arrays | {"masks": arrays["masks"][::-1]})
    with pytest.raises(DataError, match="expected the file that the samples came from"):
        read_masks(parts.recipe, parts.project, digest, ["mine-000007"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.zeros((299, 12, 8), np.uint8)}, "a mask for each image"),
        ({"masks": np.zeros((300, 8, 12), np.uint8)}, "a mask for each image"),
        ({"masks": np.zeros((300, 12, 8))}, "expected whole numbers"),
        ({"images": np.zeros((300, 8, 12), np.uint8)}, r"expected shape \(n, 12, 8, 1\) or \(n, 12, 8\)"),
        ({"part": np.zeros(299, np.int16)}, "one whole number or name for each of 300 samples"),
        ({"labels": np.zeros(299, np.uint8)}, "expected 300 labels"),
    ],
    ids=["fewer masks", "turned masks", "masks of fractions", "turned images", "fewer groups", "fewer labels"],
)
def test_arrays_that_do_not_fit_are_refused(
    parts: Room, arrays: dict[str, np.ndarray], change: dict[str, Any], message: str
) -> None:
    write(parts, arrays | change)
    with pytest.raises(DataError, match=message):
        parts.samples()


def test_a_missing_array_is_named(parts: Room, arrays: dict[str, np.ndarray]) -> None:
    del arrays["part"]
    write(parts, arrays)
    with pytest.raises(DataError, match="expected an array 'part', got images, labels, masks"):
        parts.samples()


def test_a_target_and_a_study_without_masks_are_mistakes_of_the_recipe(parts: Room) -> None:
    parts.edit(input={"shape": [2, 12, 8], "target_channels": 1}, model={"decode": {"kind": "conv", "widths": [8], "kernel": 4}})
    with pytest.raises(UsageError, match=r"input.target_channels: expected 0 with a source of kind masked-images"):
        _ = parts.recipe
    parts.edit(
        input={"shape": [1, 28, 28], "target_channels": 0},
        evaluate={"pca_components": 4, "neighbours": 5, "studies": {"pixels": {}}},
    )
    parts.edit(data={"source": {"kind": "npy", "path": "images.npy", "labels": "labels.npy"}, "labels": [0, 1], "novelty": [1]})
    with pytest.raises(UsageError, match=r"expected data\.source of kind masked-images, got npy"):
        _ = parts.recipe
