"""report.html: one self-contained page about a version, for the people who have to trust it. Light: draws nothing itself.

To change what it says: templates/report.html.j2; how it looks: templates/report.css; the numbers in it: below.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aeops.drawing.svg import inline, theme_css
from aeops.drawing.words import number, share, span
from aeops.files import atomic_write
from aeops.gate.documents import ComparisonDocument, VerdictDocument, is_accepted
from aeops.kinds.interface import load_kind
from aeops.report.html_template import environment, value
from aeops.report.tables import DETECTION, MODEL, Measure, detectors, measures, pca_name, reconstructions

ALT = {
    "samples": "Test samples in rows by label; the rows of the novelty are marked.",
    "counts": "Bars: samples by split, and test samples by label.",
    "training": "Curves of training loss and of the validation error over the epochs.",
    "gallery_best": "Normal test samples with the smallest errors: input, output and error at each pixel.",
    "gallery_median": "Normal test samples with median errors: input, output and error at each pixel.",
    "gallery_worst": "Normal test samples with the largest errors: input, output and error at each pixel.",
    "histogram": "Histograms of the anomaly score of normals and of novelty, with the threshold between them.",
    "roc": "Receiver operating characteristic of the autoencoder, of the PCA residual and of the kNN distance.",
    "precision_recall": "Precision against recall of the autoencoder, of the PCA residual and of the kNN distance.",
    "errors_flagged_novelty": "Novelty that was flagged: input, output and error at each pixel.",
    "errors_false_alarms": "Normals that were flagged by mistake: input, output and error at each pixel.",
    "errors_missed_novelty": "Novelty that was not flagged: input, output and error at each pixel.",
    "codes": "Map of the codes on two axes: each label a cloud of points, the novelty marked with crosses.",
}


def write_report(
    out: Path,
    *,
    recipe: dict[str, Any],
    report: Path,
    bundle: Path,
    training: Path,
    verdict: VerdictDocument,
    comparison: ComparisonDocument,
    validation: dict[str, Any],
    lineage: dict[str, str],
    timings: dict[str, float] | None,
) -> Path:
    """Writes the page and returns its path.

    Args:
        out: the file to write.
        recipe: the parsed YAML.
        report: the folder that the stage evaluate wrote: metrics.json, studies.json and figures/.
        bundle: the bundle's folder.
        training: the folder of history.csv.
        verdict: verdict.json, of the rules that the bundle alone decides.
        comparison: comparison.json, of the rules against the champion.
        validation: validation.json of the dataset.
        lineage: facts by which the version can be rebuilt, name -> value.
        timings: seconds of each step of the run, where they are known.
    """
    page = environment().get_template("report.html.j2")
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    kind = load_kind(document["input"]["kind"])
    text = page.render(
        recipe=recipe,
        metrics=metrics,
        bundle=document,
        legend=kind.ERROR_LEGEND,
        measuring_note=kind.MEASURING_NOTE,
        epochs=len((training / "history.csv").read_text(encoding="utf-8").splitlines()) - 1,
        verdict=verdict,
        comparison=comparison,
        accepted=is_accepted({"gate": verdict, "comparison": comparison}),
        validation=validation,
        expectations=[expectation_row(item) for item in validation["expectations"]],
        lineage=lineage,
        timings=timings or {},
        figures=figures(report / "figures"),
        findings=findings(report),
        tiles=tiles(metrics),
        reconstructions=reconstructions(metrics),
        measures=measures(metrics),
        detectors=detectors(metrics),
        rankings=DETECTION,
        theme=theme_css(),
    )
    atomic_write(out, text)
    return out


def figures(folder: Path) -> dict[str, Markup]:
    """The figures that were drawn, by name, ready to stand in the page."""
    files = ((name, folder / f"{name}.svg") for name in ALT)
    return {name: inline(file.read_text(encoding="utf-8"), name, ALT[name]) for name, file in files if file.is_file()}


def findings(report: Path) -> dict[str, dict[str, Any]]:
    """What the studies found, by name: as studies.json holds it, its figures ready to stand in the page with their captions."""
    found: dict[str, dict[str, Any]] = json.loads((report / "studies.json").read_text(encoding="utf-8"))
    for finding in found.values():
        drawn = ((report / "figures" / file, caption) for file, caption in finding["figures"])
        finding["figures"] = [(inline(file.read_text(encoding="utf-8"), file.stem, caption), caption) for file, caption in drawn]
    return found


# ---------------------------------------------------------------- values as words


def expectation_row(item: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the validation's table: what is expected, what was found, whether that will do."""
    if not item["applicable"]:
        return {"name": item["name"], "allowed": "", "found": item["why"], "mark": "none"}
    observed = item["observed"]
    if "unexpected" in observed:
        found = f"{observed['unexpected']:,} of {observed['judged']:,} unexpected"
    elif "missing" in observed:
        found = f"missing: {', '.join(map(str, observed['missing']))}" if observed["missing"] else "none missing"
    else:
        found = "" if observed["value"] is None else value(observed["value"])  # of some, only the success is observed
    mark = "passed" if item["success"] else "failed"
    return {"name": item["name"], "allowed": item["allowed"], "found": found, "mark": mark}


# ---------------------------------------------------------------- the numbers at the top


def tiles(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Headline, its baselines as bars (length in percent), and a line below; only of what was measured."""
    ranked = detectors(metrics)
    if not ranked:
        return [reconstruction_tile(metrics), alarm_tile(metrics["false_alarms"], metrics["novelty_flagged"])]
    interval = metrics["detection"]["model"]["auroc_interval"]
    return [
        reconstruction_tile(metrics),
        ranking_tile("Novelty against normals", DETECTION[0], ranked, f"95 % interval {span(interval)}"),
        ranking_tile("Novelty among flags", DETECTION[1], ranked, "higher is better"),
        alarm_tile(metrics["false_alarms"], metrics["novelty_flagged"]),
    ]


def reconstruction_tile(metrics: Mapping[str, Any]) -> dict[str, Any]:
    measure, made = measures(metrics)[0], reconstructions(metrics)
    bars = [bar(name, found[measure.key], colour_of(name), measure.digits) for name, found in made.items()]
    gain = metrics["reconstruction"].get("gain_over_pca")
    beside = f"{abs(gain):.0%} {'below' if gain >= 0 else 'above'} {pca_name(metrics)}; " if gain is not None else ""
    return {
        "title": "Reconstruction",
        "headline": number(made[MODEL][measure.key], 4 if measure.best == "min" else 3),
        "unit": measure.name,
        "bars": scaled(bars, None if measure.best == "min" else 1.0),
        "note": f"{beside}{'lower' if measure.best == 'min' else 'higher'} is better",
    }


def ranking_tile(title: str, measure: Measure, ranked: Mapping[str, Mapping[str, Any]], note: str) -> dict[str, Any]:
    bars = [bar(name, found[measure.key], colour_of(name), measure.digits) for name, found in ranked.items()]
    headline = number(ranked[MODEL][measure.key])
    return {"title": title, "headline": headline, "unit": measure.name, "bars": scaled(bars, 1.0), "note": note}


def colour_of(name: str) -> str:
    """The palette's word for a detector."""
    return "model" if name == MODEL else "pca" if name.startswith("PCA") else "knn"


def alarm_tile(alarms: Mapping[str, Any], flagged: float | None) -> dict[str, Any]:
    bars = [bar("measured", alarms["measured"], "model", None), bar("requested", alarms["requested"], "muted", None)]
    low, high = (share(end, 2) for end in alarms["interval"])
    return {
        "title": "False alarms",
        "headline": share(alarms["measured"], 2),
        "unit": f"{alarms['alarms']:,} of {alarms['normals']:,} normals",
        "bars": scaled(bars),
        "note": f"95 % interval {low} to {high}" + ("" if flagged is None else f"; novelty flagged: {share(flagged)}"),
    }


def bar(name: str, size: float | None, colour: str, digits: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "size": size or 0.0,
        "colour": colour,
        "text": share(size, 2) if digits is None else number(size, digits),
    }


def scaled(bars: list[dict[str, Any]], full: float | None = None) -> list[dict[str, Any]]:
    """The bars with their length in percent of `full`, or of the longest."""
    full = full or max(item["size"] for item in bars) or 1.0
    return [item | {"length": round(100 * item["size"] / full, 1)} for item in bars]
