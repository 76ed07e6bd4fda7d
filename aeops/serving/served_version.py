"""A version in the service's hands, and how to tell that one is broken.

Broken is told of a model by what it does: it cannot be loaded, it raises, or its answers are none (see `answer_fault`). What a
new champion is compared with, beside that, stands in aeops/serving/shadow.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aeops.bundle.detector import Detector
from aeops.predictions.rows import Scorer, scorer_of


@dataclass(frozen=True)
class Served:
    """A version that answers, or may do so soon.

    Attributes:
        name: the registered model's, as a recipe is called.
        version: the registered version that the detector was loaded from.
    """

    name: str
    version: str
    detector: Detector

    @cached_property
    def scorer(self) -> Scorer:
        return scorer_of(self.name, self.version, self.detector)

    def warm(self) -> str | None:
        """Answers its own example, since the first answer takes longest; what is wrong with the answer, if anything."""
        checked = self.detector.check(self.detector.example())
        return answer_fault(self.detector.score_checked(checked, reconstruction=True, code=True), len(checked))


def answer_fault(said: Mapping[str, np.ndarray], count: int) -> str | None:
    """Why what a model said of `count` samples is no answer; None where it is one."""
    for name, values in said.items():
        if len(values) != count:
            return f"it gave {len(values)} values of {name} for {count} samples"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"its {name} is not finite"
    p_value = said["p_value"]
    if not ((p_value > 0) & (p_value <= 1)).all():
        return "its p-value is not above 0 and at most 1"
    return None


def misfit(new: Detector, old: Detector) -> str | None:
    """Why clients of the old one could not go on with the new one; None where they can."""
    same = ["kind"]
    if new.data_kind.FIXED_SHAPE:
        same += ["shape", "made_shape", "low", "high"]
    for name in same:
        given, allowed = getattr(new, name), getattr(old, name)
        if given != allowed:
            return f"its {name.replace('_', ' ')} is {given}, that of the served one is {allowed}"
    return None
