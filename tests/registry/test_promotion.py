"""The champion moves one way: written down first, compared before it is moved, and finished after any crash."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Fork

from aeops.errors import AeError, DataError, GateError, UsageError
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.ledger import Decision, LedgerEntry
from aeops.registry.store import Store, open_store

PACKAGES = [Path(__file__).parents[2] / name for name in ("ae_models", "aeops", "flows")]
ADA: dict[str, str] = {"who": "ada", "why": "better"}


def promote(store: Store, version: str, expected: str | None, evidence: str = "") -> LedgerEntry:
    document = {"sha256": evidence or version * 64, "verdict": "better"}
    return promotion.promote(store, "digits", version, expected=expected, evidence=document, **ADA)


def champion(store: Store) -> str | None:
    held = store.champion("digits")
    return held.version if held else None


def lines(store: Store) -> list[LedgerEntry]:
    return ledger.read_entries(store.project, "digits")


# ---------------------------------------------------------------- moving


@pytest.mark.slow
def test_a_champion_has_a_line_that_names_its_bundle_and_a_mirror_of_that_line(registered: Store) -> None:
    line = promote(registered, "1", None)
    assert champion(registered) == "1"
    assert (line.event, line.version, line.who, line.why) == ("promotion", "1", *ADA.values())
    assert (line.from_version, line.to_version) == (None, "1")
    bundle = registered.version("digits", "1").tags["bundle_sha256"]
    assert line.evidence == {"sha256": "1" * 64, "verdict": "better", "bundle_sha256": bundle}
    model = registered.model("digits")
    assert model is not None
    assert model.tags == {"ledger.begun": line.hash, "ledger.00001": line.hash}
    assert lines(registered) == [line]
    assert promotion.find_problems(registered, "digits") == []


@pytest.mark.slow
def test_the_ledger_says_who_was_champion_at_each_moment(registered: Store) -> None:
    told: list[tuple[LedgerEntry, str | None]] = [(promote(registered, "1", None), "1")]
    refused = promotion.record_decision(registered, Decision("refusal", "digits", "2", "the gate", "worse", {"sha256": "2" * 64}))
    told.append((refused, "1"))
    told.append((promote(registered, "3", "1"), "3"))
    told.append((promotion.rollback(registered, "digits", None, who="grace", why="it flags everything"), "1"))
    told.append((promotion.retire(registered, "digits", who="grace", why="nobody needs it"), None))
    told.append((promotion.rollback(registered, "digits", None, who="grace", why="somebody does"), "1"))
    told.append((promote(registered, "2", "1", "f" * 64), "2"))
    told.append((promotion.rollback(registered, "digits", "3", who="grace", why="it was not that bad"), "3"))
    for line, expected in told:
        assert ledger.champion_at(lines(registered), line.timestamp) == expected
    assert [line for line, _ in told] == lines(registered)
    assert champion(registered) == "3"
    assert promotion.find_problems(registered, "digits") == []


@pytest.mark.slow
def test_a_champion_that_changed_meanwhile_is_not_overrun(registered: Store) -> None:
    promote(registered, "1", None)
    with pytest.raises(
        GateError, match=r"evaluated when there was no champion, but now the champion is 1 \(promotion of version 1"
    ):
        promote(registered, "2", None)
    promote(registered, "2", "1")
    with pytest.raises(
        GateError, match=r"compared with champion 1, .* the champion is 2 .* by ada: better\): nothing was moved.*`ae run digits`"
    ):
        promote(registered, "3", "1")
    promotion.retire(registered, "digits", **ADA)
    with pytest.raises(GateError, match=r"now there is no champion \(retirement of version 2"):
        promote(registered, "3", "2")
    assert [line.event for line in lines(registered)] == ["promotion", "promotion", "retirement"]


@pytest.mark.slow
def test_of_two_promotions_at_once_one_is_champion_and_the_other_is_told_which(
    project: Project, three_versions: Project, copy_state: Callable[[Project, Project], None], tmp_path: Path
) -> None:
    copy_state(three_versions, project)
    marks = {version: tmp_path / f"ready-{version}" for version in ("2", "3")}

    def rival(version: str) -> None:
        store = open_store(project)
        marks[version].touch()
        while not all(mark.exists() for mark in marks.values()):
            time.sleep(0.001)
        try:
            print(promote(store, version, None).version)
        except AeError as error:
            print(type(error).__name__, error)

    logs = [tmp_path / f"log-{version}" for version in marks]
    rivals = []
    for version, log in zip(marks, logs, strict=True):
        with log.open("wb") as file:
            rivals.append(Fork(lambda version=version: rival(version), cwd=tmp_path, env=os.environ, stdout=file))
    assert [process.wait() for process in rivals] == [0, 0]
    told = [log.read_text(encoding="utf-8").strip() for log in logs]
    registered = open_store(project)
    winner = champion(registered)
    assert sorted(told) == sorted([str(winner), next(text for text in told if "GateError" in text)])
    refusal = next(text for text in told if "GateError" in text)
    assert f"but now the champion is {winner} (promotion of version {winner}, number 1" in refusal
    assert "`ae run digits`" in refusal
    assert [line.to_version for line in lines(registered)] == [winner]
    assert promotion.find_problems(registered, "digits") == []


@pytest.mark.slow
def test_the_same_evidence_promotes_once_so_a_rollback_stands(registered: Store) -> None:
    promote(registered, "1", None)
    line = promote(registered, "2", "1")
    assert promote(registered, "2", "1") == line
    assert promote(registered, "2", "2", "other evidence, and champion already") == line
    promotion.rollback(registered, "digits", None, who="grace", why="it flags everything")
    assert promote(registered, "2", "1") == line
    assert champion(registered) == "1"
    assert promote(registered, "2", "1", "f" * 64).number == 4
    assert champion(registered) == "2"


@pytest.mark.slow
def test_the_champions_own_weights_with_another_threshold_are_a_recalibration_once(
    store: Store, bundle: Callable[..., Path], start: Callable[[], str]
) -> None:
    for word, weights in (("one", "first"), ("two", "first"), ("three", "second")):
        store.register(start(), "digits", bundle(word, weights), {}, "")
    events = [promote(store, version, before).event for version, before in (("1", None), ("2", "1"), ("2", "1"), ("3", "2"))]
    assert events == ["promotion", "recalibration", "recalibration", "promotion"]
    assert [line.event for line in lines(store)] == ["promotion", "recalibration", "promotion"]
    assert promotion.find_problems(store, "digits") == []


def test_evidence_of_another_bundle_moves_nothing(registered: Store) -> None:
    with pytest.raises(DataError, match=r"the evidence is about the bundle bbb.*, but version 1 of digits is "):
        promotion.promote(
            registered, "digits", "1", expected=None, evidence={"sha256": "1" * 64, "bundle_sha256": "b" * 64}, **ADA
        )
    with pytest.raises(ValueError, match="expected evidence with `sha256`"):
        promotion.promote(registered, "digits", "1", expected=None, evidence={}, **ADA)
    assert lines(registered) == []


def test_a_version_may_be_named_by_its_alias_and_one_that_is_not_there_is_told(registered: Store) -> None:
    registered.set_alias("digits", "challenger", "2")
    assert promote(registered, "challenger", None, "e" * 64).version == "2"
    with pytest.raises(UsageError, match="no version '9' of digits; expected one of challenger, champion, 3, 2, 1"):
        promote(registered, "9", "2")


def test_a_bundle_that_was_altered_in_the_registry_becomes_no_champion(registered: Store) -> None:
    promote(registered, "1", None)
    place = registered.client.get_model_version_download_uri("digits", "3").removeprefix("file://")
    kept = Path(place) / "artifacts" / "bundle" / "model.onnx"
    whole = kept.read_bytes()
    try:
        kept.write_bytes(b"other")
        with pytest.raises(DataError, match=r"model\.onnx was altered"):
            promote(registered, "3", "1")
    finally:
        kept.write_bytes(whole)
    assert champion(registered) == "1"
    assert len(lines(registered)) == 1


def test_only_promotion_moves_the_champion(registered: Store) -> None:
    with pytest.raises(ValueError, match="promotion"):
        registered.set_alias("digits", "champion", "1")
    code = {file: file.read_text(encoding="utf-8") for package in PACKAGES for file in package.rglob("*.py")}
    for name, allowed in (("move_champion", {"store.py", "promotion.py"}), ("ledger.append_entry", {"promotion.py"})):
        assert {file.name for file, text in code.items() if name in text} == allowed


# ---------------------------------------------------------------- decisions that move nothing


@pytest.mark.slow
def test_a_decision_is_written_once_for_an_evidence_and_a_person_may_think_again(registered: Store) -> None:
    def note(event: str, who: str = "grace", sha256: str = "e" * 64) -> int:
        evidence = {"sha256": sha256}
        return promotion.record_decision(registered, Decision(event, "digits", "1", who, "seen", evidence)).number

    assert [note("request"), note("request"), note("rejection"), note("rejection", "ada")] == [1, 1, 2, 2]
    assert [note("approval"), note("approval"), note("rejection"), note("request")] == [3, 3, 4, 1]
    assert note("request", sha256="f" * 64) == 5
    refused = promotion.record_decision(registered, Decision("refusal", "digits", "1", "the gate", "worse", {"sha256": "e" * 64}))
    assert (refused.number, refused.event, refused.from_version, refused.to_version) == (6, "refusal", None, None)
    assert champion(registered) is None
    assert promotion.find_problems(registered, "digits") == []
    with pytest.raises(
        ValueError, match="expected one of the events refusal, request, approval, rejection, acknowledgement, forgetting, got"
    ):
        note("promotion")


# ---------------------------------------------------------------- rollback and retirement


@pytest.mark.slow
def test_a_rollback_goes_back_to_what_was_champion_and_to_nothing_else(decided: Store) -> None:
    with pytest.raises(UsageError, match=r"version 2 of digits is champion already \(promotion of version 2, number 5"):
        promotion.rollback(decided, "digits", "2", **ADA)
    with pytest.raises(GateError, match=r"version 9 of digits never was champion.* expected one of 1, 3, 2.*ae run digits"):
        promotion.rollback(decided, "digits", "9", **ADA)
    line = promotion.rollback(decided, "digits", "3", **ADA)
    assert (line.from_version, line.to_version) == ("2", "3")
    assert line.evidence == {"bundle_sha256": decided.version("digits", "3").tags["bundle_sha256"]}
    assert champion(decided) == "3"


def test_the_same_rollback_typed_again_goes_no_further_back(decided: Store) -> None:
    line = promotion.rollback(decided, "digits", None, **ADA)
    assert promotion.rollback(decided, "digits", None, **ADA) == line
    assert promotion.rollback(decided, "digits", "1", **ADA) == line
    with pytest.raises(UsageError, match=r"no earlier champion to roll back to: `ae retire digits"):
        promotion.rollback(decided, "digits", None, who="ada", why="other words")
    assert champion(decided) == "1"


def test_without_a_champion_there_is_nothing_to_go_back_to_or_to_retire(registered: Store) -> None:
    with pytest.raises(UsageError, match=r"never had a champion: make one with `ae run digits`"):
        promotion.rollback(registered, "digits", None, **ADA)
    with pytest.raises(UsageError, match=r"has no champion to retire$"):
        promotion.retire(registered, "digits", **ADA)
    promote(registered, "1", None)
    line = promotion.retire(registered, "digits", **ADA)
    assert promotion.retire(registered, "digits", **ADA) == line
    with pytest.raises(UsageError, match=r"no champion to retire \(retirement of version 1, number 2, .* by ada: better\)"):
        promotion.retire(registered, "digits", who="ada", why="again")
    assert champion(registered) is None


def test_who_may_not_be_served_is_not_gone_back_to(decided: Store) -> None:
    def admit(version: str) -> None:
        raise DataError(f"{version} is not signed")

    with pytest.raises(DataError, match="1 is not signed"):
        promotion.rollback(decided, "digits", None, admit=admit, **ADA)
    assert champion(decided) == "2"
    assert len(lines(decided)) == 5


@pytest.mark.slow
def test_a_version_that_was_deleted_is_not_gone_back_to(decided: Store) -> None:
    decided.client.delete_model_version("digits", "3")
    with pytest.raises(
        UsageError, match=r"version 3 of digits was deleted in MLflow.* type `ae rollback digits --to 1 --why TEXT`"
    ):
        promotion.rollback(decided, "digits", "3", **ADA)
    decided.client.delete_model_version("digits", "2")
    (fault,) = promotion.find_problems(decided, "digits")
    assert "is missing, but the last ledger entry says 2" in fault
    assert promotion.rollback(decided, "digits", None, **ADA).to_version == "1"
    assert promotion.find_problems(decided, "digits") == []


# ---------------------------------------------------------------- crashes


def begun(store: Store, until: str, **given: Any) -> LedgerEntry:
    """Does of a promotion of 3 over 2 what is done before a crash after `until`."""
    values = {"event": "promotion", "version": "3", "from_version": "2", "to_version": "3"} | ADA | given
    lines_before = ledger.ledger_file(store.project, "digits").read_bytes()
    decision = Decision(recipe="digits", **values)
    line = ledger.append_entry(
        store.project, decision, lambda line: store.set_model_tag("digits", promotion.PENDING_TAG, line.hash)
    )
    if until == "announcement":
        ledger.ledger_file(store.project, "digits").write_bytes(lines_before)
    if until == "half the line":
        file = ledger.ledger_file(store.project, "digits")
        file.write_bytes(file.read_bytes()[:-100])
    if until == "alias":
        store.move_champion("digits", line.to_version)
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("until", "fault", "mended", "then"),
    [
        ("announcement", None, None, "2"),
        (
            "half the line",
            "ends in an incomplete line, which was never confirmed",
            "bytes of an incomplete line off the end",
            "2",
        ),
        ("line", "interrupted: promotion of version 3, number 6", "completed what was interrupted", "3"),
        ("alias", "interrupted: promotion of version 3, number 6", "completed what was interrupted", "3"),
    ],
)
def test_a_crash_is_told_and_mended_in_the_direction_the_ledger_says(
    decided: Store, until: str, fault: str | None, mended: str | None, then: str
) -> None:
    begun(decided, until)
    assert [fault in told for told in promotion.find_problems(decided, "digits")] == [True] * (fault is not None)
    assert [mended in told for told in promotion.repair_ledger(decided, "digits")] == [True] * (mended is not None)
    assert champion(decided) == ledger.champion_at(lines(decided)) == then
    assert promotion.find_problems(decided, "digits") == []
    assert promotion.repair_ledger(decided, "digits") == []
    promotion.rollback(decided, "digits", "1", **ADA)
    assert promotion.find_problems(decided, "digits") == []


def test_a_retirement_or_a_refusal_cut_short_is_finished_as_what_it_is(decided: Store) -> None:
    begun(decided, "line", event="refusal", from_version=None, to_version=None)
    assert "refusal of version 3, number 6" in promotion.repair_ledger(decided, "digits")[0]
    assert champion(decided) == "2"
    begun(decided, "line", event="retirement", version="2", to_version=None)
    assert "retirement of version 2, number 7" in promotion.repair_ledger(decided, "digits")[0]
    assert champion(decided) is None
    assert promotion.find_problems(decided, "digits") == []


def test_what_was_cut_short_is_finished_by_whatever_is_typed_next(decided: Store) -> None:
    line = begun(decided, "line", event="rollback", version="1", to_version="1")
    assert promotion.rollback(decided, "digits", None, **ADA) == line
    assert champion(decided) == "1"
    assert len(lines(decided)) == 6


def test_a_champion_older_than_the_ledger_is_taken_in(registered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_BY", "the night shift")
    registered.client.set_registered_model_alias("digits", "champion", "2")
    (fault,) = promotion.find_problems(registered, "digits")
    assert "champion 2 of digits has no entry in the ledger: `ae run digits` adds it" in fault
    assert promotion.repair_ledger(registered, "digits") == ["added champion 2 to the ledger as its first entry"]
    (line,) = lines(registered)
    assert (line.event, line.from_version, line.to_version, line.who) == ("adoption", None, "2", "the night shift")
    assert line.evidence == {"bundle_sha256": registered.version("digits", "2").tags["bundle_sha256"]}
    assert promotion.find_problems(registered, "digits") == []
    assert promote(registered, "3", "2").from_version == "2"
    assert promotion.rollback(registered, "digits", None, **ADA).to_version == "2"


def test_a_recipe_that_nothing_was_registered_of_needs_no_repair(store: Store) -> None:
    assert promotion.repair_ledger(store, "digits") == []
    assert promotion.find_problems(store, "digits") == []
    assert not ledger.ledger_file(store.project, "digits").exists()


def test_two_projects_over_one_registry_do_not_both_write(decided: Store, tmp_path: Path) -> None:
    other = Store(Project(root=tmp_path, home=tmp_path / "other"), decided.uri)
    other.connect()
    with pytest.raises(DataError, match="numbers 1 to 5 are missing at the end, where MLflow has tags of 5 more"):
        promote(other, "3", "2")
    assert champion(decided) == "2"
