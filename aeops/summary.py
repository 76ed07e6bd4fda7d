"""A run in a few lines: for the terminal, and for the run's page in Prefect."""

from typing import Any

from aeops.report.tables import DETECTION, MODEL, detectors, measures, pca_name, reconstructions
from aeops.report.words import number, share, span
from aeops.studies import STUDIES


def metric_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The model beside its baselines: one row a metric, columns metric, model, each baseline's name, and a note.

    The studies follow, with their own leading numbers.
    """
    made = reconstructions(metrics)
    rows = [metric_row(one.name, made, one.key, one.digits) for one in measures(metrics)]
    gain = metrics["reconstruction"].get("gain_over_pca")
    if gain is not None:
        rows[0] |= {"note": f"{share(abs(gain))} {'below' if gain >= 0 else 'above'} {pca_name(metrics)}"}
    ranked = detectors(metrics)
    if ranked:
        auroc, *others = (metric_row(one.name, ranked, one.key, one.digits) for one in DETECTION)
        rows += [auroc | {"note": f"95 % interval {span(metrics['detection']['model']['auroc_interval'])}"}, *others]
    return rows + [row for name in STUDIES if name in metrics for row in study_rows(name, metrics[name])]


def metric_row(name: str, found: dict[str, Any], key: str, digits: int) -> dict[str, str]:
    columns = {who: "model" if who == MODEL else who.partition(" ")[0] for who in found}  # one column for PCA in both tables
    return {"metric": name} | {columns[who]: number(one[key], digits) for who, one in found.items()}


def study_rows(name: str, found: dict[str, Any]) -> list[dict[str, str]]:
    """The numbers that a study tells of the model itself; those of its baselines stand in the report."""
    numbers = {key: value for key, value in found.items() if isinstance(value, int | float)}
    return [{"metric": f"{name}: {key.replace('_', ' ')}", "model": f"{value:.4g}"} for key, value in numbers.items()]


def false_alarm_line(metrics: dict[str, Any]) -> str:
    """The threshold and how its promise was kept, in one line."""
    told, flagged = metrics["false_alarms"], metrics["novelty_flagged"]
    low, high = told["interval"]
    return (
        f"{told['threshold']:.4f} for {share(told['requested'], 2)} false alarms: measured {share(told['measured'], 2)} "
        f"({told['alarms']} of {told['normals']}; 95 % interval {share(low, 2)} to {share(high, 2)})"
        + (f", flags {share(flagged)} of the novelty" if flagged is not None else "")
    )


def verdict_markdown(verdict: dict[str, Any]) -> str:
    """The verdict and each of its rules, as Markdown."""
    lines = [f"## {verdict['recipe']}: {verdict['verdict']}", "", "| rule | says | passed |", "|---|---|---|"]
    lines += [f"| {rule['name']} | {rule['says']} | {'yes' if rule['passed'] else '**no**'} |" for rule in verdict["rules"]]
    return "\n".join(lines)
