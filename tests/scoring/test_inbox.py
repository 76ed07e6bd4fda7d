"""What is new in an inbox is scored once, by content; what is broken stands in nobody's way."""

import errno
import io
import json
import os
import shutil
import threading
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from markupsafe import escape
from PIL import Image

from aeops.bundle.detector import Detector
from aeops.cli import score
from aeops.data.statistics import sample_sha256
from aeops.errors import DataError, UsageError
from aeops.files import file_sha256
from aeops.machine.terminal import escape_line, escaped_output
from aeops.predictions import prediction_store
from aeops.predictions.prediction_store import call_file
from aeops.recipe.reader import load_recipe
from aeops.registry.trust import TrustedBundle
from aeops.scoring import inbox_run as running
from aeops.scoring import score_file
from aeops.scoring.inbox import inbox_folder, list_inbox
from aeops.scoring.inbox_run import InboxRun, inbox_lock, score_inbox
from aeops.scoring.score_file import SHA256_KEY, SOURCE_KEY, RecordedCalls, call_name, score_blocks

from .conftest import Room, age, npy_bytes

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def names(told: dict[str, object], kind: str) -> list[str]:
    files = told["files"][kind]  # type: ignore[index]
    return sorted(one["name"] for one in files) if isinstance(files, list) else sorted(files)


def test_an_inbox_that_is_not_there_yet_is_made_and_has_nothing_new(room: Room) -> None:
    shutil.rmtree(room.inbox, ignore_errors=True)
    summary = room.run(now=NOW)
    assert (summary["says"], summary["files"]["left"]) == ("nothing new in the inbox", {})
    assert room.inbox.is_dir()


# ---------------------------------------------------------------- what is recorded


@pytest.mark.slow
def test_every_sample_of_new_files_is_recorded_as_the_champion_scores_it(
    room: Room, digits: np.ndarray, linear_bundle: Path
) -> None:
    room.put("a.npy", digits[:5])
    room.put("line2/b.npy", digits[5, 0])
    Image.fromarray(digits[6, 0]).save(room.inbox / "c.png")
    age(room.inbox / "c.png")
    told = room.run(now=NOW)
    table = prediction_store.read_predictions(room.project, "digits").to_pydict()
    place = [table["sample"].index(name) for name in [*(f"a.npy[{row}]" for row in range(5)), "line2/b.npy[0]", "c.png"]]
    expected = Detector(linear_bundle).score(digits[:7], code=True)
    np.testing.assert_array_equal(np.array(table["score"], np.float32)[place], expected["score"])
    np.testing.assert_allclose(np.array(table["code"])[place], expected["code"], rtol=1e-6)
    assert [table["sample_sha256"][row] for row in place] == sample_sha256(digits[:7])
    assert {*table["channel"], *table["version"], *table["time"]} == {"batch", "1", NOW}
    assert (told["state"], told["samples"], told["flagged"]) == ("scored", 7, int(expected["is_anomaly"].sum()))
    assert names(told, "taken") == ["a.npy", "c.png", "line2/b.npy"]
    for one in told["files"]["taken"]:
        [file] = [file for file in room.calls() if file.stem == one["call"]]
        assert file.parent.name == "2026-03-01"
        about = pq.read_metadata(file).metadata
        assert about[SHA256_KEY.encode()].decode() == one["sha256"]
        assert prediction_store.find_prediction(room.project, f"{one['call']}-0").file == file


def test_a_large_file_is_scored_in_blocks_that_join_without_a_seam(
    room: Room, digits: np.ndarray, linear_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_file, "BLOCK_SAMPLES", 64)
    room.put("a.npy", digits[:300])
    room.run()
    [file] = room.calls()
    table = pq.read_table(file)
    assert pq.read_metadata(file).num_row_groups == 5
    assert table["id"].to_pylist() == [f"{file.stem}-{row}" for row in range(300)]
    assert table["sample"].to_pylist() == [f"a.npy[{row}]" for row in range(300)]
    np.testing.assert_allclose(table["score"].to_numpy(), Detector(linear_bundle).score(digits[:300])["score"], rtol=1e-5)


def test_a_file_larger_than_what_is_held_of_it_is_read_through(
    room: Room, digits: np.ndarray, linear_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_file, "BLOCK_SAMPLES", 128)
    room.put("a.npy", np.tile(digits, (4, 1, 1, 1)))  # 15 MiB
    [found], detector = list_inbox(room.inbox).files, Detector(linear_bundle)
    tracemalloc.start()
    try:
        counted = sum(len(names) for names, _, _ in score_blocks(found, detector))
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()
    assert counted == 20_000


def test_a_second_run_finds_nothing_new_reads_no_file_and_asks_for_no_champion(
    room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = room.put("a.npy", digits[:5])
    room.run()
    before = {file: file.stat().st_mtime_ns for file in [*room.calls(), *room.folder.glob("*.html")]}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # nobody answers there
    monkeypatch.setattr("aeops.scoring.inbox.file_sha256", lambda place: pytest.fail(f"{place} was read"))
    told = room.run()
    assert (told["state"], told["samples"], told["files"]["known"]) == ("nothing new", 0, 1)
    assert {file: file.stat().st_mtime_ns for file in [*room.calls(), *room.folder.glob("*.html")]} == before
    assert place.exists()


def test_a_content_is_recorded_once_under_whatever_name_it_comes_and_whatever_was_forgotten(
    room: Room, digits: np.ndarray
) -> None:
    room.put("a.npy", digits[:5])
    room.put("b.npy", digits[:5])
    told = room.run()
    assert (names(told, "taken"), names(told, "copies")) == (["a.npy"], ["b.npy"])
    assert told["files"]["copies"]["b.npy"].startswith("its content is that of a.npy, recorded as ")
    rows = room.rows()
    (room.inbox / "a.npy").rename(room.inbox / "renamed.npy")
    shutil.copy(room.inbox / "b.npy", room.inbox / "c.npy")
    age(room.inbox / "c.npy")
    told = room.run()
    assert (told["samples"], names(told, "copies")) == (0, ["c.npy", "renamed.npy"])
    (room.folder / "seen.json").unlink()
    (room.inbox / "b.npy").touch()
    age(room.inbox / "b.npy")
    assert room.run()["state"] == "nothing new"
    assert room.rows() == rows


def test_a_file_with_another_content_under_an_old_name_is_scored(room: Room, digits: np.ndarray) -> None:
    room.put("a.npy", digits[:5])
    room.run()
    content = npy_bytes(digits[5:10])
    (room.inbox / "a.npy").write_bytes(content)  # as long as before
    age(room.inbox / "a.npy")
    assert room.run()["samples"] == 5
    assert [name for name, _ in room.rows()] == sorted([f"a.npy[{row}]" for row in range(5)] * 2)


def test_predictions_that_are_deleted_are_made_again(room: Room, digits: np.ndarray) -> None:
    room.put("a.npy", digits[:5])
    room.run()
    rows = room.rows()
    room.calls()[0].unlink()
    assert room.run()["samples"] == 5
    assert room.rows() == rows


def test_two_contents_whose_calls_would_be_the_same_get_a_call_each(room: Room, digits: np.ndarray) -> None:
    sha256 = file_sha256(room.put("a.npy", digits[:5]))
    wanted = call_name("digits", sha256, 0)
    taken = call_file(room.project, "digits", NOW, wanted)
    prediction_store.write_call(taken, [], {SHA256_KEY: "f" * 64, SOURCE_KEY: "another.npy"})
    assert room.run()["samples"] == 5
    assert call_name("digits", sha256, 1) in {file.stem for file in room.calls()}
    assert RecordedCalls(room.project).find("digits", sha256)[0] == call_name("digits", sha256, 1)
    assert room.run()["state"] == "nothing new"


def test_a_recipe_has_calls_of_its_own_for_the_same_content() -> None:
    assert call_name("digits", "a" * 64, 0) != call_name("mnist", "a" * 64, 0)


# ---------------------------------------------------------------- what is left, what is refused


def test_what_is_still_being_written_is_left_for_the_next_run(room: Room, digits: np.ndarray) -> None:
    room.put("old.npy", digits[:2])
    growing = room.put("growing.npy", digits[2:4], ago=0)
    for name in (".hidden.npy", "late.npy.part", "late.npy.aside", "late.npy.tmp", "2026-03-01.labels.npy", ".folder/x.npy"):
        room.put(name, digits[4:6])
    told = room.run()
    assert (names(told, "taken"), told["files"]["left"]) == (
        ["old.npy"],
        {"growing.npy": "it is still being written; left for the next run"},
    )
    age(growing)
    assert names(room.run(), "taken") == ["growing.npy"]


def test_a_file_that_is_written_to_while_it_is_read_is_left_and_nothing_of_it_is_recorded(
    room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_file, "BLOCK_SAMPLES", 2)
    place = room.put("a.npy", digits[:6])
    known = Detector.score

    def scores_and_is_written_to(self: Detector, *given: object, **options: object) -> object:
        place.touch()
        return known(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Detector, "score", scores_and_is_written_to)
    told = room.run()
    assert told["files"]["left"] == {"a.npy": "it was written to while it was read; left for the next run"}
    assert list((room.project.home / "predictions").rglob("*.*")) == []
    monkeypatch.undo()
    age(place)
    monkeypatch.chdir(room.project.root)
    assert room.run()["samples"] == 6


def broken(digits: np.ndarray) -> dict[str, tuple[bytes, str]]:
    bright = digits[:4].astype(np.float32)
    bright[:, 0, 0, 0] = 256
    return {
        "cut.npy": (npy_bytes(digits[:4])[:-9], "cannot be read as .npy"),
        "empty.npy": (b"", "cannot be read as .npy"),
        "nothing.npy": (npy_bytes(digits[:0]), "it holds no samples"),
        "wide.npy": (npy_bytes(np.zeros((3, 28, 30), np.uint8)), "got samples of shape (3, 28, 30)"),
        "number.npy": (npy_bytes(np.array(3)), "got samples of shape ()"),
        "bright.npy": (npy_bytes(bright), "sample 0 holds values outside the range"),
        "notes.md": (b"# notes", "neither .npy nor an image"),
        "picture.png": (b"\x89PNG\r\n", "cannot be read as an image"),
    }


def test_a_broken_file_is_refused_with_its_reason_and_blocks_no_other(room: Room, digits: np.ndarray) -> None:
    room.put("a.npy", digits[:2])
    files = broken(digits)
    for name, (content, _) in files.items():
        room.put_bytes(name, content)
    room.put("z.npy", digits[2:4])
    told = room.run()
    assert names(told, "taken") == ["a.npy", "z.npy"]
    kept = {line["name"]: line for line in map(json.loads, (room.folder / "refused.jsonl").read_text().splitlines())}
    assert set(kept) == set(files) == set(names(told, "refused"))
    for name, (_, reason) in files.items():
        assert reason in kept[name]["reason"], name
    page = (room.folder / "latest.html").read_text()
    assert "notes.md" in page
    assert "sample 0 holds values outside the range" in page


def test_files_that_once_ended_the_run_are_refused_and_linked_folders_are_read(
    room: Room, digits: np.ndarray, tmp_path: Path
) -> None:
    cut_archive = io.BytesIO()
    np.savez(cut_archive, samples=digits[:3])
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28), }"
    files = {
        "archive.npy": cut_archive.getvalue()[:200],
        "negative.npy": b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(784),
        "deep.npy": b"\x93NUMPY\x01\x00\x84\x03" + b"(" * 900,
        "empty.png": b"",
        "empty.npy": b"",
    }
    for name, content in files.items():
        room.put_bytes(name, content)
    np.save(tmp_path / "linked.npy", digits[5:8])
    age(tmp_path / "linked.npy")
    (room.inbox / "line").symlink_to(tmp_path)
    (room.inbox / "gone.npy").symlink_to(tmp_path / "absent.npy")
    room.put("good.npy", digits[:2])
    told = room.run()
    assert names(told, "refused") == sorted(set(files) - {"empty.png"})  # whose content is that of empty.npy
    assert names(told, "taken") == ["good.npy", "line/linked.npy"]
    assert told["files"]["left"] == {"gone.npy": "no regular file, or a link to none"}
    assert told["says"].endswith("; files: 4 refused, 1 not listed")  # no next run takes what is not there
    assert all(refusal["reason"] and "\n" not in refusal["reason"] for refusal in told["files"]["refused"])
    assert room.run()["files"]["refused_before"] == len(files)


def test_a_file_that_goes_while_it_is_read_ends_nothing(room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    room.put("a.npy", digits[:2])
    room.put("b.npy", digits[2:4])
    read_file = Detector.read_file

    def read_after_it_is_gone(detector: Detector, path: Path) -> object:
        if path.name == "a.npy":
            path.unlink()
        return read_file(detector, path)

    monkeypatch.setattr(Detector, "read_file", read_after_it_is_gone)
    told = room.run()
    assert names(told, "taken") == ["b.npy"]
    assert list(told["files"]["left"]) == ["a.npy"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "Too many"), MemoryError()])
def test_a_file_that_the_machine_cannot_read_now_is_scored_by_the_next_run(
    room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error  # as a disk or a machine at its limits does, which no test can make

    room.put("a.npy", digits[:2])
    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", fail)
        told = room.run()
    assert (names(told, "refused"), names(told, "left")) == ([], ["a.npy"])
    assert not (room.folder / "refused.jsonl").exists()
    assert names(room.run(), "taken") == ["a.npy"]


def test_what_was_refused_is_not_tried_again_until_its_content_changes(room: Room, digits: np.ndarray) -> None:
    room.put("a.npy", np.zeros((3, 28, 30), np.uint8))
    assert names(room.run(), "refused") == ["a.npy"]
    before = (room.folder / "refused.jsonl").read_bytes()
    (room.inbox / "a.npy").rename(room.inbox / "b.npy")
    told = room.run()
    assert (told["state"], told["files"]["refused_before"]) == ("nothing new", 1)
    assert (room.folder / "refused.jsonl").read_bytes() == before
    room.put("b.npy", digits[:3])
    assert names(room.run(), "taken") == ["b.npy"]


def test_a_bad_sample_in_a_later_block_is_refused_alone(room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_file, "BLOCK_SAMPLES", 4)
    samples = digits[:10].astype(np.float32)
    samples[9] = np.nan
    room.put("a.npy", samples)
    told = room.run()
    assert (told["files"]["taken"][0]["samples"], told["files"]["taken"][0]["unscored"]) == (10, 1)
    table = prediction_store.read_predictions(room.project, "digits")
    assert table["flags"].to_pylist() == [[]] * 9 + [["missing", "refused"]]
    assert table["score"].null_count == 1


def test_a_file_that_may_not_be_read_is_left_with_its_reason(
    room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = room.put("a.npy", digits[:2])
    room.put("b.npy", digits[2:4])
    if os.geteuid() == 0:  # root may read all: a disk that fails, then

        def fails(asked: Path) -> str:
            if asked == place:
                raise PermissionError(13, "Permission denied")
            return file_sha256(asked)

        monkeypatch.setattr("aeops.scoring.inbox.file_sha256", fails)
    else:
        place.chmod(0)
    told = room.run()
    assert (names(told, "taken"), told["files"]["left"]) == (["b.npy"], {"a.npy": "it cannot be read (Permission denied)"})


def test_a_fault_nobody_thought_of_is_raised_once_the_other_files_are_done(
    room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.put("a.npy", digits[:2])
    room.put("b.npy", digits[2:4])
    known = Detector.read_file
    monkeypatch.setattr(Detector, "read_file", lambda detector, path: 1 // (path.name != "a.npy") and known(detector, path))
    with pytest.raises(ZeroDivisionError) as caught:
        room.run()
    assert "a.npy" in caught.value.__notes__[0]
    assert [name for name, _ in room.rows()] == ["b.npy[0]", "b.npy[1]"]


# ---------------------------------------------------------------- whose turn, which version, which folder


def test_a_recipe_without_a_champion_ends_with_a_line_and_records_nothing(room: Room, digits: np.ndarray) -> None:
    text = (room.project.recipes / "digits.yaml").read_text().replace("recipe: digits", "recipe: unborn")
    (room.project.recipes / "unborn.yaml").write_text(text)
    inbox = room.project.home / "inbox" / "unborn"
    inbox.mkdir()
    (inbox / "a.npy").write_bytes(npy_bytes(digits[:2]))
    age(inbox / "a.npy")
    told = score_inbox(room.project, load_recipe(room.project, "unborn"))
    assert (told["state"], told["samples"], told["page"]) == ("no champion", 0, None)
    assert "ae run unborn" in told["says"]
    assert not (room.project.home / "predictions" / "unborn").exists()


def test_a_second_run_of_a_recipe_waits_for_the_first_and_doubles_nothing(
    room: Room, digits: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    room.put("a.npy", digits[:5])
    told: list[dict[str, object]] = []
    with inbox_lock(room.project, "digits"):
        second = threading.Thread(target=lambda: told.append(room.run()))
        second.start()
        for _ in range(100):
            if "waiting for it to end" in capfd.readouterr().err:
                break
            time.sleep(0.05)
        else:
            pytest.fail("it does not wait")
        assert room.calls() == []
    second.join(timeout=30)
    assert told[0]["samples"] == 5
    assert len(room.rows()) == 5


def test_a_champion_that_changes_during_a_run_scores_none_of_its_files(
    room: Room, digits: np.ndarray, linear_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        room.put(f"{name}.npy", digits[:3] + ord(name) % 7)
    asked: list[str] = []
    known = running.trusted_bundle

    def trusted(*given: object) -> TrustedBundle:
        asked.append(str(given[3]))
        return known(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "trusted_bundle", trusted)
    room.run()
    assert asked == ["champion"]  # once a run
    assert len({tuple(set(pq.read_table(file)["bundle_sha256"].to_pylist())) for file in room.calls()}) == 1


def test_the_inbox_that_a_recipe_names_is_looked_for_as_sources_are(
    room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (room.project.recipes / "digits.yaml").read_text().replace("recipe: digits", "recipe: named")
    (room.project.recipes / "named.yaml").write_text(text + "\nscoring: {inbox: drop/here}\n")
    recipe = load_recipe(room.project, "named")
    with pytest.raises(DataError, match=r"drop/here: no such folder; looked for .* correct scoring\.inbox in recipes/named"):
        inbox_folder(room.project, recipe)
    monkeypatch.setenv("AE_SOURCES", str(tmp_path))
    for folder in (room.project.home, tmp_path, room.project.root):
        (folder / "drop" / "here").mkdir(parents=True)
        assert inbox_folder(room.project, recipe) == folder / "drop" / "here"
    assert inbox_folder(room.project, load_recipe(room.project, "digits")) == room.inbox


def test_an_inbox_that_is_not_there_is_an_empty_one(room: Room) -> None:
    room.inbox.rmdir()
    assert room.run()["state"] == "nothing new"


# ---------------------------------------------------------------- by hand


def by_hand(**settings: object) -> int:
    given = {"recipe": "digits", "file": None, "version": "champion", "json": False, "inbox": True, "fdr": None, "explain": False}
    given |= {"on": None, "shards": None}
    return score.run(SimpleNamespace(**given | settings))  # type: ignore[arg-type]


def test_ae_score_inbox_does_the_same_and_says_what_became_of_each_file(
    room: Room, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    room.put("a.npy", digits[:5])
    room.put_bytes("notes.md", b"# notes")
    assert by_hand() == 0
    told = capsys.readouterr().out
    for words in ("a.npy: 5 samples", "notes.md: refused", "5 samples of 1 file scored", str(room.inbox), "page  ", ".html"):
        assert words in told, told
    assert by_hand(json=True) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "nothing new"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inbox": False}, "either a FILE or --inbox"),
        ({"file": Path("a.npy")}, "either a FILE or --inbox"),
        ({"version": "3"}, "--inbox: expected no --version, got 3"),
    ],
)
def test_what_goes_not_together_is_told(room: Room, settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        by_hand(**settings)


def test_a_run_is_named_by_its_time(room: Room, digits: np.ndarray) -> None:
    room.put("a.npy", digits[:2])
    told = room.run(now=NOW)
    assert told["run"].startswith("20260301T120000-")
    assert told["page"] == str(room.folder / f"{told['run']}.html")
    assert json.loads((room.folder / "latest.json").read_text()) == told
    assert InboxRun(room.project, load_recipe(room.project, "digits"), NOW).run()["state"] == "nothing new"


@pytest.mark.parametrize("name", ["[cam1] \x1b[2J [red] <b>&amp;", "line\nbreak", os.fsdecode(b"caf\xe9")])
def test_a_file_of_any_name_is_scored_and_shown_as_it_is(
    room: Room, digits: np.ndarray, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    room.put(f"{name}.npy", digits[:2])
    room.put_bytes(f"{name}.md", b"# notes")
    with escaped_output():
        assert by_hand() == 0
        assert by_hand(inbox=False, file=room.inbox / f"{name}.npy") == 0
    told, shown = capsys.readouterr().out, escape_line(name)
    assert f"{shown}.npy: 2 samples" in told
    assert f"{shown}.md: refused" in told
    assert f" {shown}.npy[0] " in told  # in the table of samples
    assert "\x1b" not in told
    page = (room.folder / "latest.html").read_text(encoding="utf-8")
    assert str(escape(escape_line(name))) in page
