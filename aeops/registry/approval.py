"""Approval of a version by a person: requested by the flow, decided by `ae approve`, `ae reject` or the form on Prefect's page.

All three call `decide_request`. The ledger holds request and decision; the version's tags repeat them for MLflow's pages. See
docs/approval.md.
"""

from dataclasses import replace
from typing import Literal

from aeops.errors import DataError, GateError, UsageError
from aeops.machine.lock import file_lock
from aeops.project import Project
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry import ledger, promotion
from aeops.registry.aliases import CHAMPION
from aeops.registry.ledger import Decision, LedgerEntry
from aeops.registry.person_names import is_same_person
from aeops.registry.store import Store
from aeops.registry.trust import require_signed, require_signing_key
from aeops.registry.versions import VersionInfo

ApprovalChoice = Literal["approve", "reject"]

STATE_TAG, FLOW_RUN_TAG, EXPECTED_TAG = "approval", "approval.flow_run", "approval.expected"  # tags of a version
STATE_WAITING, STATE_WITHDRAWN = "waiting", "withdrawn"  # the state until a decision, or once a later run made it needless
STATE_BY_EVENT = {"approval": "approved", "rejection": "rejected"}  # event in the ledger -> state in the tag
EVENT_BY_CHOICE: dict[str, str] = {"approve": "approval", "reject": "rejection"}
APPROVER_KEY = "approver"  # in a request's evidence: who may approve; its key `champion` says who was champion
NOT_THE_STARTER = "not the one who started the run"
NO_VERSION = "none"
MAX_REASON = 200  # characters of a refusal in a message


# ---------------------------------------------------------------- requests


def request_approval(
    store: Store, decision: Decision, *, champion: str | None, other_than_starter: bool, flow_run: str | None
) -> LedgerEntry:
    """Request a person's decision. Its conditions stand in the ledger, where no later edit of recipe or tags changes them.

    Args:
        decision: with the event `request` and the person who started the run.
        champion: the version that the evidence compares with; the request can be approved only while it is champion.
        other_than_starter: True if somebody else has to approve.
        flow_run: id of the suspended flow run that continues with the decision; None if there is none.

    Returns:
        The ledger's entry of the request.
    """
    recipe, version = decision.recipe, decision.version
    expected = champion or NO_VERSION
    evidence = {**decision.evidence, CHAMPION: expected}
    if other_than_starter:
        evidence[APPROVER_KEY] = NOT_THE_STARTER
    entry = promotion.record_decision(store, replace(decision, evidence=evidence))
    flow_runs = flow_run_ids(store.version(recipe, version))
    if flow_run and flow_run not in flow_runs:
        flow_runs.append(flow_run)
    run_text = " ".join(flow_runs) or NO_VERSION
    store.set_tags(recipe, version, {EXPECTED_TAG: expected, FLOW_RUN_TAG: run_text, STATE_TAG: STATE_WAITING})
    return entry


def is_waiting(version: VersionInfo) -> bool:
    return version.tags.get(STATE_TAG) == STATE_WAITING


def pending_request(project: Project, recipe: str, version: VersionInfo) -> LedgerEntry | None:
    """Return the request that nobody has decided yet; None where the version does not wait.

    Raises:
        DataError: only the tags say that it waits.
    """
    if not is_waiting(version):
        return None
    request = _last_request(ledger.read_entries(project, recipe), version.version)
    if request is None:
        raise DataError(
            f"the tags of {recipe} {version.version} say that it waits for approval, and the ledger has no such request: "
            f"type `ae ledger verify {recipe}`"
        )
    return request


def flow_run_ids(version: VersionInfo) -> list[str]:
    """Return the ids of the flow runs that requested approval of the version; two if two runs made the same bundle."""
    return [run for run in version.tags.get(FLOW_RUN_TAG, NO_VERSION).split() if run != NO_VERSION]


def withdraw_request(store: Store, recipe: str, version: str) -> None:
    """End a request that a later run of the same bundle made needless: it was promoted or refused without one."""
    if is_waiting(store.version(recipe, version)):
        store.set_tags(recipe, version, {STATE_TAG: STATE_WITHDRAWN})


def _last_request(entries: list[LedgerEntry], version: str) -> LedgerEntry | None:
    for entry in reversed(entries):
        if entry.version == version and entry.event == "request":
            return entry
    return None


# ---------------------------------------------------------------- decisions


def decide_request(
    project: Project, store: Store, recipe: str, version: str, choice: ApprovalChoice, by: str, why: str
) -> LedgerEntry:
    """Carry out a person's decision: `approve` makes the version champion, `reject` leaves the champion as it is.

    Args:
        version: a number or an alias.
        by: name of the person who decided.
        why: recorded with the decision.

    Returns:
        The ledger's entry of the promotion or the rejection.

    Raises:
        UsageError: there is no such version, it does not wait, or this person may not approve it.
        GateError: it was refused, or is not signed as the recipe requires, or the champion is no longer the one it was
            compared with.
        In all of these nothing has changed.
    """
    by, why = ledger.require_text(by, "who"), ledger.require_text(why, "why")
    with file_lock(project, "approval"):  # of two people at once, the second learns of the first's decision
        version_info = store.version(recipe, version)
        request = _decidable_request(project, store, recipe, version_info, choice)
        answer = _find_answer(request, ledger.read_entries(project, recipe))
        if answer is None or _overturns_rejection(answer, choice):
            if choice == "approve":
                checked = load_recipe(project, recipe, with_keys=True)
                _require_allowed_approver(request, by, checked)
                _require_same_champion(store, request)
                require_signed(project, store, checked, version_info.version)
                require_signing_key(store, checked)
            decision = Decision(EVENT_BY_CHOICE[choice], recipe, version_info.version, by, why, request.evidence)
            answer = promotion.record_decision(store, decision)
        result = _apply_answer(store, request, answer)  # also somebody else's decision that a kill interrupted
    if (answer.event, answer.who) != (EVENT_BY_CHOICE[choice], by):
        raise UsageError(_already_decided_message(answer))
    return result


def _overturns_rejection(answer: LedgerEntry, choice: ApprovalChoice) -> bool:
    """Return True for an approval after a rejection; an approved version is champion, and `ae rollback` takes it back."""
    return answer.event == "rejection" and choice == "approve"


def _decidable_request(
    project: Project, store: Store, recipe: str, version_info: VersionInfo, choice: ApprovalChoice
) -> LedgerEntry:
    """Return the request that this choice can decide; raise UsageError or GateError where there is none."""
    if request := pending_request(project, recipe, version_info):
        return request
    version, entries = version_info.version, ledger.read_entries(project, recipe)
    last_request = _last_request(entries, version)
    refusal = _newer_refusal(entries, version, last_request)
    if refusal:
        raise GateError(f"{recipe} {version} was refused, so there is nothing to decide: {shorten_reasons(refusal)}")
    if last_request and (answer := _find_answer(last_request, entries)):
        if _overturns_rejection(answer, choice):
            return last_request
        raise UsageError(_already_decided_message(answer))
    waiting = ", ".join(info.version for info in store.versions(recipe) if is_waiting(info))
    raise UsageError(f"{recipe} {version} does not wait for approval; {waiting or 'no version'} does: see `ae show {recipe}`")


def shorten_reasons(refusal: LedgerEntry) -> str:
    """Return the beginning of why a version was refused, which may be a page long, and the command that prints all of it."""
    if len(refusal.why) <= MAX_REASON:
        return refusal.why
    return f"{refusal.why[:MAX_REASON].rstrip()} ...; all of it: `ae history {refusal.recipe} --full`"


def _newer_refusal(entries: list[LedgerEntry], version: str, request: LedgerEntry | None) -> LedgerEntry | None:
    """Return the last refusal of the version that rests on other evidence than the request, and came after it."""
    for entry in reversed(entries):
        if entry.version != version or entry.event != "refusal":
            continue
        if request is None:
            return entry
        if entry.number > request.number and entry.evidence["sha256"] != request.evidence["sha256"]:
            return entry
    return None


def _already_decided_message(answer: LedgerEntry) -> str:
    """Say what was decided before, and how to change it."""
    recipe, version = answer.recipe, answer.version
    if answer.event == "approval":
        command = f"ae rollback {recipe} --why TEXT"
    else:
        command = f"ae approve {recipe} {version} --by NAME --why TEXT"
    return (
        f"{recipe} {version} was {STATE_BY_EVENT[answer.event]} already, by {answer.who} on {answer.timestamp:%Y-%m-%d at %H:%M} "
        f"(UTC): {answer.why}; `{command}` changes that"
    )


def _find_answer(request: LedgerEntry, entries: list[LedgerEntry]) -> LedgerEntry | None:
    """Return the last decision of a request in the ledger."""
    for entry in reversed(entries[request.number :]):
        if entry.version == request.version and entry.event in STATE_BY_EVENT:
            return entry
    return None


def _require_allowed_approver(request: LedgerEntry, by: str, checked: Recipe) -> None:
    """Raise UsageError where the recipe, then or now, requires another approver than the person who started the run."""
    needs_other = request.evidence.get(APPROVER_KEY) == NOT_THE_STARTER or checked.approval.other_than_starter
    if needs_other and is_same_person(request.who, by):
        starter = by
        if by != request.who:
            starter = f"{by!r} reads as {request.who!r}, who"
        raise UsageError(
            f"{starter} started the run that made {request.recipe} {request.version}, and its recipe requires somebody else to "
            f"approve it (approval.other_than_starter): give --by NAME of another person; {request.who} may reject it"
        )


def _require_same_champion(store: Store, request: LedgerEntry) -> None:
    """Raise GateError where the champion is no longer the one that the evidence compares with."""
    recipe, expected = request.recipe, request.evidence[CHAMPION]
    present = store.champion_version(recipe) or NO_VERSION
    if present != expected:
        raise GateError(
            f"{recipe} {request.version} was compared with champion {expected}, but the champion is {present} now: "
            f"`ae run {recipe}` compares with that one, then decide again (or `ae reject {recipe} {request.version}`)"
        )


def _apply_answer(store: Store, request: LedgerEntry, answer: LedgerEntry) -> LedgerEntry:
    """Carry out a decision; a repetition changes nothing. Return the entry of its result."""
    recipe, version = answer.recipe, answer.version
    tags = {STATE_TAG: STATE_BY_EVENT[answer.event]}
    if answer.event != "approval":
        store.set_tags(recipe, version, tags)
        return answer
    champion = request.evidence[CHAMPION]
    expected = None if champion == NO_VERSION else champion
    result = promotion.promote(
        store, recipe, version, expected=expected, who=answer.who, why=answer.why, evidence=answer.evidence
    )
    store.set_tags(recipe, version, tags | {"verdict": "accepted"})
    return result
