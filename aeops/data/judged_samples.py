"""Judgements of samples at work: labels that people gave, what they released and what they dropped, when data comes in again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ae_models.mappings import drop_keys, without_zeros
from aeops.data.judgements import SampleKey, Standing, expectation_name, judged_ids, read_standings
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Decided:
    """What comes of bad samples by what people have decided.

    Attributes:
        undecided: sample's id -> messages of the expectations that it breaks; those samples are set aside.
        released: ids of bad samples that are accepted.
        dropped: ids of samples that stay out, whatever they break.
        dropped_names: the same of what could not become a sample.
        relabelled: ids of samples that have a label from a person.
        released_checks: expectation's name -> how many released samples break it.
    """

    undecided: dict[str, list[str]]
    released: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    dropped_names: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    released_checks: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each decision holds for; without those that hold for none."""
        dropped_count = len(self.dropped) + len(self.dropped_names)
        counts = {"released": len(self.released), "dropped": dropped_count, "relabelled": len(self.relabelled)}
        return without_zeros(counts)


def label_number(recipe: Recipe, label: str) -> int | None:
    """Return a label of data.labels, as people write it, as its number; None where the dataset does not know it."""
    if recipe.label_names:
        return recipe.label_names.index(label) if label in recipe.label_names else None
    return int(label) if label.lstrip("-").isdecimal() and int(label) in recipe.data.labels else None


def label_text(recipe: Recipe, label: Any) -> str | None:
    """Return a number of the index as people write that label; None for a missing one."""
    import pandas as pd

    return None if pd.isna(label) else recipe.label_text(int(label))


def _new_label(recipe: Recipe, standing: Standing) -> int:
    """Return the number of the label that a person gave.

    Raises:
        DataError: the dataset does not know it any more.
    """
    assert standing.relabelling is not None, "asked for a sample without another label"
    label = str(standing.relabelling.new_label)
    number = label_number(recipe, label)
    if number is None:
        known = ", ".join(map(recipe.label_text, recipe.data.labels)) or "none"
        raise DataError(
            f"recipes/quarantine/{recipe.data.dataset}.jsonl gives {standing.relabelling.id} the label {label!r}, and "
            f"data.labels of recipes/{recipe.name}.yaml has {known}: type `ae quarantine {recipe.name}` with --drop or --relabel "
            f"{standing.relabelling.id}, --why TEXT and --overrule"
        )
    return number


def relabel(
    index: "pd.DataFrame", standings: Mapping[SampleKey, Standing], recipe: Recipe
) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """Return the index with the labels that people gave, and the ids of those samples.

    A sample whose label is no longer the one that was judged was mended at the source, and keeps what it came with.
    """
    changes: dict[int, int] = {}
    for row, (_, standing) in _judged_rows(index, standings).items():
        before = label_text(recipe, index["label"].iat[row])
        if standing.relabelling is not None and not standing.is_dropped and standing.relabelling.label == before:
            changes[row] = _new_label(recipe, standing)
    if not changes:
        return index, ()
    labels = index["label"].copy()
    labels.iloc[list(changes)] = list(changes.values())
    return index.assign(label=labels), tuple(map(str, index["id"].iloc[list(changes)]))


def _judged_rows(index: "pd.DataFrame", standings: Mapping[SampleKey, Standing]) -> dict[int, tuple[str, Standing]]:
    """Return the samples that were judged, by id and content: position -> id, and what holds for it."""
    found: dict[int, tuple[str, Standing]] = {}
    for row in index["id"].isin(judged_ids(standings)).to_numpy().nonzero()[0].tolist():
        key = (str(index["id"].iat[row]), str(index["sha256"].iat[row]))
        if key in standings:
            found[row] = (key[0], standings[key])
    return found


def decide(
    reasons: Mapping[str, list[str]],
    index: "pd.DataFrame",
    standings: Mapping[SampleKey, Standing],
    required: frozenset[str],
) -> Decided:
    """Return what comes of the samples of an index.

    Args:
        reasons: sample's id -> messages of the expectations that it breaks.
        index: of the incoming dataset.
        standings: what people have decided.
        required: names of the expectations that no sample may break, whoever released it.
    """
    undecided, released, dropped, checks = dict(reasons), list[str](), list[str](), dict[str, int]()
    for identity, standing in _judged_rows(index, standings).values():
        if standing.is_dropped:
            dropped.append(identity)
            undecided.pop(identity, None)
            continue
        broken = set(map(expectation_name, reasons.get(identity, ())))
        if broken and broken <= standing.released_reasons - required:
            released.append(identity)
            del undecided[identity]
            for name in broken:
                checks[name] = checks.get(name, 0) + 1
    return Decided(undecided, tuple(released), tuple(dropped), released_checks=checks)


def without_dropped(
    set_aside: Mapping[str, str], standings: Mapping[SampleKey, Standing]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what could not become a sample and was not dropped, name -> reason, and the names of what was."""
    dropped = []
    for name, reason in set_aside.items():
        standing = standings.get((name, None))
        if standing is not None and standing.fate is not None and standing.is_dropped and standing.fate.reasons == (reason,):
            dropped.append(name)
    return drop_keys(set_aside, dropped), tuple(dropped)


class NamedLabels:
    """Labels that people gave to what a source cannot make a sample of, as its own label is not known."""

    def __init__(self, project: Project, recipe: Recipe) -> None:
        """Read the judgements; raises as `read_standings` does."""
        self._recipe = recipe
        self._standings: dict[str, Standing] = {}
        for (_, sha256), standing in read_standings(project, recipe.data.dataset).items():
            if sha256 is None and standing.relabelling is not None:
                self._standings[standing.relabelling.id] = standing

    def find(self, name: str, reason: str) -> int | None:
        """Return the label that was given to what is set aside by this name and for this reason; None without one."""
        standing = self._standings.get(name)
        if standing is None or standing.relabelling is None or standing.relabelling.reasons != (reason,):
            return None
        return _new_label(self._recipe, standing)

    def apply(self, labels: "np.ndarray", problems: dict[int, str], name_of: Callable[[int], str]) -> None:
        """Put labels that people gave in the place of unknown ones.

        Args:
            labels: of all rows, (n,); changed here.
            problems: row -> why it has no label; those that have one now are taken out.
            name_of: returns the name by which a row is set aside.
        """
        for row, reason in list(problems.items()):
            if self._standings and (label := self.find(name_of(row), reason)) is not None:
                labels[row] = label
                del problems[row]
