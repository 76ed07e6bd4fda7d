"""What people have decided about samples that validation has set aside: a committed file of the project, a line a judgement.

    recipes/quarantine/<dataset>.jsonl

It lies beside the recipes and not in the ledger, which is of a recipe's versions and of one state folder: a clone of the
project makes the same dataset of the same source. A sample is known by its id and its content; what could not become a sample, by
its name and the reason. Standard library only on import.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ae_models.mappings import without_zeros
from ae_models.names import names_of
from aeops.errors import DataError, UsageError
from aeops.files import atomic_write, file_sha256, make_folder
from aeops.machine.lock import file_lock
from aeops.project import Project

RELEASE, DROP, RELABEL = "release", "drop", "relabel"
DECISIONS = {RELEASE: "released", DROP: "dropped", RELABEL: "relabelled"}  # and the word for what was done
SampleKey = tuple[str, str | None]  # id, and SHA-256 of the content; None for what could not become a sample


@dataclass(frozen=True)
class Judgement:
    """A person's decision about one sample, or about what could not become one.

    Attributes:
        decision: one of `DECISIONS`.
        id: of the sample.
        sha256: of its content; None for what could not become a sample.
        reasons: names of the expectations that it broke; the whole reason of what could not become a sample.
        label: that it came with, as the source names it; None without one.
        who, account, why, time: as in the ledger.
        new_label: of a sample that is relabelled.
        overrules: whether it takes the place of earlier judgements that say something else.
    """

    decision: str
    id: str
    sha256: str | None
    reasons: tuple[str, ...]
    label: str | None
    who: str
    account: str
    why: str
    time: str
    new_label: str | None = None
    overrules: bool = False

    @property
    def key(self) -> SampleKey:
        return (self.id, self.sha256)

    def describe(self) -> str:
        """Return the decision and who made it, such as `released by Ada on 2026-11-30: dark, but real`."""
        target = f" as {self.new_label}" if self.new_label is not None else ""
        return f"{DECISIONS[self.decision]}{target} by {self.who} on {self.time[:10]}: {self.why}"

    def to_line(self) -> str:
        """Return the judgement as its line of the file, without what is not set."""
        content = {name: value for name, value in asdict(self).items() if value not in (None, False)}
        return json.dumps(content, ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True)
class Standing:
    """What holds for one sample after all judgements of it.

    Attributes:
        fate: the judgement that releases or drops it; None where it was only relabelled.
        relabelling: the judgement that gives it another label, or None.
        released_reasons: the expectations that it may break.
    """

    fate: Judgement | None = None
    relabelling: Judgement | None = None
    released_reasons: frozenset[str] = frozenset()

    @property
    def is_dropped(self) -> bool:
        return self.fate is not None and self.fate.decision == DROP

    @property
    def judgements(self) -> list[Judgement]:
        return list(filter(None, (self.fate, self.relabelling)))

    def contradicts(self, new: Judgement) -> Judgement | None:
        """Return the judgement that cannot hold together with a new one, or None."""
        if self.fate is not None and DROP in (self.fate.decision, new.decision) and self.fate.decision != new.decision:
            return self.fate
        if self.relabelling is None or new.decision == RELEASE:
            return None
        is_same = new.decision == RELABEL and (new.label, new.new_label) == (self.relabelling.label, self.relabelling.new_label)
        return None if is_same else self.relabelling

    def with_judgement(self, new: Judgement) -> "Standing":
        """Return what holds after a judgement that contradicts nothing, or overrules what it contradicts."""
        if new.decision == DROP:
            return Standing(fate=new)
        base = Standing() if self.is_dropped else self
        if new.decision == RELABEL:
            return replace(base, relabelling=new)
        return replace(base, fate=new, released_reasons=base.released_reasons | set(new.reasons))

    def repeats(self, new: Judgement) -> bool:
        """Return whether a judgement says nothing that does not hold already."""
        if new.decision == DROP:
            return self.is_dropped
        if new.decision == RELABEL:
            return self.relabelling is not None and self.contradicts(new) is None
        return not self.is_dropped and set(new.reasons) <= self.released_reasons


def expectation_name(reason: str) -> str:
    """Return the name of the expectation in a reason of the quarantine; of what is no sample, the whole reason.

    >>> expectation_name("blank: expected values that differ, got values that are all the same")
    'blank'
    """
    return reason.split(": expected")[0]


# ---------------------------------------------------------------- reading


def read_judgements(project: Project, dataset: str) -> list[Judgement]:
    """Return every judgement of a dataset's samples, the oldest first.

    Raises:
        DataError: a line is none; names it.
    """
    file = project.judgements(dataset)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise _damaged(file, 1, str(error)) from error
    return [_parse_line(file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _parse_line(file: Path, number: int, line: str) -> Judgement:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, number, f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(file, number, "no JSON object")
    known = set(names_of(fields(Judgement)))
    texts = known - {"reasons", "overrules"}
    if unknown := sorted(set(content) - known):
        raise _damaged(file, number, f"unknown key {unknown[0]!r}")
    if wrong := sorted(key for key in texts & set(content) if not isinstance(content[key], str)):
        raise _damaged(file, number, f"{wrong[0]} is no text")
    reasons = content.get("reasons")
    if not isinstance(reasons, list) or not all(isinstance(reason, str) for reason in reasons):
        raise _damaged(file, number, "reasons is no list of texts")
    needed = {"decision", "id", "who", "account", "why", "time"}
    if missing := sorted(needed - set(content)):
        raise _damaged(file, number, f"the key {missing[0]} is missing")
    if content["decision"] not in DECISIONS:
        raise _damaged(file, number, f"expected the decision {', '.join(DECISIONS)}, got {content['decision']!r}")
    if (content["decision"] == RELABEL) is not ("new_label" in content):
        raise _damaged(file, number, "new_label stands where a sample is relabelled, and nowhere else")
    arguments: dict[str, Any] = {"sha256": None, "label": None} | content
    return Judgement(**arguments | {"reasons": tuple(reasons), "overrules": content.get("overrules") is True})


def _damaged(file: Path, number: int, reason: str) -> DataError:
    name = "/".join(file.parts[-3:])
    return DataError(f"{name} is damaged (line {number}: {reason}): type `git checkout {name}`, or repair the line by hand")


def judgements_digest(project: Project, dataset: str) -> str | None:
    """Return the SHA-256 of the record of a dataset's judgements; None where there is none."""
    file = project.judgements(dataset)
    return file_sha256(file) if file.is_file() else None


def resolve(judgements: Iterable[Judgement], dataset: str) -> dict[SampleKey, Standing]:
    """Return what holds for each sample that was judged.

    Raises:
        DataError: two judgements contradict each other, as after a merge of two people's work; names all of them.
    """
    standings: dict[SampleKey, Standing] = {}
    contradictions: dict[SampleKey, str] = {}
    for one in judgements:
        before = standings.get(one.key, Standing())
        other = before.contradicts(one)
        if other is not None and not one.overrules:
            contradictions[one.key] = f"{one.id}: {other.describe()}; {one.describe()}"
        if other is not None and one.overrules:
            contradictions.pop(one.key, None)
        standings[one.key] = before.with_judgement(one)
    if contradictions:
        raise DataError(
            f"recipes/quarantine/{dataset}.jsonl has judgements that contradict each other: "
            f"{'; '.join(contradictions.values())}. Say what holds: "
            "type `ae quarantine RECIPE` with --release, --drop or --relabel, --why TEXT and --overrule"
        )
    return standings


def read_standings(project: Project, dataset: str) -> dict[SampleKey, Standing]:
    """Return what holds for each sample of a dataset that was judged; raises as `read_judgements` and `resolve` do."""
    return resolve(read_judgements(project, dataset), dataset)


# ---------------------------------------------------------------- recording


def record_judgements(project: Project, dataset: str, new: Sequence[Judgement]) -> list[Judgement]:
    """Add judgements to a dataset's file, all or none; return those that were not there already.

    Raises:
        UsageError: one contradicts what holds and does not overrule it, or two of the new ones contradict each other.
        DataError: the file is damaged.
    """
    file = project.judgements(dataset)
    with file_lock(project, "judgements"):
        earlier = read_judgements(project, dataset)
        standings = last_word(earlier)
        added: list[Judgement] = []
        given: dict[SampleKey, Standing] = {}
        for one in new:
            before = standings.get(one.key, Standing())
            _require_no_contradiction(one, before, given.get(one.key, Standing()), dataset)
            given[one.key] = given.get(one.key, Standing()).with_judgement(one)
            if not before.repeats(one) or (one.overrules and before.contradicts(one)):
                added.append(one)
            standings[one.key] = before.with_judgement(one)
        if added:
            make_folder(file.parent)
            _write(file, [*earlier, *added])
    return added


def _write(file: Path, judgements: Iterable[Judgement]) -> None:
    atomic_write(file, "".join(f"{one.to_line()}\n" for one in judgements))


def last_word(earlier: Iterable[Judgement]) -> dict[SampleKey, Standing]:
    """Return what holds by the last word on each sample: where judgements contradict each other, a new one may settle that."""
    standings: dict[SampleKey, Standing] = {}
    for one in earlier:
        standings[one.key] = standings.get(one.key, Standing()).with_judgement(one)
    return standings


def _require_no_contradiction(new: Judgement, before: Standing, given: Standing, dataset: str) -> None:
    if other := given.contradicts(new):
        raise UsageError(
            f"{new.id}: expected one judgement, got two that contradict each other: {other.decision} and {new.decision}"
        )
    if not new.overrules and (other := before.contradicts(new)):
        raise UsageError(f"{new.id} of {dataset} was {other.describe()}. To replace that, type the same command with --overrule")


def forget_judgements(project: Project, dataset: str, ids: Collection[str]) -> int:
    """Take every judgement of some samples out of a dataset's file; return how many there were.

    Raises:
        DataError: the file is damaged.
    """
    file = project.judgements(dataset)
    with file_lock(project, "judgements"):
        judgements = read_judgements(project, dataset)
        rest = [one for one in judgements if one.id not in ids]
        if len(rest) < len(judgements):
            _write(file, rest)
    return len(judgements) - len(rest)


def judged_ids(standings: Iterable[SampleKey]) -> set[str]:
    """Return the ids of the samples that people have judged."""
    return {identity for identity, _ in standings}


def count_judged(standings: Mapping[SampleKey, Standing]) -> dict[str, int]:
    """Return how many samples are released, dropped and relabelled by what holds; without those that are none."""
    counts = dict.fromkeys(DECISIONS.values(), 0)
    for standing in standings.values():
        for one in standing.judgements:
            counts[DECISIONS[one.decision]] += 1
    return without_zeros(counts)
