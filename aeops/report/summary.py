"""Summary of a run in a few lines: for the terminal, and for the run's page in Prefect."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aeops.drawing.words import NO_LABELS, format_number, format_share, format_span
from aeops.gate.documents import ComparisonDocument, EvidenceDocument, VerdictDocument, gate_warnings
from aeops.recipe.metric_names import AT_REQUESTED_RATE, has_labels
from aeops.recipe.own_kinds import study_specs
from aeops.registry.aliases import CHAMPION
from aeops.registry.version_state import WAITING
from aeops.report.headline import describe_relation, describe_test_samples, verdict_sentence
from aeops.report.tables import (
    DETECTION_MEASURES,
    MODEL,
    QualityMeasure,
    describe_normals,
    detectors_by_name,
    pca_name,
    reconstruction_measures,
    reconstructions_by_name,
)

if TYPE_CHECKING:
    from aeops.registry.ledger import LedgerEntry


MARGIN_NOTE = "; the margin is "  # as `aeops.gate.margins` begins to say where a margin comes from


def metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a table of the model beside its baselines.

    Args:
        metrics: metrics.json.

    Returns:
        One row a metric, with the columns metric, model, each baseline's name, and note; then the leading numbers of the studies.
    """
    reconstruction_rows = reconstructions_by_name(metrics)
    rows = [_metric_row(measure, reconstruction_rows) for measure in reconstruction_measures(metrics)]
    gain = metrics["reconstruction"].get("gain_over_pca")
    if gain is not None:
        rows[0]["note"] = describe_gain(metrics, gain)
    detection_rows = detectors_by_name(metrics)
    if detection_rows:
        auroc_row, precision_row = (_metric_row(measure, detection_rows) for measure in DETECTION_MEASURES)
        auroc_row["note"] = f"95 % interval {format_span(metrics['detection']['model']['auroc_interval'])}"
        rows += [auroc_row, precision_row]
        if caught_row := _caught_row(metrics, detection_rows):
            rows.append(caught_row)
    for study_name in study_specs():
        if study_name in metrics:
            rows += _study_rows(study_name, metrics[study_name])
    return rows


def _caught_row(metrics: Mapping[str, Any], detectors: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the shares of the novelty that are caught at the requested rate; empty where they were not measured."""
    if AT_REQUESTED_RATE not in detectors[MODEL].get("caught", {}):
        return {}
    row = {"metric": f"caught at {format_share(metrics['false_alarms']['requested'], 2)}"}
    for name, section in detectors.items():
        row[_column_name(name)] = format_share(section["caught"][AT_REQUESTED_RATE])
    row["note"] = f"AUROC {metrics['detection']['lead']:+.3f} beside the best baseline"
    if metrics["detection"]["lead_interval"] is not None:
        row["note"] += f" ({format_span(metrics['detection']['lead_interval'])})"
    return row


def describe_gain(metrics: Mapping[str, Any], gain: float) -> str:
    """Return the gain over PCA in words, such as `12.0 % below PCA-16`; a share of PCA's error, negative for a loss."""
    direction = "above"
    if gain >= 0:
        direction = "below"
    return f"{format_share(abs(gain))} {direction} {pca_name(metrics)}"


def _metric_row(measure: QualityMeasure, metrics_by_name: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    row = {"metric": measure.name}
    for name, section in metrics_by_name.items():
        row[_column_name(name)] = format_number(section[measure.key], measure.digits)
    return row


def _column_name(name: str) -> str:
    """Return the column of a model or baseline: one for PCA, whether it reconstructs or detects."""
    return name.partition(" ")[0]


def _study_rows(study_name: str, section: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the numbers that a study measured of the model itself; those of its baselines stand in the report."""
    rows = []
    for key, value in section.items():
        if isinstance(value, int | float):
            rows.append({"metric": f"{study_name}: {key.replace('_', ' ')}", "model": f"{value:.4g}"})
    return rows


def false_alarm_line(metrics: Mapping[str, Any]) -> str:
    """Return the threshold with its promised and its measured rate of false alarms, on one line."""
    alarms = metrics["false_alarms"]
    low, high = alarms["interval"]
    blocks = f" {describe_normals(alarms, '', is_labelled=has_labels(metrics))}".rstrip()
    requested = "without a promised rate of false alarms"
    if alarms["requested"] is not None:
        requested = f"for {format_share(alarms['requested'], 2)} false alarms"
        if alarms.get("promise_interval", ()) is None:  # a key that older metrics lack
            requested += ", not promised"
    line = (
        f"{alarms['threshold']:.4f} {requested}: measured "
        f"{format_share(alarms['measured'], 2)} ({alarms['alarms']} of {alarms['normals']}{blocks}; 95 % interval "
        f"{format_share(low, 2)} to {format_share(high, 2)})"
    )
    if metrics["novelty_flagged"] is not None:
        line += f", flags {format_share(metrics['novelty_flagged'])} of the novelty"
    if not has_labels(metrics):
        line += f"; {NO_LABELS}"
    return line


def result_line(summary: Mapping[str, Any]) -> str:
    """Return what a run came to in one line: version, state and verdict; `summary` is its `RunSummary`."""
    sentence = verdict_sentence(summary["metrics"], summary.get("comparison"), summary["reasons"])
    if sentence.lower().startswith(summary["state"]):  # "Refused: ..." says the state
        return f"{summary['recipe']} {summary['version']}: {sentence}"
    return f"{summary['recipe']} {summary['version']} is {summary['state']}. {sentence}"


def result_markdown(summary: Mapping[str, Any], report: str) -> str:
    """Return a run's result in Markdown: state, verdict, where its pages are, and the commands to type next.

    Args:
        summary: `RunSummary` of the run.
        report: address of its report.
    """
    recipe, version, state = summary["recipe"], summary["version"], summary["state"]
    paragraphs = [
        f"## {recipe} {version} is {state}",
        verdict_sentence(summary["metrics"], summary.get("comparison"), summary["reasons"]),
        f"Run in MLflow: {summary['run_url']}",
        f"Report: {report}",
        f"Next: `{next_commands(recipe, version, state)}`",
    ]
    return "\n\n".join(paragraphs)


def verdict_markdown(verdict: VerdictDocument) -> str:
    """Return the verdict and each of its rules, as Markdown."""
    lines = [f"## {verdict['recipe']}: {verdict['verdict']}", "", "| rule | says | passed |", "|---|---|---|"]
    for rule in verdict["rules"]:
        lines.append(f"| {rule['name']} | {rule['says']} | {_passed_cell(rule['passed'])} |")
    if warnings := gate_warnings(verdict):
        lines += ["", *map("- **Warning**: {}".format, warnings)]
    return "\n".join(lines)


def warning_lines(warnings: Sequence[str]) -> list[str]:
    """Return what the gate did not check for the terminal: how much, then each; nothing where it checked everything."""
    if not warnings:
        return []
    return [f"not checked: {len(warnings)} of the rules that always hold", *warnings]


def _passed_cell(passed: bool) -> str:
    if passed:
        return "yes"
    return "**no**"


def comparison_markdown(comparison: ComparisonDocument) -> str:
    """Return the comparison of a version with the champion, rule by rule, as Markdown."""
    lines = [f"## {comparison['recipe']}: {describe_relation(comparison)}", ""]
    if comparison["rules"]:
        lines += ["| rule | says | verdict | passed |", "|---|---|---|---|"]
        for rule in comparison["rules"]:
            lines.append(f"| {rule['name']} | {rule['says']} | {rule['verdict']} | {_passed_cell(rule['passed'])} |")
    else:
        lines += comparison["reasons"]
    lines += ["", f"On {describe_test_samples(comparison)}."]
    return "\n".join([*lines, *comparison["warnings"]])


def approval_markdown(request: "LedgerEntry", evidence: EvidenceDocument, run_url: str, problem: str) -> str:
    """Return the text for a person who decides on Prefect's page: the request, then the evidence.

    Args:
        request: the ledger's entry.
        evidence: evidence.json.
        run_url: where the report and every other file lie.
        problem: why the last answer could not be carried out; empty at first.
    """
    lines = []
    if problem:
        lines += [f"**Not done: {problem}**", ""]
    lines += [
        f"# {request.recipe} {request.version} waits for approval",
        "",
        f"Run by {request.who}. Report and files: {run_url}",
        "",
        comparison_markdown(evidence["comparison"]),
        "",
        verdict_markdown(evidence["gate"]),
        "",
        f"The same by hand: `{_approve_command(request.recipe, request.version)}`, or `ae reject` with the same words.",
    ]
    return "\n".join(lines)


def _approve_command(recipe: str, version: str) -> str:
    return f"ae approve {recipe} {version} --by NAME --why TEXT"


def comparison_lines(comparison: ComparisonDocument, refusal_reasons: Sequence[str] = ()) -> list[str]:
    """Return the comparison for the terminal: the verdict, the reasons, then warnings about the test samples.

    Args:
        comparison: comparison.json.
        refusal_reasons: reasons that are printed elsewhere, and left out here.
    """
    if comparison["champion"] is None:
        return [*comparison["reasons"], *comparison["warnings"]]
    reasons = [reason for reason in comparison["reasons"] if reason not in refusal_reasons]
    return [describe_relation(comparison), *state_margin_once(reasons), *comparison["warnings"]]


def state_margin_once(reasons: Sequence[str]) -> list[str]:
    """Return reasons of which the same note on the margin, where several end with it, stands once at their end.

    >>> state_margin_once(["a; the margin is the default, as x", "b; the margin is the default, as x", "c"])
    ['a', 'b', 'c', 'the margin is the default, as x']
    """
    notes = Counter(_margin_note(reason) for reason in reasons)
    shared_notes = [note for note, count in notes.items() if note and count > 1]
    lines = []
    for reason in reasons:
        note = _margin_note(reason)
        lines.append(reason.removesuffix(note) if note in shared_notes else reason)
    return [*lines, *(note.removeprefix("; ") for note in shared_notes)]


def _margin_note(reason: str) -> str:
    """Return the end of a reason that says where the margin comes from, with its semicolon; empty without one."""
    _, separator, note = reason.partition(MARGIN_NOTE)
    return separator + note


def next_commands(recipe: str, version: str, state: str) -> str:
    """Return the commands to type next, separated by `|`."""
    if state == WAITING:
        return f"{_approve_command(recipe, version)} | ae reject {recipe} {version} --by NAME --why TEXT"
    if state != CHAMPION:  # nothing of it is served, and of a first run nothing at all
        return f"ae why {recipe}@{version} | ae show {recipe} | ae score {recipe} FILE --version {version}"
    return f"ae up | ae serve {recipe} | ae show {recipe}"
