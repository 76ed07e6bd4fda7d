"""What answers the alarms of a champion: the last retrain that monitoring has started, or why there was none."""

from collections.abc import Mapping, Sequence
from typing import Any

from aeops.monitoring.retrains import RetrainRecord
from aeops.registry.acknowledgement import describe_answer
from aeops.registry.ledger import LedgerEntry


def describe_alarm_answer(verdict: Mapping[str, Any], retrains: Sequence[RetrainRecord], entries: Sequence[LedgerEntry]) -> str:
    """Return what has come of the alarms of a verdict so far, in a sentence.

    Args:
        verdict: verdict.json, also of an older version.
        retrains: all that monitoring has started.
        entries: of the recipe's ledger.
    """
    own_retrains = [retrain for retrain in retrains if retrain.version == verdict.get("version")]
    if not own_retrains:
        return _describe_decision(verdict.get("decision", {}))
    last = own_retrains[-1]
    answer = describe_answer(entries, last.timestamp, last.outcome)
    return f"the retrain of {last.timestamp:%Y-%m-%d %H:%M}: {answer}"


def _describe_decision(decision: Mapping[str, Any]) -> str:
    """Return why no retrain was started; of one that is due, what starts it: a check that a person types starts nothing."""
    reasons = "; ".join(decision.get("why", []))
    if decision.get("retrain"):
        return f"a retrain is due: {reasons}. A check of the schedule starts it, or you: {decision['command']}"
    return f"no retrain was started: {reasons or 'nobody has looked yet'}"
