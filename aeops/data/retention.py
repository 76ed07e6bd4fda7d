"""How long a dataset keeps its samples: by their own times, or by the day of their first ingest, which the dataset then holds.

Days are counted from the newest sample or ingest, never from a clock that was set back: a clock that goes backwards lets no
sample go.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np

FIRST_DAYS_FILE = "first_days.parquet"  # of a dataset: id -> ISO day; also of samples that it has let go and the source still has
SECONDS_A_DAY = 86_400.0


def expired_by_time(times: np.ndarray, days: int) -> np.ndarray:
    """Return which samples are older than so many days before the newest of them, bool (n,).

    Args:
        times: seconds since 1970, (n,).
        days: how many.
    """
    if not len(times):
        return np.zeros(0, bool)
    return np.asarray(times <= times.max() - days * SECONDS_A_DAY)


@dataclass(frozen=True)
class FirstDays:
    """The day of each sample's first ingest.

    Attributes:
        days: id -> the day.
        newest: the day from which is counted; None where there is no sample.
    """

    days: Mapping[str, date] = field(default_factory=dict)
    newest: date | None = None

    def with_samples(self, ids: Iterable[str], today: date) -> "FirstDays":
        """Return the days of these samples alone: known ones as they are, others today.

        Where the clock says a day before the last one that is recorded, it was set back, and the recorded one counts.
        """
        newest = max([today, *([self.newest] if self.newest is not None else [])])
        if newest > today:
            print(
                f"the clock says {today}, and the last samples came on {newest}: days are counted from then. Set the clock right",
                file=sys.stderr,
            )
        return FirstDays({name: self.days.get(name, newest) for name in ids}, newest)

    def expired(self, ids: Sequence[str], days: int) -> np.ndarray:
        """Return which samples came so many days ago or earlier, bool (n,)."""
        if self.newest is None:
            return np.zeros(len(ids), bool)
        limit = self.newest - timedelta(days=days)
        return np.array([self.days[name] <= limit for name in ids], bool)

    def gone(self, days: int, today: date) -> set[str]:
        """Return the ids of all that came so many days before today, or before the newest, or earlier."""
        limit = max([today, *([self.newest] if self.newest is not None else [])]) - timedelta(days=days)
        return {name for name, day in self.days.items() if day <= limit}

    def write(self, folder: Path) -> None:
        """Write them to a dataset."""
        import pandas as pd

        from aeops.data.array_files import write_parquet

        table = pd.DataFrame({"id": list(self.days), "day": list(map(date.isoformat, self.days.values()))})
        write_parquet(folder / FIRST_DAYS_FILE, table.sort_values("id"))


def read_first_days(dataset: Path) -> FirstDays:
    """Return the days that a dataset holds; none where it holds no such file."""
    file = dataset / FIRST_DAYS_FILE
    if not file.is_file():
        return FirstDays()
    import pandas as pd

    table = pd.read_parquet(file)
    days = dict(zip(table["id"], map(date.fromisoformat, table["day"]), strict=True))
    return FirstDays(days, max(days.values(), default=None))
