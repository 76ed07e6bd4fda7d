"""What came out of a sweep: each trial with what was measured of it in each rung, which is the best, and what is missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aeops.sweeps.axes import BY_ERROR
from aeops.sweeps.plan import SweepPlan, Trial

BEST, TRAINED, STOPPED, FAILED, MISSING = "best", "trained", "stopped", "failed", "missing"
FORMAT = 1


@dataclass
class TrialOutcome:
    """What is known of a trial.

    Attributes:
        trial: whose settings these are.
        epochs: of the trainings that were measured, one a rung.
        values: the metric in each of these rungs.
        state: one of the words above.
        reason: why it failed.
    """

    trial: Trial
    epochs: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    state: str = MISSING
    reason: str | None = None


@dataclass(frozen=True)
class SweepOutcome:
    """The table of a sweep.

    Attributes:
        plan: of the sweep.
        trials: by their numbers.
        is_complete: whether every rung has ended.
    """

    plan: SweepPlan
    trials: Sequence[TrialOutcome]
    is_complete: bool

    @property
    def ranking(self) -> list[TrialOutcome]:
        """Return the trials from the best to those without a result: who got further is before who was stopped earlier."""

        def order(outcome: TrialOutcome) -> tuple[bool, int, float, int]:
            value = outcome.values[-1] if outcome.values else math.inf
            is_out = outcome.state in (FAILED, MISSING)
            return is_out, -len(outcome.values), badness(self.plan.metric, value), outcome.trial.number

        return sorted(self.trials, key=order)

    @property
    def best(self) -> TrialOutcome | None:
        """Return the trial with the best value of the last rung; None where none has one, or the sweep has not ended."""
        for outcome in self.trials:
            if outcome.state == BEST:
                return outcome
        return None

    @property
    def missing(self) -> list[int]:
        """Return the numbers of the trials that still have to be trained or measured."""
        return [outcome.trial.number for outcome in self.trials if outcome.state == MISSING]


def badness(metric: str, value: float) -> float:
    """Return a number that is smaller for a better value of the metric."""
    return value if metric == BY_ERROR else -value


def to_document(outcome: SweepOutcome) -> dict[str, Any]:
    """Return the table for sweep.json: the same bytes whenever the same sweep ends, on however many workers."""
    plan = outcome.plan
    trials = []
    for trial_outcome in outcome.ranking:
        trials.append(
            {
                "number": trial_outcome.trial.number,
                "settings": dict(trial_outcome.trial.settings),
                "state": trial_outcome.state,
                "epochs": trial_outcome.epochs,
                "values": trial_outcome.values,
                "reason": trial_outcome.reason,
            }
        )
    best = outcome.best
    return {
        "format": FORMAT,
        "recipe": plan.recipe.name,
        "metric": plan.metric,
        "better": "lower" if plan.metric == BY_ERROR else "higher",
        "over": {axis.key: list(axis.values) for axis in plan.axes},
        "combinations": plan.combinations,
        "drawn_with_seed": plan.seed,
        "rungs": [{"share": rung.share, "trials": rung.keep} for rung in plan.rungs],
        "threads": plan.threads,
        "complete": outcome.is_complete,
        "best": None if best is None else best.trial.number,
        "missing": outcome.missing,
        "trials": trials,
    }


def best_settings(outcome: SweepOutcome) -> Mapping[str, Any]:
    """Return the settings of the best trial; none where that is the recipe as it is, or there is no best one."""
    best = outcome.best
    return {} if best is None or best.trial.number == 0 else best.trial.settings
