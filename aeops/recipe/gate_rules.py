"""Rules that a recipe may give the gate: which keys each kind of rule has, and their bounds."""

from dataclasses import dataclass

from ae_models.spec import bounded_field, join_names

ERROR, AUROC = "error", "auroc"  # what a challenger and the champion are compared by
NOT_WORSE, BETTER = "not-worse", "better"  # what a rule may need of the challenger
LOGGED = "logged"  # the check that is done on the registered model


# What a rule is about, and the keys that go with each.
RULE_KEYS = {
    "metric": ("at_least", "at_most"),
    "interval": ("covers",),
    "check": ("milliseconds",),
    "champion": ("margin", "needs", "by"),
}


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: a metric with a floor or ceiling, an interval that must cover a value, a check, or a comparison
    with the champion.

    The comparison with the champion and the check `logged` need the registry, so they are judged after the others.
    """

    metric: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    interval: str | None = None
    covers: str | None = None
    check: str | None = bounded_field(None, one_of=("served", LOGGED))
    milliseconds: float | None = bounded_field(None, low=0.001, high=3_600_000)  # that an answer of the logged model may take
    champion: str | None = bounded_field(None, one_of=(ERROR, AUROC))
    margin: float | None = bounded_field(None, low=0.0, high=1.0)  # largest difference that does not matter
    needs: str | None = bounded_field(None, one_of=(NOT_WORSE, BETTER))  # of the challenger; None: not-worse
    by: str | None = bounded_field(None, one_of=("label",))  # a comparison for each label of the normals; None: one for all

    def validation_errors(self) -> list[str]:
        about = [key for key in RULE_KEYS if getattr(self, key) is not None]
        if len(about) != 1:
            shapes = "{metric, at_least and/or at_most}, {interval, covers}, {check} or {champion, margin}"
            return [f"a rule is {shapes}, and exactly one of them; {join_names(about) or 'none of them'} given"]
        [own] = about
        found = [
            f"{key} is given with {own}; {join_names(RULE_KEYS[own])} allowed"
            for other, keys in RULE_KEYS.items()
            for key in keys
            if other != own and getattr(self, key) is not None
        ]
        own_mistakes = {
            "metric": self._metric_mistakes,
            "interval": self._interval_mistakes,
            "check": self._check_mistakes,
            "champion": self._champion_mistakes,
        }
        return found + own_mistakes[own]()

    def _metric_mistakes(self) -> list[str]:
        bounded_somewhere = self.at_least is not None or self.at_most is not None
        return [] if bounded_somewhere else [f"metric is {self.metric} without a bound: give at_least, at_most or both"]

    def _interval_mistakes(self) -> list[str]:
        return [] if self.covers is not None else [f"interval is {self.interval} without covers: name the metric it has to cover"]

    def _check_mistakes(self) -> list[str]:
        if self.check == LOGGED or self.milliseconds is None:
            return []
        return [f"milliseconds is given with check {self.check}; only the check {LOGGED} has a budget"]

    def _champion_mistakes(self) -> list[str]:
        of_what = "a share of the champion's error" if self.champion == ERROR else "a difference of two AUROCs"
        if self.margin is None:
            return [f"the key margin is missing: the largest difference that does not matter, {of_what}"]
        most = 1.0 if self.champion == ERROR else 0.5
        if 0 < self.margin < most:
            return []
        return [f"margin is {self.margin:g}: above 0 and below {most:g} is allowed, {of_what}"]
