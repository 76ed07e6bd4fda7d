"""What a new reading of a source changes in the dataset that was accepted last: which samples stay, come, are corrected or go.

A sample is known by the id it came with, or, where it came with none, by its content: it then keeps the number that it was given
first, whatever goes before it. A known id with other content is a corrected sample, one with another label a corrected label.
What stays keeps its place in its shard; what is new goes into new shards.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ae_models.mappings import map_values, values_at, without_none, without_zeros
from ae_models.names import names_in, names_not_in
from aeops.data.dataset import SHARD_BYTES, read_index, require_receipt
from aeops.data.forgotten import ForgottenSamples, read_forgotten
from aeops.data.judged_samples import relabel
from aeops.data.rejudging import Judged
from aeops.data.retention import FirstDays, expired_by_time, read_first_days
from aeops.data.shards import describe_input
from aeops.data.source_record import SourceRecord
from aeops.data.sources.samples import SourceSamples
from aeops.data.splits import draw_splits
from aeops.data.statistics import sample_sha256
from aeops.errors import DataError
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import ACCEPT, SKIP

KEPT_FILE = "kept.parquet"  # of an incoming dataset: the rows of the accepted index that stay
JUDGEMENTS_KEY = "judgements_sha256"  # of an incoming dataset.json: SHA-256 of the file of judgements, as its ingest knew it
NEXT_NUMBER = (
    "next_number"  # key of dataset.json: the next id by number, where that is not the one after the highest that is there
)


@dataclass(frozen=True)
class Base:
    """The dataset that was accepted last, as the next one starts from it.

    Attributes:
        folder: of the dataset.
        content_sha256: of its content.
        description: its dataset.json.
        index: a row a sample.
    """

    folder: Path
    content_sha256: str
    description: Mapping[str, Any]
    index: pd.DataFrame


def open_base(recipe: Recipe, project: Project) -> Base | None:
    """Return the accepted dataset; None where there is none, it was altered, or holds other samples than the recipe asks for.

    A series that is stored step by step is always made anew: what is repaired in it depends on all of its readings.
    """
    folder = project.dataset(recipe.data.dataset)
    if recipe.fit.input.channels or not folder.is_dir():
        return None
    try:
        receipt = require_receipt(folder, recipe.name)
        description = read_json(folder / "dataset.json", "dataset", "kind", "dtype", "shape", "shards")
        index = read_index(folder)
    except DataError:
        return None
    expected = describe_input(recipe.fit.input)
    if any(description.get(key) != value for key, value in expected.items()):
        return None
    return Base(folder, receipt["content_sha256"], description, index)


@dataclass
class GrowthPlan:
    """What becomes of the samples of a reading.

    Attributes:
        base: what stays comes from; None where the dataset begins anew.
        ids: of the samples that were read, (n,).
        sha256: of their contents, (n,).
        labels: int64 (n,), corrected; None without labels.
        written: bool (n,), which of them go into new shards.
        kept: rows of the base's index that stay, with the labels, groups and parts that the source has for them now.
        counts: what happened, in numbers; zeros are left out.
        first_days: the day of each sample's first ingest, where the recipe keeps samples by that.
        forgotten: what may not come back.
        refused: kept samples that lost their place -> the reason.
        judged: what people have decided.
        rejudged: ids of accepted samples of which they have decided otherwise since: those are judged and written again.
    """

    base: Base | None
    ids: Sequence[str]
    sha256: list[str]
    labels: np.ndarray | None
    written: np.ndarray
    kept: pd.DataFrame
    forgotten: ForgottenSamples
    counts: dict[str, int] = field(default_factory=dict)
    first_days: FirstDays | None = None
    refused: dict[str, str] = field(default_factory=dict)
    judged: Judged = field(default_factory=Judged)
    rejudged: set[str] = field(default_factory=set)

    def left_out(self) -> dict[str, list[str]]:
        """Return content -> ids of all that was read and is not among what stays."""
        kept, found = set(self.kept["id"]) if len(self.kept) else set[str](), dict[str, list[str]]()
        for identity, digest in zip(self.ids, self.sha256, strict=True):
            if identity not in kept:
                found.setdefault(digest, []).append(identity)
        return found


def plan_growth(
    samples: SourceSamples,
    base: Base | None,
    record: SourceRecord | None,
    recipe: Recipe,
    dataset: Path,
    today: date,
    judged: Judged | None = None,
    left_out: Mapping[str, list[str]] = MappingProxyType({}),
) -> GrowthPlan:
    """Say what becomes of the samples of a reading.

    Args:
        samples: the reading.
        base: the dataset that was accepted last; None where there is none that can be gone on from.
        record: of the reading that it came from; None where its samples are to be judged and written again.
        recipe: its sections data and input.
        dataset: the folder of the accepted dataset; it may not exist.
        today: the day of this ingest.
        judged: what people have decided; None: nothing.
        left_out: contents that the last reading did not bring in -> the numbers they had, whatever the settings are now.
    """
    judged = judged or Judged()
    sha256 = _content_sha256(samples)
    if base is not None and samples.ids is None and not set(sha256) & set(base.index["sha256"]):
        base = None  # another set altogether: its numbers begin anew
    plan = GrowthPlan(
        base=base,
        ids=_numbered(sha256, base, left_out, judged, recipe.data.dataset) if samples.ids is None else list(samples.ids),
        sha256=sha256,
        labels=None if samples.labels is None else samples.labels.copy(),
        written=np.ones(len(sha256), bool),
        kept=pd.DataFrame() if base is None else base.index.iloc[:0],
        forgotten=read_forgotten(dataset),
        judged=judged,
        rejudged=set() if base is None or record is None else judged.changed(base.index["id"], record.judged),
    )
    if samples.ids is None and recipe.on_duplicate != ACCEPT:
        plan.counts["corrected_labels"] = _take_last_labels(plan)
    _leave_out(plan, samples, recipe, dataset, today)
    if base is not None and record is not None:
        _keep_known(plan, samples, base, recipe)
    if recipe.on_duplicate == SKIP:
        _skip_copies(plan)
    plan.counts["rejudged"] = len(names_in(compress(plan.ids, plan.written), plan.rejudged))
    plan.counts["new"] = int(plan.written.sum()) - plan.counts.get("replaced", 0) - plan.counts["rejudged"]
    plan.counts = without_zeros(plan.counts)
    return plan


# ---------------------------------------------------------------- identity


def _content_sha256(samples: SourceSamples) -> list[str]:
    """Return the SHA-256 of each sample's content."""
    if samples.sha256 is not None:
        return list(samples.sha256)
    sha256: list[str] = []
    for _, block in samples.blocks(SHARD_BYTES):
        sha256 += sample_sha256(block)
    return sha256


def _numbered(sha256: list[str], base: Base | None, left_out: Mapping[str, list[str]], judged: Judged, dataset: str) -> list[str]:
    """Return an id for each sample that came with none: the number that its content was given before, else the next one.

    Numbers of what was left out are in the record, and those that people have judged in the file of judgements, too.
    """
    known: dict[str, deque[str]] = {}
    names = set[str]()
    if base is not None:
        for identity, digest in zip(base.index["id"], base.index["sha256"], strict=True):
            known.setdefault(digest, deque()).append(identity)
        names = set(base.index["id"])
        for earlier in (left_out, judged.ids_of_contents()):
            for digest, ids in earlier.items():
                known.setdefault(digest, deque()).extend(names_not_in(ids, names))
                names.update(ids)
    number, ids = max(first_free_number(names, dataset), 0 if base is None else next_number(base, dataset)), []
    for digest in sha256:
        if known.get(digest):
            ids.append(known[digest].popleft())
        else:
            ids.append(f"{dataset}-{number:06d}")
            number += 1
    return ids


def next_number(base: Base, dataset: str) -> int:
    """Return the number of the next sample that comes without an id: those of samples that have gone are not given again."""
    return max(int(base.description.get(NEXT_NUMBER, 0)), first_free_number(base.index["id"], dataset))


def first_free_number(ids: Iterable[str], dataset: str) -> int:
    """Return the number after the highest that one of these ids has.

    >>> first_free_number(["digits-000007", "good/1.png"], "digits")
    8
    """
    prefix = f"{dataset}-"
    numbers = (identity.removeprefix(prefix) for identity in ids if identity.startswith(prefix))
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def _take_last_labels(plan: GrowthPlan) -> int:
    """Give samples of equal content the label of the last of them, which corrects the others; return how many it changed."""
    if plan.labels is None:
        return 0
    last = dict(zip(plan.sha256, plan.labels.tolist(), strict=True))
    if len(last) == len(plan.sha256):
        return 0
    corrected = np.array(values_at(last, plan.sha256), np.int64)
    changed = int((corrected != plan.labels).sum())
    plan.labels = corrected
    return changed


# ---------------------------------------------------------------- what goes


def _leave_out(plan: GrowthPlan, samples: SourceSamples, recipe: Recipe, folder: Path, today: date) -> None:
    """Take out what was forgotten, and what is older than the recipe keeps."""
    forgotten = plan.forgotten.find(plan.ids, plan.sha256, by_content=samples.ids is None or not recipe.fit.input.columns)
    plan.written &= ~forgotten
    plan.counts["forgotten"] = int(forgotten.sum())
    days = recipe.data.keep_days
    if days is None:
        return
    if samples.times is not None:
        expired = expired_by_time(samples.times, days)
    else:
        every = [*plan.ids, *([] if samples.unread is None else samples.unread.ids)]
        plan.first_days = read_first_days(folder).with_samples(every, today)
        expired = plan.first_days.expired(plan.ids, days)
    plan.counts["expired"] = int((expired & plan.written).sum())
    plan.written &= ~expired


def _keep_known(plan: GrowthPlan, samples: SourceSamples, base: Base, recipe: Recipe) -> None:
    """Let what the base holds stay where it is, with the labels and groups of today."""
    rows = base.index[~base.index["id"].isin(plan.rejudged)].set_index("id", drop=False)
    read = pd.DataFrame({"id": list(plan.ids), "sha256": plan.sha256, "position": np.arange(len(plan.ids))})
    read = read[plan.written].set_index("id", drop=False)
    known = read.index.intersection(rows.index)
    same = known[(rows.loc[known, "sha256"] == read.loc[known, "sha256"]).to_numpy()] if len(known) else known
    facts = _source_facts(plan, samples, read.loc[same, "position"].to_numpy(np.int64))
    stays = rows.index.isin(same)
    if samples.unread is not None:
        allowed = list(filter(plan.forgotten.allows, names_in(samples.unread.ids, rows.index)))
        if plan.first_days is not None:
            gone = plan.first_days.expired(allowed, recipe.data.keep_days or 0)
            plan.counts["expired"] += int(gone.sum())
            allowed = list(compress(allowed, ~gone))
        facts = pd.concat([facts, _unread_facts(samples).reindex(allowed)])
        stays |= rows.index.isin(allowed)
        plan.counts["unread"] = len(samples.unread.ids)
    plan.written[read.loc[same, "position"].to_numpy(np.int64)] = False
    plan.counts["replaced"] = len(known) - len(same)
    plan.kept = _with_facts(rows[stays], facts, plan, recipe).reset_index(drop=True)
    plan.counts["gone"] = len(rows) - len(plan.kept) - plan.counts["replaced"]


def _source_facts(plan: GrowthPlan, samples: SourceSamples, positions: np.ndarray) -> pd.DataFrame:
    """Return what the source says now of samples that it has read, by id: label, group, own part; only what it has."""
    facts: dict[str, Any] = {}
    if plan.labels is not None:
        facts["label"] = plan.labels[positions]
    for name, values in (("group", samples.groups), ("part", samples.splits)):
        if values is not None:
            facts[name] = np.asarray(values)[positions]
    return pd.DataFrame(facts, index=pd.Index(values_at(plan.ids, positions.tolist()), dtype=object))


def _unread_facts(samples: SourceSamples) -> pd.DataFrame:
    unread = samples.unread
    assert unread is not None, "the caller has asked"
    named = {"label": unread.labels, "group": unread.groups, "part": unread.splits}
    columns = map_values(np.asarray, without_none(named))
    return pd.DataFrame(columns, index=pd.Index(list(unread.ids), dtype=object))


def _with_facts(rows: pd.DataFrame, facts: pd.DataFrame, plan: GrowthPlan, recipe: Recipe) -> pd.DataFrame:
    """Return rows of an index with the labels and groups of today; a label that the recipe does not name loses its sample."""
    facts, rows = facts.reindex(rows.index), rows.copy()
    keys = rows["sha256"]
    if "group" in facts:
        changed = rows["group"] != facts["group"]
        rows["group"] = keys = facts["group"]
        rows.loc[changed, "split"] = draw_splits(keys[changed], recipe.data)
    if "part" in facts and recipe.data.split.test is None:
        is_test = facts["part"] == "test"
        moved = is_test != (rows["split"] == "test")
        drawn = draw_splits(keys[moved], recipe.data)
        rows.loc[moved, "split"] = np.where(is_test[moved], "test", drawn)
    if "label" in facts:
        new = facts["label"].astype("Int64").array
        before = rows["label"].array
        rows["label"] = new
        rows, _ = relabel(rows, plan.judged.standings, recipe)
        plan.counts["relabelled"] = int((rows["label"].array != before).fillna(True).sum())
        if recipe.data.labels:
            unknown = ~rows["label"].isin(list(recipe.data.labels))
            for name, label in rows.loc[unknown, "label"].items():
                plan.refused[str(name)] = f"unknown label {label}: data.labels does not name it"
            rows = rows[~unknown]
    return rows


def _skip_copies(plan: GrowthPlan) -> None:
    """Leave out each sample that equals one that stays or an earlier one that is written."""
    seen = set(plan.kept["sha256"]) if len(plan.kept) else set[str]()
    copies = 0
    for position in np.flatnonzero(plan.written).tolist():
        digest = plan.sha256[position]
        if digest in seen:
            plan.written[position] = False
            copies += 1
        seen.add(digest)
    plan.counts["copies"] = copies
