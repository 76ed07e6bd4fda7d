"""What a step is whose growth benchmarks/growth.py measures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NAME = "digits"  # of the recipe

# A step as it is measured. It may return by how many units of work its seconds are divided.
Work = Callable[[], int | None]


@dataclass(frozen=True)
class Step:
    """A step of the pipeline, measured at several sizes.

    `prepare(root, size)` makes what the step needs below `root`, and returns the step as a function. Steps of one axis and size
    share `root` and are run in their order: what one writes, the next ones read.

    Attributes:
        axis: what grows: samples of 28 x 28, pictures of 256 x 256 in colours, predictions, small calls, recipes, versions or
            lines of the ledger.
        name: for the table.
        work: exponent of the work itself: 1 where all of what grows has to be read or written, 0 where it does not matter.
        prepare: makes what the step needs, and returns it.
    """

    axis: str
    name: str
    work: int
    prepare: Callable[[Path, int], Work]
