"""A line says what it says for good: whatever is done to the file, to MLflow's tags or to the champion is named."""

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.store import Store

EVIDENCE = {"sha256": "e" * 64, "bundle_sha256": "b" * 64, "holdout_sha256": "h" * 64, "verdict": "better"}


def add(project: Project, event: str = "promotion", version: str = "1", **given: Any) -> ledger.Line:
    told = {"before": None, "after": version, "who": "ada", "why": "it is better", "evidence": EVIDENCE} | given
    return ledger.append(project, "digits", event=event, version=version, **told)


def rewrite(file: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    file.write_bytes(b"".join(line + b"\n" for line in change(file.read_bytes().split(b"\n")[:-1])))


def edited(raw: bytes, rehash: bool = False, **values: Any) -> bytes:
    """The line with other values, and its hash made anew where asked; by JSON and hashlib alone."""
    plain = json.loads(raw) | values
    if rehash:
        plain["hash"] = sha256({key: value for key, value in plain.items() if key != "hash"})
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- a line


def test_a_line_is_one_line_of_sorted_json_that_holds_its_own_hash_and_that_of_the_line_before(project: Project) -> None:
    first = add(project, who=" ada ", why="MSE 12 % lower\nthan before: größer")
    second = add(project, "rollback", "2", before="1")
    one, two = ledger.ledger_file(project, "digits").read_text(encoding="utf-8").splitlines()
    assert list(json.loads(one)) == sorted(json.loads(one))
    assert " :" not in one
    expected = {"number": 1, "event": "promotion", "recipe": "digits", "version": "1", "from": None, "to": "1", "who": "ada"}
    expected |= {"why": "MSE 12 % lower\nthan before: größer", "evidence": EVIDENCE, "time": first.time}
    assert json.loads(one) == expected | {"previous": "0" * 64, "hash": first.hash}
    for raw, line in ((one, first), (two, second)):
        assert sha256({key: value for key, value in json.loads(raw).items() if key != "hash"}) == line.hash
    assert second.previous == first.hash
    assert ledger.read(project, "digits") == [first, second]
    assert datetime.fromisoformat(first.time).utcoffset() == timedelta(0)


def test_a_recipe_without_a_ledger_has_no_lines(project: Project) -> None:
    assert ledger.read(project, "digits") == []
    assert ledger.champion([]) is None
    assert ledger.recipes_with_ledger(project) == []
    add(project)
    assert ledger.recipes_with_ledger(project) == ["digits"]


def test_the_champion_is_told_for_every_moment(project: Project) -> None:
    story = [("promotion", "1", "1"), ("refusal", "2", None), ("promotion", "3", "3"), ("rollback", "1", "1")]
    story += [("retirement", "1", None), ("adoption", "2", "2")]
    lines = [add(project, event, version, after=after) for event, version, after in story]
    assert [ledger.champion(lines, line.moment) for line in lines] == ["1", "1", "3", "1", None, "2"]
    instant = timedelta(microseconds=1)
    assert [ledger.champion(lines, line.moment - instant) for line in lines] == [None, "1", "1", "3", "1", None]
    assert ledger.champion(lines) == "2"
    elsewhere = lines[2].moment.astimezone(datetime.fromisoformat("2026-01-01T00:00+09:00").tzinfo)
    assert ledger.champion(lines, elsewhere) == "3"


def test_a_clock_that_was_put_back_does_not_change_the_order(project: Project) -> None:
    add(project)
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="microseconds")
    rewrite(ledger.ledger_file(project, "digits"), lambda lines: [edited(lines[0], rehash=True, time=ahead)])
    second = add(project, version="2")
    assert second.time == ahead
    assert ledger.champion(ledger.read(project, "digits")) == "2"


@pytest.mark.parametrize(
    ("story", "before"),
    [
        ([], None),
        ([("promotion", "1")], None),
        ([("promotion", "1"), ("promotion", "2")], "1"),
        ([("promotion", "1"), ("promotion", "2"), ("refusal", None)], "1"),
        ([("promotion", "1"), ("promotion", "2"), ("promotion", "3"), ("rollback", "2")], "1"),
        ([("promotion", "1"), ("promotion", "2"), ("rollback", "1")], None),
        ([("promotion", "1"), ("promotion", "2"), ("rollback", "1"), ("rollback", "2")], "1"),
        ([("promotion", "1"), ("promotion", "2"), ("rollback", "1"), ("promotion", "3")], "1"),
        ([("adoption", "4"), ("retirement", None)], "4"),
        ([("promotion", "1"), ("retirement", None), ("promotion", "2")], "1"),
    ],
)
def test_the_champion_before_is_the_one_that_a_rollback_has_not_undone(
    project: Project, story: list[tuple[str, str | None]], before: str | None
) -> None:
    lines = [add(project, event, after or "9", after=after) for event, after in story]
    assert ledger.champion_before(lines) == before


def test_a_holdout_has_judged_each_bundle_once(project: Project) -> None:
    for bundle, holdout in (("a", "h"), ("a", "h"), ("b", "h"), ("c", "other")):
        add(project, "refusal", after=None, evidence=EVIDENCE | {"bundle_sha256": bundle, "holdout_sha256": holdout})
    add(project, "rollback", evidence={"bundle_sha256": "d"})
    lines = ledger.read(project, "digits")
    assert [ledger.judged(lines, holdout) for holdout in ("h", "other", "none")] == [2, 1, 0]


def test_who_acts_is_whoever_says_so_or_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    monkeypatch.setenv("AE_BY", "  ")
    assert ledger.actor() == "grace"
    monkeypatch.setenv("AE_BY", " ada ")
    assert ledger.actor() == "ada"


@pytest.mark.parametrize(("given", "option"), [({"why": "  "}, "--why TEXT"), ({"who": ""}, "--by NAME")])
def test_a_line_without_a_name_or_a_reason_is_not_written(project: Project, given: dict[str, str], option: str) -> None:
    with pytest.raises(UsageError, match=option):
        add(project, **given)
    assert not ledger.ledger_file(project, "digits").exists()


def test_a_reason_that_is_no_text_is_not_written(project: Project) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        add(project, why=os.fsdecode(b"gr\xf6\xdfer"))
    assert not ledger.ledger_file(project, "digits").exists()


def test_a_torn_end_is_no_line_until_it_is_cut_away_nothing_is_added(project: Project) -> None:
    first = add(project)
    file = ledger.ledger_file(project, "digits")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    assert ledger.read(project, "digits") == [first]
    with pytest.raises(DataError, match="torn"):
        add(project, version="2")
    assert ledger.cut_torn_end(project, "digits") == 40
    assert file.read_bytes() == whole


def test_a_ledger_that_cannot_be_used_is_told_with_its_place(project: Project) -> None:
    (project.home / "ledger").parent.mkdir()
    (project.home / "ledger").write_text("no folder", encoding="utf-8")
    with pytest.raises(InfrastructureError, match=r"ledger/digits\.jsonl .*make it yours"):
        add(project)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda raw: b"", "cannot be read"),
        (lambda raw: b"promoted, honestly", "cannot be read"),
        (lambda raw: b"[" * 100_000, "cannot be read"),
        (lambda raw: b"\xff\xfe", "cannot be read"),
        (lambda raw: raw.decode().encode("utf-16"), "cannot be read"),
        (lambda raw: b"[]", "an object with exactly event, evidence, from"),
        (lambda raw: edited(raw, true=1), "an object with exactly"),
        (lambda raw: edited(raw, number=0, rehash=True), "number 0 given; 1 or more is allowed"),
        (lambda raw: edited(raw, number=True, rehash=True), "number True given"),
        (
            lambda raw: edited(raw, number=10**9, rehash=True),
            "number 2 is missing; numbers 5 to 999999999 are missing",
        ),
        (lambda raw: edited(raw, event="coronation", rehash=True), "event 'coronation' given; adoption, promotion"),
        (lambda raw: edited(raw, time="yesterday", rehash=True), "yesterday"),
        (lambda raw: edited(raw, time="2026-01-01T00:00:00", rehash=True), "an ISO time with a zone is allowed"),
        (lambda raw: edited(raw, who=None, rehash=True), "wrong type"),
        (lambda raw: edited(raw, evidence={"sha256": 1}, rehash=True), "wrong type"),
        (lambda raw: raw.replace(b"it is better", b"\\ud800"), "line 2 of the file cannot be read"),
        (lambda raw: raw.replace(b",", b", "), "line 2 of the file was edited: it is not written as a ledger is"),
        (lambda raw: raw.replace(b"{", b'{"who":"eve",', 1), "line 2 of the file was edited: it is not written as a ledger is"),
        (lambda raw: edited(raw, why="better"), "line 2 of the file was edited: its content does not give its hash"),
        (lambda raw: edited(raw, why="better", rehash=True), "number 3 does not hold the hash of the number before it"),
        (lambda raw: edited(raw, recipe="mnist", rehash=True), "line 2 of the file is of the recipe mnist"),
    ],
)
def test_whatever_a_line_is_made_into_is_named(project: Project, change: Callable[[bytes], bytes], fault: str) -> None:
    for version in ("1", "2", "3", "4"):
        add(project, version=version)
    rewrite(ledger.ledger_file(project, "digits"), lambda lines: [lines[0], change(lines[1]), *lines[2:]])
    with pytest.raises(DataError) as caught:
        ledger.read(project, "digits")
    assert fault in str(caught.value)
    assert "ae ledger verify digits" in str(caught.value)
    with pytest.raises(DataError):
        add(project)


# ---------------------------------------------------------------- tampering, beside a real MLflow


@pytest.fixture
def store(decided: Store) -> Store:
    assert promotion.faults(decided, "digits") == []
    return decided


def chained(lines: list[bytes]) -> list[bytes]:
    """The lines as a forger would leave them: numbered, chained and hashed anew."""
    made: list[bytes] = []
    for number, raw in enumerate(lines, 1):
        previous = json.loads(made[-1])["hash"] if made else "0" * 64
        made.append(edited(raw, rehash=True, number=number, previous=previous))
    return made


TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[str]]] = {
    "edited": (
        lambda lines: [*lines[:1], edited(lines[1], event="approval"), *lines[2:]],
        ["line 2 of the file was edited: its content does not give its hash"],
    ),
    "edited, with a hash that fits": (
        lambda lines: [*lines[:1], edited(lines[1], event="approval", rehash=True), *lines[2:]],
        ["number 3 does not hold the hash of the number before it", "number 2 is not the line that MLflow mirrors"],
    ),
    "edited, with a chain that fits": (
        lambda lines: chained([*lines[:3], edited(lines[3], who="eve"), *lines[4:]]),
        [f"number {number} is not the line that MLflow mirrors in ledger.0000{number}" for number in (4, 5)],
    ),
    "first deleted": (lambda lines: lines[1:], ["number 1 is missing"]),
    "middle deleted": (lambda lines: lines[:2] + lines[3:], ["number 3 is missing"]),
    "middle deleted, with a chain that fits": (
        lambda lines: chained(lines[:2] + lines[3:]),
        ["number 3 is not the line", "number 4 is not the line", "number 5 is missing at the end"],
    ),
    "last deleted": (
        lambda lines: lines[:-1],
        ["number 5 is missing at the end, where MLflow has tags of 1 more: they were deleted"],
    ),
    "two last deleted": (lambda lines: lines[:-2], ["numbers 4 to 5 are missing at the end"]),
    "all deleted": (lambda lines: [], ["numbers 1 to 5 are missing at the end"]),
    "swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], ["number 2 stands below number 3: lines were swapped"]),
    "repeated": (lambda lines: [*lines, lines[4]], ["number 5 is there 2 times"]),
    "added at the end, as it comes": (
        lambda lines: [*lines, edited(lines[4], number=6, to="3")],
        ["line 6 of the file was edited", "number 6 does not hold the hash of the number before it"],
    ),
    "added at the end, with a chain that fits": (
        lambda lines: chained([*lines, edited(lines[4], to="3")]),
        ["number 6 has no tag ledger.00006 in MLflow: line added, or tag deleted, by hand"],
    ),
    "added in the middle": (
        lambda lines: chained([*lines[:4], edited(lines[3], to="3"), lines[4]]),
        ["number 5 is not the line that MLflow mirrors", "number 6 has no tag ledger.00006"],
    ),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_a_ledger_that_was_tampered_with_is_named_fault_by_fault_and_nothing_moves(store: Store, kind: str) -> None:
    change, expected = TAMPERINGS[kind]
    rewrite(ledger.ledger_file(store.project, "digits"), change)
    found = promotion.faults(store, "digits")
    assert len(found) == len(expected), found
    assert [fault[: len(words)] for fault, words in zip(found, expected, strict=True)] == expected
    promote_3: dict[str, Any] = {"expected": "2", "evidence": {"sha256": "a" * 64}}
    for move in (
        lambda: promotion.promote(store, "digits", "3", who="ada", why="better", **promote_3),
        lambda: promotion.rollback(store, "digits", "1", who="ada", why="worse"),
        lambda: promotion.retire(store, "digits", who="ada", why="worse"),
        lambda: promotion.repair(store, "digits"),
    ):
        with pytest.raises(DataError, match="does not hold"):
            move()
    assert store.version("digits", "champion").version == "2"


def test_a_ledger_that_is_gone_is_no_new_ledger(store: Store) -> None:
    ledger.ledger_file(store.project, "digits").unlink()
    assert promotion.faults(store, "digits") == [
        "numbers 1 to 5 are missing at the end, where MLflow has tags of 5 more: they were deleted"
    ]
    with pytest.raises(DataError, match="numbers 1 to 5 are missing"):
        promotion.repair(store, "digits")


def test_the_end_of_the_last_line_cut_off_by_hand_is_no_crash(store: Store) -> None:
    file = ledger.ledger_file(store.project, "digits")
    file.write_bytes(file.read_bytes()[:-1])
    assert promotion.faults(store, "digits")[0].startswith("number 5 is missing at the end")
    with pytest.raises(DataError, match="number 5 is missing"):
        promotion.repair(store, "digits")


def test_mirrors_deleted_or_edited_by_hand_are_named(store: Store) -> None:
    store.client.delete_registered_model_tag("digits", "ledger.00002")
    store.client.set_registered_model_tag("digits", "ledger.00003", "0" * 64)
    store.client.set_registered_model_tag("digits", "ledger.00007", "0" * 64)
    missing, other, more = promotion.faults(store, "digits")
    assert missing.startswith("number 2 has no tag ledger.00002 in MLflow")
    assert other.startswith("number 3 is not the line that MLflow mirrors in ledger.00003")
    assert more.startswith("numbers 6 to 7 are missing at the end, where MLflow has tags of 1 more")


def test_a_model_that_is_gone_is_named(store: Store) -> None:
    store.client.delete_registered_model("digits")
    (fault,) = promotion.faults(store, "digits")
    assert "the model was deleted, or MLFLOW_TRACKING_URI names another store" in fault


@pytest.mark.parametrize(
    ("alias", "says"),
    [
        (
            "3",
            r"on version 3 and the ledger says 2 \(promotion of version 2, number 5, .* by ada: better\): moved behind",
        ),
        ("1", "--to 2 --why TEXT` to put it back, or `--to 1` to keep what is there"),
        (None, r"is gone and the ledger says 2 .* Type `ae rollback digits --to 2 --why TEXT` to put it back$"),
    ],
)
def test_a_champion_moved_by_hand_is_named_and_put_back_on_the_record(store: Store, alias: str | None, says: str) -> None:
    if alias is None:
        store.client.delete_registered_model_alias("digits", "champion")
    else:
        store.client.set_registered_model_alias("digits", "champion", alias)
    (fault,) = promotion.faults(store, "digits")
    with pytest.raises(DataError, match=says) as caught:
        promotion.promote(store, "digits", "3", expected="2", who="ada", why="better", evidence={"sha256": "a" * 64})
    assert str(caught.value) == fault
    line = promotion.rollback(store, "digits", "2", who="grace", why="somebody moved it by hand")
    assert (line.number, line.before, line.after) == (6, "2", "2")
    assert promotion.faults(store, "digits") == []


def test_a_champion_set_by_hand_after_a_retirement_is_taken_away_again(store: Store) -> None:
    promotion.retire(store, "digits", who="grace", why="nobody needs it")
    store.client.set_registered_model_alias("digits", "champion", "3")
    (fault,) = promotion.faults(store, "digits")
    assert "is on version 3 and the ledger says none (retirement of version 2" in fault
    assert fault.endswith("Type `ae retire digits --why TEXT` to take it away again")
    line = promotion.retire(store, "digits", who="grace", why="set by hand")
    assert (line.version, line.before, line.after) == ("3", None, None)
    assert promotion.faults(store, "digits") == []


def test_a_changed_byte_of_the_champions_bundle_is_named_though_a_whole_copy_is_served(store: Store) -> None:
    store.download_bundle("digits", "champion")
    kept = kept_file(store, "2", "model.onnx")
    whole = kept.read_bytes()
    try:
        kept.write_bytes(b"twp")
        (fault,) = promotion.faults(store, "digits")
        assert fault.startswith("the bundle of champion 2 in the registry: ")
        assert "model.onnx was altered" in fault
        kept.unlink()
        (fault,) = promotion.faults(store, "digits")
        assert "model.onnx is missing" in fault
    finally:
        kept.write_bytes(whole)
    assert promotion.faults(store, "digits") == []


def test_another_bundle_under_the_champions_number_is_named_though_its_sums_and_tag_fit(store: Store) -> None:
    other = store.client.get_model_version("digits", "3").tags["bundle_sha256"]
    store.client.set_model_version_tag("digits", "2", "bundle_sha256", other)
    files = ("model.onnx", "weights.safetensors", "SHA256SUMS")
    whole = {name: kept_file(store, "2", name).read_bytes() for name in files}
    try:
        for name in files:
            kept_file(store, "2", name).write_bytes(kept_file(store, "3", name).read_bytes())
        (fault,) = promotion.faults(store, "digits")
        assert f"version 2 of digits is the bundle {other}, and the ledger knows " in fault
    finally:
        for name, data in whole.items():
            kept_file(store, "2", name).write_bytes(data)


def kept_file(store: Store, version: str, name: str) -> Path:
    place = store.client.get_model_version_download_uri("digits", version).removeprefix("file://")
    return Path(place) / "artifacts" / "bundle" / name
