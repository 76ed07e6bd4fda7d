"""A version that the service has loaded, and checks that show that it is broken.

A broken model cannot be loaded, raises, or gives invalid answers (see `aeops.bundle.answer_check`). What else a new champion is
compared with stands in aeops/serving/shadow.py.
"""

from dataclasses import dataclass
from functools import cached_property

from aeops.bundle.answer_check import check_example
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
        """Let the model answer its own example, as the first answer takes longest; return the problem, if any."""
        return check_example(self.detector)


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
