"""Images in an .npz file come with channels first, train before test, and edges are those of Canny."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_project import Room, shared_data, tree
from skimage.color import rgb2gray
from skimage.feature import canny

from aeops.data.dataset import read_index
from aeops.errors import DataError, UsageError
from aeops.machine.stored_json import read_json

SOURCE = {"kind": "npz", "path": "images.npz", "samples": {"train": "x", "test": "x_new"}, "layout": "nhwc"}
LABELS = {"train": "y", "test": "y_new"}
SPLIT = {"validation": 0.1, "calibration": 0.2}
PLAIN = {"score": {"kind": "ambiguity"}, "evaluate": {"neighbours": 5}, "gate": {"served": {"check": "served"}}}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """400 and 50 colour images of 12 x 10 pixels, with labels."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (450, 12, 10, 3)).astype(np.uint8)
    labels = draw.integers(0, 10, 450)
    return {"x": images[:400], "y": labels[:400], "x_new": images[400:], "y_new": labels[400:]}


@pytest.fixture
def npz(room: Room, arrays: dict[str, np.ndarray]) -> Room:
    """A room whose recipe reads them."""
    np.savez_compressed(room.root / "images.npz", **arrays)
    room.edit(input={"shape": [3, 12, 10]}, data={"source": SOURCE | {"labels": LABELS}, "split": SPLIT})
    return room


def test_images_are_turned_to_channels_first_with_labels_and_parts(npz: Room, arrays: dict[str, np.ndarray]) -> None:
    samples = npz.samples()
    wanted = np.concatenate([arrays["x"], arrays["x_new"]])
    for channel in range(3):
        np.testing.assert_array_equal(samples.array[:, channel], wanted[..., channel])
    np.testing.assert_array_equal(samples.labels, np.concatenate([arrays["y"], arrays["y_new"]]))
    assert samples.splits.tolist() == ["train"] * 400 + ["test"] * 50


def test_the_other_layouts_give_the_same_images(npz: Room, arrays: dict[str, np.ndarray]) -> None:
    npz.ingest()
    shards = tree(npz.incoming / "shards")
    first = {name: array.transpose(0, 3, 1, 2) if array.ndim == 4 else array for name, array in arrays.items()}
    np.savez(npz.root / "images.npz", **{name: np.ascontiguousarray(array) for name, array in first.items()})
    npz.edit(data={"source": SOURCE | {"labels": LABELS, "layout": "nchw"}})
    npz.ingest()
    assert tree(npz.incoming / "shards") == shards
    np.savez(npz.root / "images.npz", x=arrays["x"][..., 0])
    npz.edit(input={"shape": [1, 12, 10]})
    npz.edit(data={"source": SOURCE | {"samples": {"train": "x"}, "layout": "nhw"}, "labels": [], "novelty": []})
    npz.edit(data={"split": SPLIT | {"test": 0.2}})
    np.testing.assert_array_equal(npz.samples().array[:, 0], arrays["x"][..., 0])
    assert npz.samples().splits is None


@pytest.mark.slow
def test_real_colour_images_keep_their_order_and_their_own_test_part(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shared_data("cifar10/cifar10_5k.npz")
    monkeypatch.setenv("AE_SOURCES", str(place.parent))
    named = {
        "path": place.name,
        "samples": {"train": "x_train", "test": "x_test"},
        "labels": {"train": "y_train", "test": "y_test"},
    }
    room.edit(input={"shape": [3, 32, 32]}, data={"source": SOURCE | named, "split": SPLIT})
    room.ingest()
    index = read_index(room.incoming)
    assert (index["split"] == "test").to_numpy().tolist() == [False] * 4000 + [True] * 1000
    with np.load(place) as held:
        shard = np.load(room.incoming / "shards" / "00000.npy", mmap_mode="r")
        np.testing.assert_array_equal(shard[4000:4020], held["x_test"][:20].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(index["label"][:4000].to_numpy(int), held["y_train"])


# ---------------------------------------------------------------- edges


def ask_for_edges(room: Room) -> None:
    room.edit(input={"shape": [4, 12, 10], "target_channels": 1}, model={"compare": {"kind": "bce"}})
    room.edit(data={"source": SOURCE | {"labels": LABELS, "edges": {"sigma": 0.5, "low": 0.1, "high": 0.3}}})
    room.replace(**PLAIN)


def test_edges_are_those_of_canny_in_the_luma_as_the_last_channel(npz: Room, arrays: dict[str, np.ndarray]) -> None:
    smooth = np.clip(np.arange(12)[:, None, None] * 20 + arrays["x"] / 8, 0, 255).astype(np.uint8)
    np.savez(npz.root / "images.npz", **arrays | {"x": smooth})
    ask_for_edges(npz)
    samples = npz.samples()
    assert samples.array.shape == (450, 4, 12, 10)
    for image, made in zip(smooth[:5], samples.array, strict=False):
        np.testing.assert_array_equal(made[:3], image.transpose(2, 0, 1))
        luma = image @ [0.299, 0.587, 0.114] / 255
        np.testing.assert_array_equal(made[3], 255 * canny(luma, sigma=0.5, low_threshold=0.1, high_threshold=0.3))
    assert 0 < (samples.array[:5, 3] == 255).mean() < 0.5


def test_the_edges_of_a_photograph_lie_where_its_brightness_jumps(room: Room) -> None:
    from PIL import Image

    photograph = np.asarray(Image.open(shared_data("photos/coffee.png")).convert("RGB"))[100:356, 100:356]
    np.savez(room.root / "images.npz", x=photograph[None])
    source = SOURCE | {"samples": {"train": "x"}, "edges": {"sigma": 2.0}}
    room.edit(input={"shape": [4, 256, 256], "target_channels": 1}, model={"compare": {"kind": "bce"}})
    room.edit(data={"source": source, "labels": [], "novelty": [], "split": SPLIT | {"test": 0.2}})
    room.replace(**PLAIN)
    edges = room.samples().array[0, 3] == 255
    slope = np.hypot(*np.gradient(rgb2gray(photograph)))
    assert 0.01 < edges.mean() < 0.2
    assert slope[edges].mean() > 3 * slope[~edges].mean()


# ---------------------------------------------------------------- what is refused

Arrays = dict[str, np.ndarray]
SPOILED: dict[str, tuple[Callable[[Path, Arrays], None], list[str]]] = {
    "missing": (lambda place, _: place.unlink(), ["images.npz", "no such file", "data.source.path"]),
    "truncated": (lambda place, _: place.write_bytes(place.read_bytes()[:-500]) and None, ["images.npz", "not readable as .npz"]),
    "no archive": (lambda place, _: place.write_bytes(b"GIF89a" * 99) and None, ["not readable as .npz", "numpy.savez"]),
    "a missing array": (lambda place, held: np.savez(place, x=held["x"]), ["expected an array 'x_new', got x"]),
    "another shape": (
        lambda place, held: np.savez(place, **held | {"x": held["x"][:, :6]}),
        ["images.npz: x: expected shape (n, 12, 10, 3) with layout nhwc", "got (400, 6, 10, 3)"],
    ),
    "another type": (
        lambda place, held: np.savez(place, **held | {"x": held["x"].astype(np.int32)}),
        ["images.npz: x: expected dtype", "got int32"],
    ),
    "objects": (
        lambda place, held: np.savez(place, **held | {"x": held["x"].astype(object)}),
        ["got pickled objects (dtype object)"],
    ),
    "column by column": (
        lambda place, held: np.savez(place, **held | {"x": np.asfortranarray(held["x"])}),
        ["Fortran order", "numpy.ascontiguousarray"],
    ),
    "too few labels": (
        lambda place, held: np.savez(place, **held | {"y_new": held["y_new"][:9]}),
        ["images.npz: y_new: expected 50 labels, one for each sample of images.npz: x_new, got 9"],
    ),
    "labels in fractions": (lambda place, held: np.savez(place, **held | {"y": held["y"] / 2}), ["got dtype float64"]),
    "an empty set": (
        lambda place, held: np.savez(place, **{name: array[:0] for name, array in held.items()}),
        ["got an empty set"],
    ),
    "a single value": (lambda place, held: np.savez(place, **held | {"x": np.uint8(3)}), ["got a single value"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_file_is_refused_in_one_line_and_nothing_is_written(npz: Room, arrays: Arrays, fault: str) -> None:
    spoil, facts = SPOILED[fault]
    spoil(npz.root / "images.npz", arrays)
    before = tree(npz.root)
    with pytest.raises(DataError) as caught:
        npz.ingest()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "type ae run mine"]), message
    assert tree(npz.root) == before


def test_a_damaged_array_in_a_whole_archive_is_refused(npz: Room) -> None:
    place = npz.root / "images.npz"
    with zipfile.ZipFile(place) as archive:
        start = archive.getinfo("x.npy").header_offset
    held = bytearray(place.read_bytes())
    held[start + 2000 : start + 2100] = bytes(100)
    place.write_bytes(held)
    with pytest.raises(DataError, match=r"images\.npz: x: not readable as \.npz"):
        npz.ingest()


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        ({"samples": {"test": "x_new"}}, "data.source.samples: the key train is missing"),
        ({"samples": {"train": "x"}}, "samples and labels differ in their key test"),
        ({"labels": None}, "labels is set and source.labels is missing"),
        ({"layout": "nwh"}, "data.source.layout: expected nchw, nhwc or nhw, got 'nwh'"),
        ({"edges": {"low": 0.3, "high": 0.2}}, "low is 0.3 and high is 0.2"),
        ({"edges": {}}, "input.target_channels: expected 1 with data.source.edges"),
        ({"array": "x"}, "unexpected key 'array'"),
    ],
)
def test_a_source_that_contradicts_itself_is_refused(npz: Room, source: dict[str, object], fact: str) -> None:
    npz.edit(data={"source": SOURCE | {"labels": LABELS} | source})
    with pytest.raises(UsageError) as caught:
        npz.recipe  # noqa: B018
    assert fact in str(caught.value)


def test_the_origin_is_the_files_name_in_the_recipe(npz: Room) -> None:
    npz.ingest()
    source = read_json(npz.incoming / "dataset.json")["source"]
    assert (source["kind"], source["origin"], set(source)) == ("npz", "images.npz", {"kind", "origin", "sha256"})
