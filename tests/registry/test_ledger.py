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
from aeops.registry.store import Store, open_store

EVIDENCE = {"sha256": "e" * 64, "bundle_sha256": "b" * 64, "holdout_sha256": "h" * 64, "verdict": "better"}


def add(project: Project, event: str = "promotion", version: str = "1", **given: Any) -> ledger.LedgerEntry:
    values = {"to_version": version, "who": "ada", "why": "it is better", "evidence": EVIDENCE} | given
    return ledger.append_entry(project, ledger.Decision(event, "digits", version, **values))


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
    second = add(project, "rollback", "2", from_version="1")
    one, two = ledger.ledger_file(project, "digits").read_text(encoding="utf-8").splitlines()
    assert list(json.loads(one)) == sorted(json.loads(one))
    assert " :" not in one
    expected = {"number": 1, "event": "promotion", "recipe": "digits", "version": "1", "from": None, "to": "1", "who": "ada"}
    expected |= {"why": "MSE 12 % lower\nthan before: größer", "evidence": EVIDENCE, "time": first.time}
    expected |= {"account": ledger.current_account()}
    assert json.loads(one) == expected | {"previous": "0" * 64, "hash": first.hash}
    for raw, line in ((one, first), (two, second)):
        assert sha256({key: value for key, value in json.loads(raw).items() if key != "hash"}) == line.hash
    assert second.previous == first.hash
    assert ledger.read_entries(project, "digits") == [first, second]
    assert datetime.fromisoformat(first.time).utcoffset() == timedelta(0)


def test_a_recipe_without_a_ledger_has_no_lines(project: Project) -> None:
    assert ledger.read_entries(project, "digits") == []
    assert ledger.champion_at([]) is None
    assert ledger.recipes_with_ledger(project) == []
    add(project)
    assert ledger.recipes_with_ledger(project) == ["digits"]


def test_the_champion_is_told_for_every_moment(project: Project) -> None:
    story = [("promotion", "1", "1"), ("refusal", "2", None), ("promotion", "3", "3"), ("rollback", "1", "1")]
    story += [("retirement", "1", None), ("adoption", "2", "2")]
    lines = [add(project, event, version, to_version=after) for event, version, after in story]
    assert [ledger.champion_at(lines, line.timestamp) for line in lines] == ["1", "1", "3", "1", None, "2"]
    instant = timedelta(microseconds=1)
    assert [ledger.champion_at(lines, line.timestamp - instant) for line in lines] == [None, "1", "1", "3", "1", None]
    assert ledger.champion_at(lines) == "2"
    elsewhere = lines[2].timestamp.astimezone(datetime.fromisoformat("2026-01-01T00:00+09:00").tzinfo)
    assert ledger.champion_at(lines, elsewhere) == "3"


def test_a_clock_that_was_put_back_does_not_change_the_order(project: Project) -> None:
    add(project)
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="microseconds")
    rewrite(ledger.ledger_file(project, "digits"), lambda lines: [edited(lines[0], rehash=True, time=ahead)])
    second = add(project, version="2")
    assert second.time == ahead
    assert second.clock is not None
    assert second.clock < ahead  # what the clock said
    assert ledger.champion_at(ledger.read_entries(project, "digits")) == "2"


def at(*days: float) -> list[ledger.LedgerEntry]:
    """Entries that were written when the clock said so many days after the first of January; `time` never goes back."""
    entries: list[ledger.LedgerEntry] = []
    for number, day in enumerate(days, 1):
        times = ledger.entry_times(NEW_YEAR + timedelta(days=day), entries)
        entries.append(
            ledger.LedgerEntry(
                number,
                times["time"],
                "promotion",
                "digits",
                str(number),
                None,
                str(number),
                "ada",
                "why",
                {},
                "",
                "",
                None,
                times.get("clock"),
            )
        )
    return entries


NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "now", "settled"),
    [
        ([1, 2, 3], 4, [1, 2, 3]),
        ([1, 2, 367, 4, 5], 6, [1, 2, 2, 4, 5]),  # one clock a year ahead, and set right
        ([1, 2, 367], 6, [1, 2, 2]),  # not set right yet, or nothing was decided since
        ([1, 2, 367, 4, 5], 400, [1, 2, 2, 4, 5]),  # a year later, when that date is past
        ([1, 2, -9000, 4, 5], 6, [1, 2, 2, 4, 5]),  # an empty battery: a clock in 2001
        ([1, 2, -9000], 6, [1, 2, 2]),
        ([367, 2, 3], 6, [2, 2, 3]),  # the first of all
        ([367], 6, [367]),  # nothing says better
        ([1, 367, 368, 4, 5, 6], 7, [1, 1, 1, 4, 5, 6]),
    ],
)
def test_a_wrong_clock_does_not_spoil_the_times_of_the_other_lines(days: list[float], now: float, settled: list[float]) -> None:
    moments = ledger.settle_timestamps(at(*days), NEW_YEAR + timedelta(days=now))
    assert [(moment - NEW_YEAR) / timedelta(days=1) for moment in moments] == settled


def test_a_line_ahead_of_the_clock_is_told_and_the_champion_of_each_day_stays_right() -> None:
    entries, now = at(1, 2, 367, 4, 5), NEW_YEAR + timedelta(days=6)
    [told] = ledger.find_wrong_clocks(entries, now)
    assert "number 3 is dated 2027-01-03 00:00 UTC, 361 days ahead of this machine's clock" in told
    [told_later] = ledger.find_wrong_clocks(entries, NEW_YEAR + timedelta(days=400))
    assert "number 3 was written while a clock said 2027-01-03" in told_later
    assert ledger.find_wrong_clocks(at(1, 2, 3), now) == []
    assert ledger.champion_at(entries, NEW_YEAR + timedelta(days=4)) == "4"
    assert ledger.champion_at(entries, NEW_YEAR + timedelta(days=3)) == "3"


@pytest.mark.parametrize(
    "extra", [{"account": None}, {"clock": None}, {"account": 1}, {"clock": "yesterday"}, {"clock": "2026-01-01"}]
)
def test_an_optional_value_is_absent_or_valid(project: Project, extra: dict[str, Any]) -> None:
    add(project)
    rewrite(ledger.ledger_file(project, "digits"), lambda lines: [edited(lines[0], rehash=True, **extra)])
    with pytest.raises(DataError, match="line 1 of the file"):
        ledger.read_entries(project, "digits")


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
    lines = [add(project, event, after or "9", to_version=after) for event, after in story]
    assert ledger.champion_before(lines) == before


def test_a_holdout_has_judged_each_bundle_once(project: Project) -> None:
    for bundle, holdout in (("a", "h"), ("a", "h"), ("b", "h"), ("c", "other")):
        add(project, "refusal", to_version=None, evidence=EVIDENCE | {"bundle_sha256": bundle, "holdout_sha256": holdout})
    add(project, "rollback", evidence={"bundle_sha256": "d"})
    lines = ledger.read_entries(project, "digits")
    assert [ledger.count_evaluated_bundles(lines, holdout) for holdout in ("h", "other", "none")] == [2, 1, 0]


def test_who_acts_is_whoever_says_so_or_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    monkeypatch.setenv("AE_BY", "  ")
    assert ledger.current_actor() == "grace"
    monkeypatch.setenv("AE_BY", " ada ")
    assert ledger.current_actor() == "ada"


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
    assert ledger.read_entries(project, "digits") == [first]
    with pytest.raises(DataError, match="incomplete"):
        add(project, version="2")
    assert ledger.cut_incomplete_end(project, "digits") == 40
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
        (lambda raw: edited(raw, number=0, rehash=True), "expected a number of 1 or more, got 0"),
        (lambda raw: edited(raw, number=True, rehash=True), "expected a number of 1 or more, got True"),
        (
            lambda raw: edited(raw, number=10**9, rehash=True),
            "number 2 is missing; numbers 5 to 999999999 are missing",
        ),
        (lambda raw: edited(raw, event="coronation", rehash=True), "expected one of the events adoption, promotion"),
        (lambda raw: edited(raw, time="yesterday", rehash=True), "yesterday"),
        (
            lambda raw: edited(raw, time="2026-01-01T00:00:00", rehash=True),
            "expected an ISO time with a time zone",
        ),
        (lambda raw: edited(raw, who=None, rehash=True), "wrong type"),
        (lambda raw: edited(raw, evidence={"sha256": 1}, rehash=True), "wrong type"),
        (lambda raw: raw.replace(b"it is better", b"\\ud800"), "line 2 of the file cannot be read"),
        (lambda raw: raw.replace(b",", b", "), "line 2 of the file was edited: it is not canonical JSON"),
        (lambda raw: raw.replace(b"{", b'{"who":"eve",', 1), "line 2 of the file was edited: it is not canonical JSON"),
        (lambda raw: edited(raw, why="better"), "line 2 of the file was edited: its content does not match its hash"),
        (lambda raw: edited(raw, why="better", rehash=True), "number 3 does not hold the hash of the number before it"),
        (lambda raw: edited(raw, recipe="mnist", rehash=True), "line 2 of the file belongs to the recipe mnist"),
    ],
)
def test_whatever_a_line_is_made_into_is_named(project: Project, change: Callable[[bytes], bytes], fault: str) -> None:
    for version in ("1", "2", "3", "4"):
        add(project, version=version)
    rewrite(ledger.ledger_file(project, "digits"), lambda lines: [lines[0], change(lines[1]), *lines[2:]])
    with pytest.raises(DataError) as caught:
        ledger.read_entries(project, "digits")
    assert fault in str(caught.value)
    assert "ae ledger verify digits" in str(caught.value)
    with pytest.raises(DataError):
        add(project)


# ---------------------------------------------------------------- tampering, beside a real MLflow


@pytest.fixture
def store(decided: Store) -> Store:
    assert promotion.find_problems(decided, "digits") == []
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
        ["line 2 of the file was edited: its content does not match its hash"],
    ),
    "edited, with a hash that fits": (
        lambda lines: [*lines[:1], edited(lines[1], event="approval", rehash=True), *lines[2:]],
        ["number 3 does not hold the hash of the number before it", "number 2 is not the entry that MLflow mirrors"],
    ),
    "edited, with a chain that fits": (
        lambda lines: chained([*lines[:3], edited(lines[3], who="eve"), *lines[4:]]),
        [f"number {number} is not the entry that MLflow mirrors in ledger.0000{number}" for number in (4, 5)],
    ),
    "first deleted": (lambda lines: lines[1:], ["number 1 is missing"]),
    "middle deleted": (lambda lines: lines[:2] + lines[3:], ["number 3 is missing"]),
    "middle deleted, with a chain that fits": (
        lambda lines: chained(lines[:2] + lines[3:]),
        ["number 3 is not the entry", "number 4 is not the entry", "number 5 is missing at the end"],
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
        ["number 6 has no tag ledger.00006 in MLflow: the entry was added, or the tag deleted, by hand"],
    ),
    "added in the middle": (
        lambda lines: chained([*lines[:4], edited(lines[3], to="3"), lines[4]]),
        ["number 5 is not the entry that MLflow mirrors", "number 6 has no tag ledger.00006"],
    ),
}


@pytest.fixture(scope="module")
def tampered(
    five_decisions: Project, copy_state: Callable[[Project, Project], None], tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """One store for all of TAMPERINGS, as nothing moves: each test writes the ledger's file anew."""
    place = tmp_path_factory.mktemp("tampered")
    project = Project(root=place, home=place / ".ae")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        copy_state(five_decisions, project)
        return open_store(project)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TAMPERINGS)
def test_a_ledger_that_was_tampered_with_is_named_fault_by_fault_and_nothing_moves(
    tampered: Store, five_decisions: Project, kind: str
) -> None:
    store, file = tampered, ledger.ledger_file(tampered.project, "digits")
    file.write_bytes(ledger.ledger_file(five_decisions, "digits").read_bytes())
    assert promotion.find_problems(store, "digits") == []
    before, (change, expected) = store.model("digits"), TAMPERINGS[kind]
    rewrite(file, change)
    found = promotion.find_problems(store, "digits")
    assert len(found) == len(expected), found
    assert [fault[: len(words)] for fault, words in zip(found, expected, strict=True)] == expected
    promote_3: dict[str, Any] = {"expected": "2", "evidence": {"sha256": "a" * 64}}
    for move in (
        lambda: promotion.promote(store, "digits", "3", who="ada", why="better", **promote_3),
        lambda: promotion.rollback(store, "digits", "1", who="ada", why="worse"),
        lambda: promotion.retire(store, "digits", who="ada", why="worse"),
        lambda: promotion.repair_ledger(store, "digits"),
    ):
        with pytest.raises(DataError, match="is not intact"):
            move()
    assert store.version("digits", "champion").version == "2"
    assert store.model("digits") == before


def test_a_ledger_that_is_gone_is_no_new_ledger(store: Store) -> None:
    ledger.ledger_file(store.project, "digits").unlink()
    assert promotion.find_problems(store, "digits") == [
        "numbers 1 to 5 are missing at the end, where MLflow has tags of 5 more: they were deleted"
    ]
    with pytest.raises(DataError, match="numbers 1 to 5 are missing"):
        promotion.repair_ledger(store, "digits")


def test_the_end_of_the_last_line_cut_off_by_hand_is_no_crash(store: Store) -> None:
    file = ledger.ledger_file(store.project, "digits")
    file.write_bytes(file.read_bytes()[:-1])
    assert promotion.find_problems(store, "digits")[0].startswith("number 5 is missing at the end")
    with pytest.raises(DataError, match="number 5 is missing"):
        promotion.repair_ledger(store, "digits")


def test_mirrors_deleted_or_edited_by_hand_are_named(store: Store) -> None:
    store.client.delete_registered_model_tag("digits", "ledger.00002")
    store.client.set_registered_model_tag("digits", "ledger.00003", "0" * 64)
    store.client.set_registered_model_tag("digits", "ledger.00007", "0" * 64)
    missing, other, more = promotion.find_problems(store, "digits")
    assert missing.startswith("number 2 has no tag ledger.00002 in MLflow")
    assert other.startswith("number 3 is not the entry that MLflow mirrors in ledger.00003")
    assert more.startswith("numbers 6 to 7 are missing at the end, where MLflow has tags of 1 more")


def test_a_model_that_is_gone_is_named(store: Store) -> None:
    store.client.delete_registered_model("digits")
    (fault,) = promotion.find_problems(store, "digits")
    assert "it was deleted, or MLFLOW_TRACKING_URI names another store" in fault


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alias", "says"),
    [
        (
            "3",
            r"points to version 3, but the last ledger entry says 2 \(promotion of version 2, number 5, .* by ada: better\)",
        ),
        ("1", r"restore version 2: .* --to 2 --why TEXT`. To accept version 1: .* --to 1 --why TEXT`$"),
        (None, r"is missing, but the last ledger entry says 2 .* To restore version 2: `ae rollback digits --to 2 --why TEXT`$"),
    ],
)
def test_a_champion_moved_by_hand_is_named_and_put_back_on_the_record(store: Store, alias: str | None, says: str) -> None:
    if alias is None:
        store.client.delete_registered_model_alias("digits", "champion")
    else:
        store.client.set_registered_model_alias("digits", "champion", alias)
    (fault,) = promotion.find_problems(store, "digits")
    with pytest.raises(DataError, match=says) as caught:
        promotion.promote(store, "digits", "3", expected="2", who="ada", why="better", evidence={"sha256": "a" * 64})
    assert str(caught.value) == fault
    line = promotion.rollback(store, "digits", "2", who="grace", why="somebody moved it by hand")
    assert (line.number, line.from_version, line.to_version) == (6, "2", "2")
    assert promotion.find_problems(store, "digits") == []


def test_a_champion_set_by_hand_after_a_retirement_is_taken_away_again(store: Store) -> None:
    promotion.retire(store, "digits", who="grace", why="nobody needs it")
    store.client.set_registered_model_alias("digits", "champion", "3")
    (fault,) = promotion.find_problems(store, "digits")
    assert "points to version 3, but the last ledger entry says none (retirement of version 2" in fault
    assert fault.endswith("To remove the alias: `ae retire digits --why TEXT`")
    line = promotion.retire(store, "digits", who="grace", why="set by hand")
    assert (line.version, line.from_version, line.to_version) == ("3", None, None)
    assert promotion.find_problems(store, "digits") == []


def test_a_changed_byte_of_the_champions_bundle_is_named_though_a_whole_copy_is_served(store: Store) -> None:
    store.download_bundle("digits", "champion")
    kept = kept_file(store, "2", "model.onnx")
    whole = kept.read_bytes()
    try:
        kept.write_bytes(b"twp")
        (fault,) = promotion.find_problems(store, "digits")
        assert fault.startswith("the bundle of digits 2 in ")
        assert "model.onnx was altered" in fault
        kept.unlink()
        (fault,) = promotion.find_problems(store, "digits")
        assert "model.onnx is missing" in fault
    finally:
        kept.write_bytes(whole)
    assert promotion.find_problems(store, "digits") == []


def test_another_bundle_under_the_champions_number_is_named_though_its_sums_and_tag_fit(store: Store) -> None:
    other = store.client.get_model_version("digits", "3").tags["bundle_sha256"]
    store.client.set_model_version_tag("digits", "2", "bundle_sha256", other)
    files = ("model.onnx", "weights.safetensors", "SHA256SUMS")
    whole = {name: kept_file(store, "2", name).read_bytes() for name in files}
    try:
        for name in files:
            kept_file(store, "2", name).write_bytes(kept_file(store, "3", name).read_bytes())
        changed_tag, other_bundle = promotion.find_problems(store, "digits")  # one for each of the two that were changed
        assert "the tag bundle_sha256 of champion 2 in MLflow is not the" in changed_tag
        assert f"bundle of version 2 of digits in the registry has SHA-256 {other}, but the ledger says " in other_bundle
    finally:
        for name, data in whole.items():
            kept_file(store, "2", name).write_bytes(data)


def kept_file(store: Store, version: str, name: str) -> Path:
    place = store.client.get_model_version_download_uri("digits", version).removeprefix("file://")
    return Path(place) / "artifacts" / "bundle" / name
