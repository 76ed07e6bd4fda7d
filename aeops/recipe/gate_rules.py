"""Rules that a recipe may give the gate: which keys each kind of rule has, and their bounds."""

from dataclasses import dataclass

from ae_models.mappings import without_none
from ae_models.names import attributes_with_values
from ae_models.spec import bounded_field, join_names

ERROR, AUROC, POWER = "error", "auroc", "power"  # measures by which a challenger is compared with the champion
CHAMPION_MEASURES = (ERROR, AUROC, POWER)
# Measure -> what a margin is.
MARGIN_QUANTITIES = {
    ERROR: "a share of the champion's error",
    AUROC: "a difference of two AUROCs",
    POWER: "a difference of two mean shares of injected faults",
}
NEEDS_NOT_WORSE, NEEDS_BETTER = "not-worse", "better"  # requirements that a rule may put on the challenger
MIN_GROUPS = 20  # of normals, or of novelty, below which a comparison with a champion or a baseline claims nothing
LEAD_LOWER_BOUND = "detection.lead_lower_bound"  # metric: low end of the interval of the lead over the baselines
LOGGED_CHECK = "logged"  # the check of the registered model
BY_LABEL = "label"

# Margins of a rule against the champion that names none, where no record of seeds says better: by its keys champion and by.
DEFAULT_MARGINS = {
    (ERROR, None): 0.1,
    (ERROR, BY_LABEL): 0.25,
    (AUROC, None): 0.04,
    (AUROC, BY_LABEL): 0.1,
    (POWER, None): 0.08,
    (POWER, BY_LABEL): 0.15,
}
MARGIN_LIMITS = {ERROR: 1.0, AUROC: 0.5, POWER: 0.5}  # a margin lies below it: from there on a rule would refuse nothing

# The subject of a rule, and the keys that go with each.
RULE_KEYS = {
    "metric": ("at_least", "at_most"),
    "interval": ("covers", "above"),
    "check": ("milliseconds",),
    "champion": ("margin", "needs", "by"),
}


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: a metric with a floor or ceiling, an interval that must cover a value or lie above it, a check, or a
    comparison with the champion.

    The comparison with the champion and the check `logged` need the registry, so they are judged after the others.
    """

    metric: str | None = None  # a number in metrics.json, by its path
    at_least: float | None = None  # floor of the metric
    at_most: float | None = None  # ceiling of the metric
    interval: str | None = None  # an interval in metrics.json, by its path
    covers: str | None = None  # the metric that the interval must contain
    above: str | None = None  # the metric that the whole interval must exceed
    check: str | None = bounded_field(None, one_of=("served", LOGGED_CHECK))  # that the model answers: exported, registered
    milliseconds: float | None = bounded_field(None, low=0.001, high=3_600_000)  # that an answer of the logged model may take
    champion: str | None = bounded_field(None, one_of=CHAMPION_MEASURES)  # what is compared with the champion's
    margin: float | None = None  # largest difference that does not matter; None: as seeds differ, see aeops.gate.margins
    needs: str | None = bounded_field(None, one_of=(NEEDS_NOT_WORSE, NEEDS_BETTER))  # of the challenger; None: not-worse
    by: str | None = bounded_field(None, one_of=(BY_LABEL,))  # a comparison for each label of the normals; None: one for all

    def to_dict(self) -> dict[str, str | float]:
        """Return the rule's keys as a recipe writes them."""
        return without_none(vars(self))

    def validation_errors(self) -> list[str]:
        subjects = attributes_with_values(self, RULE_KEYS)
        if len(subjects) != 1:
            shapes = "{metric, at_least and/or at_most}, {interval, covers or above}, {check} or {champion}"
            return [f"expected exactly one of {shapes}, got {join_names(subjects) or 'none of them'}"]
        [subject] = subjects
        errors = self._unexpected_keys(subject)
        if subject == "metric":
            return errors + self._metric_errors()
        if subject == "interval":
            return errors + self._interval_errors()
        if subject == "check":
            return errors + self._check_errors()
        return errors + self._champion_errors()

    def _unexpected_keys(self, subject: str) -> list[str]:
        """Return a message for each key that belongs to another kind of rule."""
        errors = []
        for other_subject, keys in RULE_KEYS.items():
            for key in keys:
                if other_subject != subject and getattr(self, key) is not None:
                    errors.append(f"unexpected key {key} beside {subject}, expected {join_names(RULE_KEYS[subject])}")
        return errors

    def _metric_errors(self) -> list[str]:
        if self.at_least is None and self.at_most is None:
            return [f"metric is {self.metric} without a bound: give at_least, at_most or both"]
        return []

    def _interval_errors(self) -> list[str]:
        if self.covers is None and self.above is None:
            return [f"interval is {self.interval} without covers or above: name the metric that it has to cover, or to lie above"]
        if self.covers is not None and self.above is not None:
            return [f"expected one of covers and above, got both, {self.covers} and {self.above}"]
        return []

    def _check_errors(self) -> list[str]:
        if self.check == LOGGED_CHECK or self.milliseconds is None:
            return []
        return [f"milliseconds is set with check {self.check}, but only the check {LOGGED_CHECK} has a budget"]

    def _champion_errors(self) -> list[str]:
        if self.champion not in MARGIN_LIMITS:
            return []  # a mistake noted elsewhere
        if self.margin is None:
            return []
        quantity, limit = MARGIN_QUANTITIES[self.champion], MARGIN_LIMITS[self.champion]
        if not 0 < self.margin < limit:
            return [f"margin: expected more than 0 and less than {limit:g}, {quantity}, got {self.margin:g}"]
        return []
