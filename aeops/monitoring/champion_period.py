"""Describe the period of a champion. Standard library only."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class ChampionPeriod:
    """A champion, and the time since it is champion.

    Attributes:
        version: its number in the registry.
        promotion_time: time of the ledger's line that made it champion, as it stands there.
        start: the same as a datetime; None where the clock in use is behind the ledger's, as in a simulation: then all its
            predictions count.
    """

    version: str
    promotion_time: str
    start: datetime | None

    @property
    def first_day(self) -> date:
        """First day of the period in UTC; the first of all days where `start` is None."""
        if self.start is None:
            return date.min
        return self.start.date()
