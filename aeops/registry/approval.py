"""A person's decision about a version that waits for one: asked by the flow, answered by `ae approve`, `ae reject` or the form
on Prefect's page, always through `decide`.

The ledger holds question and answer; the version's tags repeat them for MLflow's pages. See docs/approval.md.
"""

from collections.abc import Mapping
from typing import Literal

from aeops.errors import DataError, GateError, UsageError
from aeops.machine.lock import file_lock
from aeops.project import Project
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry import ledger, promotion
from aeops.registry.ledger import Line
from aeops.registry.store import Store
from aeops.registry.trust import require_signed
from aeops.registry.versions import VersionInfo

Decision = Literal["approve", "reject"]

TAG, FLOW_RUN, EXPECTED = "approval", "approval.flow_run", "approval.expected"  # tags of a version
WAITING, WITHDRAWN = "waiting", "withdrawn"  # what the tag says until there is an answer, or a later run made it needless
ANSWERS = {"approval": "approved", "rejection": "rejected"}  # event of the ledger -> what the tag says then
EVENTS: dict[str, str] = {"approve": "approval", "reject": "rejection"}
CHAMPION, APPROVER = "champion", "approver"  # what a request's evidence tells besides: who was champion, and who may approve
NOT_THE_STARTER = "not the one who started the run"
NONE = "none"


# ---------------------------------------------------------------- asking


def request(
    store: Store,
    recipe: str,
    version: str,
    *,
    champion: str | None,
    who: str,
    why: str,
    evidence: Mapping[str, str],
    other_than_starter: bool,
    flow_run: str | None,
) -> Line:
    """Asks for a decision; what it depends on is in the ledger's line, where no later edit of recipe or tags changes it.

    Args:
        champion: the version that the evidence compares with; an approval holds against no other.
        who: the one who started the run.
        other_than_starter: whether somebody else has to approve.
        flow_run: id of the suspended flow run that goes on with the answer; None: none does.
    """
    told = {**evidence, CHAMPION: champion or NONE} | ({APPROVER: NOT_THE_STARTER} if other_than_starter else {})
    line = promotion.note(store, recipe, version, who=who, why=why, evidence=told, event="request")
    runs = dict.fromkeys([*flow_runs(store.version(recipe, version)), *([flow_run] if flow_run else [])])
    store.set_tags(recipe, version, {EXPECTED: champion or NONE, FLOW_RUN: " ".join(runs) or NONE, TAG: WAITING})
    return line


def waits(version: VersionInfo) -> bool:
    return version.tags.get(TAG) == WAITING


def waiting_request(project: Project, recipe: str, version: VersionInfo) -> Line | None:
    """What a person was asked and has not answered; None where the version does not wait.

    Raises:
        DataError: only the tags say that it waits.
    """
    if not waits(version):
        return None
    about = (line for line in reversed(ledger.read(project, recipe)) if line.version == version.version)
    asked = next((line for line in about if line.event == "request"), None)
    if asked is None:
        raise DataError(
            f"the tags of {recipe} {version.version} say that it waits for approval, and the ledger has no such request: "
            f"type `ae ledger verify {recipe}`"
        )
    return asked


def flow_runs(version: VersionInfo) -> list[str]:
    """The ids of the flow runs that have asked about the version; two, where two runs made the same bundle."""
    return [run for run in version.tags.get(FLOW_RUN, NONE).split() if run != NONE]


def withdraw(store: Store, recipe: str, version: str) -> None:
    """Ends a request that a later run of the same bundle has made needless: it was promoted or refused without one."""
    if waits(store.version(recipe, version)):
        store.set_tags(recipe, version, {TAG: WITHDRAWN})


# ---------------------------------------------------------------- deciding


def decide(project: Project, store: Store, recipe: str, version: str, decision: Decision, by: str, why: str) -> Line:
    """Carries out what a person decided: `approve` makes the version champion, `reject` leaves the champion as it is.

    Args:
        version: a number or an alias.
        by: who decided.
        why: kept with the decision for good.

    Returns:
        The promotion or the rejection, as the ledger has it.

    Raises:
        UsageError: there is no such version, it waits for nothing, or this person may not approve it.
        GateError: it was refused, or is not signed as the recipe requires, or the champion is no longer the one it was
            compared with.
        In all of these nothing has changed.
    """
    by, why = ledger.said(by, "who"), ledger.said(why, "why")
    with file_lock(project, "approval"):  # of two people at once, the second is told what the first decided
        held = store.version(recipe, version)
        asked = open_request(project, store, recipe, held, decision)
        given = answer_to(asked, ledger.read(project, recipe))
        if given is None or thinks_again(given, decision):
            if decision == "approve":
                checked = load_recipe(project, recipe, with_keys=True)
                demand_approver(asked, by, checked)
                demand_champion(store, asked)
                require_signed(project, store, checked, held.version)
            given = promotion.note(store, recipe, held.version, who=by, why=why, evidence=asked.evidence, event=EVENTS[decision])
        done = carry_out(store, asked, given)  # also the decision of another one that was cut short, before anybody decides anew
    if (given.event, given.who) != (EVENTS[decision], by):
        raise UsageError(already(given))
    return done


def thinks_again(given: Line, decision: Decision) -> bool:
    """What was rejected may still be approved; what was approved is champion, and taken back by `ae rollback`."""
    return given.event == "rejection" and decision == "approve"


def open_request(project: Project, store: Store, recipe: str, held: VersionInfo, decision: Decision) -> Line:
    """The request that can be decided like this."""
    if waiting := waiting_request(project, recipe, held):
        return waiting
    lines = ledger.read(project, recipe)
    about = [line for line in lines if line.version == held.version]
    asked = next((line for line in reversed(about) if line.event == "request"), None)
    refusal = next((line for line in reversed(about) if is_newer_refusal(line, asked)), None)
    given = answer_to(asked, lines) if asked else None
    if asked and given and refusal is None:
        if thinks_again(given, decision):
            return asked
        raise UsageError(already(given))
    if refusal:
        raise GateError(f"{recipe} {held.version} was refused, so there is nothing to decide: {refusal.why}")
    others = ", ".join(version.version for version in store.versions(recipe) if waits(version))
    raise UsageError(f"{recipe} {held.version} waits for no approval; {others or 'no version'} does: see `ae show {recipe}`")


def is_newer_refusal(line: Line, asked: Line | None) -> bool:
    """Whether a run has refused the version by other evidence than the one that a person was asked about."""
    if line.event != "refusal" or asked is None:
        return line.event == "refusal"
    return line.number > asked.number and line.evidence["sha256"] != asked.evidence["sha256"]


def already(given: Line) -> str:
    """What was decided before, and how to change it."""
    recipe, undo = given.recipe, {"approval": "ae rollback {} --why TEXT", "rejection": "ae approve {} {} --by NAME --why TEXT"}
    return (
        f"{recipe} {given.version} was {ANSWERS[given.event]} already, by {given.who} on {given.moment:%Y-%m-%d at %H:%M} (UTC): "
        f"{given.why}; `{undo[given.event].format(recipe, given.version)}` changes that"
    )


def answer_to(asked: Line, lines: list[Line]) -> Line | None:
    """The last decision that the ledger holds about a request."""
    later = [line for line in lines[asked.number :] if line.version == asked.version and line.event in ANSWERS]
    return later[-1] if later else None


def demand_approver(asked: Line, by: str, checked: Recipe) -> None:
    """Raises UsageError where the recipe, then or now, wants another approver than the one who started the run."""
    wanted = asked.evidence.get(APPROVER) == NOT_THE_STARTER or checked.approval.other_than_starter
    if wanted and asked.who.casefold() == by.casefold():
        raise UsageError(
            f"{by} started the run that made {asked.recipe} {asked.version}, and its recipe wants somebody else to approve it "
            f"(approval.other_than_starter): --by NAME of another person; {by} may reject it"
        )


def demand_champion(store: Store, asked: Line) -> None:
    """Raises GateError where another version is champion than the one the evidence compares with."""
    champion, recipe, before = store.champion(asked.recipe), asked.recipe, asked.evidence[CHAMPION]
    now = NONE if champion is None else champion.version
    if now != before:
        raise GateError(
            f"{recipe} {asked.version} was compared with champion {before}, and the champion is {now} by now: "
            f"`ae run {recipe}` compares with that one, then decide again (or `ae reject {recipe} {asked.version}`)"
        )


def carry_out(store: Store, asked: Line, given: Line) -> Line:
    """Does what a decision says; again, the same and no more. Returns the line that tells of it."""
    done = given
    if given.event == "approval":
        expected = asked.evidence[CHAMPION]
        done = promotion.promote(
            store,
            given.recipe,
            given.version,
            expected=None if expected == NONE else expected,
            who=given.who,
            why=given.why,
            evidence=given.evidence,
        )
    verdict = {"verdict": "accepted"} if given.event == "approval" else {}
    store.set_tags(given.recipe, given.version, {TAG: ANSWERS[given.event]} | verdict)
    return done
