"""A run in a few lines: for the terminal, and for the run's page in Prefect."""

from typing import TYPE_CHECKING, Any

from aeops.drawing.words import number, share, span
from aeops.gate.documents import ComparisonDocument, EvidenceDocument, VerdictDocument
from aeops.recipe.studies import STUDIES
from aeops.registry.version_state import WAITING
from aeops.report.tables import DETECTION, MODEL, detectors, measures, pca_name, reconstructions

if TYPE_CHECKING:
    from aeops.registry.ledger import LedgerEntry


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


def verdict_markdown(verdict: VerdictDocument) -> str:
    """The verdict and each of its rules, as Markdown."""
    lines = [f"## {verdict['recipe']}: {verdict['verdict']}", "", "| rule | says | passed |", "|---|---|---|"]
    lines += [f"| {rule['name']} | {rule['says']} | {'yes' if rule['passed'] else '**no**'} |" for rule in verdict["rules"]]
    return "\n".join(lines)


def comparison_markdown(comparison: ComparisonDocument) -> str:
    """How a version compares with the champion, rule by rule, as Markdown."""
    champion = comparison["champion"]
    beside = f"champion {champion['version']}" if champion else "no champion"
    lines = [f"## {comparison['recipe']} beside {beside}: {comparison['verdict']}", ""]
    if comparison["rules"]:
        lines += ["| rule | says | verdict | passed |", "|---|---|---|---|"]
        lines += [
            f"| {rule['name']} | {rule['says']} | {rule['verdict']} | {'yes' if rule['passed'] else '**no**'} |"
            for rule in comparison["rules"]
        ]
    else:
        lines += comparison["reasons"]
    return "\n".join([*lines, "", *comparison_notes(comparison)])


def comparison_notes(comparison: ComparisonDocument) -> list[str]:
    """On which test samples the comparison was made, and how far they can still be trusted."""
    holdout = comparison["holdout"]
    return [
        f"On {holdout['rows']:,} test samples ({holdout['sha256'][:12]}), which have judged {holdout['judged']} by now.",
        *comparison["warnings"],
    ]


def approval_markdown(asked: "LedgerEntry", evidence: EvidenceDocument, run_url: str, problem: str) -> str:
    """What a person sees who decides on Prefect's page: why they are asked, then the evidence.

    Args:
        asked: the request, as the ledger has it.
        evidence: evidence.json.
        run_url: where the report and every other file lie.
        problem: why the last answer could not be carried out; empty at first.
    """
    told = [f"**Not done: {problem}**", ""] if problem else []
    return "\n".join(
        [
            *told,
            f"# {asked.recipe} {asked.version} waits for approval",
            "",
            f"Run by {asked.who}. Report and files: {run_url}",
            "",
            comparison_markdown(evidence["comparison"]),
            "",
            verdict_markdown(evidence["gate"]),
            "",
            f"The same by hand: `{approve_command(asked.recipe, asked.version)}`, or `ae reject` with the same words.",
        ]
    )


def approve_command(recipe: str, version: str) -> str:
    return f"ae approve {recipe} {version} --by NAME --why TEXT"


def comparison_lines(comparison: ComparisonDocument) -> list[str]:
    """The comparison for the terminal: verdict, champion and reasons, then what has to be said about the test samples."""
    champion = comparison["champion"]
    beside = f" beside champion {champion['version']}" if champion else ""
    return [f"{comparison['verdict']}{beside}", *comparison["reasons"], *comparison["warnings"]]


def next_commands(recipe: str, version: str, state: str) -> str:
    """What to type next."""
    if state == WAITING:
        return f"{approve_command(recipe, version)} | ae reject {recipe} {version} --by NAME --why TEXT"
    return f"make up | .venv/bin/ae serve {recipe} | .venv/bin/ae show {recipe}"
