"""What a look found, for the run's page in Prefect. Standard library only."""

from typing import Any


def markdown(found: dict[str, Any]) -> str:
    """verdict.json as Markdown: the signals as a table, then the decision and why."""
    alarms = [one["name"] for one in found["signals"] if one["verdict"] == "alarm"]
    head = f"## {found['recipe']} {found['version'] or ''}: {'alarm: ' + ', '.join(alarms) if alarms else 'quiet'}"
    rows = [f"| {one['name']} | {shown(one['verdict'])} | {one['says']} | {counts(one)} |" for one in found["signals"]]
    table = ["| signal | verdict | says | counts |", "|---|---|---|---|", *rows]
    return "\n".join([head, "", f"As of {found['as_of']}.", "", *table, "", *decision_lines(found["decision"])])


def shown(verdict: str) -> str:
    return f"**{verdict}**" if verdict == "alarm" else verdict


def counts(signal: dict[str, Any]) -> str:
    return "yes" if signal["counts"] else "no"


def decision_lines(decision: dict[str, Any]) -> list[str]:
    head = "Retrain" if decision["retrain"] else "No retrain"
    started = [f"Started as flow run {decision['flow_run']}."] if decision["flow_run"] else []
    return [f"**{head}**: {'; '.join(decision['why'])}.", *started]


def line(found: dict[str, Any]) -> str:
    """The same in one line."""
    alarms = [one["name"] for one in found["signals"] if one["verdict"] == "alarm"]
    unknown = sum(one["verdict"] == "unknown" for one in found["signals"])
    says = f"alarm: {', '.join(alarms)}" if alarms else "no champion" if found["version"] is None else "quiet"
    decision = found["decision"]
    retrain = "; retrain started" if decision["flow_run"] else "; retrain due" if decision["retrain"] else ""
    return f"{says}{f', {unknown} unknown' if unknown and found['version'] else ''}{retrain}"
