"""A folder of image files as a source: what becomes a sample, what is set aside by name, and that masks and labels are found."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room
from image_folders import SIDE, dirt, encoded, textures, write_images
from PIL import Image

from ae_models.spec import InputSpec
from aeops.data.dataset import lines_sha256, read_index
from aeops.data.set_aside import read_set_aside
from aeops.data.source_record import file_stamp
from aeops.data.sources import decode_pool, image_files
from aeops.data.sources.catalogue import read_masks, source_digest
from aeops.data.sources.image_files import list_images
from aeops.data.statistics import sample_sha256
from aeops.errors import DataError, TransientError, UsageError
from aeops.kinds.picture_samples import picture_samples
from aeops.page.state_files import read_quarantine
from aeops.recipe.image_sources import ImagesSource

PLAIN = {
    "score": {"kind": "normalised-residual"},
    "evaluate": {"pca_components": 4, "neighbours": 5},
    "gate": {"served": {"check": "served"}},
}


@pytest.fixture
def pictures(room: Room) -> Room:
    """A room whose recipe reads a folder of 300 images, good and bad."""
    write_images(room.root / "pictures" / "good", textures(280))
    write_images(room.root / "pictures" / "bad", 255 - textures(20, seed=1), (".bmp", ".tif", ".webp"))
    room.replace(**PLAIN)
    source = {"kind": "images", "path": "pictures", "labels": {"folder": 1}}
    room.edit(
        input={"shape": [1, SIDE, SIDE]},
        data={"source": source, "labels": ["bad", "good"], "novelty": ["bad"]},
        validate={"rows": {"min": 100, "max": 5000}, "quarantine_budget": 0.2, "class_share": None},
    )
    return room


def test_files_are_samples_with_their_paths_as_ids_and_their_folders_as_labels(pictures: Room) -> None:
    pictures.ingest()
    index = read_index(pictures.incoming)
    assert len(index) == 300
    assert set(index["id"]) >= {"good/0000.png", "good/0001.jpg", "bad/0000.bmp", "bad/0001.tif", "bad/0002.webp"}
    assert (index["label"] == index["id"].str.startswith("good/")).all()
    samples = pictures.samples()
    place = list(samples.ids or ()).index("good/0000.png")
    np.testing.assert_array_equal(samples.array[place : place + 1][0, 0], textures(280)[0])


def test_dirt_is_set_aside_by_name_with_its_reason_and_the_rest_goes_on(pictures: Room) -> None:
    reasons = dirt(pictures.root / "pictures" / "good")
    os.symlink("/etc", pictures.root / "pictures" / "good" / "etc")
    os.symlink(pictures.root / "pictures" / "bad" / "0000.bmp", pictures.root / "pictures" / "linked.bmp")
    (pictures.root / "pictures" / "unknown").mkdir()
    Image.fromarray(textures(1)[0]).save(pictures.root / "pictures" / "unknown" / "1.png")
    pictures.ingest()
    assert len(read_index(pictures.incoming)) == 300
    found = read_set_aside(pictures.incoming)
    assert set(found) == {f"good/{name}" for name in reasons} | {"good/etc", "linked.bmp", "unknown/1.png"}
    for name, word in reasons.items():
        assert word in found[f"good/{name}"], (name, found[f"good/{name}"])
    assert "link" in found["good/etc"]
    assert "unknown label 'unknown'" in found["unknown/1.png"]


@pytest.mark.slow
def test_what_was_set_aside_counts_in_the_budget_and_is_in_quarantine(pictures: Room) -> None:
    dirt(pictures.root / "pictures" / "good")
    pictures.accept()
    validation = pictures.validation()
    assert validation["rows"] == {"given": 312, "accepted": 300, "quarantined": 12}
    assert {"id": "good/empty.jpg", "reasons": ["it is empty"]} in validation["quarantined"]
    folder = pictures.project.home / validation["quarantine"]
    rows = pd.read_parquet(folder / "rows.parquet").set_index("id")
    assert len(rows) == 12
    assert list(rows.loc["good/empty.jpg", "reasons"]) == ["it is empty"]
    assert not (folder / "samples.npy").exists()
    summary = read_quarantine(pictures.project, "mine")
    assert summary is not None
    assert (summary.count, len(summary.images)) == (12, 0)
    pictures.edit(validate={"quarantine_budget": 0.01})
    with pytest.raises(DataError, match=r"12 of 312 samples are bad, expected at most 3 .* expected one image"):
        pictures.accept()


@pytest.mark.slow
def test_many_processes_read_the_same_samples_in_the_same_order_as_one(pictures: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    dirt(pictures.root / "pictures" / "good")
    alone = pictures.samples()
    monkeypatch.setattr(decode_pool, "FILES_OF_A_PROCESS", 100)
    monkeypatch.setattr(decode_pool, "CHUNK_FILES", 7)
    monkeypatch.setattr(decode_pool.os, "sched_getaffinity", lambda _: {0, 1, 2})
    together = pictures.samples()
    assert together.ids == alone.ids
    assert together.set_aside == alone.set_aside
    assert together.checksums == alone.checksums
    np.testing.assert_array_equal(together.array[: len(alone.array)], alone.array[: len(alone.array)])


def test_pages_of_many_processes_are_those_of_one_and_lie_in_places_of_their_own(
    pictures: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [Image.fromarray(image) for image in textures(5, seed=4)]
    for name in ("0010", "0011", "0200", "0279"):
        content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
        (pictures.root / "pictures" / "good" / f"{name}.tif").write_bytes(content)
    pictures.edit(input={"frames": "each"})
    alone = pictures.samples()
    assert alone.ids is not None
    assert len(alone.ids) == 320
    for number, image in enumerate(textures(5, seed=4)):
        place = list(alone.ids).index(f"good/0200.tif#{number + 1}")
        np.testing.assert_array_equal(alone.array[place : place + 1][0, 0], image)
    monkeypatch.setattr(decode_pool, "FILES_OF_A_PROCESS", 100)
    monkeypatch.setattr(decode_pool, "CHUNK_FILES", 7)
    monkeypatch.setattr(decode_pool, "SHEET_BYTES", 3 * SIDE * SIDE)
    monkeypatch.setattr(decode_pool.os, "sched_getaffinity", lambda _: {0, 1, 2})
    together = pictures.samples()
    assert (together.ids, together.sha256) == (alone.ids, alone.sha256)
    np.testing.assert_array_equal(together.array[:320], alone.array[:320])
    assert together.sha256 == sample_sha256(np.ascontiguousarray(together.array[:320]))


def test_a_file_that_may_not_be_read_is_set_aside_and_no_part_of_the_digest(
    pictures: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, hidden = decode_pool._read_file, pictures.root / "pictures" / "good" / "0006.png"

    def refuse(path: str) -> tuple[bytes | None, os.stat_result]:
        if path == str(hidden):
            raise PermissionError(13, "Permission denied")
        return read(path)

    whole = dict(pictures.samples().checksums)
    monkeypatch.setattr(decode_pool, "_read_file", refuse)  # root, who may run this, may read everything
    samples = pictures.samples()
    assert samples.set_aside == {"good/0006.png": "it may not be read: make it readable"}
    assert whole.keys() - samples.checksums.keys() == {"good/0006.png"}
    assert samples.files is not None
    assert samples.files.get("good/0006.png") is None
    recorded = samples.files.get("good/0008.png")
    assert recorded is not None
    assert (recorded.stamp, recorded.samples) == (file_stamp(hidden.with_name("0008.png")), 1)
    monkeypatch.setattr(image_files.os, "access", lambda path, _: str(path) != str(hidden))
    assert lines_sha256(dict(samples.checksums)) == source_digest(pictures.recipe, pictures.project)


def test_a_file_is_read_to_its_end_however_little_the_system_gives_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(Image.fromarray(textures(1)[0]), "PNG")
    (tmp_path / "1.png").write_bytes(content)
    read = os.read
    monkeypatch.setattr(decode_pool.os, "read", lambda descriptor, _: read(descriptor, 10))
    found, status = decode_pool._read_file(str(tmp_path / "1.png"))
    assert (found, status.st_size) == (content, len(content))
    monkeypatch.setattr(decode_pool, "MAX_IMAGE_BYTES", len(content) - 1)
    assert decode_pool._read_file(str(tmp_path / "1.png"))[0] is None


def test_a_killed_process_is_an_error_that_may_pass_by_itself(pictures: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "FILES_OF_A_PROCESS", 100)
    monkeypatch.setattr(decode_pool.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(decode_pool, "sample_pictures", lambda *_: os._exit(9))
    with pytest.raises(TransientError, match="a process that decodes images was killed"):
        pictures.samples()


def test_the_digest_is_the_same_whether_files_were_read_or_are_hashed_again(pictures: Room) -> None:
    digest = source_digest(pictures.recipe, pictures.project)
    assert lines_sha256(dict(pictures.samples().checksums)) == digest
    Image.fromarray(textures(1, seed=5)[0]).save(pictures.root / "pictures" / "good" / "new.png")
    assert source_digest(pictures.recipe, pictures.project) != digest


def test_a_file_of_labels_names_images_and_what_it_does_not_name_is_set_aside(pictures: Room) -> None:
    rows = ["file;label", *(f"good/{number:04d}.png;fine" for number in range(0, 280, 2)), "bad/0000.bmp;odd", "../x.png;odd"]
    rows += ["good/0000.png;odd", "good/0002.png;"]
    (pictures.root / "pictures" / "labels.csv").write_text("\n".join(rows))
    source = {"kind": "images", "path": "pictures", "labels": {"file": "labels.csv"}}
    pictures.edit(data={"source": source, "labels": ["fine", "odd"], "novelty": ["odd"]})
    samples = pictures.samples()
    assert samples.ids is not None
    assert len(samples.ids) == 139
    assert "bad/0000.bmp" in samples.ids
    assert samples.set_aside["good/0000.png"] == samples.set_aside["good/0001.jpg"] == "no label: labels.csv does not name it"
    assert "labels.csv" in dict(pictures_files(pictures))


def pictures_files(room: Room) -> dict[str, Path]:
    from aeops.data.sources.catalogue import load_source

    return load_source("images").files(room.recipe, room.project)


def test_masks_are_no_samples_and_are_found_by_id_scaled_as_the_images_are(pictures: Room) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:5, 3:9] = 255
    write_images(pictures.root / "pictures" / "ground_truth" / "bad", mask[None], ("_mask.png",))
    source = {"kind": "images", "path": "pictures", "labels": {"folder": 1}, "masks": "ground_truth"}
    pictures.edit(data={"source": source}, input={"shape": [1, 8, 8], "resize": "stretch"})
    samples = pictures.samples()
    assert len(samples.array) == 300
    assert samples.metadata["masked"] == 1
    digest = source_digest(pictures.recipe, pictures.project)
    found = read_masks(pictures.recipe, pictures.project, digest, ["bad/0000.bmp", "good/0000.png"])
    assert found[0].sum() == 2 * 4
    assert found[0, 1:3, 1:5].all()
    assert not found[1].any()
    with pytest.raises(DataError, match="put the old ones back"):
        read_masks(pictures.recipe, pictures.project, "0" * 64, [])


def test_a_test_folder_is_the_test_part_and_a_group_shares_a_split(pictures: Room) -> None:
    for number, image in enumerate(textures(60, seed=3)):
        folder = pictures.root / "parts" / ("test" if number < 20 else "train") / f"part{number // 5}"
        write_images(folder, image[None], (f"-{number}.png",))
    pictures.edit(data={"source": {"kind": "images", "path": "parts", "test": "test", "group": 2}, "labels": [], "novelty": []})
    recipe = pictures.recipe_file.read_text().replace("    test: 0.2\n", "")
    pictures.recipe_file.write_text(recipe)
    pictures.ingest()
    index = read_index(pictures.incoming)
    assert set(index["id"][index["split"] == "test"]) == {name for name in index["id"] if name.startswith("test/")}
    assert (index.groupby("group")["split"].nunique() == 1).all()
    assert index["group"].nunique() == 12


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1", "LA"])
def test_every_mode_of_colours_becomes_the_channels_of_the_model(mode: str) -> None:
    red = Image.new("RGB", (SIDE, SIDE), (200, 30, 30))
    kind = "TIFF" if mode in ("CMYK", "LA") else "PNG"
    content = encoded(red.convert(mode), kind)
    for channels in (1, 3, 4):
        samples = picture_samples(content, InputSpec(shape=(channels, SIDE, SIDE)), "x", channels)
        assert samples.shape == (1, channels, SIDE, SIDE)
        assert samples.dtype == np.uint8
    if mode in ("RGB", "RGBA", "P", "CMYK"):
        assert samples[0, 0].mean() > samples[0, 1].mean() + 100


def test_an_image_is_turned_upright_before_it_is_measured() -> None:
    tall = Image.fromarray(np.vstack([np.full((4, 8), 250, np.uint8), np.full((12, 8), 10, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(tall.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    sample = picture_samples(content, InputSpec(shape=(1, 16, 8)), "x", 1)[0, 0]
    assert sample[:4].mean() > 240
    assert sample[5:].mean() < 20


def test_sixteen_bits_are_kept_and_a_file_of_eight_is_refused() -> None:
    values = (np.arange(SIDE * SIDE, dtype=np.uint16) * 16).reshape(SIDE, SIDE)
    rules = InputSpec(shape=(1, SIDE, SIDE), low=0, high=4095, resize="stretch")
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(picture_samples(encoded(Image.fromarray(values), kind), rules, "x", 1)[0, 0], values)
    half = picture_samples(encoded(Image.fromarray(values).resize((32, 32)), "PNG"), rules, "x", 1)
    assert half.dtype == np.float32
    assert values.min() <= half.min() <= half.max() <= values.max()
    with pytest.raises(DataError, match="expected one channel of 16 bits"):
        picture_samples(encoded(Image.new("L", (SIDE, SIDE)), "PNG"), rules, "x", 1)


@pytest.mark.parametrize(("frames", "count"), [("first", 1), ("each", 3)])
def test_pages_are_samples_by_the_rule(frames: str, count: int) -> None:
    pages = [Image.fromarray(image) for image in textures(3)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    samples = picture_samples(content, InputSpec(shape=(1, SIDE, SIDE), frames=frames), "x", 1)
    np.testing.assert_array_equal(samples[:, 0], textures(3)[:count])


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
def test_another_size_is_brought_to_the_models_by_the_rule(resize: str) -> None:
    wide = np.zeros((SIDE, 4 * SIDE), np.uint8)
    wide[:, 2 * SIDE :] = 200
    sample = picture_samples(encoded(Image.fromarray(wide), "PNG"), InputSpec(shape=(1, 8, 8), resize=resize), "x", 1)[0, 0]
    assert abs(float(sample[4, :4].mean()) - 0) < 30
    assert abs(float(sample[4, 4:].mean()) - 200) < 30
    bars = sample[0].std() < 1  # of padding: one colour, where the others show both halves
    assert bars == (resize == "pad")


def test_a_folder_without_images_and_paths_that_lead_out_are_refused(pictures: Room) -> None:
    pictures.edit(data={"source": {"kind": "images", "path": "pictures", "labels": {"folder": 1}, "masks": "../truth"}})
    with pytest.raises(UsageError, match=r"masks: expected a path below the source's folder.*\.\./truth"):
        _ = pictures.recipe
    pictures.edit(data={"source": {"kind": "images", "path": "empty", "labels": {"folder": 1}}})
    with pytest.raises(DataError, match="no such folder"):
        pictures.ingest()
    (pictures.root / "empty").mkdir()
    (pictures.root / "empty" / "readme.txt").touch()
    with pytest.raises(DataError, match="expected image files in it, got 1 others"):
        pictures.ingest()
    assert ImagesSource("x", masks="ok").validation_errors() == []


def test_hidden_files_and_folders_of_archives_are_no_images(tmp_path: Path) -> None:
    for name in (".hidden.png", "__MACOSX/1.png", ".git/2.png", "3.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path).images == ["3.PNG"]
