"""Bad samples are set aside with their reasons, a bad set is refused, and data/ is as it was whenever it is."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import jinja2
import numpy as np
import pandas as pd
import pytest
from data_project import Room, make_room, tree
from fork_server import run_in_fork

from aeops.cli.run import quarantine_line
from aeops.data.dataset import content_sha256, read_index, require_receipt
from aeops.errors import DataError
from aeops.machine.stored_json import read_json
from aeops.provenance.run_summary import quarantine_counts

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import
BLANK, NAN, BRIGHT, COPY, LABEL = 3, 70, 130, 190, 250  # positions of the samples that `spoil_five` spoils


@pytest.fixture(scope="module", autouse=True)
def _compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile the templates of the pages once, and not for each validation, of which that would be a quarter."""
    from great_expectations.render.view import view

    cache = jinja2.FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "Environment", partial(view.Environment, bytecode_cache=cache))
        yield


def spoil_five(room: Room) -> None:
    """One bad sample of each kind, as float32, which can hold NaN and more than 255."""
    room.images = room.images.astype(np.float32)
    room.images[BLANK] = 0
    room.images[NAN, 4, 4] = np.nan
    room.images[BRIGHT, 4, 4] = 300
    room.images[COPY] = room.images[0]
    room.labels[LABEL] = 77
    room.save()


# ---------------------------------------------------------------- accepted


@pytest.mark.slow
def test_good_data_is_accepted_whole_with_a_receipt_for_its_content(accepted: Room) -> None:
    assert {name: held for name, held in tree(accepted.data).items() if name != "receipt.json"} == tree(accepted.incoming)
    receipt = require_receipt(accepted.data, "mine")
    assert receipt["rows"] == {"given": 600, "accepted": 600, "quarantined": 0}
    assert receipt["suite"]
    assert all(entry["success"] for entry in receipt["suite"])
    assert not accepted.project.quarantine("mine").exists()


def test_validation_json_says_that_drift_has_nothing_to_be_judged_by(accepted: Room) -> None:
    validation = accepted.validation()
    (drift,) = (entry for entry in validation["expectations"] if entry["name"].startswith("drift"))
    assert (drift["applicable"], drift["why"]) == (False, "no version has been accepted yet")
    assert validation["passed"]
    assert validation["content_sha256"] == content_sha256(accepted.data)


@pytest.mark.slow
def test_the_same_data_again_leaves_the_dataset_untouched(accepted: Room) -> None:
    before = tree(accepted.data)
    times = {place: place.stat().st_mtime_ns for place in accepted.data.rglob("*")}
    accepted.accept()
    assert tree(accepted.data) == before
    assert {place: place.stat().st_mtime_ns for place in accepted.data.rglob("*")} == times
    assert {entry["name"] for entry in accepted.validation()["expectations"]} >= {"drift_of_mean", "drift_of_std"}


@pytest.mark.slow
def test_the_dataset_is_the_same_bytes_elsewhere_and_after_another_version(accepted: Room) -> None:
    other = make_room(accepted.root.with_name("elsewhere"), accepted.images, accepted.labels)
    other.save(images=other.images[:, ::-1], labels=other.labels)
    other.accept()
    assert tree(other.data) != tree(accepted.data)
    other.save()
    other.accept()
    assert tree(other.data) == tree(accepted.data)


# ---------------------------------------------------------------- quarantine


@pytest.mark.slow
def test_a_few_bad_samples_are_set_aside_with_their_reasons_and_the_rest_is_accepted(room: Room) -> None:
    spoil_five(room)
    room.accept()
    bad = [BLANK, NAN, BRIGHT, COPY, LABEL]
    index = read_index(room.data)
    assert set(range(600)) - {int(name.removeprefix("mine-")) for name in index["id"]} == set(bad)
    shard = np.load(room.data / "shards" / "00000.npy")
    np.testing.assert_array_equal(shard[:, 0], np.delete(room.images, bad, axis=0))
    np.testing.assert_array_equal(shard[index["row"]], shard)
    assert require_receipt(room.data, "mine")["rows"] == {"given": 600, "accepted": 595, "quarantined": 5}


@pytest.mark.slow
def test_a_run_tells_what_was_set_aside_and_why(room: Room) -> None:
    room.save()
    room.accept()
    assert quarantine_counts(room.validation()) is None
    spoil_five(room)
    room.accept()
    counts = quarantine_counts(room.validation())
    assert counts is not None
    assert (counts["count"], counts["copies"], counts["given"]) == (4, 1, 600), "a copy is no fault"
    assert counts["reasons"]["blank"] == 1
    assert set(counts["reasons"]) >= {"blank", "label"}
    assert "duplicate" not in counts["reasons"]
    told = quarantine_line("mine", counts)
    assert told.startswith("4 of 600 samples (")
    assert told.endswith("1 copy of others left out: ae quarantine mine")


@pytest.mark.slow
def test_the_quarantine_holds_the_bad_samples_and_why(room: Room) -> None:
    spoil_five(room)
    room.accept()
    place = room.project.home / room.validation()["quarantine"]
    rows = pd.read_parquet(place / "rows.parquet").set_index("id")
    reasons = {int(identity.removeprefix("mine-")): list(texts) for identity, texts in rows["reasons"].items()}
    assert reasons[BLANK][0] == "blank: expected values that differ, got values that are all the same"
    assert reasons[NAN] == ["nan: expected none, got 1 NaN values"]
    assert reasons[BRIGHT] == ["range_high: expected 0 to 255, got a largest value of 300"]
    assert reasons[COPY] == ["duplicate: expected samples that equal no earlier one, got a copy of mine-000000"]
    assert reasons[LABEL] == ["label: expected 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got 77"]
    held = np.load(place / "samples.npy")
    np.testing.assert_array_equal(held[:, 0], room.images[[BLANK, NAN, BRIGHT, COPY, LABEL]])
    assert [entry["id"] for entry in room.validation()["quarantined"]] == list(rows.index)


@pytest.mark.slow
def test_samples_that_lie_between_no_bounds_are_set_aside(room: Room) -> None:
    room.images[5] = 250
    room.images[5, 0, 0] = 240
    room.save()
    room.accept()
    (entry,) = room.validation()["quarantined"]
    assert [reason.split(":")[0] for reason in entry["reasons"]] == ["sample_mean", "sample_std"]


# ---------------------------------------------------------------- by the kind of the samples


@pytest.mark.slow
def test_a_blank_sample_is_as_good_as_others_where_the_recipe_accepts_it(room: Room) -> None:
    room.images[BLANK] = 255
    room.save()
    room.edit(validate={"blank": "accept", "sample_mean": {"min": 0, "max": 1}, "sample_std": {"min": 0, "max": 1}})
    room.accept()
    assert require_receipt(room.data, "mine")["rows"]["accepted"] == 600
    assert "blank" not in {entry["name"] for entry in room.validation()["expectations"]}


@pytest.mark.slow
def test_target_channels_must_lie_in_the_range_and_are_no_part_of_the_mean(room: Room) -> None:
    targets = np.full_like(room.images, 200).astype(np.float32)
    targets[BRIGHT, 3, 3] = 256
    room.save(images=np.stack([room.images.astype(np.float32), targets], axis=1))
    room.edit(input={"shape": [2, 28, 28], "target_channels": 1})
    room.accept()
    (entry,) = room.validation()["quarantined"]
    assert entry == {
        "id": f"mine-{BRIGHT:06d}",
        "reasons": ["range_high: expected 0 to 255, got a largest value of 256"],
    }


def save_texts(room: Room, texts: list[bytes]) -> None:
    np.save(room.root / "texts.npy", np.array([list(text.ljust(32, b"\0")) for text in texts], np.uint8))
    room.ask_for_texts(32, {"kind": "npy", "path": "texts.npy"})


@pytest.mark.slow
def test_bad_texts_are_set_aside_with_their_reasons_and_the_rest_is_accepted(room: Room) -> None:
    bad = [b"\xff\xfe no text", b"a\0b: two ends", b" " * 8, b"abc", b"1234567 a", b"text number 3"]
    save_texts(room, [*(b"text number %d" % number for number in range(94)), *bad])
    room.accept()
    place = room.project.home / room.validation()["quarantine"]
    reasons = [list(texts) for texts in pd.read_parquet(place / "rows.parquet")["reasons"]]
    assert reasons == [
        ["readable: expected UTF-8, then zeros, got bytes that are no text"],
        ["readable: expected UTF-8, then zeros, got bytes that are no text"],
        [
            "blank: expected texts with a word in them, got white space only",
            "letters: expected 0.3 to 1, got 0",
        ],
        ["characters: expected 4 to 32, got 3"],
        ["letters: expected 0.3 to 1, got 0.1111"],
        ["duplicate: expected samples that equal no earlier one, got a copy of mine-000003"],
    ]
    assert len(np.load(room.data / "shards" / "00000.npy")) == 94
    assert len(np.load(place / "samples.npy")) == 6


@pytest.mark.slow
def test_texts_that_became_longer_than_those_of_the_accepted_version_are_refused(room: Room) -> None:
    save_texts(room, [b"text number %d" % number for number in range(100)])
    room.accept()
    save_texts(room, [b"a much longer text: %d" % number for number in range(100)])
    with pytest.raises(DataError, match=r"drift_of_filled: expected .*, got a mean of 0\.6"):
        room.accept()


@pytest.mark.slow
def test_an_accepted_version_of_another_kind_is_no_measure_of_drift(accepted: Room) -> None:
    save_texts(accepted, [b"text number %d" % number for number in range(100)])
    accepted.accept()
    (drift,) = (entry for entry in accepted.validation()["expectations"] if entry["name"].startswith("drift"))
    assert drift["why"] == "the last accepted version has samples of kind image, not text"


# ---------------------------------------------------------------- refused


def all_blank(room: Room) -> None:
    room.images[:] = 0


def one_sample_too_many_for_the_budget(room: Room) -> None:
    room.images[np.arange(7) * 60] = np.arange(7, dtype=np.uint8)[:, None, None]  # each blank in its own way: no copies


def nan_everywhere(room: Room) -> None:
    room.images = room.images / 1.0
    room.images[:, 9, 9] = np.nan


def copies_only(room: Room) -> None:
    room.images[:] = room.images[0]


def a_class_is_missing(room: Room) -> None:
    room.images, room.labels = room.images[60:], room.labels[60:]


def too_few_rows(room: Room) -> None:
    room.images, room.labels = room.images[::3], room.labels[::3]


def one_class_is_most_of_it(room: Room) -> None:
    kept = np.flatnonzero((room.labels == 1) | (np.arange(600) % 2 == 0))
    room.images, room.labels = room.images[kept], np.where(room.labels[kept] == 2, 1, room.labels[kept])


REFUSED: dict[str, tuple[Callable[[Room], None], list[str]]] = {
    "all blank": (all_blank, ["600 of 600 samples are bad", "expected at most 6", "blank (600 samples)"]),
    "over the budget": (
        one_sample_too_many_for_the_budget,
        ["7 of 600 samples are bad", "expected at most 6", "quarantine_budget 0.01", "blank (7 samples)", "quarantine/mine/"],
    ),
    "NaN everywhere": (nan_everywhere, ["600 of 600 samples are bad", "nan (600 samples)"]),
    "copies only": (copies_only, ["599 of 600 samples are bad", "duplicate (599 samples)"]),
    "a class is missing": (a_class_is_missing, ["class_share: expected 0.05 to 0.2, got 0 for label 0"]),
    "too few rows": (too_few_rows, ["rows: expected 300 to 5000 samples, got 200"]),
    "one class is most of it": (one_class_is_most_of_it, ["for label 1", "expected 0.05 to 0.2", "0 for label 2"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", REFUSED)
def test_a_bad_set_is_refused_and_the_accepted_dataset_is_as_it_was(accepted: Room, fault: str) -> None:
    spoil, facts = REFUSED[fault]
    before = tree(accepted.data)
    spoil(accepted)
    accepted.save()
    with pytest.raises(DataError) as caught:
        accepted.accept()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "data/mine is as it was", "type ae run mine"]), message
    assert tree(accepted.data) == before
    assert [child.name for child in accepted.root.iterdir() if child.name.startswith(".ae-")] == []


@pytest.mark.slow
def test_a_refusal_is_recorded_with_its_pages_and_every_bad_sample(accepted: Room) -> None:
    all_blank(accepted)
    accepted.save()
    with pytest.raises(DataError):
        accepted.accept()
    validation = accepted.validation()
    assert (validation["passed"], validation["content_sha256"]) == (False, None)
    assert validation["rows"] == {"given": 600, "accepted": 0, "quarantined": 600}
    assert len(np.load(accepted.project.home / validation["quarantine"] / "samples.npy")) == 600
    page = (accepted.project.home / validation["data_docs"]).read_text()
    assert "refused" in page
    assert "600 of 600 samples are bad" in page


@pytest.mark.slow
def test_a_refused_first_dataset_leaves_no_data_folder(room: Room) -> None:
    too_few_rows(room)
    room.save()
    with pytest.raises(DataError):
        room.accept()
    assert not (room.root / "data").exists()


@pytest.mark.slow
def test_a_mean_that_drifted_from_the_accepted_version_is_refused_and_one_within_the_bound_is_not(accepted: Room) -> None:
    before = tree(accepted.data)
    mean = read_index(accepted.data)["mean"].mean()
    accepted.save(images=np.clip(accepted.images.astype(int) + 20, 0, 255).astype(np.uint8))
    with pytest.raises(DataError) as caught:
        accepted.accept()
    assert "drift_of_mean: expected " in str(caught.value)
    assert "got a mean of 0.2" in str(caught.value)
    assert f"{mean - 0.05:.4f} to {mean + 0.05:.4f}" in str(caught.value)
    assert tree(accepted.data) == before
    accepted.edit(validate={"mean_drift": 0.2})
    accepted.accept()
    assert tree(accepted.data) != before


@pytest.mark.slow
def test_data_that_was_altered_is_no_measure_of_drift(accepted: Room) -> None:
    whole = tree(accepted.data)
    (accepted.data / "index.parquet").write_bytes(b"altered")
    accepted.accept()
    (drift,) = (entry for entry in accepted.validation()["expectations"] if entry["name"].startswith("drift"))
    assert "does not match its receipt" in drift["why"]
    assert tree(accepted.data) == whole


@pytest.mark.slow
def test_a_disk_that_fills_up_while_accepting_leaves_the_dataset_as_it_was(
    accepted: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeops.stages import validate

    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = tree(accepted.data)
    accepted.save(images=accepted.images[:, ::-1])
    monkeypatch.setattr(validate, "write_block", fill_up)
    with pytest.raises(OSError, match="No space left"):
        accepted.accept()
    assert tree(accepted.data) == before
    assert [child.name for child in accepted.root.iterdir() if child.name.startswith(".ae-")] == []


def test_an_incoming_dataset_that_was_altered_or_is_not_there_is_refused(room: Room) -> None:
    from aeops.stages.validate import validate

    with pytest.raises(DataError, match=r"no incoming dataset in .* type ae run mine"):
        validate(room.recipe, room.project, room.incoming)
    room.save()
    room.ingest()
    shard = room.incoming / "shards" / "00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"00000.npy: missing or altered after it was ingested"):
        validate(room.recipe, room.project, room.incoming)
    room.edit(input={"high": 254})
    with pytest.raises(DataError, match=r"expected high 254.0, as the recipe says, got 255.0"):
        validate(room.recipe, room.project, room.incoming)


# ---------------------------------------------------------------- as processes


def run_stage(room: Room, stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AE_ERROR_FILE": str(room.root / "error.json")}
    return run_in_fork(
        "module", f"aeops.stages.{stage}", "--recipe", "recipes/mine.yaml", *arguments, cwd=room.root, env=environment
    )


def test_the_stages_as_processes_accept_good_data_quietly_and_write_nothing_elsewhere(room: Room) -> None:
    room.save()
    before = {child.name for child in room.root.iterdir()}
    for stage, *arguments in (("ingest", "--out", ".ae/incoming/mine"), ("validate", "--incoming", ".ae/incoming/mine")):
        done = run_stage(room, stage, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {child.name for child in room.root.iterdir()} - before == {".ae", "data"}


def test_a_refusal_ends_the_process_with_the_code_of_bad_data_and_one_line(room: Room) -> None:
    room.save(labels=room.labels[:-1])
    done = run_stage(room, "ingest", "--out", ".ae/incoming/mine")
    assert done.returncode == DataError.exit_code
    (line,) = done.stderr.splitlines()
    assert line.startswith("data error: labels.npy: expected 600 labels, one for each sample of images.npy, got 599")
    assert read_json(room.root / "error.json")["kind"] == "data"
