"""Scans are cut into tiles that can be put together again, and all tiles of a page share a split."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from data_project import Room, shared_data, tree

from aeops.data.dataset import read_index
from aeops.data.sources.tiles import assemble_tiles, cut_tiles
from aeops.errors import DataError, UsageError
from aeops.evaluation.prepared import load_prepared
from aeops.machine.stored_json import read_json
from aeops.stages.prepare import prepare

CORE, MARGIN = 8, 3
SIDE = CORE + 2 * MARGIN


@pytest.mark.parametrize(("core", "margin"), [(8, 3), (4, 0), (12, 5)])
def test_pages_that_were_cut_are_put_together_as_they_were(core: int, margin: int) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 2, 24, 48)).astype(np.uint8)
    tiles = cut_tiles(pages, core, margin)
    assert tiles.shape == (3 * (24 // core) * (48 // core), 2, core + 2 * margin, core + 2 * margin)
    np.testing.assert_array_equal(assemble_tiles(tiles, 24 // core, 48 // core, core, margin), pages)


def test_tiles_come_row_by_row_and_overlap_by_their_margins() -> None:
    pages = np.arange(2 * 16 * 24).reshape(2, 1, 16, 24)
    tiles = cut_tiles(pages, CORE, MARGIN)
    for number, (page, row, column) in enumerate(np.ndindex(2, 2, 3)):
        np.testing.assert_array_equal(
            tiles[number, :, MARGIN : MARGIN + CORE, MARGIN : MARGIN + CORE],
            pages[page, :, row * CORE : (row + 1) * CORE, column * CORE : (column + 1) * CORE],
        )
    np.testing.assert_array_equal(tiles[0, 0, MARGIN:-MARGIN, -2 * MARGIN :], tiles[1, 0, MARGIN:-MARGIN, : 2 * MARGIN])


def test_the_margin_at_a_pages_border_mirrors_the_page() -> None:
    page = np.arange(16 * 24).reshape(1, 1, 16, 24)
    corner = cut_tiles(page, CORE, MARGIN)[0, 0]
    np.testing.assert_array_equal(corner[MARGIN, :MARGIN], page[0, 0, 0, MARGIN:0:-1])
    np.testing.assert_array_equal(corner[:MARGIN, MARGIN], page[0, 0, MARGIN:0:-1, 0])


# ---------------------------------------------------------------- the source


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Twelve scans of six pages of 16 x 24 pixels."""
    draw = np.random.default_rng(0)
    page = np.repeat(np.arange(6), 2)
    noisy, clean = draw.integers(0, 256, (12, 16, 24)), draw.integers(0, 256, (6, 16, 24))
    return {"noisy": noisy.astype(np.uint8), "clean": clean.astype(np.uint8), "page": page, "variant": np.arange(12) % 2}


@pytest.fixture
def scans(room: Room, arrays: dict[str, np.ndarray]) -> Room:
    np.savez(room.root / "scans.npz", **arrays)
    name_scans(room, "scans.npz", CORE, MARGIN)
    room.edit(data={"labels": [0, 1], "novelty": []})
    return room


def name_scans(room: Room, path: str, core: int, margin: int) -> None:
    room.edit(input={"shape": [2, core + 2 * margin, core + 2 * margin], "target_channels": 1})
    room.edit(data={"source": {"kind": "scans", "path": path, "core": core, "margin": margin}})
    room.edit(data={"split": {"validation": 0.1, "calibration": 0.2, "test": 0.2}})


def test_tiles_hold_the_scan_and_its_page_with_the_noise_as_label(scans: Room, arrays: dict[str, np.ndarray]) -> None:
    samples = scans.samples()
    assert dict(samples.metadata) == {"scans": 12, "rows": 2, "columns": 3}
    whole = assemble_tiles(samples.array, 2, 3, CORE, MARGIN)
    np.testing.assert_array_equal(whole[:, 0], arrays["noisy"])
    np.testing.assert_array_equal(whole[:, 1], arrays["clean"][arrays["page"]])
    np.testing.assert_array_equal(samples.labels, np.repeat(arrays["variant"], 6))


def test_all_tiles_of_a_page_share_a_split_and_the_index_tells_their_page(scans: Room) -> None:
    scans.ingest()
    index = read_index(scans.incoming)
    assert index["group"].tolist() == [f"page-{number:03d}" for number in np.repeat(np.arange(6), 12)]
    assert (index.groupby("group")["split"].nunique() == 1).all()
    assert index["split"].nunique() > 1


def test_pages_without_a_kind_of_noise_have_no_labels(scans: Room, arrays: dict[str, np.ndarray]) -> None:
    del arrays["variant"]
    np.savez(scans.root / "scans.npz", **arrays)
    assert scans.samples().labels is None


def test_test_pages_are_put_together_again_from_the_ids_of_the_prepared_tiles(scans: Room, arrays: dict[str, np.ndarray]) -> None:
    scans.edit(data={"split": {"validation": 0.05, "calibration": 0.25, "test": 0.4}})
    scans.accept_unjudged()
    prepare(scans.recipe, scans.data, scans.root / "prepared")
    prepared = load_prepared(scans.root / "prepared")
    each = prepared.source["facts"]["rows"] * prepared.source["facts"]["columns"]
    scan = prepared.table["id"].str.removeprefix("mine-").astype(int) // each
    whole = assemble_tiles(prepared.test, prepared.source["facts"]["rows"], prepared.source["facts"]["columns"], CORE, MARGIN)
    np.testing.assert_array_equal(whole[:, 0], arrays["noisy"][scan.unique()])
    assert prepared.table["group"].tolist() == [f"page-{arrays['page'][number]:03d}" for number in scan]
    assert not set(prepared.table["group"]) & set(read_index(scans.data).query("split == 'train'")["group"])


@pytest.mark.slow
def test_real_documents_are_6048_tiles_of_24_pages(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shared_data("documents/noisyoffice_420x540.npz")
    monkeypatch.setenv("AE_SOURCES", str(place.parent))
    name_scans(room, place.name, 60, 10)
    samples = room.samples()
    assert samples.array.shape == (6048, 2, 80, 80)
    assert len(set(samples.groups)) == 24
    pd.testing.assert_series_equal(
        pd.Series(samples.labels).value_counts().sort_index(), pd.Series([1512] * 4, name="count"), check_index_type=False
    )
    with np.load(place) as held:
        last = assemble_tiles(samples.array[-63:], 7, 9, 60, 10)[0]
        np.testing.assert_array_equal(last, [held["noisy"][-1], held["clean"][held["page"][-1]]])


Arrays = dict[str, np.ndarray]
SPOILED: dict[str, tuple[Callable[[Arrays], Arrays], list[str]]] = {
    "no page": (lambda held: {"noisy": held["noisy"], "clean": held["clean"]}, ["expected an array 'page', got clean, noisy"]),
    "a page that is not there": (lambda held: held | {"page": held["page"] + 1}, ["page: expected 0 to 5", "got 1 to 6"]),
    "too few pages told": (lambda held: held | {"page": held["page"][1:]}, ["page: expected 12 labels", "got 11"]),
    "pages of another size": (
        lambda held: held | {"clean": held["clean"][:, :8]},
        ["whose shape is (6, 8, 24), got shape (12, 16, 24)"],
    ),
    "scans in colour": (lambda held: held | {"noisy": held["noisy"][..., None]}, ["expected shape (n, h, w) of uint8"]),
    "scans in fractions": (
        lambda held: held | {"noisy": held["noisy"] / 255},
        ["expected shape (n, h, w) of uint8", "of float64"],
    ),
    "sides that the core does not divide": (
        lambda held: held | {"noisy": held["noisy"][:, :15], "clean": held["clean"][:, :15]},
        ["expected sides that data.source.core 8 divides", "got pages of 15 x 24 pixels"],
    ),
    "no scans": (lambda held: held | {"noisy": held["noisy"][:0], "page": held["page"][:0]}, ["an empty set"]),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_spoiled_scans_are_refused_in_one_line_and_nothing_is_written(scans: Room, arrays: Arrays, fault: str) -> None:
    spoil, facts = SPOILED[fault]
    np.savez(scans.root / "scans.npz", **spoil(arrays))
    before = tree(scans.root)
    with pytest.raises(DataError) as caught:
        scans.ingest()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "type ae run mine"]), message
    assert tree(scans.root) == before


def test_an_input_that_is_not_the_tiles_is_refused(scans: Room) -> None:
    scans.edit(input={"shape": [2, 16, 16]})
    with pytest.raises(
        UsageError, match=r"expected shape \[2, 14, 14\], .* with tiles of core 8 and margin 3, got \[2, 16, 16\]"
    ):
        scans.recipe  # noqa: B018


def test_dataset_json_tells_how_the_tiles_lie(scans: Room) -> None:
    scans.ingest()
    assert read_json(scans.incoming / "dataset.json")["source"]["facts"] == {"scans": 12, "rows": 2, "columns": 3}
