"""A person's decision: carried out once, by who may, about what they were shown."""

import os
import platform
import pwd
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from champion_helpers import make_champion
from checkout import ROOT

from aeops.cli.decide import same_account_warning
from aeops.cli.main import main
from aeops.errors import AeError, DataError, GateError, UsageError
from aeops.project import Project
from aeops.registry import approval, ledger, promotion
from aeops.registry.approval import decide_request
from aeops.registry.database import database_file
from aeops.registry.ledger import Decision
from aeops.registry.store import Store, open_store
from aeops.registry.version_state import describe_state, find_dismissal, is_settled

from .conftest import DATASET, write_bundle

WHY = "the loops are sharper"


@pytest.fixture
def made(store: Store, project: Project, start: Callable[[], str], bundle: Callable[..., Path]) -> Callable[[str], str]:
    """Registers a bundle of that word; the recipe lies beside."""
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    tags = {"verdict": "accepted"}
    return lambda word: store.register(start(), "digits", bundle(word), tags=tags, description="")


@pytest.fixture(scope="module")
def waiting_once(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose version 2 waits beside champion 1; tests take copies, as registering takes seconds."""
    place = tmp_path_factory.mktemp("waiting")
    project = Project(root=place, home=place)
    project.mlflow.mkdir()
    shutil.copyfile(empty_database, database_file(project))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(project)
        for word in ("one", "two"):
            run = store.start_run("digits", {"git.commit": "abc"}, {}, DATASET)
            bundle = write_bundle(place / "bundles" / word, word)
            store.register(run, "digits", bundle, tags={"verdict": "accepted"}, description="")
        make_champion(store, "digits", "1")
        ask(store, "2")
    return project


@pytest.fixture
def store(
    request: pytest.FixtureRequest,
    project: Project,
    empty_database: Path,
    waiting_once: Project,
    copy_state: Callable[[Project, Project], None],
) -> Store:
    """A store of its own: with the version that waits where the test asks for it, else empty."""
    if "waiting" in request.fixturenames:
        copy_state(waiting_once, project)
    else:
        project.mlflow.mkdir(parents=True)
        shutil.copyfile(empty_database, database_file(project))
    return open_store(project)


@pytest.fixture(scope="module")
def still_waiting(
    waiting_once: Project, copy_state: Callable[[Project, Project], None], tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """One store with the version that waits, for tests of decisions that are refused and so change nothing."""
    place = tmp_path_factory.mktemp("still-waiting")
    project = Project(root=place, home=place / ".ae")
    project.recipes.mkdir()
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        copy_state(waiting_once, project)
        return open_store(project)


@pytest.fixture
def waiting(store: Store, project: Project) -> str:
    """The version 2, which waits beside champion 1; ada started its run."""
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    return "2"


def ask(store: Store, version: str, *, champion: str = "1", flow_run: str | None = None, strict: bool = True) -> None:
    evidence = {"sha256": f"{champion}{version}" * 32, "verdict": "better"}
    decision = Decision("request", "digits", version, who="ada", why="better: by far", evidence=evidence)
    approval.request_approval(store, decision, champion=champion, other_than_starter=strict, flow_run=flow_run)


def champion(store: Store) -> str | None:
    found = store.champion("digits")
    return found.version if found else None


def tags(store: Store, version: str) -> dict[str, str]:
    return store.version("digits", version).tags


def events(project: Project) -> list[tuple[str, str, str]]:
    return [(line.event, line.version, line.who) for line in ledger.read_entries(project, "digits")]


@pytest.mark.slow
def test_a_request_moves_nothing_and_says_what_it_waits_for(project: Project, store: Store, waiting: str) -> None:
    assert champion(store) == "1"
    assert events(project)[-1] == ("request", "2", "ada")
    told = {name: value for name, value in tags(store, "2").items() if name.startswith("approval")}
    assert told == {"approval": "waiting", "approval.expected": "1", "approval.flow_run": "none"}
    assert describe_state("digits", store.version("digits", "2"), ledger.read_entries(project, "digits")) == "waits for approval"


def test_who_approves_makes_it_champion_and_both_are_written_down(project: Project, store: Store, waiting: str) -> None:
    line = decide_request(project, store, "digits", "2", "approve", " bob ", WHY)
    assert (line.event, line.from_version, line.to_version, line.who, line.why) == ("promotion", "1", "2", "bob", WHY)
    assert champion(store) == "2"
    assert events(project)[-2:] == [("approval", "2", "bob"), ("promotion", "2", "bob")]
    assert tags(store, "2")["approval"] == "approved"
    assert promotion.find_problems(store, "digits") == []


def test_who_rejects_leaves_the_champion_and_no_run_promotes_it_later(project: Project, store: Store, waiting: str) -> None:
    line = decide_request(project, store, "digits", "2", "reject", "bob", "too dark")
    assert (line.event, line.to_version, champion(store), tags(store, "2")["approval"]) == ("rejection", None, "1", "rejected")
    lines = ledger.read_entries(project, "digits")
    assert find_dismissal(lines, "2") == line
    assert "bob rejected digits 2" in describe_state("digits", store.version("digits", "2"), lines)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["ada", " Ada"])
def test_the_starter_may_not_approve_and_may_reject(project: Project, store: Store, waiting: str, by: str) -> None:
    before = events(project)
    with pytest.raises(UsageError, match=r"somebody else .* --by NAME of another person"):
        decide_request(project, store, "digits", "2", "approve", by, WHY)
    assert (events(project), champion(store), tags(store, "2")["approval"]) == (before, "1", "waiting")
    assert decide_request(project, store, "digits", "2", "reject", by, WHY).event == "rejection"


@pytest.mark.parametrize(
    "by",
    [
        "ada\u200b",
        "\u0430da",  # a Cyrillic a
        "ada (as QA)",
        "Ada as QA",
        "a.d.a",
        "\uff41\uff44\uff41",  # full width
        "ádà",
        "\u202eada",
        "ada\u00ad",
    ],
)
def test_the_starter_may_not_approve_under_a_name_that_only_looks_like_another(still_waiting: Store, by: str) -> None:
    store = still_waiting
    with pytest.raises(UsageError, match=r"reads as 'ada', who started the run"):
        decide_request(store.project, store, "digits", "2", "approve", by, WHY)
    assert champion(store) == "1"


@pytest.mark.parametrize("by", ["bob", "Грейс", "李雷", "grace (as QA)", "адам"])
def test_another_person_may_approve_whatever_the_alphabet(project: Project, store: Store, waiting: str, by: str) -> None:
    assert decide_request(project, store, "digits", "2", "approve", by, WHY).who == by


def test_the_account_stands_beside_the_name_and_no_setting_changes_it(
    project: Project, store: Store, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    monkeypatch.setenv("AE_BY", "grace")
    warning = same_account_warning(ledger.read_entries(project, "digits"), "2", "bob")
    decide_request(project, store, "digits", "2", "approve", "bob", WHY)
    expected = f"{pwd.getpwuid(os.getuid()).pw_name}@{platform.node()}"
    assert {entry.account for entry in ledger.read_entries(project, "digits")} == {expected}
    assert warning == f"the account {expected} also started the run, as ada: names are not authenticated"


@pytest.mark.slow
def test_the_account_is_said_before_the_champion_moves(
    project: Project,
    store: Store,
    waiting: str,
    made: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_champion(store, "digits", made("three"))
    monkeypatch.chdir(project.root)
    assert main(["approve", "digits", "2", "--by", "bob", "--why", WHY]) == 4  # compared with another champion
    assert "also started the run, as ada: names are not authenticated" in capsys.readouterr().out
    assert champion(store) == "3"


@pytest.mark.slow
def test_the_starter_is_barred_where_the_recipe_says_so_then_or_now(
    project: Project, store: Store, made: Callable[[str], str]
) -> None:
    make_champion(store, "digits", made("one"))
    ask(store, made("two"), strict=False)
    file = project.recipe_file("digits")
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(given | {"approval": {"needed": True, "other_than_starter": True}}), encoding="utf-8")
    with pytest.raises(UsageError, match="somebody else"):
        decide_request(project, store, "digits", "2", "approve", "ada", WHY)
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    assert decide_request(project, store, "digits", "2", "approve", "ada", WHY).to_version == "2"


@pytest.mark.slow
def test_an_approval_holds_against_the_champion_it_was_asked_about_and_no_other(
    project: Project, store: Store, waiting: str, made: Callable[[str], str]
) -> None:
    make_champion(store, "digits", made("three"))
    before = events(project)
    with pytest.raises(GateError, match=r"compared with champion 1, but the champion is 3 now: `ae run digits`"):
        decide_request(project, store, "digits", "2", "approve", "bob", WHY)
    assert (events(project), champion(store), tags(store, "2")["approval"]) == (before, "3", "waiting")
    assert not is_settled(store, store.version("digits", "2"), "digits", ledger.read_entries(project, "digits"))
    assert decide_request(project, store, "digits", "2", "reject", "bob", WHY).event == "rejection"


def test_what_is_approved_is_not_decided_again(project: Project, store: Store, waiting: str) -> None:
    decide_request(project, store, "digits", "2", "approve", "bob", WHY)
    before = events(project)
    for decision, by in (("approve", "bob"), ("approve", "eve"), ("reject", "eve")):
        with pytest.raises(UsageError, match=rf"approved already, by bob on .*{WHY}; `ae rollback digits --why TEXT`"):
            decide_request(project, store, "digits", "2", decision, by, WHY)
    assert events(project) == before


def test_what_is_rejected_may_still_be_approved_while_the_champion_is_the_same(
    project: Project, store: Store, waiting: str
) -> None:
    decide_request(project, store, "digits", "2", "reject", "bob", "too dark")
    with pytest.raises(UsageError, match=r"rejected already, by bob .* `ae approve digits 2"):
        decide_request(project, store, "digits", "2", "reject", "eve", WHY)
    assert decide_request(project, store, "digits", "2", "approve", "bob", "not that dark").to_version == "2"
    assert find_dismissal(ledger.read_entries(project, "digits"), "2") is None


@pytest.mark.slow
def test_a_refused_version_is_not_decided_about(project: Project, store: Store, waiting: str, made: Callable[[str], str]) -> None:
    version = made("worse")
    promotion.record_decision(store, Decision("refusal", "digits", version, "ada", "error is too large", {"sha256": "9" * 64}))
    with pytest.raises(GateError, match=r"digits 3 was refused, so there is nothing to decide: error is too large"):
        decide_request(project, store, "digits", version, "approve", "bob", WHY)


def test_a_refusal_for_many_reasons_is_told_in_short(
    project: Project, store: Store, waiting: str, made: Callable[[str], str]
) -> None:
    version = made("worse")
    reasons = "; ".join(f"forgets_no_digit: the error on label {label} is too large" for label in range(40))
    promotion.record_decision(store, Decision("refusal", "digits", version, "ada", reasons, {"sha256": "9" * 64}))
    with pytest.raises(GateError, match=r"forgets_no_digit: .* \.\.\.; all of it: `ae history digits --full`$") as refused:
        decide_request(project, store, "digits", version, "approve", "bob", WHY)
    assert len(str(refused.value)) < 350


def test_a_request_that_a_later_refusal_overtook_is_withdrawn(project: Project, store: Store, waiting: str) -> None:
    promotion.record_decision(store, Decision("refusal", "digits", "2", "ada", "the gate is stricter now", {"sha256": "8" * 64}))
    approval.withdraw_request(store, "digits", "2")
    with pytest.raises(GateError, match="the gate is stricter now"):
        decide_request(project, store, "digits", "2", "approve", "bob", WHY)


@pytest.mark.parametrize(
    ("version", "by", "why", "told"),
    [
        ("1", "bob", WHY, "digits 1 does not wait for approval; 2 does"),
        ("7", "bob", WHY, "no version '7' of digits"),
        ("2", "  ", WHY, "--by NAME"),
        ("2", "bob", "", "--why TEXT"),
    ],
)
def test_what_cannot_be_decided_is_told_and_changes_nothing(
    still_waiting: Store, version: str, by: str, why: str, told: str
) -> None:
    store, project = still_waiting, still_waiting.project
    before = events(project)
    with pytest.raises(UsageError, match=told):
        decide_request(project, store, "digits", version, "approve", by, why)
    assert (events(project), champion(store)) == (before, "1")


@pytest.mark.slow
def test_tags_alone_make_no_request(project: Project, store: Store, made: Callable[[str], str]) -> None:
    version = made("one")
    store.set_tags("digits", version, {"approval": "waiting", "approval.expected": "none"})
    with pytest.raises(DataError, match="ae ledger verify digits"):
        decide_request(project, store, "digits", version, "approve", "bob", WHY)
    assert champion(store) is None


def test_an_approval_that_was_cut_short_is_finished(project: Project, store: Store, waiting: str) -> None:
    asked = ledger.read_entries(project, "digits")[-1]
    promotion.record_decision(store, Decision("approval", "digits", "2", "bob", WHY, asked.evidence))  # and then the kill
    assert decide_request(project, store, "digits", "2", "approve", "bob", WHY).to_version == "2"
    assert (champion(store), tags(store, "2")["approval"]) == ("2", "approved")
    assert [event for event, _, _ in events(project)].count("approval") == 1


def test_a_decision_that_was_cut_short_is_finished_before_another_one_is_told(
    project: Project, store: Store, waiting: str
) -> None:
    asked = ledger.read_entries(project, "digits")[-1]
    promotion.record_decision(store, Decision("approval", "digits", "2", "bob", WHY, asked.evidence))
    with pytest.raises(UsageError, match="approved already, by bob"):
        decide_request(project, store, "digits", "2", "reject", "eve", "too dark")
    assert (champion(store), tags(store, "2")["approval"]) == ("2", "approved")


def test_of_two_people_at_once_one_decides_and_the_other_is_told(project: Project, store: Store, waiting: str) -> None:
    def one(who: str) -> str:
        try:
            return decide_request(project, store, "digits", "2", "approve", who, WHY).event
        except AeError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        heard = sorted(pool.map(one, ("bob", "eve")), key=len)
    assert heard[0] == "promotion"
    assert "approved already, by" in heard[1]
    assert [event for event, _, _ in events(project)].count("promotion") == 2  # of version 1 and of version 2


def test_every_flow_run_that_asked_is_kept_and_a_request_is_written_once(project: Project, store: Store, waiting: str) -> None:
    before = events(project)
    for flow_run in ("first", "second", "first"):
        ask(store, "2", flow_run=flow_run)
    assert approval.flow_run_ids(store.version("digits", "2")) == ["first", "second"]
    assert events(project) == before


@pytest.mark.slow
def test_a_version_that_waits_or_was_turned_away_needs_no_other_run(project: Project, store: Store, waiting: str) -> None:
    def settled() -> bool:
        return is_settled(store, store.version("digits", "2"), "digits", ledger.read_entries(project, "digits"))

    assert settled()
    decide_request(project, store, "digits", "2", "approve", "bob", WHY)
    assert settled()
    promotion.rollback(store, "digits", None, who="bob", why="it flags too much")
    assert settled()
    told = describe_state("digits", store.version("digits", "2"), ledger.read_entries(project, "digits"))
    assert "bob rolled back from digits 2" in told
    assert "`ae rollback digits --to 2 --why TEXT`" in told
    store.client.delete_registered_model_alias("digits", "champion")  # behind the ledger's back
    assert not settled()
