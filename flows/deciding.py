"""The steps that decide about a new version: beside the champion, by the gate, by a person where the recipe asks for one.

Every move of the champion goes through aeops/registry/promotion.py, which writes it down first.
"""

import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import Field

from ae_models.sums import bundle_sha256
from aeops.bundle.signing import read_private_key, signing_key
from aeops.errors import DataError, UsageError
from aeops.files import file_sha256
from aeops.gate.documents import EvidenceDocument, compared_champion, refusal_reasons
from aeops.gate.evidence import holdout_sha256, read_comparison, read_evidence, read_verdict, write_evidence
from aeops.project import Project, find_project
from aeops.recipe.gate_rules import LOGGED
from aeops.registry import approval, ledger, promotion
from aeops.registry.ledger import Line
from aeops.registry.logged_model_check import try_out
from aeops.registry.outcome import state, told, turned_away
from aeops.registry.reap import reap
from aeops.registry.signatures import demand_own_key, sign_version
from aeops.registry.store import Store, open_store
from aeops.registry.trust import require_signed
from aeops.report.summary import approval_markdown, comparison_markdown
from flows.steps import context, evidence_file, run_stage, step

WAIT_DAYS = 90  # that a suspended flow run waits for its answer; `ae approve` takes one after that, too


@step(retries=2)
def repair(recipe: str) -> None:
    """Closes what a killed run left open, and brings alias and ledger together where it was killed between the two; what could
    not be promoted stops here.

    Raises:
        DataError: the alias champion was moved behind the ledger's back.
        UsageError: AE_SIGNING_KEY names a key that cannot sign for this recipe.
    """
    store = open_store(find_project())
    for mended in (*reap(store), *promotion.repair(store, recipe)):
        print(mended, file=sys.stderr)
    if moved := list(promotion.alias_faults(recipe, promotion.look(store, recipe))):
        raise DataError("; ".join(moved))
    if key := signing_key():
        read_private_key(key)
        demand_own_key(store, recipe, key)


@step(retries=1)
def compare(recipe: str) -> dict[str, str]:
    """bundle/ beside the champion's on the same test samples -> evidence.json; returns what the ledger keeps of that.

    No stage of DVC: it depends on who is champion.
    """
    project = find_project()
    store, artifacts, found = open_store(project), project.artifacts(recipe), project.reports(recipe) / "comparison.json"
    files = {"recipe": project.recipe_file(recipe), "prepared": artifacts / "prepared", "challenger": artifacts / "bundle"}
    given = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    if champion := store.champion(recipe):
        bundle = store.download_bundle(recipe, champion.version)
        given += ["--champion", str(bundle), "--champion-version", champion.version]
    run_stage(project, "compare", *given, "--judged", str(times_judged(project, recipe)), "--out", str(found))
    comparison = read_comparison(found)
    create_markdown_artifact(comparison_markdown(comparison), key=f"{recipe}-comparison", description=comparison["verdict"])
    return write_evidence(evidence_file(project, recipe), read_verdict(artifacts / "verdict.json"), comparison)


def times_judged(project: Project, recipe: str) -> int:
    """How many bundles these test samples have judged, with this one; that it was judged before makes it no other bundle."""
    lines, holdout = ledger.read(project, recipe), holdout_sha256(project.artifacts(recipe) / "prepared")
    own = {"holdout_sha256": holdout, "bundle_sha256": bundle_sha256(project.artifacts(recipe) / "bundle")}
    return ledger.judged(lines, holdout) + (not any(own.items() <= line.evidence.items() for line in lines))


@step(retries=1)
def judge(recipe: str, version: str) -> list[str]:
    """Why the version is refused: by its evidence, by what the registered model answers, by a person before; else nothing."""
    project, checked = context(recipe)
    rules = {name: rule for name, rule in checked.gate.items() if rule.check == LOGGED}
    tried = [try_out(project, recipe, version, name, rule) for name, rule in rules.items()]
    if tried:
        open_store(project).set_tags(recipe, version, {"logged": "; ".join(outcome.message for outcome in tried)})
    no = turned_away(ledger.read(project, recipe), version)
    return [
        *refusal_reasons(read_evidence(evidence_file(project, recipe))),
        *(outcome.message for outcome in tried if not outcome.passed),
        *([told(recipe, version, no)] if no else []),
    ]


@step(retries=2)
def refuse(recipe: str, version: str, evidence: dict[str, str], reasons: list[str]) -> None:
    """Leaves the champion as it is, and writes down why."""
    store = open_store(find_project())
    promotion.refuse(store, recipe, version, who=ledger.actor(), why="; ".join(reasons), evidence=evidence)
    store.set_tags(recipe, version, {"verdict": "refused"})
    approval.withdraw(store, recipe, version)


@step(retries=2)
def sign(recipe: str, version: str) -> None:
    """Signs the version's bundle where AE_SIGNING_KEY names a key."""
    if key := signing_key():
        sign_version(open_store(find_project()), recipe, version, key)


@step(retries=2)
def promote(recipe: str, version: str, evidence: dict[str, str]) -> None:
    """Moves the alias champion to an accepted version, if it is still on the one that the version was compared with."""
    project, checked = context(recipe)
    store, found = open_store(project), read_evidence(evidence_file(project, recipe))
    require_signed(project, store, checked, version)
    promotion.promote(
        store, recipe, version, expected=compared_champion(found), who=ledger.actor(), why=accepted_for(found), evidence=evidence
    )
    approval.withdraw(store, recipe, version)


@step(retries=2)
def request(recipe: str, version: str, evidence: dict[str, str]) -> None:
    """Asks a person about an accepted version, unless it is champion already."""
    project, checked = context(recipe)
    store, found = open_store(project), read_evidence(evidence_file(project, recipe))
    if compared_champion(found) == version:
        return
    require_signed(project, store, checked, version)
    approval.request(
        store,
        recipe,
        version,
        champion=compared_champion(found),
        who=ledger.actor(),
        why=accepted_for(found),
        evidence=evidence,
        other_than_starter=checked.approval.other_than_starter,
        flow_run=str(flow_run.id) if deployment.id else None,
    )


def accepted_for(evidence: EvidenceDocument) -> str:
    comparison = evidence["comparison"]
    return f"{comparison['verdict']}: {'; '.join(comparison['reasons'])}"


# ---------------------------------------------------------------- asking on Prefect's page


class Answer(RunInput):
    """Your decision about the version above."""

    decision: approval.Decision
    by: str = Field(min_length=1, description="your name")
    why: str = Field(min_length=1, description="kept with the version for good")


def asked_about(recipe: str) -> str | None:
    """The version that this very flow run has asked a person about; None in one that begins."""
    if not deployment.id:
        return None
    held = open_store(find_project()).versions(recipe)
    return next((version.version for version in held if str(flow_run.id) in approval.flow_runs(version)), None)


def ask(recipe: str, version: str) -> dict[str, Any]:
    """Suspends this flow run until a person has decided, and carries that out; asks again where it cannot be.

    The process ends inside (Prefect raises its signal Pause). When the run is resumed, the flow begins anew, comes back here,
    and is given the answers one after the other. Where `ae approve` or `ae reject` was quicker, nothing is left to ask.
    """
    project, problem = find_project(), ""
    store = open_store(project)
    for attempt in count(1):
        asked = approval.waiting_request(project, recipe, store.version(recipe, version))
        if asked is None:
            break
        form = Answer.with_initial_data(description=description(store, asked, problem))
        key = f"approval-{asked.hash[:12]}-{attempt}"  # another request of the same version is another question
        given = suspend_flow_run(wait_for_input=form, timeout=WAIT_DAYS * 86400, key=key)
        problem = answer(recipe, version, given.decision, given.by, given.why)
    held = store.version(recipe, version)
    return {"recipe": recipe, "version": version, "state": state(recipe, held, ledger.read(project, recipe))}


def description(store: Store, asked: Line, problem: str) -> str:
    """What stands above the form: the evidence as it is kept with the version.

    Raises:
        DataError: it is not what the ledger says was to be decided about.
    """
    run = store.version(asked.recipe, asked.version).run_id
    with tempfile.TemporaryDirectory() as folder:
        file = store.download_file(run, "evidence.json", Path(folder))
        if file_sha256(file) != asked.evidence["sha256"]:
            raise DataError(
                f"evidence.json of {asked.recipe} {asked.version} in {store.run_url(run)} is not the one that the ledger names "
                f"({asked.evidence['sha256'][:12]}): nobody is asked about it; type `ae ledger verify {asked.recipe}`"
            )
        return approval_markdown(asked, read_evidence(file), store.run_url(run), problem)


@step(retries=1)
def answer(recipe: str, version: str, decision: approval.Decision, by: str, why: str) -> str:
    """Does what a person decided; returns what is wrong with it, or nothing."""
    project = find_project()
    try:
        approval.decide(project, open_store(project), recipe, version, decision, by, why)
    except UsageError as error:  # the person can mend it: they are asked again
        return str(error)
    return ""
