"""The model card of a version, as Markdown: the description that the registry shows."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ae_models.spec import FitSpec, input_shape
from aeops.drawing.words import NONE, number, share, span
from aeops.gate.documents import ComparisonDocument, RuleRecord, VerdictDocument, is_accepted
from aeops.kinds.interface import load_kind
from aeops.report.tables import DETECTION, detectors, measures, reconstructions

REBUILT_BY = (
    "git.commit",
    "data.content_sha256",
    "data.dvc_md5",
    "bundle_sha256",
    "recipe.sha256",
    "seed",
    "platform.torch",
    "platform.cpu",
)


def model_card(
    recipe: dict[str, Any],
    metrics: dict[str, Any],
    findings: dict[str, dict[str, Any]],
    verdict: VerdictDocument,
    comparison: ComparisonDocument,
    lineage: dict[str, str],
) -> str:
    """What a version is for, what it was trained on, how good it is, where it came from, how to use it and to make it again.

    Args:
        recipe: the parsed YAML.
        metrics: metrics.json.
        findings: studies.json.
        verdict: verdict.json, of the rules that the bundle alone decides.
        comparison: comparison.json, of the rules against the champion.
        lineage: facts by which the version can be rebuilt; those that a reader asks for first are listed.
    """
    accepted = is_accepted({"gate": verdict, "comparison": comparison})
    sections = [
        f"# {recipe['recipe']}: {'accepted' if accepted else 'refused'}\n\n{recipe['about'].strip()}",
        "## Data\n\n" + data(recipe, metrics["rows"]),
        "## Metrics\n\n" + "\n\n".join(metric_tables(metrics)),
        "## Threshold\n\n" + promise(metrics),
        "## Verdict\n\n" + rules(verdict["verdict"], verdict["rules"]),
        "## Beside the champion\n\n" + compared(comparison),
        *(study(finding) for finding in findings.values()),
        "## Limits\n\n" + limits(recipe, metrics),
        "## Lineage\n\n" + table(["what", "which"], [[name, f"`{lineage[name]}`"] for name in REBUILT_BY if name in lineage]),
        "## Use\n\n" + usage(recipe["recipe"], accepted),
        "## Rebuild\n\n" + rebuilding(recipe["recipe"]),
    ]
    return "\n\n".join(sections) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, ["---"] * len(head), *rows]
    )


def data(recipe: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    novelty = recipe["data"].get("novelty") or []
    held_out = f" and {rows['test_novelty']:,} of the novelty (labels {', '.join(map(str, novelty))})" if novelty else ""
    return (
        f"Dataset `{recipe['data']['dataset']}`. Trained on {rows['train']:,} normal samples, watched on {rows['validation']:,}; "
        f"threshold fitted on {rows['calibration']:,} others; evaluated on {rows['test_normal']:,} normals that none of these "
        f"saw{held_out}. No label was used in training."
    )


def metric_tables(metrics: Mapping[str, Any]) -> list[str]:
    """Reconstruction, and detection where novelty was ranked: the model above its baselines."""
    told, made, ranked = measures(metrics), reconstructions(metrics), detectors(metrics)
    sure = [found for found in made.values() if found.get("mse_interval")]
    rows = [
        [name, *(number(found[one.key], one.digits) for one in told), *([span(found["mse_interval"], 5)] if sure else [])]
        for name, found in made.items()
    ]
    tables = [table(["normal test samples", *(one.name for one in told), *(["95 % interval of the MSE"] if sure else [])], rows)]
    if ranked:
        rows = [
            [name, *(number(found[one.key], one.digits) for one in DETECTION), span(found["auroc_interval"])]
            for name, found in ranked.items()
        ]
        tables.append(table(["novelty against normals", *(one.name for one in DETECTION), "95 % interval of the AUROC"], rows))
    return tables


def study(finding: Mapping[str, Any]) -> str:
    """What a study found, without its figures: those stand in the report."""
    parts = [f"## {finding['title']}", finding["lead"]]
    if finding["rows"]:
        parts.append(table(finding["head"], finding["rows"]))
    return "\n\n".join([*parts, *([finding["note"]] if finding["note"] else [])])


def promise(metrics: Mapping[str, Any]) -> str:
    told, flagged = metrics["false_alarms"], metrics["novelty_flagged"]
    low, high = (share(end, 2) for end in told["interval"])
    requested, measured = share(told["requested"], 2), share(told["measured"], 2)
    return (
        f"A sample is flagged when its score is above {told['threshold']:.6g}. The promise: at most {requested} of fresh normals "
        "are flagged, on average over calibration draws, as long as they come from where the calibration samples came from. "
        f"Measured: {measured} ({told['alarms']:,} of {told['normals']:,}; 95 % interval {low} to {high})."
        + (f" Novelty flagged at this threshold: {share(flagged)}." if flagged is not None else "")
    )


def rules(verdict: str, records: Sequence[RuleRecord]) -> str:
    rows = [[rule["name"], "passed" if rule["passed"] else "**failed**", rule["says"]] for rule in records]
    return f"**{verdict}**\n\n" + table(["rule", "result", "found"], rows)


def compared(comparison: ComparisonDocument) -> str:
    """How the version does on the champion's own test: a line a comparison, and on what samples."""
    champion, holdout = comparison["champion"], comparison["holdout"]
    beside = f" beside champion {champion['version']}" if champion else ""
    head = ["comparison", "slice", "champion", "this", "difference", "interval", "margin", "verdict", "result"]
    rows = [
        [
            f"{rule['name']} ({rule['metric']})",
            rule["slice"],
            *(number(rule[key], 4) for key in ("champion", "challenger", "difference")),
            ends(rule["interval"]),
            number(rule["margin"], 4),
            rule["verdict"],
            "passed" if rule["passed"] else "**failed**",
        ]
        for rule in comparison["rules"]
    ]
    parts = [f"**{comparison['verdict']}**{beside}", *([table(head, rows)] if rows else []), *comparison["reasons"]]
    samples = f"{holdout['rows']:,} test samples (`{holdout['sha256'][:12]}`), which have judged {holdout['judged']} by now."
    return "\n\n".join([*parts, samples, *comparison["warnings"]])


def ends(interval: list[float | None] | None) -> str:
    """An interval that may be open on either side."""
    if interval is None:
        return NONE
    return " to ".join("unbounded" if end is None else f"{end:.4f}" for end in interval)


def limits(recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    fit = FitSpec.from_dict({key.name: recipe[key.name] for key in fields(FitSpec)}, recipe["recipe"])
    source = fit.input
    takes = load_kind(source.kind).describe(input_shape(fit.model, source), source.low, source.high)
    lines = [
        f"It takes {takes}.",
        "The promise about false alarms ends where normals change: a new camera or season needs a new calibration.",
        "A p-value says how strange a sample is among normals, not how likely it is to be a fault.",
    ]
    if metrics["novelty_flagged"] is not None:
        missed = share(1 - metrics["novelty_flagged"])
        lines.append(
            f"At this threshold {missed} of the held-out novelty passes unflagged; another novelty may be easier or harder."
        )
    else:
        lines.append("The recipe holds out no novelty: what it would detect was not measured.")
    return "\n".join(f"- {line}" for line in lines)


def rebuilding(recipe: str) -> str:
    return (
        f"`ae rebuild {recipe}@VERSION`, with this version's number, takes the recorded commit, data and environment, runs the "
        f"same stages in a scratch folder and compares tensor by tensor. `ae why {recipe}@VERSION` walks from the version to all "
        "it rests on."
    )


def usage(recipe: str, accepted: bool) -> str:
    if not accepted:
        return f"A refused version is not served; `ae show {recipe}` lists those that are."
    return (
        f"```\nae serve {recipe}\nae score {recipe} FILE\n"
        f"mlflow models serve -m models:/{recipe}@champion --env-manager local\n```"
    )
