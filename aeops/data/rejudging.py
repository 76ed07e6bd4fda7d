"""What judgements mean for an ingest that goes on from accepted data: which samples it has to read and judge again.

What holds for a sample is recorded with the reading that was accepted, so that a judgement that has changed is seen where no file
has.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aeops.data.judged_samples import label_number
from aeops.data.judgements import RELEASE, SampleKey, Standing, judged_ids, judgements_digest, read_standings
from aeops.files import data_sha256
from aeops.project import Project
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Judged:
    """What people have decided about a dataset's samples when an ingest began.

    Attributes:
        standings: what holds for each sample.
        record_sha256: of the file of judgements; None where there is none.
    """

    standings: Mapping[SampleKey, Standing] = field(default_factory=dict)
    record_sha256: str | None = None

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each id that was judged -> that of what holds for it; so a record of them names no sample."""
        facts: dict[str, list[list[object]]] = {}
        for (identity, content), standing in sorted(self.standings.items(), key=lambda item: (item[0][0], item[0][1] or "")):
            facts.setdefault(identity, []).append([content, *_outcome(standing)])
        return {data_sha256(identity): data_sha256(json.dumps(fact)) for identity, fact in facts.items()}

    def changed(self, ids: Iterable[str], before: Mapping[str, str]) -> set[str]:
        """Return which of these samples have another judgement than before, or lost theirs.

        Args:
            ids: of the samples.
            before: `digests` of an earlier reading.
        """
        digests = self.digests
        changed = {name for name in digests.keys() | before.keys() if digests.get(name) != before.get(name)}
        return {identity for identity in ids if data_sha256(identity) in changed} if changed else set()

    def ids_of_contents(self) -> dict[str, list[str]]:
        """Return content's SHA-256 -> the ids by which samples of that content were judged."""
        found: dict[str, list[str]] = {}
        for identity, content in self.standings:
            if content is not None:
                found.setdefault(content, []).append(identity)
        return found


def _outcome(standing: Standing) -> list[object]:
    """Return what a judgement does, without who said so and why."""
    fate, label = standing.fate, standing.relabelling
    return [
        None if fate is None else [fate.decision, sorted(fate.reasons)],
        None if label is None else [label.label, label.new_label, sorted(label.reasons)],
        sorted(standing.released_reasons),
    ]


def read_judged(project: Project, dataset: str) -> Judged:
    """Return what people have decided about a dataset's samples; raises as `read_standings` does."""
    digest = judgements_digest(project, dataset)  # first: others may be recorded meanwhile, and the next run then takes them
    return Judged(read_standings(project, dataset), digest)


def judged_among(
    rows: "pd.DataFrame", standings: Mapping[SampleKey, Standing], recipe: Recipe
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of accepted samples that people have released, and of those whose label is one that a person gave.

    Args:
        rows: of the accepted index.
        standings: what people have decided.
        recipe: names the labels.
    """
    released, relabelled = [], []
    judged = rows[rows["id"].isin(judged_ids(standings))] if standings and len(rows) else rows.iloc[:0]
    for identity, content, label in judged.reindex(columns=["id", "sha256", "label"]).itertuples(index=False):
        standing = standings.get((identity, content), Standing())
        if standing.fate is not None and standing.fate.decision == RELEASE:
            released.append(str(identity))
        new = None if standing.relabelling is None else label_number(recipe, str(standing.relabelling.new_label))
        if new is not None and label == new:
            relabelled.append(str(identity))
    return tuple(released), tuple(relabelled)
