"""Model card of a version in Markdown: the description that the registry shows."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from ae_models.names import names_of
from ae_models.spec import FitSpec, input_shape
from aeops.drawing.words import NO_LABELS, format_number, format_open_interval, format_share, format_span
from aeops.gate.documents import (
    ComparisonDocument,
    ComparisonRecord,
    EvidenceDocument,
    RuleRecord,
    VerdictDocument,
    gate_warnings,
    is_accepted,
    refusal_reasons,
)
from aeops.gate.margins import RECIPE
from aeops.kinds.interface import load_kind
from aeops.recipe.metric_names import has_labels
from aeops.recipe.reader import fit_sections
from aeops.report.headline import describe_relation, describe_test_samples, verdict_sentence
from aeops.report.tables import (
    DETECTION_MEASURES,
    QualityMeasure,
    describe_lead,
    describe_normals,
    detectors_by_name,
    rate_table,
    reconstruction_measures,
    reconstructions_by_name,
)

LISTED_LINEAGE = (
    "git.commit",
    "data.content_sha256",
    "data.dvc_md5",
    "bundle_sha256",
    "recipe.sha256",
    "seed",
    "platform.torch",
    "platform.cpu",
)
COMPARISON_HEAD = ("comparison", "slice", "champion", "this", "difference", "interval", "margin", "verdict", "result")


def model_card(
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
    study_results: Mapping[str, Mapping[str, Any]],
    verdict: VerdictDocument,
    comparison: ComparisonDocument,
    lineage: Mapping[str, str],
) -> str:
    """Return the card: purpose, data, metrics, promise, verdict, limits, lineage and the commands to use and rebuild it.

    Args:
        recipe: the parsed YAML.
        metrics: metrics.json.
        study_results: studies.json.
        verdict: verdict.json, of the rules that the bundle alone decides.
        comparison: comparison.json, of the rules against the champion.
        lineage: metadata by which the version can be rebuilt; those in LISTED_LINEAGE are shown.
    """
    evidence: EvidenceDocument = {"gate": verdict, "comparison": comparison}
    accepted = is_accepted(evidence)
    sentence = verdict_sentence(metrics, comparison, refusal_reasons(evidence))
    lineage_rows = [[name, f"`{lineage[name]}`"] for name in LISTED_LINEAGE if name in lineage]
    sections = [
        card_head(recipe["recipe"], accepted, sentence) + f"\n\n{recipe['about'].strip()}",
        "## Metrics\n\n" + "\n\n".join(metric_tables(metrics)),
        "## Threshold\n\n" + describe_threshold(recipe, metrics),
        "## Compared with the champion\n\n" + _comparison_section(comparison),
        "## Verdict\n\n" + rules_section(verdict["verdict"], verdict["rules"]),
        *_warnings_section(verdict),
        "## Data\n\n" + describe_data(recipe, metrics["rows"]),
        *_ensemble_section(recipe["train"].get("members", 1)),
        *map(study_section, study_results.values()),
        "## Limits\n\n" + describe_limits(recipe, metrics),
        "## Lineage\n\n" + markdown_table(["what", "which"], lineage_rows),
        "## Use\n\n" + _describe_usage(recipe["recipe"], accepted),
        "## Rebuild\n\n" + _describe_rebuild(recipe["recipe"]),
    ]
    return "\n\n".join(sections) + "\n"


def card_head(recipe: str, accepted: bool, sentence: str) -> str:
    """Return the two paragraphs that a card begins with: the recipe with the verdict, and the verdict as a sentence."""
    outcome = "refused"
    if accepted:
        outcome = "accepted"
    return f"# {recipe}: {outcome}\n\n{sentence}"


def with_refusal(card: str, recipe: str, sentence: str) -> str:
    """Return a card that begins with a refusal: of a version whose evidence was good and that was refused after that.

    Args:
        card: as `model_card` made it, also one that was cut.
        sentence: of `aeops.report.headline.verdict_sentence`, with the reasons.
    """
    _, _, *others = card.split("\n\n")
    return "\n\n".join([card_head(recipe, False, sentence), *others])


def with_picture(card: str, picture: str) -> str:
    """Return a card that shows a picture below its sentence; `picture` is Markdown."""
    title, sentence, *others = card.split("\n\n")
    return "\n\n".join([title, sentence, picture, *others])


def card_sentence(card: str) -> str:
    """Return the sentence that a card begins with, below its title; empty where the description is no card."""
    paragraphs = card.split("\n\n", 2)
    if len(paragraphs) < 3 or not paragraphs[0].startswith("# "):
        return ""
    return paragraphs[1]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; a `|` inside a cell is escaped."""
    lines = []
    for row in (head, ["---"] * len(head), *rows):
        cells = (cell.replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe_data(recipe: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    """Return a paragraph about the data: the splits with their sizes, and the novelty that only the test set holds."""
    novelty_labels = recipe["data"].get("novelty") or []
    novelty = ""
    if novelty_labels:
        novelty = f" and {rows['test_novelty']:,} of the novelty (labels {', '.join(map(str, novelty_labels))})"
    return (
        f"Dataset `{recipe['data']['dataset']}`. Trained on {rows['train']:,} normal samples, watched on {rows['validation']:,}; "
        f"threshold fitted on {rows['calibration']:,} others; evaluated on {rows['test_normal']:,} normals that none of these "
        f"saw{novelty}. No label was used in training."
    )


def _ensemble_section(members: int) -> list[str]:
    if members == 1:
        return []
    return [f"## Ensemble\n\n{members} networks, trained with different seeds. The first one reconstructs."]


def metric_tables(metrics: Mapping[str, Any]) -> list[str]:
    """Return tables of detection where novelty was ranked, and of reconstruction: the model above its baselines.

    The note of a table follows it.
    """
    tables = []
    detector_rows = detectors_by_name(metrics)
    if detector_rows:
        rows = []
        for name, row in detector_rows.items():
            rows.append([name, *_measured_cells(row, DETECTION_MEASURES), format_span(row["auroc_interval"])])
        head = ["novelty against normals", *names_of(DETECTION_MEASURES), "95 % interval of the AUROC"]
        tables.append(markdown_table(head, rows))
    if rates := rate_table(metrics):
        cell_rows = []
        for name, cells in rates.rows.items():
            cell_rows.append([name, *map(attrgetter("text"), cells)])
        tables += [markdown_table(rates.head, cell_rows), rates.note, describe_lead(metrics)]
    return [*tables, _reconstruction_table(metrics)]


def _reconstruction_table(metrics: Mapping[str, Any]) -> str:
    measures, metric_rows = reconstruction_measures(metrics), reconstructions_by_name(metrics)
    has_intervals = any(row.get("mse_interval") for row in metric_rows.values())
    head = ["normal test samples", *names_of(measures)]
    if has_intervals:
        head.append("95 % interval of the MSE")
    rows = []
    for name, metric_row in metric_rows.items():
        cells = [name, *_measured_cells(metric_row, measures)]
        if has_intervals:
            cells.append(format_span(metric_row["mse_interval"], 5))
        rows.append(cells)
    return markdown_table(head, rows)


def _measured_cells(row: Mapping[str, Any], measures: Iterable[QualityMeasure]) -> list[str]:
    return [format_number(row[measure.key], measure.digits) for measure in measures]


def study_section(study_result: Mapping[str, Any]) -> str:
    """Return the section of a study without its figures, which stand in the report."""
    parts = [f"## {study_result['title']}", study_result["lead"]]
    if study_result["rows"]:
        parts.append(markdown_table(study_result["head"], study_result["rows"]))
    if study_result["note"]:
        parts.append(study_result["note"])
    return "\n\n".join(parts)


def describe_threshold(recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return a paragraph about the threshold: its promise about false alarms beside the measured rate."""
    from ae_models.thresholds import threshold_method  # here: it loads numpy, which a flow does without

    alarms = metrics["false_alarms"]
    low, high = alarms["interval"]
    promise = threshold_method(recipe["threshold"]).describe_promise()
    blocks = f" {describe_normals(alarms, '', is_labelled=has_labels(metrics))}".rstrip()
    text = (
        f"A sample is flagged when its score is above {alarms['threshold']:.6g}. The promise: {promise}. "
        f"Measured: {format_share(alarms['measured'], 2)} ({alarms['alarms']:,} of {alarms['normals']:,}{blocks}; "
        f"95 % interval {format_share(low, 2)} to {format_share(high, 2)})."
    )
    if metrics["novelty_flagged"] is not None:
        text += f" Novelty flagged at this threshold: {format_share(metrics['novelty_flagged'])}."
    if not has_labels(metrics):
        text += f" There are {NO_LABELS}."
    return text


def rules_section(verdict: str, rule_records: Sequence[RuleRecord]) -> str:
    """Return the gate's verdict above a table of its rules."""
    rows = [[rule["name"], _rule_result(rule["passed"]), rule["says"]] for rule in rule_records]
    return f"**{verdict}**\n\n" + markdown_table(["rule", "result", "found"], rows)


def _warnings_section(verdict: VerdictDocument) -> list[str]:
    """Return a section about what the gate did not check; nothing where it checked everything."""
    warnings = gate_warnings(verdict)
    if not warnings:
        return []
    return ["## Not checked\n\n" + "\n".join(map("- **Warning**: {}".format, warnings))]


def _rule_result(passed: bool) -> str:
    if passed:
        return "passed"
    return "**failed**"


def _describe_margin(rule: ComparisonRecord) -> str:
    """Return the margin of a comparison, and where it comes from if that is not the recipe."""
    source = rule.get("margin_source", RECIPE)
    if source == RECIPE:
        return format_number(rule["margin"], 4)
    return f"{format_number(rule['margin'], 4)} ({source})"


def _comparison_section(comparison: ComparisonDocument) -> str:
    """Return the comparison with the champion: a line a rule, and the test samples that decided."""
    rows = []
    for rule in comparison["rules"]:
        cells = [
            f"{rule['name']} ({rule['metric']})",
            rule["slice"],
            format_number(rule["champion"], 4),
            format_number(rule["challenger"], 4),
            format_number(rule["difference"], 4),
            format_open_interval(rule["interval"]),
            _describe_margin(rule),
            rule["verdict"],
            _rule_result(rule["passed"]),
        ]
        rows.append(cells)
    parts = [f"**{describe_relation(comparison)}**"]
    if rows:
        parts.append(markdown_table(COMPARISON_HEAD, rows))
    parts += comparison["reasons"]
    parts.append(f"On {describe_test_samples(comparison, in_code=True)}.")
    return "\n\n".join([*parts, *comparison["warnings"]])


def describe_limits(recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return a list of what the model accepts and of what its numbers do not say."""
    fit = FitSpec.from_dict(fit_sections(recipe), recipe["recipe"])
    source = fit.input
    supported_input = load_kind(source.kind).describe_samples(input_shape(fit.model, source), source)
    lines = [
        f"It takes {supported_input}.",
        "The promise about false alarms ends where normals change: a new camera or season needs a new calibration.",
        "A p-value says how strange a sample is among normals, not how likely it is to be a fault.",
    ]
    if metrics["novelty_flagged"] is not None:
        missed_share = format_share(1 - metrics["novelty_flagged"])
        lines.append(
            f"At this threshold {missed_share} of the held-out novelty passes unflagged; another novelty may be easier or harder."
        )
    else:
        lines.append("The recipe holds out no novelty: what it would detect was not measured.")
    return "\n".join(map("- {}".format, lines))


def _describe_rebuild(recipe: str) -> str:
    return (
        f"`ae rebuild {recipe}@VERSION`, with this version's number, takes the recorded commit, data and environment, runs the "
        f"same stages in a scratch folder and compares tensor by tensor. `ae why {recipe}@VERSION` walks from the version to all "
        "it rests on."
    )


def _describe_usage(recipe: str, accepted: bool) -> str:
    if not accepted:
        return f"A refused version is not served; `ae show {recipe}` lists those that are."
    return (
        f"```\nae serve {recipe}\nae score {recipe} FILE\n"
        f"mlflow models serve -m models:/{recipe}@champion --env-manager local\n```"
    )
