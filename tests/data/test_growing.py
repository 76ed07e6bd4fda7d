"""A dataset that grows: what is new is read, judged and stored, what was there stays, corrections replace, ids stay."""

import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room, tree
from image_folders import SIDE, textures, write_images

from aeops.data import joined_shards
from aeops.data.dataset import content_sha256, read_index, read_shards, recover_dataset, require_receipt
from aeops.data.judgements import judgements_digest
from aeops.data.reduced_dataset import drop_samples
from aeops.data.retention import FirstDays, expired_by_time
from aeops.data.source_record import SETTLED_NS, read_record
from aeops.data.sources import decode_pool
from aeops.data.sources.catalogue import source_digest
from aeops.data.time_borders import split_borders
from aeops.errors import DataError, UsageError
from aeops.files import file_sha256, write_json
from aeops.machine.stored_json import read_json
from aeops.recipe.reader import load_recipe
from aeops.recipe.sections import SplitSpec
from aeops.stages.ingest import ingest

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import
TODAY = date(2026, 3, 1)
SETTLED = -2 * SETTLED_NS  # before the record by more than a clock's tick


def settle(folder: Path) -> None:
    """Let files be as old as those are that were not written just now."""
    for file in folder.rglob("*"):
        if file.is_file():
            status = file.stat()
            os.utime(file, ns=(status.st_atime_ns + SETTLED, status.st_mtime_ns + SETTLED))


@pytest.fixture
def pictures(room: Room) -> Room:
    """A room whose recipe reads a folder of 120 images in two classes."""
    write_images(room.root / "pictures" / "good", textures(110), (".png",))
    write_images(room.root / "pictures" / "bad", 255 - textures(10, seed=1), (".png",))
    settle(room.root / "pictures")
    room.replace(
        score={"kind": "normalised-residual"},
        evaluate={"pca_components": 4, "neighbours": 5},
        gate={"served": {"check": "served"}},
    )
    source = {"kind": "images", "path": "pictures", "labels": {"folder": 1}}
    room.edit(
        input={"shape": [1, SIDE, SIDE]},
        data={"source": source, "labels": ["bad", "good"], "novelty": ["bad"], "on_duplicate": "skip"},
        validate={"rows": {"min": 50, "max": 5000}, "quarantine_budget": 0.2, "class_share": None, "mean_drift": 0.3},
    )
    return room


def take(room: Room, today: date | None = None) -> None:
    """Ingest what is there and accept it without the expectations, which take seconds."""
    from aeops.data.dataset import replace_dataset, staging_folder
    from aeops.data.source_record import accept_incoming
    from aeops.stages.validate import DatasetValidation, build_dataset, read_kept, require_incoming

    ingest(room.recipe, room.project, room.incoming, today=today)
    description = require_incoming(room.incoming, room.recipe, room.project)
    found = DatasetValidation(read_index(room.incoming), {}, 0, [], [], [], None, kept=read_kept(room.incoming))
    new = build_dataset(found, room.incoming, description, staging_folder(room.data), room.data)
    replace_dataset(new, room.data)
    accept_incoming(room.project, "mine", content_sha256(room.data), set(read_index(room.data)["id"]))


def growth(room: Room) -> dict[str, int]:
    """What the last ingest has changed, in numbers."""
    found: dict[str, int] = read_json(room.incoming / "dataset.json")["growth"]["counts"]
    return found


def by_id(room: Room) -> pd.DataFrame:
    return read_index(room.data).set_index("id")


def stored(room: Room) -> dict[str, bytes]:
    """Each sample's bytes as the dataset has them, by its id."""
    index = read_index(room.data)
    return {
        row: sample.tobytes()
        for part, block in read_shards(room.data, index)
        for row, sample in zip(part["id"], block, strict=True)
    }


# ---------------------------------------------------------------- new, corrected, gone


def test_a_second_ingest_reads_and_stores_the_new_files_alone(pictures: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    take(pictures)
    before, first_shard = by_id(pictures), (pictures.data / "shards" / "00000.npy").stat()
    write_images(pictures.root / "pictures" / "good" / "more", textures(5, seed=7), (".png",))
    decoded: list[str] = []
    decode = decode_pool._Decoder._decode_file
    monkeypatch.setattr(decode_pool._Decoder, "_decode_file", lambda self, name: decoded.append(name) or decode(self, name))
    take(pictures)
    assert decoded == [f"good/more/{number:04d}.png" for number in range(5)]
    assert growth(pictures) == {"unread": 120, "new": 5}
    after = by_id(pictures)
    assert after.loc[before.index].equals(before)
    assert set(after.loc[after.index.str.startswith("good/more"), "shard"]) == {1}
    shard = (pictures.data / "shards" / "00000.npy").stat()
    assert (shard.st_ino, shard.st_mtime_ns) == (first_shard.st_ino, first_shard.st_mtime_ns)
    assert require_receipt(pictures.data, "mine")["rows"]["accepted"] == 125
    assert "growth" not in read_json(pictures.data / "dataset.json")


def test_what_was_grown_holds_the_samples_of_a_whole_reading(pictures: Room) -> None:
    take(pictures)
    write_images(pictures.root / "pictures" / "good" / "more", textures(5, seed=7), (".png",))
    take(pictures)
    grown = by_id(pictures)
    ingest(pictures.recipe, pictures.project, pictures.incoming, whole=True)
    whole = read_index(pictures.incoming).set_index("id")
    columns = [name for name in whole.columns if name not in ("shard", "row")]
    pd.testing.assert_frame_equal(grown.loc[whole.index, columns], whole[columns])
    assert read_json(pictures.data / "dataset.json")["source"] == read_json(pictures.incoming / "dataset.json")["source"]


@pytest.mark.slow
def test_nothing_new_leaves_the_dataset_and_its_times_as_they_are(pictures: Room) -> None:
    pictures.accept()
    before, times = tree(pictures.data), {file: file.stat().st_mtime_ns for file in pictures.data.rglob("*")}
    pictures.accept()
    assert growth(pictures) == {"unread": 120}
    assert tree(pictures.data) == before
    assert {file: file.stat().st_mtime_ns for file in pictures.data.rglob("*")} == times


def test_a_changed_picture_replaces_the_old_one_and_a_moved_one_its_label(pictures: Room) -> None:
    take(pictures)
    before = stored(pictures)
    folder = pictures.root / "pictures"
    write_images(folder / "good", textures(1, seed=9), (".png",))  # 0000.png is another picture now
    (folder / "bad" / "0003.png").unlink()
    take(pictures)
    assert growth(pictures) == {"unread": 118, "replaced": 1, "gone": 1}
    after = stored(pictures)
    assert after.pop("good/0000.png") != before.pop("good/0000.png")
    del before["bad/0003.png"]
    assert after == before  # the shard that lost two samples was written anew
    assert np.load(pictures.data / "shards" / "00000.npy").shape[0] == 118


def test_a_corrected_label_in_the_file_of_labels_replaces_the_old_one_without_reading_a_picture(pictures: Room) -> None:
    folder = pictures.root / "pictures"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))

    def write_labels(wrong: str) -> None:
        rows = [f"{name},{'bad' if name.startswith('bad') or name == wrong else 'good'}" for name in names]
        (folder / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")

    write_labels(wrong="good/0007.png")
    pictures.edit(data={"source": {"kind": "images", "path": "pictures", "labels": {"file": "labels.csv"}}})
    take(pictures)
    before, shard = by_id(pictures), content_sha256(pictures.data / "shards")
    write_labels(wrong="")
    take(pictures)
    assert growth(pictures) == {"unread": 120, "relabelled": 1}
    after = by_id(pictures)
    assert (before.loc["good/0007.png", "label"], after.loc["good/0007.png", "label"]) == (0, 1)
    assert content_sha256(pictures.data / "shards") == shard
    assert after.drop(columns="label").equals(before.drop(columns="label"))


@pytest.mark.slow
def test_bad_pictures_are_judged_again_each_time_and_their_number_is_that_of_the_whole(pictures: Room) -> None:
    (pictures.root / "pictures" / "good" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    take(pictures)
    write_images(pictures.root / "pictures" / "good" / "more", np.stack([np.full((SIDE, SIDE), 9, np.uint8)]), (".png",))
    pictures.accept()
    assert pictures.validation()["rows"] == {"given": 122, "accepted": 120, "quarantined": 2}
    assert {entry["id"] for entry in pictures.validation()["quarantined"]} == {"good/cut.png", "good/more/0000.png"}


@pytest.mark.slow
def test_other_settings_judge_all_samples_again(pictures: Room) -> None:
    take(pictures)
    pictures.edit(validate={"sample_std": {"min": 0.3, "max": 0.6}})
    with pytest.raises(DataError, match="120 of 120 samples are bad"):
        pictures.accept()


def test_a_file_that_was_written_just_before_the_record_is_read_again(pictures: Room) -> None:
    for file in (pictures.root / "pictures").rglob("*.png"):
        file.touch()
    take(pictures)
    take(pictures)
    assert growth(pictures) == {}  # all were read, and none was new
    assert read_json(pictures.incoming / "dataset.json")["growth"]["read"] == 120


@pytest.mark.slow
def test_an_incoming_dataset_that_goes_on_from_another_version_is_refused(pictures: Room) -> None:
    from aeops.stages.validate import validate

    take(pictures)
    write_images(pictures.root / "pictures" / "good" / "more", textures(2, seed=7), (".png",))
    pictures.ingest()
    (pictures.root / "pictures" / "bad" / "0001.png").unlink()
    whole = pictures.root / "whole"
    ingest(pictures.recipe, pictures.project, whole, whole=True)
    validate(pictures.recipe, pictures.project, whole)
    with pytest.raises(DataError, match=r"no longer the version that it goes on from: type ae run mine"):
        validate(pictures.recipe, pictures.project, pictures.incoming)


def test_the_digest_of_a_source_takes_what_is_recorded_and_sees_every_change(
    pictures: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeops.data import source_record

    digest = source_digest(pictures.recipe, pictures.project)
    take(pictures)
    hashed: list[Path] = []
    sha256 = source_record.file_sha256
    monkeypatch.setattr(source_record, "file_sha256", lambda path: hashed.append(path) or sha256(path))
    assert source_digest(pictures.recipe, pictures.project) == digest
    assert hashed == []
    write_images(pictures.root / "pictures" / "good", textures(1, seed=9), (".png",))
    assert source_digest(pictures.recipe, pictures.project) != digest
    assert [path.name for path in hashed] == ["0000.png"]


# ---------------------------------------------------------------- people's judgements


def broken(room: Room, expectation: str) -> list[str]:
    """The samples that the last validation names with the values by which they break an expectation."""
    entries = room.validation()["expectations"]
    return [item["id"] for entry in entries if entry["name"] == expectation for item in entry.get("broken", ())]


@pytest.mark.slow
def test_judgements_hold_in_data_that_grows_and_a_changed_one_is_taken_where_no_file_has_changed(
    pictures: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeops.cli.main import main

    def judge(*arguments: str) -> None:
        assert main(["quarantine", "mine", *arguments, "--why", "seen by eye", "--by", "Ada"]) == 0

    monkeypatch.chdir(pictures.root)
    write_images(pictures.root / "pictures" / "dark", np.zeros_like(textures(1)), (".png",))
    settle(pictures.root / "pictures")
    pictures.edit(data={"labels": ["bad", "good", "dark"]})
    pictures.accept()
    [entry] = pictures.validation()["quarantined"]
    name, before = entry["id"], content_sha256(pictures.data)

    judge("--release", name, "--relabel", f"{name}=good")
    pictures.accept()
    assert content_sha256(pictures.data) != before
    assert by_id(pictures).label[name] == 1
    assert pictures.validation()["judgements_sha256"] == judgements_digest(pictures.project, "mine")

    write_images(pictures.root / "pictures" / "good" / "late", textures(1, seed=5), (".png",))
    settle(pictures.root / "pictures" / "good" / "late")
    pictures.accept()
    assert growth(pictures) == {"unread": 121, "new": 1}
    assert by_id(pictures).label[name] == 1, "not that of its folder"
    assert pictures.validation()["rows"] == {"given": 122, "accepted": 122, "quarantined": 0, "released": 1, "relabelled": 1}
    assert broken(pictures, "sample_mean") == [name], "by which `ae suite --accept` may still widen the bounds"

    released = pictures.project.judgements("mine").read_bytes()
    judge("--drop", name, "--overrule")
    pictures.accept()
    assert growth(pictures)["rejudged"] == 1
    assert name not in by_id(pictures).index
    assert pictures.validation()["rows"]["dropped"] == 1

    pictures.project.judgements("mine").write_bytes(released)
    pictures.accept()
    assert by_id(pictures).label[name] == 1
    pictures.project.judgements("mine").unlink()
    pictures.accept()
    assert growth(pictures)["rejudged"] == 1
    assert [entry["id"] for entry in pictures.validation()["quarantined"]] == [name]
    assert name not in by_id(pictures).index


# ---------------------------------------------------------------- ids by number


@pytest.mark.slow
def test_samples_without_ids_keep_their_numbers_when_earlier_ones_go_and_no_number_is_given_twice(accepted: Room) -> None:
    before = by_id(accepted).reset_index().set_index("sha256")
    accepted.save(images=accepted.images[50:], labels=accepted.labels[50:])
    accepted.edit(validate={"class_share": None})
    take(accepted)  # other settings: all are judged again, and keep their numbers
    after = by_id(accepted).reset_index().set_index("sha256")
    assert after["id"].equals(before.loc[after.index, "id"])
    assert after["split"].equals(before.loc[after.index, "split"])
    extra = accepted.images[:3, ::-1]
    accepted.save(
        images=np.concatenate([extra, accepted.images[50:590]]), labels=np.r_[accepted.labels[:3], accepted.labels[50:590]]
    )
    take(accepted)
    assert growth(accepted) == {"new": 3, "gone": 10}
    assert [name for name in by_id(accepted).index if name > "mine-000599"] == ["mine-000600", "mine-000601", "mine-000602"]
    accepted.save(images=accepted.images[50:590], labels=accepted.labels[50:590])
    take(accepted)
    assert read_json(accepted.data / "dataset.json")["next_number"] == 603
    accepted.save(
        images=np.concatenate([accepted.images[50:590], extra]), labels=np.r_[accepted.labels[50:590], accepted.labels[:3]]
    )
    take(accepted)
    assert by_id(accepted).index[-1] == "mine-000605"


@pytest.mark.slow
def test_a_sample_that_is_bad_keeps_its_number_too(accepted: Room) -> None:
    accepted.save(images=np.concatenate([accepted.images, 0 * accepted.images[:1]]), labels=np.r_[accepted.labels, 0])
    accepted.accept()
    assert [entry["id"] for entry in accepted.validation()["quarantined"]] == ["mine-000600"]
    more = np.concatenate([accepted.images, 0 * accepted.images[:1], accepted.images[:2, ::-1]])
    accepted.save(images=more, labels=np.r_[accepted.labels, 0, 0, 0])
    accepted.accept()
    assert [entry["id"] for entry in accepted.validation()["quarantined"]] == ["mine-000600"]
    assert list(by_id(accepted).index[-2:]) == ["mine-000601", "mine-000602"]


@pytest.mark.slow
@pytest.mark.parametrize(("on_duplicate", "quarantined"), [("skip", 0), ("refuse", 1)])
def test_an_appended_correction_of_a_label_counts_and_the_wrong_label_goes(
    accepted: Room, on_duplicate: str, quarantined: int
) -> None:
    accepted.edit(data={"on_duplicate": on_duplicate})
    accepted.save()
    take(accepted)
    accepted.save(images=np.concatenate([accepted.images, accepted.images[7:8]]), labels=np.r_[accepted.labels, 4])
    accepted.accept()
    assert by_id(accepted).loc["mine-000007", "label"] == 4
    assert len(by_id(accepted)) == 600
    assert growth(accepted)["relabelled"] == 1
    assert accepted.validation()["rows"]["quarantined"] == quarantined


@pytest.mark.slow
def test_copies_are_left_out_taken_or_set_aside_as_the_recipe_says(accepted: Room) -> None:
    images, labels = np.concatenate([accepted.images, accepted.images[:4]]), np.r_[accepted.labels, accepted.labels[:4]]
    accepted.save(images=images, labels=labels)
    for rule, samples, bad in (("skip", 600, 0), ("accept", 604, 0), ("refuse", 600, 4)):
        accepted.edit(data={"on_duplicate": rule})
        accepted.accept()
        assert (len(by_id(accepted)), accepted.validation()["rows"]["quarantined"]) == (samples, bad), rule


@pytest.mark.slow
def test_a_label_that_the_recipe_does_not_know_costs_a_known_sample_its_place(accepted: Room) -> None:
    labels = accepted.labels.copy()
    labels[5] = 77
    accepted.save(labels=labels)
    accepted.accept()
    assert "mine-000005" not in by_id(accepted).index
    assert accepted.validation()["quarantined"] == [
        {"id": "mine-000005", "reasons": ["unknown label 77: data.labels does not name it"]}
    ]


# ---------------------------------------------------------------- a table


def write_rows(room: Room, rows: list[tuple[str, float, str]]) -> None:
    lines = [f"{name},{value},{state}" for name, value, state in rows]
    (room.root / "rows.csv").write_text("part,size,state\n" + "\n".join(lines) + "\n")


@pytest.fixture
def parts(room: Room) -> Room:
    """A room whose recipe reads 90 rows of a CSV file, with ids and labels."""
    room.replace(
        input={"kind": "table", "columns": [{"name": "size", "type": "number"}]},
        model={
            "corrupt": {"kind": "none"},
            "encode": {"kind": "table", "widths": [4]},
            "bottleneck": {"kind": "identity", "size": 1},
            "decode": {"kind": "dense", "widths": [4]},
            "compare": {"kind": "mixed"},
        },
        score={"kind": "knn", "neighbours": 2},
        train={"epochs": 1},
        evaluate={"pca_components": 1, "neighbours": 2},
        gate={"served": {"check": "served"}},
        validate={"rows": {"min": 10, "max": 1000}, "mean_drift": 1.0, "quarantine_budget": 0.1},
    )
    source = {"kind": "table", "path": "rows.csv", "id": "part", "labels": "state"}
    room.edit(data={"source": source, "labels": ["ok", "broken"], "novelty": ["broken"], "on_duplicate": "accept"})
    write_rows(room, [(f"p{number}", number / 7, "broken" if number % 9 == 0 else "ok") for number in range(90)])
    return room


@pytest.mark.slow
def test_rows_that_are_appended_changed_or_corrected_by_a_later_row_are_taken_over(parts: Room) -> None:
    take(parts)
    rows = [(f"p{number}", number / 7, "broken" if number % 9 == 0 else "ok") for number in range(90)]
    rows[3] = ("p3", 99.0, "ok")  # corrected where it stands
    rows += [("p90", 5.5, "ok"), ("p4", 4 / 7, "broken")]  # a new one; and a known one with another label
    write_rows(parts, rows)
    parts.accept()
    assert growth(parts) == {"new": 1, "replaced": 1, "relabelled": 1}
    after = by_id(parts)
    assert (after.loc["p4", "label"], len(after)) == (1, 91)
    table = pd.concat([pd.read_parquet(file) for file in sorted((parts.data / "shards").iterdir())])
    assert 99.0 in set(table["size"])
    assert 3 / 7 not in set(table["size"])
    assert [entry["reasons"] for entry in parts.validation()["quarantined"]] == [
        ["its id stands again in a later row, which replaces it"]
    ]


# ---------------------------------------------------------------- small shards


def shards_of(room: Room) -> list[str]:
    return sorted(file.name for file in (room.data / "shards").iterdir())


def add_pictures(room: Room, number: int) -> None:
    write_images(room.root / "pictures" / "good" / f"more{number}", textures(3, seed=10 + number), (".png",))
    settle(room.root / "pictures" / "good" / f"more{number}")


def test_many_small_shards_become_one_with_every_sample_as_it_was(pictures: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_shards, "MAX_SMALL_SHARDS", 3)
    take(pictures)
    for number in range(2):
        add_pictures(pictures, number)
        take(pictures)
    assert shards_of(pictures) == ["00000.npy", "00001.npy", "00002.npy"]
    (pictures.root / "pictures" / "good" / "more0" / "0001.png").unlink()
    kept_version = pictures.root / "version"  # its files share their bytes with those of data/, as DVC's cache may
    shutil.copytree(pictures.data, kept_version, copy_function=os.link)
    version_sha256, before, samples = content_sha256(kept_version), by_id(pictures), stored(pictures)

    add_pictures(pictures, 2)
    take(pictures)
    assert shards_of(pictures) == ["00000.npy"]
    after = by_id(pictures)
    columns = [name for name in after.columns if name not in ("shard", "row")]
    stays = before.drop("good/more0/0001.png")
    pd.testing.assert_frame_equal(after.iloc[: len(stays)][columns], stays[columns])
    assert list(after["row"]) == list(range(128))
    del samples["good/more0/0001.png"]
    assert {name: content for name, content in stored(pictures).items() if name in samples} == samples
    assert content_sha256(kept_version) == version_sha256, "no byte of the version before was written"
    [shard] = read_json(pictures.data / "dataset.json")["shards"]
    assert (shard["rows"], shard["sha256"]) == (128, file_sha256(pictures.data / "shards" / "00000.npy"))

    take(pictures)
    assert growth(pictures) == {"unread": 128}
    drop_samples(pictures.project, "mine", ["good/more2/0000.png"], [after.loc["good/more2/0000.png", "sha256"]])
    assert "good/more2/0000.png" not in stored(pictures)
    assert stored(pictures).items() >= samples.items()
    take(pictures)
    assert len(by_id(pictures)) == 127


def test_a_join_that_fails_leaves_the_version_before_and_nothing_half(pictures: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_shards, "MAX_SMALL_SHARDS", 1)
    take(pictures)
    add_pictures(pictures, 0)
    before = tree(pictures.data)

    def fail(*_: object) -> str:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(joined_shards, "write_block", fail)
        with pytest.raises(OSError, match="the disk is full"):
            take(pictures)
    assert tree(pictures.data) == before
    recover_dataset(pictures.data)
    take(pictures)
    assert (shards_of(pictures), len(by_id(pictures))) == (["00000.npy"], 123)


def test_rows_of_small_shards_are_joined_as_rows(parts: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_shards, "MAX_SMALL_SHARDS", 1)
    take(parts)
    rows = [(f"p{number}", number / 7, "broken" if number % 9 == 0 else "ok") for number in range(90)]
    write_rows(parts, [*rows, ("p90", 5.5, "ok"), ("p91", 6.5, "broken")])
    take(parts)
    assert shards_of(parts) == ["00000.parquet"]
    table = pd.read_parquet(parts.data / "shards" / "00000.parquet")
    assert table["size"].tolist()[-3:] == [89 / 7, 5.5, 6.5]
    assert list(by_id(parts).index) == [f"p{number}" for number in range(92)]


def test_large_shards_and_those_of_other_values_are_not_joined() -> None:
    small = joined_shards.SMALL_BYTES - 1
    assert joined_shards.runs_of_small([small + 1, small, 5, 5, 5], ["uint8"] * 5) == [[0], [1, 2], [3, 4]]
    assert joined_shards.runs_of_small([5, 5, 5], ["uint8", "float32", "float32"]) == [[0], [1, 2]]


# ---------------------------------------------------------------- how long


@pytest.mark.slow
def test_samples_go_after_the_days_that_the_recipe_keeps_them_and_do_not_come_back(pictures: Room) -> None:
    def accept(today: date) -> None:
        take(pictures, today)

    pictures.edit(data={"keep": "90 days"}, validate={"rows": {"min": 1, "max": 5000}})
    accept(TODAY)
    splits = by_id(pictures)["split"]
    write_images(pictures.root / "pictures" / "bad" / "late", 255 - textures(30, seed=5), (".png",))
    write_images(pictures.root / "pictures" / "good" / "late", textures(60, seed=6), (".png",))
    settle(pictures.root / "pictures")
    accept(TODAY + timedelta(days=30))
    assert len(by_id(pictures)) == 210
    assert by_id(pictures).loc[splits.index, "split"].equals(splits)
    late = by_id(pictures).drop(splits.index)
    accept(TODAY + timedelta(days=90))
    assert growth(pictures)["expired"] == 120
    assert by_id(pictures)["split"].equals(late["split"])
    shards = [file.name for file in (pictures.data / "shards").iterdir()]
    assert shards == ["00001.npy"]  # the shard of the old ones is gone with them
    accept(TODAY + timedelta(days=91))
    assert read_json(pictures.incoming / "dataset.json")["growth"]["read"] == 0
    assert len(by_id(pictures)) == 90
    assert read_record(pictures.project, "mine").oldest_day == "2026-03-31"  # type: ignore[union-attr]


def test_a_clock_that_was_set_back_lets_nothing_go_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    days = FirstDays().with_samples(["a"], TODAY).with_samples(["a", "b"], TODAY - timedelta(days=400))
    assert days.days == {"a": TODAY, "b": TODAY}
    assert not days.expired(["a", "b"], 90).any()
    assert "the clock says 2025-01-25, and the last samples came on 2026-03-01" in capsys.readouterr().err


def test_samples_with_times_are_counted_from_the_newest() -> None:
    day = 86_400.0
    assert expired_by_time(np.array([10.0, 9.0, 7.0, 6.9]) * day, 3).tolist() == [False, False, True, True]
    assert expired_by_time(np.zeros(0), 3).tolist() == []


@pytest.mark.parametrize("keep", ["90", "0 days", "three days", "90 weeks", "-1 days"])
def test_a_time_that_is_no_number_of_days_is_refused(pictures: Room, keep: str) -> None:
    pictures.edit(data={"keep": keep})
    with pytest.raises(UsageError, match=r"keep: expected a number of days from 1 on, such as 90 days"):
        load_recipe(pictures.project, "mine")


# ---------------------------------------------------------------- splits in time


def test_borders_in_time_stay_while_earlier_steps_go_and_move_on_with_later_ones_alone(tmp_path: Path) -> None:
    split = SplitSpec(validation=0.1, calibration=0.2, test=0.2, by="time")
    times = np.arange(100.0)
    first = split_borders(times, split, tmp_path)
    assert first.times == (50.0, 60.0, 80.0)
    write_json(tmp_path / "dataset.json", {"split_borders": first.to_dict()})
    assert split_borders(times[40:], split, tmp_path) == first  # earlier steps have gone
    later = split_borders(np.arange(40.0, 140.0), split, tmp_path)
    assert later.times == (90.0, 100.0, 120.0)
    late_arrivals = split_borders(np.arange(-300.0, 101.0), split, tmp_path)
    assert late_arrivals.times == first.times  # what comes late lies before the borders: none moves back
    assert set(late_arrivals.splits(times[:50])) == {"train"}
    other = SplitSpec(validation=0.2, calibration=0.2, test=0.2, by="time")
    assert split_borders(times, other, tmp_path).times == (40.0, 60.0, 80.0)  # the recipe has drawn them anew
