"""The model card of a version, as Markdown: the description that the registry shows."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ae_models.spec import TEXT, FitSpec, given_shape
from aeops.report.tables import DETECTION, detectors, measures, reconstructions
from aeops.report.words import number, share, span

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
    verdict: dict[str, Any],
    lineage: dict[str, str],
) -> str:
    """What a version is for, what it was trained on, how good it is, where it came from and how to use it.

    Args:
        recipe: the parsed YAML.
        metrics: metrics.json.
        findings: studies.json.
        verdict: verdict.json.
        lineage: facts by which the version can be rebuilt; those that a reader asks for first are listed.
    """
    sections = [
        f"# {recipe['recipe']}: {verdict['verdict']}\n\n{recipe['about'].strip()}",
        "## Data\n\n" + data(recipe, metrics["rows"]),
        "## Metrics\n\n" + "\n\n".join(metric_tables(metrics)),
        "## Threshold\n\n" + promise(metrics),
        "## Verdict\n\n" + rules(verdict),
        *(study(finding) for finding in findings.values()),
        "## Limits\n\n" + limits(recipe, metrics),
        "## Lineage\n\n" + table(["what", "which"], [[name, f"`{lineage[name]}`"] for name in REBUILT_BY if name in lineage]),
        "## Use\n\n" + usage(recipe["recipe"], verdict),
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
    rows = [[name, *(number(found[one.key], one.digits) for one in told)] for name, found in made.items()]
    tables = [table(["normal test samples", *(one.name for one in told)], rows)]
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


def rules(verdict: Mapping[str, Any]) -> str:
    rows = [[rule["name"], "passed" if rule["passed"] else "**failed**", rule["says"]] for rule in verdict["rules"]]
    return f"**{verdict['verdict']}**\n\n" + table(["rule", "result", "found"], rows)


def limits(recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    fit = FitSpec.from_plain({key.name: recipe[key.name] for key in fields(FitSpec)}, recipe["recipe"])
    shape, source = given_shape(fit.model, fit.input), fit.input
    takes = f"samples of {' x '.join(map(str, shape))} with values from {source.low:g} to {source.high:g} and refuses others"
    lines = [
        f"It takes {f'texts and reads their first {shape[0]} tokens' if source.kind == TEXT else takes}.",
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


def usage(recipe: str, verdict: Mapping[str, Any]) -> str:
    if verdict["verdict"] != "accepted":
        return f"A refused version is not served; `ae show {recipe}` lists those that are."
    return (
        f"```\nae serve {recipe}\nae score {recipe} FILE\n"
        f"mlflow models serve -m models:/{recipe}@champion --env-manager local\n```"
    )
