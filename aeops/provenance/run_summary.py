"""Summary of a training run: shown at its end, stored for the next run, and read by the pages."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from aeops.data.judgements import DECISIONS
from aeops.gate.documents import ComparisonDocument
from aeops.recipe.sections import DUPLICATE


class QuarantineCounts(TypedDict):
    """Samples that validation has set aside.

    Attributes:
        count: how many, without those that equal an earlier sample and have no other fault.
        given: how many came in.
        reasons: expectation -> how many samples fail it; a sample may fail several.
        folder: relative to the state folder.
        copies: how many samples equal an earlier one and have no other fault; missing in older summaries.
        judged: released, dropped and relabelled -> how many samples, by what people have decided; missing in older summaries.
    """

    count: int
    given: int
    reasons: dict[str, int]
    folder: str
    copies: NotRequired[int]
    judged: NotRequired[dict[str, int]]


class RunSummary(TypedDict):
    """Result of a training run.

    Attributes:
        changed: False if nothing had changed since the last run, so that nothing was trained.
        data: dataset, content_sha256 and dvc_md5 of the dataset's version.
        quarantine: missing where no sample was set aside.
        data_warnings: expectations of the data that are not met and only reported; missing where there are none.
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
    data_warnings: NotRequired[list[str]]
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
    """Return what validation.json says about samples that were set aside or judged; None where there are none."""
    rows = validation["rows"]
    judged = {name: rows[name] for name in DECISIONS.values() if rows.get(name)}
    if not (rows["quarantined"] and validation["quarantine"] is not None) and not judged:
        return None
    copies = int(validation.get("copies", 0))
    reasons = {name: int(count) - (copies if name == DUPLICATE else 0) for name, count in validation["reasons"].items()}
    reasons = {name: count for name, count in reasons.items() if count}
    counts = QuarantineCounts(
        count=rows["quarantined"] - copies,
        given=rows["given"],
        reasons=reasons,
        folder=validation["quarantine"] or "",
        copies=copies,
    )
    if judged:
        counts["judged"] = judged
    return counts


def describe_quarantine(counts: QuarantineCounts) -> str:
    """Return how many samples were set aside and why, how many are copies, and what people have decided, in one line.

    >>> describe_quarantine({"count": 2, "given": 600, "reasons": {"blank": 2}, "folder": "", "copies": 1})
    '2 of 600 samples (blank 2); 1 copy of others left out'
    """
    parts = []
    if counts["count"]:
        reasons = ", ".join(f"{name} {count:,}" for name, count in counts["reasons"].items())
        parts.append(f"{counts['count']:,} of {counts['given']:,} samples ({reasons})")
    if copies := counts.get("copies", 0):
        parts.append(f"{copies:,} {'copy' if copies == 1 else 'copies'} of others left out")
    if judged := counts.get("judged", {}):
        parts.append(f"by judgement {', '.join(f'{count:,} {name}' for name, count in judged.items())}")
    return "; ".join(parts)
