"""The sentence that report, card and terminal begin with: what a detector flags and what it misses. Standard library only."""

from collections.abc import Mapping
from typing import Any

from aeops.drawing.words import format_share
from aeops.recipe.metric_names import AT_REQUESTED_RATE
from aeops.report.tables import MODEL, describe_normals, detectors_by_name


def headline(metrics: Mapping[str, Any]) -> str:
    """Return how many normal samples are flagged, and how much is caught of the novelty and of injected faults.

    A second sentence says what the best baseline catches at a threshold of the same rate, where that was measured.

    Args:
        metrics: metrics.json, also of an older version.
    """
    clauses = [_describe_false_alarms(metrics["false_alarms"])]
    novelty_rows = metrics["rows"]["test_novelty"]
    if metrics["novelty_flagged"] is not None:
        caught = round(metrics["novelty_flagged"] * novelty_rows)
        share = format_share(metrics["novelty_flagged"])
        clauses.append(f"of {novelty_rows:,} samples of the known novelty {caught:,} are caught ({share})")
    fault_share = metrics.get("power", {}).get("mean_caught")
    if fault_share is not None:
        clauses.append(f"of injected faults {format_share(fault_share)} are caught")
    if len(clauses) == 1:
        return f"{clauses[0]}; nothing was measured of what it catches: no novelty is known."
    *first_clauses, last_clause = clauses
    return f"{', '.join(first_clauses)}, and {last_clause}.{_describe_best_baseline(metrics)}"


def _describe_false_alarms(alarms: Mapping[str, Any]) -> str:
    share = format_share(alarms["measured"], 2)
    if alarms["requested"] is not None:
        share += f"; requested {format_share(alarms['requested'], 2)}"
    return (
        f"Of {alarms['normals']:,} {describe_normals(alarms, 'normal test samples')} {alarms['alarms']:,} are flagged ({share})"
    )


def _describe_best_baseline(metrics: Mapping[str, Any]) -> str:
    caught_shares = {}
    for name, row in detectors_by_name(metrics).items():
        share = row.get("caught", {}).get(AT_REQUESTED_RATE)
        if name != MODEL and share is not None:
            caught_shares[name] = share
    if not caught_shares:
        return ""
    best = max(caught_shares, key=caught_shares.__getitem__)
    return f" At this rate the best baseline, the {best}, catches {format_share(caught_shares[best])} of the novelty."
