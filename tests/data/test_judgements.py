"""Judgements of samples in quarantine: recorded, remembered, taken into the next version; and what cannot be judged."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from data_project import Room, make_room, tree
from forked import Fork
from PIL import Image

from aeops.cli.main import main
from aeops.cli.run import quarantine_line
from aeops.data.dataset import read_index, require_receipt
from aeops.data.judged_samples import without_dropped
from aeops.data.judgements import (
    DROP,
    RELABEL,
    RELEASE,
    Judgement,
    judgements_digest,
    read_judgements,
    read_standings,
    record_judgements,
    resolve,
)
from aeops.data.set_aside import read_set_aside
from aeops.errors import DataError, UsageError
from aeops.provenance.run_summary import quarantine_counts

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import
BLANK, COPY, LABEL, NAN = 3, 190, 250, 70  # positions of the samples that `spoiled` spoils


def judge(*arguments: str) -> int:
    return main(["quarantine", "mine", *arguments])


def spoil(room: Room) -> None:
    room.images = room.images.astype(np.float32)
    room.images[BLANK] = 0
    room.images[NAN, 4, 4] = np.nan
    room.images[COPY] = room.images[0]
    room.labels[LABEL] = 77


@pytest.fixture(scope="module")
def spoiled_once(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AE_HOME", raising=False)
        room = make_room(tmp_path_factory.mktemp("spoiled") / "project", *digits)
        spoil(room)
        room.save()
        room.accept()
    return room.root


@pytest.fixture
def spoiled(room: Room, spoiled_once: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A room with a blank sample, a NaN, a copy and an unknown label in quarantine."""
    shutil.copytree(spoiled_once, room.root, dirs_exist_ok=True)
    monkeypatch.chdir(room.root)
    monkeypatch.setenv("AE_BY", "ada")
    spoil(room)
    return room


def accepted_labels(room: Room) -> dict[str, int]:
    index = read_index(room.data)
    return dict(zip(index["id"], index["label"], strict=True))


@pytest.mark.slow
def test_judgements_go_into_the_next_version_and_are_remembered(spoiled: Room, capsys: pytest.CaptureFixture[str]) -> None:
    counts = quarantine_counts(spoiled.validation())
    assert counts is not None
    assert quarantine_line("mine", counts) == (
        "3 of 600 samples (blank 1, sample_mean 1, sample_std 1, nan 1, label 1); 1 copy of others left out: ae quarantine mine"
    )
    assert judge("--release", f"mine-{BLANK:06d}", "--why", "dark, but real") == 0
    assert judge("--drop", f"mine-{NAN:06d},mine-{COPY:06d}", "--why", "broken sensor", "--by", "Grace") == 0
    assert judge("--relabel", f"mine-{LABEL:06d}=4", "--why", "a typing error") == 0
    assert "commit it with the recipes" in capsys.readouterr().out
    told = json.loads(listing(capsys, "--json"))
    assert {one["id"]: (one["decision"], one["who"]) for one in told["judgements"]} == {
        f"mine-{BLANK:06d}": (RELEASE, "ada"),
        f"mine-{NAN:06d}": (DROP, "Grace"),
        f"mine-{COPY:06d}": (DROP, "Grace"),
        f"mine-{LABEL:06d}": (RELABEL, "ada"),
    }
    assert "released by ada on " in listing(capsys)

    spoiled.accept()
    labels = accepted_labels(spoiled)
    assert labels[f"mine-{BLANK:06d}"] == spoiled.labels[BLANK]
    assert labels[f"mine-{LABEL:06d}"] == 4
    assert {f"mine-{NAN:06d}", f"mine-{COPY:06d}"}.isdisjoint(labels)
    assert spoiled.validation()["judgements_sha256"] == judgements_digest(spoiled.project, "mine")
    rows = {"given": 600, "accepted": 598, "quarantined": 0, "released": 1, "dropped": 2, "relabelled": 1}
    assert require_receipt(spoiled.data, "mine")["rows"] == rows
    counts = quarantine_counts(spoiled.validation())
    assert counts is not None
    assert quarantine_line("mine", counts) == "by judgement 1 released, 2 dropped, 1 relabelled: ae quarantine mine"
    assert "nothing is set aside; judged: 1 released, 2 dropped, 1 relabelled" in listing(capsys)

    # They come again: what was decided holds; other contents in their places have new numbers, and nobody has judged them.
    spoiled.images[400], spoiled.images[COPY] = 255, spoiled.images[1]
    spoiled.save()
    spoiled.accept()
    assert [entry["id"] for entry in spoiled.validation()["quarantined"]] == ["mine-000600", "mine-000601"]
    assert spoiled.validation()["rows"] == {**rows, "accepted": 597, "quarantined": 2, "dropped": 1}


def listing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert judge(*arguments) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_relabelled_sample_is_judged_again_and_a_mended_source_has_the_last_word(spoiled: Room) -> None:
    assert judge("--relabel", f"mine-{BLANK:06d}=8", "--why", "it is an eight") == 0
    assert judge("--relabel", f"mine-{LABEL:06d}=4", "--why", "a typing error") == 0
    spoiled.labels[LABEL] = 5
    spoiled.save()
    spoiled.accept()
    assert f"mine-{BLANK:06d}" in [entry["id"] for entry in spoiled.validation()["quarantined"]], "blank still"
    assert accepted_labels(spoiled)[f"mine-{LABEL:06d}"] == 5


def test_what_cannot_be_judged_is_refused_with_every_mistake_and_nothing_is_recorded(
    spoiled: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    blank, nan, label = f"mine-{BLANK:06d}", f"mine-{NAN:06d}", f"mine-{LABEL:06d}"
    refused = {
        ("--release", blank): "--why TEXT is missing",
        ("--release", blank, "--why", "  "): "--why TEXT is missing",
        ("--why", "no reason"): "--why, --by and --overrule go with --release",
        ("--release", "mine-999999", "--why", "x"): "'mine-999999' is not in the quarantine of mine",
        ("--release", "mine-000005", "--why", "x"): "mine-000005 is not set aside: it is in data/mine",
        ("--release", nan, "--why", "x"): f"{nan} breaks nan, and no model can take it",
        ("--release", label, "--why", "x"): f"--relabel {label}=LABEL",
        (
            "--relabel",
            f"{label}=11",
            "--why",
            "x",
        ): "a label of the dataset, one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got '11'",
        ("--relabel", label, "--why", "x"): "expected IDS=LABEL",
        ("--release", blank, "--drop", blank, "--why", "x"): f"{blank}: expected one judgement, got two that contradict",
        ("--drop", blank, "--relabel", f"{blank}=3", "--why", "x"): f"{blank}: expected one judgement, got two",
    }
    for arguments, message in refused.items():
        assert judge(*arguments) == 2, arguments
        assert message in capsys.readouterr().err, arguments
    assert judge("--release", f"{nan},gone", "--relabel", "x", "--why", "y") == 2
    errors = capsys.readouterr().err
    assert all(words in errors for words in ("breaks nan", "'gone' is not in", "expected IDS=LABEL"))
    assert not spoiled.project.judgements("mine").exists()


@pytest.mark.slow
def test_a_judgement_that_contradicts_an_earlier_one_has_to_overrule_it(
    spoiled: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = f"mine-{BLANK:06d}"
    assert judge("--release", blank, "--why", "dark, but real") == 0
    assert judge("--release", blank, "--why", "as I said") == 0
    assert "1 judgement stood there already" in capsys.readouterr().out
    assert judge("--drop", blank, "--why", "it is a lens cap") == 2
    assert f"{blank} of mine was released by ada on " in capsys.readouterr().err
    assert judge("--drop", blank, "--why", "it is a lens cap", "--overrule") == 0
    assert [one.decision for one in read_judgements(spoiled.project, "mine")] == [RELEASE, DROP]
    spoiled.accept()
    assert blank not in accepted_labels(spoiled)
    assert judge("--release", blank, "--why", "no, it is night", "--overrule") == 0, "what was dropped can still be judged"
    [standing] = [one for (name, _), one in read_standings(spoiled.project, "mine").items() if name == blank]
    assert not standing.is_dropped
    assert standing.released_reasons == {"blank", "sample_mean", "sample_std"}


def judgement(decision: str, **changes: object) -> Judgement:
    facts = {
        "id": "a",
        "sha256": "0" * 64,
        "reasons": ("blank",),
        "label": "3",
        "who": "ada",
        "account": "ada@here",
        "why": "seen",
    }
    label = {"new_label": "4"} if decision == RELABEL else {}
    return Judgement(decision, **{**facts, "why": "seen", "time": "2026-11-30T12:00:00+00:00", **label, **changes})  # type: ignore[arg-type]


def test_contradictions_of_a_merge_are_refused_until_one_says_what_holds(room: Room) -> None:
    project = room.project
    record_judgements(project, "mine", [judgement(RELEASE)])
    file = project.judgements("mine")
    file.write_text(file.read_text() + judgement(DROP, who="grace").to_line() + "\n")
    with pytest.raises(DataError, match=r"contradict each other: a: released by ada .*; dropped by grace"):
        read_standings(project, "mine")
    record_judgements(project, "mine", [judgement(RELEASE, overrules=True)])
    standing = read_standings(project, "mine")["a", "0" * 64]
    assert standing.fate is not None
    assert standing.fate.decision == RELEASE
    with pytest.raises(UsageError, match="To replace that, type the same command with --overrule"):
        record_judgements(project, "mine", [judgement(DROP)])


def test_release_covers_the_expectations_that_were_judged_and_no_others() -> None:
    standing = resolve([judgement(RELEASE), judgement(RELABEL)], "mine")["a", "0" * 64]
    assert standing.released_reasons == {"blank"}
    assert standing.relabelling is not None
    assert not standing.repeats(judgement(RELEASE, reasons=("blank", "sample_mean")))
    assert standing.repeats(judgement(RELEASE))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{torn", r"line 1: no JSON"),
        ("[]", "line 1: no JSON object"),
        ('{"decision": "burn", "id": "a", "reasons": [], "who": "x", "account": "x", "why": "x", "time": "x"}', "got 'burn'"),
        ('{"decision": "drop", "id": 7, "reasons": []}', "id is no text"),
        ('{"decision": "drop", "id": "a", "reasons": [1]}', "reasons is no list of texts"),
        ('{"decision": "drop", "id": "a", "reasons": []}', "the key account is missing"),
        ('{"colour": "red"}', "unknown key 'colour'"),
        (judgement(DROP, new_label="4").to_line(), "new_label stands where a sample is relabelled"),
        ("\udcff", "codec"),
    ],
)
def test_a_damaged_record_names_its_line(room: Room, line: str, message: str) -> None:
    file = room.project.judgements("mine")
    file.parent.mkdir(parents=True)
    file.write_bytes(line.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message) as caught:
        read_judgements(room.project, "mine")
    assert "recipes/quarantine/mine.jsonl is damaged" in str(caught.value)


def test_a_label_that_the_dataset_does_not_know_any_more_is_told(spoiled: Room) -> None:
    assert judge("--relabel", f"mine-{LABEL:06d}=4", "--why", "a typing error") == 0
    spoiled.edit(data={"labels": [0, 1, 2, 3, 5, 6, 7, 8, 9]})
    with pytest.raises(DataError, match=rf"gives mine-{LABEL:06d} the label '4', and data.labels of recipes/mine.yaml has 0, 1"):
        spoiled.accept()


@pytest.mark.slow
def test_a_kill_between_the_record_and_the_new_version_leaves_the_old_one_and_the_next_run_makes_it(spoiled: Room) -> None:
    before = tree(spoiled.data)
    assert judge("--release", f"mine-{BLANK:06d}", "--why", "dark, but real") == 0
    spoiled.ingest()

    def die_before_the_swap() -> None:
        from aeops.data import dataset
        from aeops.stages.validate import validate

        dataset.replace_folder = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        validate(spoiled.recipe, spoiled.project, spoiled.incoming)

    assert Fork(die_before_the_swap, cwd=spoiled.root, env=os.environ).wait(timeout=120) == -signal.SIGKILL
    assert tree(spoiled.data) == before
    spoiled.accept()
    assert f"mine-{BLANK:06d}" in accepted_labels(spoiled)
    assert [child.name for child in spoiled.root.iterdir() if child.name.startswith(".ae-aside")] == []


# ---------------------------------------------------------------- what could not become a sample


def judged_name(name: str, reason: str, decision: str, new_label: str | None = None) -> Judgement:
    label = {} if new_label is None else {"new_label": new_label}
    return judgement(decision, id=name, sha256=None, reasons=(reason,), label=None, **label)


def test_a_file_of_an_unknown_label_becomes_a_sample_by_a_label_from_a_person(room: Room) -> None:
    for number, folder in enumerate(("good", "bad", "unsure", "unsure")):
        (room.root / "pictures" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(room.images[number * 9]).save(room.root / "pictures" / folder / f"{number}.png")
    source = {"kind": "images", "path": "pictures", "labels": {"folder": 1}}
    room.edit(data={"source": source, "labels": ["good", "bad"], "novelty": ["bad"]}, validate={"class_share": None})
    room.ingest()
    reasons = read_set_aside(room.incoming)
    assert set(reasons) == {"unsure/2.png", "unsure/3.png"}
    new = [
        judged_name("unsure/2.png", reasons["unsure/2.png"], RELABEL, "bad"),
        judged_name("unsure/3.png", "another reason", RELABEL, "bad"),
    ]
    record_judgements(room.project, "mine", new)
    samples = room.samples()
    assert list(samples.ids or ()) == ["bad/1.png", "good/0.png", "unsure/2.png"]
    assert samples.labels is not None
    assert samples.labels.tolist() == [1, 0, 1]
    assert set(samples.set_aside) == {"unsure/3.png"}, "it was judged for another reason"
    standings = read_standings(room.project, "mine")
    dropped = resolve([judged_name("unsure/3.png", reasons["unsure/3.png"], DROP)], "mine")
    assert without_dropped(samples.set_aside, standings) == (dict(samples.set_aside), ())
    assert without_dropped(samples.set_aside, dropped) == ({}, ("unsure/3.png",))
    assert without_dropped({"unsure/3.png": "it is cut"}, dropped) == ({"unsure/3.png": "it is cut"}, ())


def test_a_line_of_an_unknown_label_becomes_a_sample_by_a_label_from_a_person(room: Room) -> None:
    lines = [{"text": f"text number {number}", "kind": kind} for number, kind in enumerate(["ham", "spam", "hma"] * 4)]
    (room.root / "mails.jsonl").write_text("\n".join(map(json.dumps, lines)))
    room.ask_for_texts(32, {"kind": "texts", "path": "mails.jsonl", "text": "text", "labels": "kind"})
    room.edit(data={"labels": ["ham", "spam"], "novelty": ["spam"]})
    set_aside = room.samples().set_aside
    assert len(set_aside) == 4
    name, reason = next(iter(set_aside.items()))
    record_judgements(room.project, "mine", [judged_name(name, reason, RELABEL, "ham")])
    samples = room.samples()
    assert len(samples.set_aside) == 3
    assert list(samples.ids or ())[2] == name
    assert samples.labels is not None
    assert samples.labels[:3].tolist() == [0, 1, 0]
