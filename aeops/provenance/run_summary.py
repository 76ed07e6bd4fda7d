"""Summary of a training run: shown at its end, stored for the next run, and read by the pages."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from aeops.gate.documents import ComparisonDocument


class QuarantineCounts(TypedDict):
    """Samples that validation has set aside.

    Attributes:
        count: how many.
        given: how many came in.
        reasons: expectation -> how many samples fail it; a sample may fail several.
        folder: relative to the state folder.
    """

    count: int
    given: int
    reasons: dict[str, int]
    folder: str


class RunSummary(TypedDict):
    """Result of a training run.

    Attributes:
        changed: False if nothing had changed since the last run, so that nothing was trained.
        data: dataset, content_sha256 and dvc_md5 of the dataset's version.
        quarantine: missing where no sample was set aside.
        metrics: content of the report's metrics.json.
        verdict: `accepted` or `refused`.
        reasons: why the version was refused; empty if it was not.
        warnings: what the gate did not check, and why; missing in older summaries.
        comparison: the comparison in evidence.json; missing in summaries that are older than the ledger.
        state: as `aeops.registry.version_state.describe_state` describes it.
        run_url: page of the MLflow run.
        report: path of report.html.
        seconds: each finished step with its duration, in order.
    """

    changed: bool
    recipe: str
    data: dict[str, str]
    quarantine: NotRequired[QuarantineCounts]
    metrics: dict[str, Any]
    verdict: str
    reasons: list[str]
    warnings: NotRequired[list[str]]
    comparison: NotRequired[ComparisonDocument]
    version: str
    aliases: list[str]
    state: str
    bundle_sha256: str
    run_url: str
    report: str
    seconds: list[tuple[str, float]]


def quarantine_counts(validation: Mapping[str, Any]) -> QuarantineCounts | None:
    """Return what validation.json says about samples that were set aside; None where there are none."""
    rows = validation["rows"]
    if not rows["quarantined"] or validation["quarantine"] is None:
        return None
    reasons = dict(validation.get("set_aside", {}))
    for expectation in validation["expectations"]:
        failures = expectation.get("observed", {}).get("unexpected", 0)
        if failures and not expectation["success"]:
            reasons[expectation["name"]] = int(failures)
    return QuarantineCounts(count=rows["quarantined"], given=rows["given"], reasons=reasons, folder=validation["quarantine"])
