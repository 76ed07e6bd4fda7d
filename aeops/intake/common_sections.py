"""Sections that the recipes of all kinds of data have alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from aeops.intake.proposal import label_values
from aeops.intake.recipe_text import Entry
from aeops.intake.sizing import SplitSizes
from aeops.recipe.gate_rules import MIN_GROUPS, POWER

TRIM = Entry(
    "trim",
    0,
    "share of the samples that are not learnt from, those least like the others; 0.05 where a few per cent may be anomalous "
    "(docs/contaminated.md)",
)
SERVED_RULES = [
    Entry("onnx_equals_torch", {"metric": "export.max_difference", "at_most": 0.001}, "the exported model is the trained one"),
    Entry("answers_when_served", {"check": "served"}, "the bundle is served once, and answers"),
]


def data_section(
    dataset: str, source: Sequence[Entry], labels: Sequence[str], anomalies: Sequence[str], sizes: SplitSizes
) -> Entry:
    """Return the section data."""
    entries = [
        Entry("dataset", dataset, "names the folder in data/; recipes may share one"),
        Entry("source", list(source)),
    ]
    if labels:
        values = label_values(labels, labels)
        entries.append(Entry("labels", values, "the labels that there may be; a sample with another one is set aside by name"))
        held_out = label_values(anomalies, labels)
        reason = "held out of training, calibration and threshold: the model has to flag them, and is measured by them"
        if not anomalies:
            reason = "no label is an anomaly: all samples are normal, and the gate judges by injected faults"
        entries.append(Entry("novelty", held_out, reason))
    entries.append(Entry("split", sizes.shares, f"shares by content, so a copy is never on two sides; {sizes.reason}"))
    return Entry("data", entries)


def gate_section(anomaly_count: int, normal_count: int = MIN_GROUPS) -> Entry:
    """Return the section gate: the rules that hold for every detector stand in docs/gates.md.

    Args:
        anomaly_count: groups of samples that are held out, by which two models may be compared; 0: there are none.
        normal_count: groups of normal samples in the test part.
    """
    entries = list(SERVED_RULES)
    if normal_count < MIN_GROUPS:
        few = f"{max(0, normal_count)} normal test samples are too few to compare two models by: {MIN_GROUPS} are needed"
        entries.insert(0, Entry("not_worse_than_champion", {"switched_off": few}, "take it out once there are more"))
    elif 0 < anomaly_count < MIN_GROUPS:
        few = f"{anomaly_count} anomalies are too few to compare two models by: {MIN_GROUPS} are needed"
        entries.insert(0, Entry("not_worse_than_champion", {"switched_off": few}, "take it out once there are more"))
        entries.insert(1, Entry("keeps_the_champions_power", {"champion": POWER}, "models are compared by injected faults"))
    if anomaly_count:
        reason = (
            "nobody knows yet whether a network ranks these anomalies better than PCA and kNN do. The report shows both; take "
            "this line out to let in only models that do, as is the rule of every detector"
        )
        switched_off = {"switched_off": "a first model of own data: the report shows it beside the baselines"}
        entries.insert(0, Entry("beats_pca_and_knn", switched_off, reason))
        rules: Mapping[str, Any] = {"interval": "power.mean_caught_interval", "above": "false_alarms.requested"}
        entries.insert(
            1, Entry("catches_injected_faults", rules, "finds more of the standard faults than false alarms alone would")
        )
    reason = "beside the rules that hold for every recipe whose purpose is detect: see docs/gates.md"
    return Entry("gate", entries, reason)


def threshold_section(sizes: SplitSizes) -> Entry:
    """Return the section threshold."""
    reason = "at most this share of normal samples is flagged; the promise holds for any score (docs/thresholds.md)"
    return Entry("threshold", {"kind": "split-conformal", "false_alarm_rate": sizes.rate}, reason)
