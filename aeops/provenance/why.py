"""Chain behind a prediction or a version: each link has a location to look at and is checked against the next one.

prediction -> version -> threshold -> data -> receipt -> commit -> verdict -> rebuild -> approver. A link that does not hold is
marked, and the chain still goes on to its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_models.errors import SpecError
from ae_models.thresholds import threshold_method
from aeops.errors import AeError
from aeops.kinds.flags import FLAG_TEXTS
from aeops.machine.git import GitError, run_git
from aeops.machine.scratch import ScratchFolder
from aeops.machine.stored_json import read_json
from aeops.predictions import prediction_store
from aeops.predictions.rows import Prediction
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

HASH_DIGITS = 12
# A person's decision counts before the gate's; of the first group that has any, the last decision is shown.
DECISION_EVENTS = (("approval", "rejection"), ("promotion", "recalibration", "rollback", "adoption"), ("refusal",))
EVENT_TEXTS = {
    "approval": "approved",
    "rejection": "rejected",
    "promotion": "promoted, with no approval asked for,",
    "recalibration": "promoted as its predecessor's weights with another score or threshold,",
    "rollback": "made champion by a rollback,",
    "adoption": "champion before there was a ledger, taken in",
    "refusal": "refused by the gate; written down",
}

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class ChainLink:
    """A link of the chain.

    Attributes:
        name: of the link, such as `version`.
        message: what it is, in words.
        location: where to see it: a file, an address or a command.
        problem: why it does not hold; empty if it does.
    """

    name: str
    message: str
    location: str
    problem: str = ""


@dataclass(frozen=True)
class VersionEvidence:
    """A version with its tags and bundle.json, and the documents of its run; empty where there are none."""

    project: Project
    store: Store
    recipe: str
    version: VersionInfo
    bundle: JsonObject
    receipt: JsonObject
    verdict: JsonObject

    @property
    def tags(self) -> dict[str, str]:
        return self.version.tags

    @property
    def bundle_folder(self) -> Path:
        """Folder of the downloaded bundle."""
        return self.project.home / "serving" / self.recipe / self.version.version

    def run_file_url(self, path: str) -> str:
        """Return the page of one of the run's files."""
        return self.store.run_url(self.version.run_id, path)


def why_prediction(project: Project, store: Store, prediction_id: str) -> list[ChainLink]:
    """Return the chain behind a prediction.

    Raises:
        UsageError: no such prediction.
        DataError: its file was changed or cannot be read.
    """
    prediction = prediction_store.find_prediction(project, prediction_id)
    decision = "not flagged"
    if prediction.is_anomaly:
        decision = "flagged"
    result = "refused"
    if prediction.score is not None:
        result = f"scored {prediction.score:.4f}, p-value {prediction.p_value:.4f}, {decision}"
    if prediction.flags:
        result += f" ({', '.join(FLAG_TEXTS[flag] for flag in prediction.flags if flag != 'refused')})"
    message = (
        f"{prediction.id}: {prediction.sample} (SHA-256 {prediction.sample_sha256[:HASH_DIGITS]}) {result}, "
        f"{prediction.time:%Y-%m-%d %H:%M:%S} UTC"
    )
    link = ChainLink("prediction", message, str(prediction.file))
    recipe = prediction.recipe
    try:
        version = store.version(recipe, prediction.version)
    except AeError as error:
        return [link, ChainLink("version", f"{recipe} {prediction.version}", store.versions_url(recipe), str(error))]
    return [link, *_version_chain(project, store, recipe, version, prediction)]


def why_version(project: Project, store: Store, recipe: str, version_name: str) -> list[ChainLink]:
    """Return the chain behind a version, named by its number or alias.

    Raises:
        UsageError: no such version.
    """
    return list(_version_chain(project, store, recipe, store.version(recipe, version_name), None))


def _version_chain(
    project: Project, store: Store, recipe: str, version: VersionInfo, prediction: Prediction | None
) -> Iterator[ChainLink]:
    evidence, bundle_problem = _collect_evidence(project, store, recipe, version)
    yield _version_link(evidence, prediction, bundle_problem)
    yield _threshold_link(evidence, prediction)
    for link in (_data_link, _receipt_link, _commit_link, _verdict_link, _rebuild_link, _decision_link):
        yield link(evidence)


def _collect_evidence(project: Project, store: Store, recipe: str, version: VersionInfo) -> tuple[VersionEvidence, str]:
    """Return the evidence about a version, and why its bundle cannot be read; empty if it can."""
    bundle, bundle_problem = {}, ""
    try:
        bundle = read_json(store.download_bundle(recipe, version.version) / "bundle.json")
    except AeError as error:
        bundle_problem = str(error)
    receipt = _read_run_document(store, version.run_id, "validation/receipt.json")
    verdict = _read_run_document(store, version.run_id, "verdict.json")
    return VersionEvidence(project, store, recipe, version, bundle, receipt, verdict), bundle_problem


def _read_run_document(store: Store, run_id: str, path: str) -> JsonObject:
    """Return the content of a JSON file of a run; empty where the run has no such file."""
    if path not in {*store.files(run_id), *store.files(run_id, "validation")}:
        return {}
    with ScratchFolder() as folder:
        return dict(read_json(store.download_file(run_id, path, Path(folder))))


# ---------------------------------------------------------------- the links


def _version_link(evidence: VersionEvidence, prediction: Prediction | None, bundle_problem: str) -> ChainLink:
    version = evidence.version
    sha256 = evidence.tags.get("bundle_sha256", "")
    name = f"{evidence.recipe} {version.version}"
    if version.aliases:
        name += f" ({', '.join(version.aliases)})"
    message = f"{name}, bundle {sha256[:HASH_DIGITS]}, registered {version.created_at:%Y-%m-%d %H:%M} UTC"
    problems = []
    if bundle_problem:
        problems.append(bundle_problem)
    if prediction is not None and prediction.bundle_sha256 != sha256:
        problems.append(f"the bundle that scored was {prediction.bundle_sha256[:HASH_DIGITS]}")
    location = evidence.store.versions_url(evidence.recipe, version.version)
    return ChainLink("version", message, location, "; ".join(problems))


def _threshold_link(evidence: VersionEvidence, prediction: Prediction | None) -> ChainLink:
    section = evidence.bundle.get("threshold")
    location = str(evidence.bundle_folder / "bundle.json")
    if section is None:
        return ChainLink("threshold", "unknown", location, "the bundle cannot be read")
    try:
        effect = threshold_method(section).describe_rate()
    except SpecError as error:
        return ChainLink("threshold", f"{section['value']:.6g}", location, str(error))
    rows = section.get("calibration_rows", "unknown")
    message = f"{section['value']:.6g}: {effect}, by {rows} calibration samples"
    problem = ""
    if prediction is not None and prediction.threshold != section["value"]:
        problem = f"the prediction was made with {prediction.threshold:.6g}"
    return ChainLink("threshold", message, location, problem)


def _data_link(evidence: VersionEvidence) -> ChainLink:
    tags, content = evidence.tags, evidence.tags.get("data.content_sha256", "")
    rows = evidence.receipt.get("rows", {}).get("accepted", "unknown")
    message = f"{tags.get('data.dataset', 'unknown')}, content {content[:HASH_DIGITS]}, {rows} rows"
    bundle_content = evidence.bundle.get("data", {}).get("content_sha256", content)
    problem = ""
    if bundle_content != content:
        problem = f"bundle.json names the content {bundle_content[:HASH_DIGITS]}"
    location = f"data.dvc with md5 {tags.get('data.dvc_md5', 'unknown')}, in the DVC remote"
    return ChainLink("data", message, location, problem)


def _count_true(checks: Sequence[JsonObject], key: str) -> int:
    return sum(bool(check[key]) for check in checks)


def _receipt_link(evidence: VersionEvidence) -> ChainLink:
    location = evidence.run_file_url("validation/receipt.json")
    if not evidence.receipt:
        return ChainLink("receipt", "unknown", location, "its run keeps no validation/receipt.json")
    content, expectations = evidence.receipt.get("content_sha256", ""), evidence.receipt.get("suite", [])
    passed_count = _count_true(expectations, "success")
    quarantined_count = evidence.receipt.get("rows", {}).get("quarantined", 0)
    message = (
        f"{passed_count} of {len(expectations)} expectations passed, {quarantined_count} rows set aside, "
        f"for the content {content[:HASH_DIGITS]}"
    )
    trained_content = evidence.tags.get("data.content_sha256", "")
    problem = ""
    if content != trained_content:
        problem = f"the version was trained on {trained_content[:HASH_DIGITS]}"
    return ChainLink("receipt", message, location, problem)


def _commit_link(evidence: VersionEvidence) -> ChainLink:
    commit = evidence.tags.get("git.commit", "none")
    if "code.version" in evidence.tags:
        message = f"ae-pipeline {evidence.tags['code.version']}, {evidence.tags['code.sha256'][:HASH_DIGITS]}; commit {commit}"
        return ChainLink("code", message, evidence.run_file_url("rebuild/code.zip"), "")
    if commit == "none":
        reason = evidence.tags.get("git.unknown", "the run was not in a git repository")
        return ChainLink("commit", "none", "nowhere", reason)
    message, location = f"{commit}, nothing changed", f"git show {commit[:HASH_DIGITS]}"
    if evidence.tags.get("git.dirty") == "true":
        message = f"{commit} and changes that were not committed"
        location += f"; the changes: {evidence.run_file_url('rebuild/worktree.diff')}"
    problem = ""
    try:
        run_git(evidence.project.root, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitError as error:
        problem = f"this repository does not have it: {error}"
    return ChainLink("commit", message, location, problem)


def _verdict_link(evidence: VersionEvidence) -> ChainLink:
    location = evidence.run_file_url("verdict.json")
    verdict, tags = evidence.verdict, evidence.tags
    if not verdict:
        return ChainLink("verdict", tags.get("verdict", "unknown"), location, "its run keeps no verdict.json")
    passed_count = _count_true(verdict["rules"], "passed")
    summary = f"{tags.get('verdict', verdict['verdict'])}: {passed_count} of {len(verdict['rules'])} rules of the gate passed"
    verdict_bundle = verdict["evidence"]["bundle_sha256"]
    problem = ""
    if verdict_bundle != tags.get("bundle_sha256"):
        problem = f"it judged the bundle {verdict_bundle[:HASH_DIGITS]}"
    return ChainLink("verdict", "; ".join([summary, *verdict["reasons"]]), location, problem)


def _rebuild_link(evidence: VersionEvidence) -> ChainLink:
    tags, location = evidence.tags, f"ae rebuild {evidence.recipe}@{evidence.version.version}"
    if "rebuild.verdict" not in tags:
        return ChainLink("rebuild", "not tried yet", location)
    message = f"{tags['rebuild.verdict']}, {tags.get('rebuild.time', '')} on {tags.get('rebuild.machine', '')}"
    problem = ""
    if tags["rebuild.verdict"] == "different":
        problem = "a rebuild from its record is another model"
    return ChainLink("rebuild", message, location, problem)


def _decision_link(evidence: VersionEvidence) -> ChainLink:
    """Return the link about the decision on the version in the ledger."""
    recipe = evidence.recipe
    location = f"ae history {recipe}; {ledger.ledger_file(evidence.project, recipe)}"
    try:
        entries = ledger.read_entries(evidence.project, recipe)
    except AeError as error:
        return ChainLink("approver", "unknown", location, str(error))
    entry = _leading_decision(entries, evidence.version.version)
    if entry is None:
        return ChainLink("approver", "nobody: the ledger has no decision about this version", location)
    message = f"{EVENT_TEXTS[entry.event]} by {entry.who}, {entry.time}: {entry.why}"
    entry_bundle = entry.evidence.get("bundle_sha256")
    problem = ""
    if entry_bundle is not None and entry_bundle != evidence.tags.get("bundle_sha256"):
        problem = f"the decision was about the bundle {entry_bundle[:HASH_DIGITS]}"
    return ChainLink("approver", message, f"{location}, line {entry.number}", problem)


def _leading_decision(entries: Sequence[ledger.LedgerEntry], version: str) -> ledger.LedgerEntry | None:
    """Return the last decision about a version of the first group of DECISION_EVENTS that has any."""
    for events in DECISION_EVENTS:
        for entry in reversed(entries):
            if entry.version == version and entry.event in events:
                return entry
    return None
