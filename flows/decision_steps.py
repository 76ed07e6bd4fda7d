"""Steps that decide about a new version: by comparison with the champion, by the gate, by a person where the recipe requires one.

Every move of the champion goes through aeops/registry/promotion.py, which writes it to the ledger first.
"""

import sys
from itertools import count
from pathlib import Path
from typing import TypedDict

from prefect import State
from prefect.artifacts import create_markdown_artifact
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import Field

from ae_models.checksums import bundle_sha256
from aeops.bundle.signing import read_private_key, signing_key
from aeops.errors import DataError, UsageError
from aeops.gate.documents import EvidenceDocument, compared_champion, is_accepted, refusal_reasons
from aeops.gate.evidence import holdout_sha256, read_comparison, read_evidence, read_verdict, write_evidence
from aeops.machine.child_process import PreloadedProcess
from aeops.machine.scratch import ScratchFolder
from aeops.machine.step_report import say_result
from aeops.machine.stored_json import read_json
from aeops.monitoring.run_notices import tell_decision
from aeops.project import Project, find_project
from aeops.recipe.gate_rules import LOGGED_CHECK
from aeops.registry import approval, ledger, promotion
from aeops.registry.killed_runs import close_killed_runs
from aeops.registry.ledger import Decision, LedgerEntry
from aeops.registry.logged_model_check import check_logged_model
from aeops.registry.signatures import require_recipe_key, sign_version
from aeops.registry.store import Store, fit_description, open_store
from aeops.registry.trust import find_champion, require_signed, require_signing_key
from aeops.registry.version_state import describe_state, dismissal_reason, find_dismissal
from aeops.report.headline import describe_relation, verdict_sentence
from aeops.report.model_card import with_refusal
from aeops.report.summary import approval_markdown, comparison_markdown
from flows.flow_run import flow_result
from flows.pipeline_step import pipeline_step
from flows.registering_steps import describe_in_mlflow
from flows.training_steps import (
    evidence_file,
    load_context,
    read_decided_evidence,
)

APPROVAL_WAIT_DAYS = 90  # that a suspended flow run waits for its answer; `ae approve` works after that, too


class ApprovalResult(TypedDict):
    """Result of a flow run that a person's decision resumed."""

    recipe: str
    version: str
    state: str


@pipeline_step("repair", "completes what an interrupted run left open", retries=2)
def repair_registry(recipe: str) -> None:
    """Close what a killed run left open, and complete what it interrupted between ledger and alias.

    A problem that would prevent a promotion stops the run here.

    Raises:
        DataError: the alias champion was changed outside `ae`.
        UsageError: AE_SIGNING_KEY names a key that cannot sign for this recipe.
    """
    store = open_store(find_project())
    for message in (*close_killed_runs(store), *promotion.repair_ledger(store, recipe)):
        print(message, file=sys.stderr)
    if problems := list(promotion.alias_problems(recipe, promotion.read_registry_state(store, recipe))):
        raise DataError("; ".join(problems))
    promotion.repair_champion_bundle(store, recipe)
    if key := signing_key():
        read_private_key(key)
        require_recipe_key(store, recipe, key)


@pipeline_step("compare", "compares the model with the champion on the same samples", retries=1)
def compare_with_champion(recipe: str, stage: PreloadedProcess) -> dict[str, str]:
    """Compare bundle/ with the champion's on the same test samples -> evidence.json.

    No stage of DVC, as the result depends on who is champion.

    Args:
        recipe: its name.
        stage: the process of the stage compare.

    Returns:
        What the ledger records of the evidence.
    """
    project, _ = load_context(recipe)
    store, artifacts, output = open_store(project), project.artifacts(recipe), project.reports(recipe) / "comparison.json"
    arguments = ["--recipe", str(project.recipe_file(recipe)), "--prepared", str(artifacts / "prepared")]
    arguments += ["--challenger", str(artifacts / "bundle")]
    if champion := find_champion(project, store, recipe):
        bundle = store.bundle_of(recipe, champion)
        arguments += ["--champion", str(bundle), "--champion-version", champion.version]
    arguments += ["--judged", str(count_holdout_uses(project, recipe)), "--out", str(output)]
    stage.run(arguments)
    comparison = read_comparison(output)
    if champion is None:
        say_result("no champion yet")
    else:
        say_result(f"{comparison['verdict']} than champion {champion.version}")
    description = f"{recipe}: {describe_relation(comparison)}"
    create_markdown_artifact(comparison_markdown(comparison), key=f"{recipe}-comparison", description=description)
    return write_evidence(evidence_file(project, recipe), read_verdict(artifacts / "verdict.json"), comparison)


def count_holdout_uses(project: Project, recipe: str) -> int:
    """Return how many bundles have been evaluated on these test samples, including this one; each counts once."""
    entries, holdout = ledger.read_entries(project, recipe), holdout_sha256(project.artifacts(recipe) / "prepared")
    current_evidence = {"holdout_sha256": holdout, "bundle_sha256": bundle_sha256(project.artifacts(recipe) / "bundle")}
    bundle_count = ledger.count_evaluated_bundles(entries, holdout)
    if any(current_evidence.items() <= entry.evidence.items() for entry in entries):
        return bundle_count
    return bundle_count + 1


@pipeline_step("decide", "decides about the version by all evidence", retries=1)
def collect_refusal_reasons(recipe: str, version: str, evidence: dict[str, str]) -> list[str]:
    """Return the reasons to refuse this version; an empty list means that it passed.

    The reasons come from its evidence, from the gate's rules about the logged model, and from a person's earlier decision.
    """
    project, checked = load_context(recipe)
    reasons = refusal_reasons(read_decided_evidence(project, recipe, evidence))
    messages = []
    for name, rule in checked.gate.items():
        if rule.check != LOGGED_CHECK:
            continue
        outcome = check_logged_model(project, recipe, version, name, rule)
        messages.append(outcome.message)
        if not outcome.passed:
            reasons.append(outcome.message)
    if messages:
        open_store(project).set_tags(recipe, version, {"logged": "; ".join(messages)})
    if dismissal := find_dismissal(ledger.read_entries(project, recipe), version):
        reasons.append(dismissal_reason(recipe, version, dismissal))
    say_result(f"{recipe} {version} is refused" if reasons else f"{recipe} {version} is accepted")
    return reasons


def decide_version(recipe: str, version: str, evidence: dict[str, str]) -> list[str]:
    """Refuse a version, promote it, or request a person's decision about it; return the reasons of a refusal, else none."""
    _, checked = load_context(recipe)
    reasons: list[str] = collect_refusal_reasons(recipe, version, evidence)
    if reasons:
        refuse_version(recipe, version, evidence, reasons)
        return reasons
    if signing_key():
        sign_accepted_version(recipe, version)
    if checked.approval.needed:
        request_decision(recipe, version, evidence)
    else:
        promote_accepted_version(recipe, version, evidence)
    return []


@pipeline_step("refuse", "records the refusal", retries=2)
def refuse_version(recipe: str, version: str, evidence: dict[str, str], reasons: list[str]) -> None:
    """Record the refusal with its reasons; the champion stays."""
    store = open_store(find_project())
    decision = Decision("refusal", recipe, version, ledger.current_actor(), "; ".join(reasons), evidence)
    promotion.record_decision(store, decision)
    store.set_tags(recipe, version, {"verdict": "refused"})
    describe_refusal(store, recipe, version, evidence, reasons)
    approval.withdraw_request(store, recipe, version)


def describe_refusal(store: Store, recipe: str, version: str, evidence: dict[str, str], reasons: list[str]) -> None:
    """Let a version's card begin with its refusal where its evidence had been good: it was written before the last checks."""
    project = store.project
    document = read_decided_evidence(project, recipe, evidence)
    if not is_accepted(document):
        return
    metrics = read_json(project.artifacts(recipe) / "report" / "metrics.json")
    sentence = verdict_sentence(metrics, document["comparison"], reasons)
    version_info = store.version(recipe, version)
    card = with_refusal(version_info.description, recipe, sentence)
    store.update_version(recipe, version_info, {}, fit_description(card))
    _, checked = load_context(recipe)
    describe_in_mlflow(store, checked, version_info.run_id, version, sentence)


@pipeline_step("sign", "signs the model with your key", retries=2)
def sign_accepted_version(recipe: str, version: str) -> None:
    """Sign the version's bundle if AE_SIGNING_KEY names a key."""
    if key := signing_key():
        sign_version(open_store(find_project()), recipe, version, key)


@pipeline_step("promote", "makes the version the champion", retries=2)
def promote_accepted_version(recipe: str, version: str, evidence: dict[str, str]) -> None:
    """Promote an accepted version if the champion is still the one that it was compared with."""
    project, checked = load_context(recipe)
    store, document = open_store(project), read_decided_evidence(project, recipe, evidence)
    require_signed(project, store, checked, version)
    require_signing_key(store, checked)
    promotion.promote(
        store,
        recipe,
        version,
        expected=compared_champion(document),
        who=ledger.current_actor(),
        why=acceptance_reason(document),
        evidence=evidence,
    )
    say_result(f"{recipe} {version} is champion")
    approval.withdraw_request(store, recipe, version)


@pipeline_step("request", "asks for a person's approval", retries=2)
def request_decision(recipe: str, version: str, evidence: dict[str, str]) -> None:
    """Request a person's decision about an accepted version, unless it is champion already."""
    project, checked = load_context(recipe)
    store, document = open_store(project), read_decided_evidence(project, recipe, evidence)
    champion = compared_champion(document)
    if champion == version:
        return
    require_signed(project, store, checked, version)
    decision = Decision("request", recipe, version, ledger.current_actor(), acceptance_reason(document), evidence)
    approval.request_approval(
        store,
        decision,
        champion=champion,
        other_than_starter=checked.approval.other_than_starter,
        flow_run=str(flow_run.id) if deployment.id else None,
    )


def acceptance_reason(evidence: EvidenceDocument) -> str:
    """Return why a version was accepted, for the ledger: how it compares with the champion, and the reasons."""
    comparison, reasons = evidence["comparison"], "; ".join(evidence["comparison"]["reasons"])
    if comparison["champion"] is None:
        return reasons
    return f"{describe_relation(comparison)}: {reasons}"


# ---------------------------------------------------------------- the form on Prefect's page


class ApprovalForm(RunInput):
    """Your decision about the version above."""

    decision: approval.ApprovalChoice
    by: str = Field(min_length=1, description="your name")
    why: str = Field(min_length=1, description="recorded with the version")


def find_requested_version(recipe: str) -> str | None:
    """Return the version that this flow run has requested a decision about; None in a run that starts."""
    if not deployment.id:
        return None
    for version in open_store(find_project()).versions(recipe):
        if str(flow_run.id) in approval.flow_run_ids(version):
            return version.version
    return None


def ask_for_approval(recipe: str, version: str) -> State[ApprovalResult]:
    """Suspend this flow run until a person has decided, and carry that out; ask again where it is not possible.

    The process ends inside (Prefect raises its signal Pause). When the run is resumed, the flow starts anew, returns to this
    point, and receives the answers one after the other. After an earlier `ae approve` or `ae reject`, nothing is left to ask.
    """
    project, problem = find_project(), ""
    store = open_store(project)
    for attempt in count(1):
        request = approval.pending_request(project, recipe, store.version(recipe, version))
        if request is None:
            break
        form = ApprovalForm.with_initial_data(description=form_description(store, request, problem))
        key = f"approval-{request.hash[:12]}-{attempt}"  # another request of the same version is another question
        answer = suspend_flow_run(wait_for_input=form, timeout=APPROVAL_WAIT_DAYS * 86400, key=key)
        problem = apply_form(recipe, version, answer.decision, answer.by, answer.why)
    version_info = store.version(recipe, version)
    state = describe_state(recipe, version_info, ledger.read_entries(project, recipe))
    return flow_result({"recipe": recipe, "version": version, "state": state}, f"{recipe} {version} is {state}")


def form_description(store: Store, request: LedgerEntry, problem: str) -> str:
    """Build the text above the form from the evidence stored with the version.

    Raises:
        DataError: the evidence is not the one in the ledger.
    """
    run = store.version(request.recipe, request.version).run_id
    with ScratchFolder() as folder:
        file = store.download_file(run, "evidence.json", Path(folder))
        try:
            document = read_evidence(file, request.evidence["sha256"])
        except DataError as error:
            raise DataError(
                f"evidence.json of {request.recipe} {request.version} in {store.run_url(run)} is not the one in the ledger "
                f"({request.evidence['sha256'][:12]}): approval is not requested; type `ae ledger verify {request.recipe}`"
            ) from error
        return approval_markdown(request, document, store.run_url(run), problem)


@pipeline_step("answer", "carries out the decision", retries=1)
def apply_form(recipe: str, version: str, choice: approval.ApprovalChoice, by: str, why: str) -> str:
    """Carry out a person's decision; return the problem if it is not possible, else an empty string."""
    project = find_project()
    try:
        entry = approval.decide_request(project, open_store(project), recipe, version, choice, by, why)
    except UsageError as error:  # the person can correct it: the form is shown again
        return str(error)
    tell_decision(project, entry)
    return ""
