"""Samples that were forgotten (`ae forget`) and may not come back: the dataset holds SHA-256 of their ids and contents, no more.

The file travels with the dataset, so that no later ingest of the same source brings them back, in a clone neither.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from aeops.files import data_sha256

FORGOTTEN_FILE = "forgotten.parquet"


@dataclass(frozen=True)
class ForgottenSamples:
    """What may not come back.

    Attributes:
        ids: SHA-256 of ids.
        contents: SHA-256 of contents, as an index has them.
    """

    ids: Set[str] = frozenset()
    contents: Set[str] = frozenset()

    def allows(self, identity: str) -> bool:
        """Return whether a sample of this id was not forgotten."""
        return not self.ids or data_sha256(identity) not in self.ids

    def find(self, ids: Sequence[str], contents: Sequence[str], by_content: bool) -> np.ndarray:
        """Return which samples were forgotten, bool (n,).

        Args:
            ids: (n,).
            contents: SHA-256 of their contents, (n,).
            by_content: whether the same content under another id counts; of rows of a table, which others may share, it does not.
        """
        if not self.ids:
            return np.zeros(len(contents), bool)
        found = _are_among(map(data_sha256, ids), self.ids)
        if by_content:
            found |= _are_among(contents, self.contents)
        return found

    def with_samples(self, ids: Iterable[str], contents: Iterable[str]) -> "ForgottenSamples":
        """Return them with further ones."""
        return ForgottenSamples(self.ids | set(map(data_sha256, ids)), self.contents | set(contents))

    def write(self, folder: Path) -> None:
        """Write them to a dataset; nothing where there are none."""
        if not self.ids:
            return
        import pandas as pd

        from aeops.data.array_files import write_parquet

        rows = [*product(["id"], sorted(self.ids)), *product(["content"], sorted(self.contents))]
        write_parquet(folder / FORGOTTEN_FILE, pd.DataFrame(rows, columns=["of", "sha256"]))


def _are_among(digests: Iterable[str], known: Set[str]) -> np.ndarray:
    return np.array([digest in known for digest in digests], bool)


def read_forgotten(dataset: Path) -> ForgottenSamples:
    """Return what a dataset says may not come back."""
    file = dataset / FORGOTTEN_FILE
    if not file.is_file():
        return ForgottenSamples()
    import pandas as pd

    table = pd.read_parquet(file)
    digests = table["sha256"]
    return ForgottenSamples(frozenset(digests[table["of"] == "id"]), frozenset(digests[table["of"] == "content"]))
