"""The chain behind a prediction or a version: each link says what it is and where to look, and is checked against the next.

prediction -> version -> threshold -> data -> receipt -> commit -> verdict -> rebuild -> approver. A link that does not hold is
marked, and the chain is walked to its end all the same: whoever asks wants to see what is left.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aeops.errors import AeError
from aeops.files import read_json
from aeops.predictions import prediction_store
from aeops.predictions.rows import Prediction
from aeops.project import Project
from aeops.provenance.lineage import git
from aeops.registry import ledger
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

SHOWN = 12  # digits of a hash
# What a person decided counts before what the gate did; the last of the first kind that there is, is told.
DECISIONS = (("approval", "rejection"), ("promotion", "recalibration", "rollback", "adoption"), ("refusal",))
DONE = {
    "approval": "approved",
    "rejection": "rejected",
    "promotion": "promoted, with no approval asked for,",
    "recalibration": "promoted as its predecessor's weights with another threshold,",
    "rollback": "made champion by a rollback,",
    "adoption": "champion before there was a ledger, taken in",
    "refusal": "refused by the gate; written down",
}


@dataclass(frozen=True)
class Link:
    """A link of the chain.

    Attributes:
        look: where to see it: a file, an address or a command.
        fault: what does not hold; empty where everything does.
    """

    name: str
    says: str
    look: str
    fault: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is known of a version: its tags and bundle.json, and the files of its run that are there."""

    project: Project
    store: Store
    recipe: str
    version: VersionInfo
    bundle: dict[str, Any]
    receipt: dict[str, Any]
    verdict: dict[str, Any]

    @property
    def tags(self) -> dict[str, str]:
        return self.version.tags

    @property
    def place(self) -> Path:
        """Of the downloaded bundle."""
        return self.project.home / "serving" / self.recipe / self.version.version

    def of_run(self, path: str) -> str:
        """The page of one of the run's files."""
        return f"{self.store.run_url(self.version.run_id)}/artifacts/{path}"


def why_prediction(project: Project, store: Store, prediction: str) -> list[Link]:
    """The chain behind a prediction; raises as `aeops.predictions.prediction_store.find` does."""
    found = prediction_store.find(project, prediction)
    flag = "flagged" if found.is_anomaly else "not flagged"
    says = (
        f"{found.id}: {found.sample} (SHA-256 {found.sample_sha256[:SHOWN]}) scored {found.score:.4f}, "
        f"p-value {found.p_value:.4f}, {flag}, {found.time:%Y-%m-%d %H:%M:%S} UTC"
    )
    link = Link("prediction", says, str(found.file))
    try:
        version = store.version(found.recipe, found.version)
    except AeError as error:
        return [link, Link("version", f"{found.recipe} {found.version}", store.versions_url(found.recipe), str(error))]
    return [link, *chain(project, store, found.recipe, version, found)]


def why_version(project: Project, store: Store, recipe: str, which: str) -> list[Link]:
    """The chain behind a version; raises UsageError where there is none of that number or alias."""
    return list(chain(project, store, recipe, store.version(recipe, which), None))


def chain(project: Project, store: Store, recipe: str, version: VersionInfo, asked: Prediction | None) -> Iterator[Link]:
    known, fault = gather(project, store, recipe, version)
    yield version_link(known, asked, fault)
    yield threshold_link(known, asked)
    for link in (data_link, receipt_link, commit_link, verdict_link, rebuild_link, decision_link):
        yield link(known)


def gather(project: Project, store: Store, recipe: str, version: VersionInfo) -> tuple[Evidence, str]:
    """What is known of a version, and why its bundle is not to be had where that is so."""
    bundle, fault = {}, ""
    try:
        bundle = read_json(store.download_bundle(recipe, version.version) / "bundle.json")
    except AeError as error:
        fault = str(error)
    kept = {*store.files(version.run_id), *store.files(version.run_id, "validation")}
    with tempfile.TemporaryDirectory() as folder:

        def document(path: str) -> dict[str, Any]:
            return dict(read_json(store.download_file(version.run_id, path, Path(folder)))) if path in kept else {}

        receipt, verdict = document("validation/receipt.json"), document("verdict.json")
    return Evidence(project, store, recipe, version, bundle, receipt, verdict), fault


# ---------------------------------------------------------------- the links


def version_link(known: Evidence, asked: Prediction | None, fault: str) -> Link:
    tags, version = known.tags, known.version
    sha256 = tags.get("bundle_sha256", "")
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    created_at = f"{version.created_at:%Y-%m-%d %H:%M} UTC"
    says = f"{known.recipe} {version.version}{aliases}, bundle {sha256[:SHOWN]}, registered {created_at}"
    faults = [fault] if fault else []
    if asked is not None and asked.bundle_sha256 != sha256:
        faults.append(f"the bundle that scored was {asked.bundle_sha256[:SHOWN]}")
    return Link("version", says, f"{known.store.versions_url(known.recipe)}/versions/{version.version}", "; ".join(faults))


def threshold_link(known: Evidence, asked: Prediction | None) -> Link:
    told = known.bundle.get("threshold")
    look = str(known.place / "bundle.json")
    if told is None:
        return Link("threshold", "unknown", look, "the bundle is not to be had")
    rows = told.get("calibration_rows", "unknown")
    says = f"{told['value']:.6g}: flags {told['false_alarm_rate']:.2%} of normal samples, by {rows} calibration samples"
    fault = f"the prediction was made with {asked.threshold:.6g}" if asked and asked.threshold != told["value"] else ""
    return Link("threshold", says, look, fault)


def data_link(known: Evidence) -> Link:
    tags, content = known.tags, known.tags.get("data.content_sha256", "")
    rows = known.receipt.get("rows", {}).get("accepted", "unknown")
    says = f"{tags.get('data.dataset', 'unknown')}, content {content[:SHOWN]}, {rows} rows"
    trained = known.bundle.get("data", {}).get("content_sha256", content)
    fault = "" if trained == content else f"bundle.json names the content {trained[:SHOWN]}"
    return Link("data", says, f"data.dvc with md5 {tags.get('data.dvc_md5', 'unknown')}, in the DVC remote", fault)


def receipt_link(known: Evidence) -> Link:
    look = known.of_run("validation/receipt.json")
    if not known.receipt:
        return Link("receipt", "unknown", look, "its run keeps no validation/receipt.json")
    content, suite = known.receipt.get("content_sha256", ""), known.receipt.get("suite", [])
    passed = sum(bool(check["success"]) for check in suite)
    set_aside = known.receipt.get("rows", {}).get("quarantined", 0)
    says = f"{passed} of {len(suite)} expectations passed, {set_aside} rows set aside, given for the content {content[:SHOWN]}"
    recorded = known.tags.get("data.content_sha256", "")
    return Link("receipt", says, look, "" if content == recorded else f"the version was trained on {recorded[:SHOWN]}")


def commit_link(known: Evidence) -> Link:
    commit = known.tags.get("git.commit", "none")
    if commit == "none":
        return Link("commit", "none", "nowhere", "the run was not in a git repository")
    changed = known.tags.get("git.dirty") == "true"
    says = commit + (" and changes that were not committed" if changed else ", nothing changed")
    look = f"git show {commit[:SHOWN]}" + (f"; the changes: {known.of_run('rebuild/worktree.diff')}" if changed else "")
    here = git(known.project, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") == commit
    return Link("commit", says, look, "" if here else "this repository does not have it")


def verdict_link(known: Evidence) -> Link:
    look = known.of_run("verdict.json")
    if not known.verdict:
        return Link("verdict", known.tags.get("verdict", "unknown"), look, "its run keeps no verdict.json")
    rules, reasons = known.verdict["rules"], known.verdict["reasons"]
    passed = sum(bool(rule["passed"]) for rule in rules)
    told = "".join(f"; {reason}" for reason in reasons)
    judged = known.verdict["evidence"]["bundle_sha256"]
    fault = "" if judged == known.tags.get("bundle_sha256") else f"it judged the bundle {judged[:SHOWN]}"
    says = f"{known.tags.get('verdict', known.verdict['verdict'])}: {passed} of {len(rules)} rules of the gate passed{told}"
    return Link("verdict", says, look, fault)


def rebuild_link(known: Evidence) -> Link:
    tags, name = known.tags, f"{known.recipe}@{known.version.version}"
    if "rebuild.verdict" not in tags:
        return Link("rebuild", "not tried yet", f"ae rebuild {name}")
    says = f"{tags['rebuild.verdict']}, {tags.get('rebuild.time', '')} on {tags.get('rebuild.machine', '')}"
    fault = "what its record gives is another model" if tags["rebuild.verdict"] == "different" else ""
    return Link("rebuild", says, f"ae rebuild {name}", fault)


def decision_link(known: Evidence) -> Link:
    """Who let it pass, by the ledger."""
    recipe, number = known.recipe, known.version.version
    look = f"ae history {recipe}; {ledger.ledger_file(known.project, recipe)}"
    try:
        lines = [line for line in ledger.read_entries(known.project, recipe) if line.version == number]
    except AeError as error:
        return Link("approver", "unknown", look, str(error))
    told = next((line for events in DECISIONS for line in reversed(lines) if line.event in events), None)
    if told is None:
        return Link("approver", "nobody: the ledger has no decision about this version", look)
    says = f"{DONE[told.event]} by {told.who}, {told.time}: {told.why}"
    judged, sha256 = told.evidence.get("bundle_sha256"), known.tags.get("bundle_sha256")
    fault = f"the decision was about the bundle {judged[:SHOWN]}" if judged is not None and judged != sha256 else ""
    return Link("approver", says, f"{look}, line {told.number}", fault)
