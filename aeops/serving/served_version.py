"""A version loaded by the service, and the checks that it works.

A broken model cannot be loaded, raises, or gives invalid answers (see `aeops.bundle.answer_check`). The further checks of a new
champion are in aeops/serving/shadow.py.
"""

from dataclasses import dataclass
from functools import cached_property

from aeops.bundle.answer_check import check_example
from aeops.bundle.detector import Detector
from aeops.predictions.rows import Scorer, scorer_of


@dataclass(frozen=True)
class ServedVersion:
    """A version that is served, or is about to be.

    Attributes:
        name: name of the registered model, which is the name of its recipe.
        version: registered version that the detector was loaded from.
    """

    name: str
    version: str
    detector: Detector

    @cached_property
    def scorer(self) -> Scorer:
        return scorer_of(self.name, self.version, self.detector)

    def check_example(self) -> str | None:
        """Let the model answer its own example, which also warms it up; return the problem, if any."""
        return check_example(self.detector)


def find_incompatibility(new: Detector, old: Detector) -> str | None:
    """Return the reason why clients of the old detector cannot use the new one; None if they can."""
    attributes = ["kind"]
    if new.data_kind.FIXED_SHAPE:
        attributes += ["shape", "output_shape", "low", "high", "column_types"]
    for name in attributes:
        new_value, old_value = getattr(new, name), getattr(old, name)
        if new_value != old_value:
            return f"its {name.replace('_', ' ')} differs from the served version: expected {old_value}, got {new_value}"
    return None
