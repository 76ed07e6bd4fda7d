"""report.html: one self-contained page about a version, for the people who have to trust it. It draws no figure itself.

To change what it says: templates/report.html.j2; how it looks: templates/report.css; the numbers in it: below.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aeops.drawing.svg import inline_svg, theme_css
from aeops.drawing.words import NO_LABELS, format_number, format_share, format_span
from aeops.files import atomic_write
from aeops.gate.documents import (
    ComparisonDocument,
    EvidenceDocument,
    VerdictDocument,
    gate_warnings,
    is_accepted,
    refusal_reasons,
)
from aeops.kinds.interface import load_kind
from aeops.machine.stored_json import read_json
from aeops.recipe.metric_names import SERIES_ALARMS, has_labels
from aeops.report.headline import describe_relation, describe_test_samples, verdict_sentence
from aeops.report.html_template import format_json_value, html_environment
from aeops.report.tables import (
    DETECTION_MEASURES,
    MODEL,
    QualityMeasure,
    describe_lead,
    describe_normals,
    detectors_by_name,
    pca_name,
    rate_table,
    reconstruction_measures,
    reconstructions_by_name,
)

TemplateContext = dict[str, Any]

# The palette's CSS variable for each baseline, by the start of its name.
SHOWN_EXPECTATIONS = 40  # that stand open in the report
BASELINE_COLOURS = {"PCA": "pca", "kNN": "knn", "hull": "hull", "IsolationForest score": "forest"}

FIGURE_TEXTS = {
    "samples": "Test samples in rows by label; the rows of the novelty are marked.",
    "counts": "Bars: samples by split, and test samples by label.",
    "training": "Curves of training loss and of the validation error over the epochs.",
    "gallery_best": "Normal test samples with the smallest errors: input, output and error at each pixel.",
    "gallery_median": "Normal test samples with median errors: input, output and error at each pixel.",
    "gallery_worst": "Normal test samples with the largest errors: input, output and error at each pixel.",
    "histogram": "Histograms of the anomaly score of the test samples, with the threshold.",
    "roc": "Receiver operating characteristic of the model and of each baseline.",
    "precision_recall": "Precision against recall of the model and of each baseline.",
    "errors_flagged_novelty": "Novelty that was flagged: input, output and error at each pixel.",
    "errors_false_alarms": "Flagged samples that are not known to be novelty: input, output and error at each pixel.",
    "errors_missed_novelty": "Novelty that was not flagged: input, output and error at each pixel.",
    "codes": "Map of the codes on two axes: each label a cloud of points, the novelty marked with crosses.",
}


@dataclass(frozen=True)
class ReportHead:
    """What the report says of its version beside the recipe's name.

    Attributes:
        version: its number; empty where it is not registered yet.
        made_at: when its run evaluated it, UTC.
        who: who started the run.
    """

    version: str
    made_at: datetime
    who: str


def write_report(
    file: Path,
    *,
    recipe: Mapping[str, Any],
    report: Path,
    bundle: Path,
    training: Path,
    verdict: VerdictDocument,
    comparison: ComparisonDocument,
    validation: Mapping[str, Any],
    lineage: Mapping[str, str],
    timings: Mapping[str, float] | None,
    head: ReportHead | None = None,
) -> Path:
    """Write the page and return its path.

    Args:
        file: the file to write.
        recipe: the parsed YAML.
        report: the folder that the stage evaluate wrote: metrics.json, studies.json and figures/.
        bundle: the bundle's folder.
        training: the folder of history.csv.
        verdict: verdict.json, of the rules that the bundle alone decides.
        comparison: comparison.json, of the rules against the champion.
        validation: validation.json of the dataset.
        lineage: metadata by which the version can be rebuilt, name -> value.
        timings: seconds of each step of the run; None where they are not known.
        head: which version this is, of when and by whom; None where that is not known.
    """
    evidence: EvidenceDocument = {"gate": verdict, "comparison": comparison}
    metrics = read_json(report / "metrics.json")
    context = _bundle_context(report, bundle, training) | {
        "recipe": recipe,
        "verdict": verdict,
        "comparison": comparison,
        "relation": describe_relation(comparison),
        "test_samples": describe_test_samples(comparison),
        "warnings": gate_warnings(verdict),
        "accepted": is_accepted(evidence),
        "reasons": refusal_reasons(evidence),
        "sentence": verdict_sentence(metrics, comparison, refusal_reasons(evidence)),
        "head": head,
        "validation": validation,
        **_expectations_context(validation["expectations"]),
        "lineage": lineage,
        "timings": timings or {},
        "theme": theme_css(),
    }
    atomic_write(file, html_environment().get_template("report.html.j2").render(context))
    return file


def _bundle_context(report: Path, bundle: Path, training: Path) -> dict[str, object]:
    """Return the values of the template that a bundle, its training and its evaluation decide."""
    from ae_models.thresholds import read_threshold  # here: it loads numpy, which a flow does without

    metrics = read_json(report / "metrics.json")
    document = read_json(bundle / "bundle.json")
    kind, threshold = load_kind(document["input"]["kind"]), read_threshold(document["threshold"])
    return {
        "metrics": metrics,
        "bundle": document,
        "promise": threshold.method.describe_promise(),
        "choice": threshold.describe_choice(),
        "legend": kind.ERROR_LEGEND,
        "measuring_note": kind.MEASURING_NOTE,
        "epochs": len((training / "history.csv").read_text(encoding="utf-8").splitlines()) - 1,
        "figures": _read_figures(report / "figures"),
        "study_results": _read_study_results(report),
        "tiles": metric_tiles(metrics),
        "reconstructions": reconstructions_by_name(metrics),
        "measures": reconstruction_measures(metrics),
        "detectors": detectors_by_name(metrics),
        "detection_measures": DETECTION_MEASURES,
        "rates": rate_table(metrics),
        "lead": describe_lead(metrics),
        "slider": read_slider(report / "thresholds.csv", metrics["false_alarms"]["threshold"]),
        "normals": _describe_test_samples(metrics),
        "is_labelled": has_labels(metrics),
        "no_labels": NO_LABELS,
    }


def _describe_test_samples(metrics: Mapping[str, Any]) -> str:
    """Return what the measured rate of alarms is a share of."""
    if has_labels(metrics):
        return describe_normals(metrics["false_alarms"], "test normals")
    return describe_normals(metrics["false_alarms"], "test samples", is_labelled=False)


def _read_figures(folder: Path) -> dict[str, Markup]:
    """Return the figures that were drawn, by name, as elements of the page."""
    elements = {}
    for name, alt_text in FIGURE_TEXTS.items():
        file = folder / f"{name}.svg"
        if file.is_file():
            elements[name] = inline_svg(file.read_text(encoding="utf-8"), name, alt_text)
    return elements


@dataclass(frozen=True)
class ThresholdSlider:
    """What the slider of the report shows.

    Attributes:
        rows: JSON: [threshold, share of normals, share of novelty or null] of each step, the highest threshold first.
        own: the step of the bundle's own threshold.
        shown: the same as numbers, of `own`.
    """

    rows: str
    own: int
    shown: tuple[float, float, float | None]


def read_slider(file: Path, threshold: float) -> ThresholdSlider | None:
    """Return the slider's steps out of thresholds.csv; None of a report that is older than that file."""
    if not file.is_file():
        return None
    rows: list[tuple[float, float, float | None]] = []
    with file.open(encoding="utf-8", newline="") as stream:
        for cells in csv.DictReader(stream):
            caught = float(cells["caught"]) if cells["caught"] else None
            rows.append((float(cells["threshold"]), float(cells["false_alarms"]), caught))
    own = min(range(len(rows)), key=lambda step: abs(rows[step][0] - threshold))
    return ThresholdSlider(json.dumps(rows), own, rows[own])


def _read_study_results(report: Path) -> TemplateContext:
    """Return the content of studies.json, each figure as an element of the page with its caption."""
    study_results: TemplateContext = read_json(report / "studies.json")
    for study_result in study_results.values():
        elements = []
        for file_name, figure_text in study_result["figures"]:
            file = report / "figures" / file_name
            elements.append((inline_svg(file.read_text(encoding="utf-8"), file.stem, figure_text), figure_text))
        study_result["figures"] = elements
    zoom = report / "figures" / "series_zoom.json"  # of aeops.evaluation.series_zoom
    if SERIES_ALARMS in study_results and zoom.is_file():
        study_results[SERIES_ALARMS]["zoom"] = zoom.read_text(encoding="utf-8")
    return study_results


# ---------------------------------------------------------------- the table of the validation


def _expectations_context(items: Sequence[Mapping[str, Any]]) -> TemplateContext:
    """Return the rows of the validation's table, and how many of them stand open: a wide table has hundreds.

    Where they are more than that, those that failed come first.
    """
    rows = list(map(_expectation_context, items))
    if len(rows) <= SHOWN_EXPECTATIONS:
        return {"expectations": rows, "shown_expectations": len(rows)}
    rows.sort(key=lambda row: row["result"] != "failed")
    failed_count = sum(row["result"] == "failed" for row in rows)
    return {"expectations": rows, "shown_expectations": max(SHOWN_EXPECTATIONS, failed_count)}


def _expectation_context(item: Mapping[str, Any]) -> TemplateContext:
    """Return a row of the validation's table: expectation, allowed values, observed values and result."""
    if not item["applicable"]:
        return {"name": item["name"], "severity": "", "allowed": "", "observed": item["why"], "result": "none"}
    result = "failed"
    if item["success"]:
        result = "passed"
    severity = item.get("severity", item.get("level", ""))  # older validations say neither
    row = {"name": item["name"], "severity": severity, "allowed": item["allowed"], "result": result}
    return row | {"observed": _describe_observed(item["observed"])}


def _describe_observed(observed: Mapping[str, Any]) -> str:
    if "unexpected" in observed:
        return f"{observed['unexpected']:,} of {observed['judged']:,} unexpected"
    if "missing" in observed:
        if not observed["missing"]:
            return "none missing"
        return f"missing: {', '.join(map(str, observed['missing']))}"
    if observed["value"] is None:  # of some expectations, only the success is observed
        return ""
    return format_json_value(observed["value"])


# ---------------------------------------------------------------- the numbers at the top


def metric_tiles(metrics: Mapping[str, Any]) -> list[TemplateContext]:
    """Return the leading figures, each with its baselines as bars (length in percent) and a note.

    Args:
        metrics: metrics.json; a figure that was not measured gets no tile.
    """
    reconstruction_tile = _reconstruction_tile(metrics)
    alarm_tile = _alarm_tile(metrics)
    detectors = detectors_by_name(metrics)
    if not detectors:
        return [reconstruction_tile, alarm_tile]
    interval_note = f"95 % interval {format_span(metrics['detection']['model']['auroc_interval'])}"
    auroc, average_precision = DETECTION_MEASURES
    return [
        reconstruction_tile,
        _detection_tile("Novelty against normals", auroc, detectors, interval_note),
        _detection_tile("Novelty among flags", average_precision, detectors, "higher is better"),
        alarm_tile,
    ]


def _reconstruction_tile(metrics: Mapping[str, Any]) -> TemplateContext:
    measure, reconstructions = reconstruction_measures(metrics)[0], reconstructions_by_name(metrics)
    bars = _measure_bars(reconstructions, measure)
    if measure.direction == "min":
        bars, digits, note = _scale_bars(bars), 4, "lower is better"
    else:
        bars, digits, note = _scale_bars(bars, 1.0), 3, "higher is better"
    gain = metrics["reconstruction"].get("gain_over_pca")
    if gain is not None:
        direction = "above"
        if gain >= 0:
            direction = "below"
        note = f"{abs(gain):.0%} {direction} {pca_name(metrics)}; {note}"
    return {
        "title": "Reconstruction",
        "headline": format_number(reconstructions[MODEL][measure.key], digits),
        "unit": measure.name,
        "bars": bars,
        "note": note,
    }


def _detection_tile(
    title: str, measure: QualityMeasure, detectors: Mapping[str, Mapping[str, Any]], note: str
) -> TemplateContext:
    headline = format_number(detectors[MODEL][measure.key])
    bars = _scale_bars(_measure_bars(detectors, measure), 1.0)
    return {"title": title, "headline": headline, "unit": measure.name, "bars": bars, "note": note}


def _alarm_tile(metrics: Mapping[str, Any]) -> TemplateContext:
    alarms, novelty_flagged, is_labelled = metrics["false_alarms"], metrics["novelty_flagged"], has_labels(metrics)
    bars = []
    for name, colour in (("measured", "model"), ("requested", "muted")):
        if alarms[name] is None:
            continue  # the threshold names no rate
        bars.append(_bar_context(name, alarms[name], colour, format_share(alarms[name], 2)))
    low, high = alarms["interval"]
    note = f"95 % interval {format_share(low, 2)} to {format_share(high, 2)}"
    if novelty_flagged is not None:
        note += f"; novelty flagged: {format_share(novelty_flagged)}"
    if not is_labelled:
        note += f"; {NO_LABELS}"
    samples = describe_normals(alarms, "normals" if is_labelled else "test samples", is_labelled=is_labelled)
    return {
        "title": "False alarms" if is_labelled else "Alarms",
        "headline": format_share(alarms["measured"], 2),
        "unit": f"{alarms['alarms']:,} of {alarms['normals']:,} {samples}",
        "bars": _scale_bars(bars),
        "note": note,
    }


def _measure_bars(rows: Mapping[str, Mapping[str, Any]], measure: QualityMeasure) -> list[TemplateContext]:
    bars = []
    for name, row in rows.items():
        size = row[measure.key]
        bars.append(_bar_context(name, size, _colour_name(name), format_number(size, measure.digits)))
    return bars


def _colour_name(name: str) -> str:
    """Return the palette's CSS variable for a model or baseline."""
    if name == MODEL:
        return "model"
    return BASELINE_COLOURS[name.partition("-")[0]]


def _bar_context(name: str, size: float | None, colour: str, text: str) -> TemplateContext:
    return {"name": name, "size": size or 0.0, "colour": colour, "text": text}


def _scale_bars(bars: list[TemplateContext], full_length: float | None = None) -> list[TemplateContext]:
    """Add each bar's length in percent of `full_length`, or of the longest bar."""
    full_length = full_length or max(map(itemgetter("size"), bars)) or 1.0
    for bar_context in bars:
        bar_context["length"] = round(100 * bar_context["size"] / full_length, 1)
    return bars
