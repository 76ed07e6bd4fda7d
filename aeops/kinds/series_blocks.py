"""Blocks of windows: how the scores of a series are counted, so that what is counted hardly depends on each other.

Windows that overlap share steps, and neighbours are alike at all, so a hundred windows in a row say far less than a hundred
windows of different days. A block is a number of windows in a row, one in each stride. numpy and the standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aeops.kinds.series_windows import GOLDEN_RATIO, split_step_name

WHOLE_SHARE = 0.75  # of a block's windows, from which on it counts: a block with fewer has a lower maximum


@dataclass(frozen=True)
class BlockRule:
    """How windows are joined to blocks.

    Attributes:
        every: seconds from one step to the next.
        length: steps of a window.
        stride: steps from one window of calibration, or of a file, to the next.
        windows: of a block, one in each stride.
    """

    every: float
    length: int
    stride: int
    windows: int

    @property
    def unit(self) -> str:
        """What is counted, in words."""
        return f"blocks of {self.windows} windows"

    @property
    def fewest(self) -> int:
        """How many windows of a block are scored at least, so that it counts."""
        return max(1, round(WHOLE_SHARE * self.windows))

    def number(self, names: Sequence[str] | None, count: int) -> tuple[list[str], list[int]]:
        """Return the machine and the number of the block of each window of calibration.

        Args:
            names: of the windows, with the times of their first steps; None: unknown, and they count as of one machine in a row.
            count: of the windows.
        """
        if names is None:
            return [""] * count, [row // self.windows for row in range(count)]
        machines, numbers = [], []
        for name in names:
            machine, last = self._last_step(name, is_online=False)
            machines.append(machine)
            numbers.append(last // self.stride // self.windows)
        return machines, numbers

    def place(self, name: str, is_online: bool) -> tuple[str, int] | None:
        """Return the machine and the stride in which a scored window ends, counted from 1970 on; `windows` strides are a block.

        Of the windows that are scored online, one for each step, one in each stride counts, at changing places as in calibration
        (see `series_windows.spread_starts`); None for the others.

        Args:
            name: of the window, as `step_name` writes it.
            is_online: whether the name has the time of the window's last step, as that of a window has which the service scored;
                else it has that of its first step, as in a file.

        Raises:
            ValueError: the name says no time.
        """
        machine, last = self._last_step(name, is_online)
        number, place = divmod(last, self.stride)
        if is_online and place != math.floor(self.stride * math.fmod(number * GOLDEN_RATIO, 1.0)):
            return None
        return machine, number

    def _last_step(self, name: str, is_online: bool) -> tuple[str, int]:
        machine, time = split_step_name(name)
        step = round(time / self.every)
        return machine, step if is_online else step + self.length - 1
