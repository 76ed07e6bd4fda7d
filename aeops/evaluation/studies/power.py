"""Does the model catch faults that nobody has labelled? Standard ones are injected into test normals, beside baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.fault_interface import Fault
from ae_models.faults import inject, standard_faults
from ae_models.intervals import mean_interval
from ae_models.power import FAULT_SEED, Power, PowerCell
from aeops.data.fit_samples import calibration_file
from aeops.drawing import mosaics
from aeops.drawing.style import REPORT_WIDTH
from aeops.drawing.words import format_share
from aeops.evaluation import line_charts, model_input
from aeops.evaluation.fault_power import (
    PowerSamples,
    comparable_rate,
    draw_power_samples,
    measure_served_power,
)
from aeops.evaluation.line_charts import DETECTOR_STYLES, PowerPanel
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.metric_names import MODEL_DETECTOR, fault_key
from aeops.recipe.studies import PowerStudy

CURVES_FILE, EXAMPLES_FILE = "power_curves.svg", "power_examples.svg"
EXAMPLE_SHARE = 0.5  # of the report's width, that the examples take


@dataclass(frozen=True)
class PowerLead:
    """The model's mean power less that of the best baseline, on the same faulty samples.

    Attributes:
        margin: over the baseline with the largest mean power.
        interval: at 95 %: the low end is the lowest over all baselines, so that each of them is as far behind; the high end is
            that of the best one. None below two groups of samples.
    """

    margin: float
    interval: tuple[float, float] | None


def run_power_study(spec: PowerStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Inject every standard fault at every strength, and count what the model and the recipe's baselines catch."""
    recipe, detector = context.recipe, context.detector
    calibration = np.load(calibration_file(context.data.folder, recipe, context.project), mmap_mode="r")
    samples = draw_power_samples(recipe.fit, context.data, calibration, spec.samples)
    rate = comparable_rate(detector, samples)
    powers = measure_served_power(detector, context.baselines.score, rate, samples)
    groups = context.data.table["group"].to_numpy()[samples.rows]
    faults = standard_faults(recipe.fit.input.kind)
    panels, rows = [], []
    for fault in faults:
        panels.append(_panel(fault, powers))
        rows.append(_fault_row(fault, powers))
    line_charts.draw_power(figures / CURVES_FILE, panels, rate)
    figure_captions = [(CURVES_FILE, "Share caught of each injected fault, by strength; the band is the model's 95 % interval.")]
    if detector.data_kind.IS_DRAWABLE:
        _draw_examples(figures / EXAMPLES_FILE, context, samples, faults)
        figure_captions.append((EXAMPLES_FILE, "One normal test sample with each fault, from the weakest to the strongest."))
    metrics = _metrics(powers, rate, groups)
    return StudyResult(
        title="Power on injected faults",
        lead=_lead_sentence(powers, metrics, rate),
        head=["fault", "strength", "weakest", "strongest", *(DETECTOR_STYLES[name].name for name in powers)],
        rows=[*rows, _mean_row(powers, metrics)],
        figures=figure_captions,
        metrics=metrics,
        note=_note(metrics, rate),
    )


# ---------------------------------------------------------------- numbers


def measure_power_lead(powers: Mapping[str, Power], groups: np.ndarray) -> PowerLead | None:
    """Return the model's lead in mean power; None without a baseline, or where no fault changed a sample.

    Args:
        powers: by name, the model's among them.
        groups: (n,): samples of one group belong together.
    """
    model = powers[MODEL_DETECTOR]
    margins, intervals = {}, {}
    for name, power in powers.items():
        if name == MODEL_DETECTOR or model.mean is None or power.mean is None:
            continue
        margins[name] = model.mean - power.mean
        intervals[name] = mean_interval(model.by_sample - power.by_sample, groups)
    if not margins:
        return None
    best = min(margins, key=margins.__getitem__)
    best_interval = intervals[best]
    if best_interval is None:
        return PowerLead(margins[best], None)
    lowest, _ = min(filter(None, intervals.values()))
    return PowerLead(margins[best], (lowest, best_interval[1]))


def _metrics(powers: Mapping[str, Power], rate: float, groups: np.ndarray) -> dict[str, Any]:
    model = powers[MODEL_DETECTOR]
    lead = measure_power_lead(powers, groups)
    margin, lead_interval, lower_bound = None, None, None
    if lead is not None:
        margin, lead_interval = lead.margin, lead.interval
    if lead_interval is not None:
        lower_bound = lead_interval[0]
    baselines = {}
    for name, power in powers.items():
        if name != MODEL_DETECTOR:
            baselines[name] = {"mean_caught": power.mean, "mean_separation": power.mean_separation}
    return {
        "settings": {"samples": len(model.by_sample), "rate": rate},
        "mean_caught": model.mean,
        "mean_caught_interval": model.interval(groups),
        "mean_separation": model.mean_separation,
        "lead": margin,
        "lead_interval": lead_interval,
        "lead_lower_bound": lower_bound,
        "faults": {fault_key(name): share for name, share in model.by_fault.items()},
        "baselines": baselines,
    }


# ---------------------------------------------------------------- figures and words


def _panel(fault: Fault, powers: Mapping[str, Power]) -> PowerPanel:
    shares = {}
    for name, power in powers.items():
        shares[name] = [cell.share for cell in _cells_of(fault, power)]
    intervals = [cell.interval for cell in _cells_of(fault, powers[MODEL_DETECTOR])]
    return PowerPanel(fault.name.replace("-", " "), fault.unit, fault.strengths, shares, intervals)


def _cells_of(fault: Fault, power: Power) -> list[PowerCell]:
    return [cell for cell in power.cells if cell.fault == fault.name]


def _draw_examples(file: Path, context: EvaluationContext, samples: PowerSamples, faults: Sequence[Fault]) -> None:
    """Draw the sample in the middle of those that were measured, with each fault at each strength."""
    input_spec = samples.fit.input
    middle = len(samples.normals) // 2
    # Beside others, since some faults take a part of another sample.
    neighbours = samples.normals[max(0, middle - 1) : middle + 2]
    place = min(1, middle)
    rows = {}
    for fault in faults:
        versions = []
        for strength in fault.strengths:
            versions.append(inject(fault, strength, neighbours, FAULT_SEED, input_spec)[place])
        rows[fault.name.replace("-", " ")] = context.data.scale(model_input.clean_inputs(input_spec, np.stack(versions)))
    mosaics.draw_rows(file, rows, width=REPORT_WIDTH * EXAMPLE_SHARE)


def _fault_row(fault: Fault, powers: Mapping[str, Power]) -> list[str]:
    weakest, *_, strongest = _cells_of(fault, powers[MODEL_DETECTOR])
    strength = f"{fault.strengths[0]:g} to {fault.strengths[-1]:g} {fault.unit}"
    shares = [format_share(power.by_fault[fault.name]) for power in powers.values()]
    return [fault.name.replace("-", " "), strength, _share_with_interval(weakest), _share_with_interval(strongest), *shares]


def _share_with_interval(cell: PowerCell) -> str:
    if cell.interval is None:
        return format_share(None)
    low, high = cell.interval
    return f"{format_share(cell.share)} ({low:.0%} to {high:.0%})"


def _mean_row(powers: Mapping[str, Power], metrics: Mapping[str, Any]) -> list[str]:
    shares = [format_share(power.mean) for power in powers.values()]
    if metrics["mean_caught_interval"] is not None:
        low, high = metrics["mean_caught_interval"]
        shares[0] += f" ({low:.1%} to {high:.1%})"
    return ["mean power", "", "", "", *shares]


def _lead_sentence(powers: Mapping[str, Power], metrics: Mapping[str, Any], rate: float) -> str:
    if metrics["mean_caught"] is None:
        return "No fault changed a test sample, so that nothing is known of what the model would catch."
    sentence = f"Of injected faults of every kind and strength the model catches {format_share(metrics['mean_caught'])}"
    if metrics["lead"] is None:
        return f"{sentence}, at a rate of {format_share(rate, 2)} false alarms."
    best = max(metrics["baselines"], key=lambda name: metrics["baselines"][name]["mean_caught"])
    best_share = format_share(powers[best].mean)
    return (
        f"{sentence}, the best baseline ({DETECTOR_STYLES[best].name}) {best_share} at the same rate of {format_share(rate, 2)}."
    )


def _note(metrics: Mapping[str, Any], rate: float) -> str:
    samples = metrics["settings"]["samples"]
    return (
        f"Each fault is injected at five strengths into {samples:,} normal test samples; one that it leaves as it was is not "
        f"counted. The thresholds of the baselines are set to {format_share(rate, 2)} on the calibration samples of the model. A "
        "detector's columns hold its mean share over the strengths; weakest and strongest are the model's, with their 95 % "
        "intervals (Clopper-Pearson). The faults are not those that will come: docs/power.md says how well this ranks detectors."
    )
