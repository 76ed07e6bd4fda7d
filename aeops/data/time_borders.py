"""Borders between splits that follow each other in time: once drawn they stay where they are while only earlier steps go.

With later steps the shares move on, so that a model is trained on what was tested on before: a border never moves back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import DataError
from aeops.machine.stored_json import read_json
from aeops.recipe.sections import SplitSpec

if TYPE_CHECKING:
    import numpy as np

SPLITS_IN_TIME = ("train", "validation", "calibration", "test")
KEY = "split_borders"  # of dataset.json


@dataclass(frozen=True)
class SplitBorders:
    """Where validation, calibration and test begin.

    Attributes:
        times: of the three, seconds since 1970.
        newest: time of the last step.
        shares: of validation, calibration and test, by which they were drawn.
    """

    times: tuple[float, ...]
    newest: float
    shares: tuple[float, ...]

    def splits(self, times: "np.ndarray") -> "np.ndarray":
        """Return the split of each step, object (n,); the steps of one moment are together."""
        import numpy as np

        return np.array(SPLITS_IN_TIME, dtype=object)[np.searchsorted(np.array(self.times), times, side="right")]

    def to_dict(self) -> dict[str, Any]:
        """Return them as dataset.json has them."""
        return {"times": list(self.times), "newest": self.newest, "shares": list(self.shares)}


def split_borders(times: "np.ndarray", split: SplitSpec, dataset: Path) -> SplitBorders:
    """Return the borders for the steps of a series.

    Args:
        times: of the steps, seconds since 1970, (n,).
        split: the shares.
        dataset: the accepted dataset, which may not exist; its borders are gone on from where its shares are the same.
    """
    import numpy as np

    moments, test = np.sort(times), split.test or 0.0
    shares = (split.validation, split.calibration, test)
    ends = np.cumsum([1.0 - sum(shares), split.validation, split.calibration])
    drawn = moments[np.minimum(np.floor(ends * len(moments) + 1e-9).astype(int), len(moments) - 1)]
    newest, last = float(moments[-1]), _last_borders(dataset, shares)
    if last is not None and last.newest >= newest:
        return SplitBorders(last.times, last.newest, shares)
    if last is not None:
        drawn = np.maximum(drawn, last.times)
    return SplitBorders(tuple(map(float, drawn)), newest, shares)


def _last_borders(dataset: Path, shares: Sequence[float]) -> SplitBorders | None:
    try:
        found = read_json(dataset / "dataset.json").get(KEY)
    except (FileNotFoundError, DataError):
        return None
    if found is None or tuple(found["shares"]) != tuple(shares):
        return None
    return SplitBorders(tuple(found["times"]), float(found["newest"]), tuple(shares))
