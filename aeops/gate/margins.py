"""Margins of the rules against the champion: the recipe's own, else measured between seeds, else the default ones.

Two trainings that differ in their seed alone are equally good. If a measure of one training has the standard deviation s, the
difference of two has sqrt(2) s, and the margin is twice that: by the normal law 2.3 % of challengers that are as good as the
champion fall below it. The uncertainty of the test samples comes on top, as a challenger has to be proven to lie above minus the
margin; `ae seeds` therefore also counts how many pairs of its own trainings the rules would refuse.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aeops.gate.seed_record import SeedSpread, measure_key
from aeops.recipe.gate_rules import DEFAULT_MARGINS, MARGIN_LIMITS, Rule

MARGIN_FACTOR = 2 * math.sqrt(2)  # twice the standard deviation of the difference of two trainings
RECIPE, SEEDS, DEFAULT = "recipe", "seeds", "default"


@dataclass(frozen=True)
class Margin:
    """The largest difference that does not matter to a rule.

    Attributes:
        value: a share of the champion's error, or a difference of two AUROCs.
        source: RECIPE, SEEDS or DEFAULT.
        reason: for SEEDS what was measured, for DEFAULT why nothing measured is used; empty for RECIPE.
    """

    value: float
    source: str
    reason: str = ""

    @property
    def description(self) -> str:
        """Where the margin comes from, in words for a message; empty where the recipe names it."""
        if self.source == RECIPE:
            return ""
        if self.source == SEEDS:
            return f"the margin is {self.reason}"
        return f"the margin is the default, as {self.reason}"


def resolve_margins(rules: Mapping[str, Rule], seeds: SeedSpread) -> dict[str, Margin]:
    """Return the margin of each rule against the champion by its name."""
    margins = {}
    for name, rule in rules.items():
        if rule.champion is not None:
            margins[name] = _resolve_margin(rule, rule.champion, seeds)
    return margins


def _resolve_margin(rule: Rule, measure: str, seeds: SeedSpread) -> Margin:
    if rule.margin is not None:
        return Margin(rule.margin, RECIPE)
    default = DEFAULT_MARGINS[measure, rule.by]
    key = measure_key(measure, rule.by)
    if not seeds.spread:
        return Margin(default, DEFAULT, seeds.evidence["reason"])
    if key not in seeds.spread:
        return Margin(default, DEFAULT, f"the record of seeds has no {key}")
    spread = seeds.spread[key]
    value = MARGIN_FACTOR * spread["sd"]
    if not 0 < value < MARGIN_LIMITS[measure]:
        limit = f"more than 0 and less than {MARGIN_LIMITS[measure]:g}"
        return Margin(default, DEFAULT, f"twice the standard deviation between seeds is {value:.4g}, expected {limit}")
    return Margin(value, SEEDS, f"twice the standard deviation of a difference between two of {seeds.evidence['reason']}")
