"""Describe monitoring's verdict, for the run's page in Prefect."""

from aeops.monitoring.decision import DecisionRecord
from aeops.monitoring.verdict import MonitoringVerdict, alarm_names
from aeops.recipe.monitoring import TEST_SIGNALS

COLUMNS_SHOWN = 10  # of a table, those that have moved most
TOO_FEW = "too few samples to tell"


def format_markdown(verdict: MonitoringVerdict) -> str:
    """Return verdict.json as Markdown: the signals as a table, then the decision and its reasons."""
    lines = [
        f"## {verdict['recipe']} {verdict['version'] or ''}: {_describe_alarms(verdict)}",
        "",
        f"As of {verdict['as_of']}.",
        "",
    ]
    lines += ["| signal | verdict | says | counts |", "|---|---|---|---|"]
    for signal in verdict["signals"]:
        bold_mark = "**" if signal["verdict"] == "alarm" else ""
        counts = "yes" if signal["counts"] else "no"
        lines.append(f"| {signal['name']} | {bold_mark}{signal['verdict']}{bold_mark} | {signal['says']} | {counts} |")
    return "\n".join([*lines, *_column_lines(verdict), "", *_decision_lines(verdict["decision"])])


def _column_lines(verdict: MonitoringVerdict) -> list[str]:
    """Return the columns of a table that have moved most; nothing of other samples."""
    columns = verdict.get("columns", [])[:COLUMNS_SHOWN]
    if not columns:
        return []
    lines = ["", "| column | moved | now | usual | alarm |", "|---|---|---|---|---|"]
    for column in columns:
        alarm = "yes" if column["alarm"] else "no"
        lines.append(f"| {column['column']} | {column['moved']:.2f} | {column['recent']} | {column['usual']} | {alarm} |")
    return lines


def _decision_lines(decision: DecisionRecord) -> list[str]:
    head = "Retrain" if decision["retrain"] else "No retrain"
    lines = [f"**{head}**: {'; '.join(decision['why'])}."]
    if decision["flow_run"]:
        lines.append(f"Started as flow run {decision['flow_run']}.")
    return lines


def format_line(verdict: MonitoringVerdict) -> str:
    """Return verdict.json in one line."""
    if verdict["version"] is None:
        return "no champion" + _retrain_suffix(verdict["decision"])
    text = _describe_alarms(verdict)
    unknown_count = sum(signal["verdict"] == "unknown" for signal in verdict["signals"])
    if unknown_count and text != TOO_FEW:
        text += f", {unknown_count} unknown"
    return text + _retrain_suffix(verdict["decision"])


def _describe_alarms(verdict: MonitoringVerdict) -> str:
    alarms = alarm_names(verdict)
    if not alarms:
        return describe_calm(verdict)
    return f"alarm: {', '.join(alarms)}"


def describe_calm(verdict: MonitoringVerdict) -> str:
    """Return what a verdict without an alarm comes to: `quiet`, where at least one test had samples enough to say so."""
    tests = [signal for signal in verdict["signals"] if signal["name"] in TEST_SIGNALS]
    if any(signal["verdict"] == "quiet" for signal in tests):
        return "quiet"
    return TOO_FEW


def _retrain_suffix(decision: DecisionRecord) -> str:
    if decision["flow_run"]:
        return "; retrain started"
    if decision["retrain"]:
        return "; retrain due"
    return ""
