"""The sentences that report, page, card, terminal and registry begin with: the verdict and why, what is caught, what passes.

Standard library only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aeops.drawing.words import NO_LABELS, format_number, format_share
from aeops.gate.documents import ComparisonDocument, ComparisonRecord
from aeops.recipe.gate_rules import NEEDS_BETTER
from aeops.recipe.metric_names import AT_REQUESTED_RATE, has_labels
from aeops.report.tables import MODEL, describe_normals, detector_names, detectors_by_name, pca_name, reconstruction_measures

WORSE, CANNOT_TELL = "worse", "cannot tell"  # as aeops.gate.comparison says it, which loads numpy
OTHER_RELATIONS = {  # verdicts of a comparison that are no comparatives, in front of the champion
    "the same": "the same as",
    "not compared": "not compared with",
    CANNOT_TELL: "the samples do not show whether it is worse than",
}
COMPARED_NAMES = {"error": "reconstruction error", "auroc": "AUROC", "power": "share of injected faults caught"}


def verdict_sentence(metrics: Mapping[str, Any], comparison: ComparisonDocument | None, reasons: Sequence[str]) -> str:
    """Return the verdict on a version for a reader with ten seconds: accepted or refused and why, then `headline`.

    Args:
        metrics: metrics.json, also of an older version.
        comparison: comparison.json; None in records that are older than it.
        reasons: why the version was refused, as `aeops.gate.documents.refusal_reasons` collects them; empty if it was not.
    """
    return f"{_describe_verdict(comparison, reasons)} {headline(metrics)}"


def headline(metrics: Mapping[str, Any]) -> str:
    """Return what a model catches and lets through and at how many false alarms, beside the best baseline.

    Where no novelty is known and no faults were injected: how well it reconstructs.
    """
    novelty_share, fault_share = metrics["novelty_flagged"], metrics.get("power", {}).get("mean_caught")
    alarms = _describe_false_alarms(metrics)
    if novelty_share is None and fault_share is None:
        return f"{_describe_reconstruction(metrics)} and {alarms}; what it would catch was not measured: no novelty is known."
    if novelty_share is None:
        text = f"It catches {_caught_and_missed(fault_share, ' of injected faults')} through"
    else:
        text = f"It catches {_caught_and_missed(novelty_share, ' of the known novelty')} through"
        if fault_share is not None:
            text += f" (injected faults: {format_share(fault_share)} and {format_share(1 - fault_share)})"
    return f"{text}, with {alarms}{_describe_best_baseline(metrics)}."


def _caught_and_missed(share: float, target: str) -> str:
    return f"{format_share(share)}{target} and lets {format_share(1 - share)}"


# ---------------------------------------------------------------- the verdict and why


def _describe_verdict(comparison: ComparisonDocument | None, reasons: Sequence[str]) -> str:
    if reasons:
        others = ""
        if len(reasons) > 1:
            others = f", and for {len(reasons) - 1} more reason{'s' if len(reasons) > 2 else ''}"
        return f"Refused: {_shorten_reason(reasons[0], comparison)}{others}."
    if comparison is None:
        return "Accepted."
    if comparison["champion"] is None:
        return "Accepted, with no champion to compare it with."
    conjunction = "though " if comparison["verdict"] == CANNOT_TELL else ""
    return f"Accepted, {conjunction}{describe_relation(comparison)}."


def describe_relation(comparison: ComparisonDocument) -> str:
    """Return a comparison in words, such as `not worse than champion 3` or, of a first version, `no champion to compare with`."""
    champion = comparison["champion"]
    if champion is None:
        return "no champion to compare with"
    relation = OTHER_RELATIONS.get(comparison["verdict"], f"{comparison['verdict']} than")
    return f"{relation} champion {champion['version']}"


def _shorten_reason(reason: str, comparison: ComparisonDocument | None) -> str:
    """Return a reason without the statistics of its comparison, which stand in the table of comparisons."""
    if comparison is not None and comparison["champion"] is not None:
        for rule in comparison["rules"]:
            if rule["says"] == reason and rule["difference"] is not None:
                return _describe_comparison(rule, comparison["champion"]["version"])
    return reason.rstrip(".").replace("; ", ", ")


def _describe_comparison(rule: ComparisonRecord, champion: str) -> str:
    """Return a comparison that refuses, such as `worse than champion 3 by reconstruction error (0.021 against 0.012)`."""
    name = COMPARED_NAMES.get(rule["metric"], rule["metric"])
    if rule["slice"] != "all":
        name += f" on {rule['slice']}"
    values = f"{format_number(rule['challenger'], 4)} against {format_number(rule['champion'], 4)}"
    if rule["verdict"] == WORSE:
        return f"worse than champion {champion} by {name} ({values})"
    if rule["needs"] == NEEDS_BETTER:
        return f"not shown to be better than champion {champion} by {name} ({values})"
    return f"the samples do not show whether it is worse than champion {champion} by {name} ({values})"


def describe_test_samples(comparison: ComparisonDocument, *, in_code: bool = False) -> str:
    """Return the test samples of a comparison, with how many candidates were compared on them.

    Args:
        comparison: comparison.json.
        in_code: whether the hash stands between backticks, for Markdown.
    """
    test_set = comparison["holdout"]
    quote = "`" if in_code else ""
    candidates = "1 candidate has" if test_set["judged"] == 1 else f"{test_set['judged']} candidates have"
    rows, checksum = f"{test_set['rows']:,} test samples", f"{quote}{test_set['sha256'][:12]}{quote}"
    return f"{rows} ({checksum}), on which {candidates} been compared so far"


# ---------------------------------------------------------------- what is caught


def _describe_false_alarms(metrics: Mapping[str, Any]) -> str:
    alarms, is_labelled = metrics["false_alarms"], has_labels(metrics)
    measured = format_share(alarms["measured"], 2)
    text = f"{measured} false alarms"
    if not is_labelled:
        text = f"{measured} of the test {describe_normals(alarms, 'samples', is_labelled=False)} flagged"
    notes = []
    if alarms["requested"] is not None:
        notes.append(f"{format_share(alarms['requested'], 2)} requested")
    if not is_labelled:
        notes.append(NO_LABELS)
    return f"{text} ({'; '.join(notes)})" if notes else text


def _describe_reconstruction(metrics: Mapping[str, Any]) -> str:
    measure = reconstruction_measures(metrics)[0]
    text = f"It reconstructs with {measure.name} {format_number(metrics['reconstruction']['model'][measure.key], measure.digits)}"
    pca = metrics["reconstruction"].get("pca", {}).get(measure.key)
    if pca is not None:
        text += f" ({pca_name(metrics)}: {format_number(pca, measure.digits)})"
    return text


def _describe_best_baseline(metrics: Mapping[str, Any]) -> str:
    """Return what the best baseline catches at a threshold of the same rate, where that was measured."""
    caught_shares, target = _caught_by_baselines(metrics)
    if not caught_shares:
        return ""
    best = max(caught_shares, key=caught_shares.__getitem__)
    return f"; the best baseline, {best}, catches {format_share(caught_shares[best])}{target}"


def _caught_by_baselines(metrics: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Return the shares that the baselines catch at the requested rate by their names, and what they are shares of."""
    shares = {}
    for name, row in detectors_by_name(metrics).items():
        share = row.get("caught", {}).get(AT_REQUESTED_RATE)
        if name != MODEL and share is not None:
            shares[name] = share
    if shares:
        return shares, " of the novelty"
    names = detector_names(metrics)
    for key, section in metrics.get("power", {}).get("baselines", {}).items():
        if section.get("mean_caught") is not None:
            shares[names.get(key, key.replace("_", " "))] = section["mean_caught"]
    return shares, " of the faults"
