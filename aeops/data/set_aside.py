"""What a source held and could not become a sample: files that cannot be decoded, rows of another length, unknown labels.

The stage ingest lists them by name in the incoming dataset, beside the samples. They go to the quarantine's folder with their
reasons, and count in the recipe's quarantine budget, but for those that a later row has corrected.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

FILE = "set_aside.parquet"
REPLACED = "its id stands again in a later row, which replaces it"  # a correction, and no fault
MAX_REASON_CHARACTERS = 60  # of a reason in a count


def write_set_aside(folder: Path, problems: Mapping[str, str]) -> None:
    """Write name -> reason as a table with the columns id and reason; nothing where there are none."""
    if not problems:
        return
    import pandas as pd

    from aeops.data.array_files import write_parquet

    write_parquet(folder / FILE, pd.DataFrame({"id": list(problems), "reason": list(problems.values())}))


def read_set_aside(folder: Path) -> dict[str, str]:
    """Return name -> reason of an incoming dataset."""
    if not (folder / FILE).is_file():
        return {}
    import pandas as pd

    table = pd.read_parquet(folder / FILE)
    return dict(zip(table["id"], table["reason"], strict=True))


def first_reasons(problems: Mapping[str, str], most: int) -> list[str]:
    """Return the first so many names with their reasons, for a message.

    >>> first_reasons({"a.png": "it is empty", "b.png": "no label"}, 1)
    ['a.png: it is empty']
    """
    return [f"{name}: {reason}" for name, reason in islice(problems.items(), most)]


def count_reasons(problems: Mapping[str, str]) -> dict[str, int]:
    """Return how often each reason was given, the most frequent first; of a reason, what stands before its first colon.

    >>> count_reasons({"a.png": "it is empty", "b.png": "unknown label 'x': data.labels does not name it"})
    {'it is empty': 1, "unknown label 'x'": 1}
    """
    return dict(Counter(reason.partition(":")[0][:MAX_REASON_CHARACTERS] for reason in problems.values()).most_common())
