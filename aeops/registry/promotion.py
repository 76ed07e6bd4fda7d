"""Every decision about a version, and every move of the alias `champion`: written down first, then done.

A move is four writes, in this order: the tag `ledger.begun` with the line's hash, the line itself, the alias, the tag
`ledger.00007` (the line's mirror). So a last line that was begun and has no mirror is a crash, which `repair` carries out; a
line that nobody announced was added by hand; and a line that is gone leaves its mirror behind.

Keep to this: nobody else moves the alias or writes to a ledger, and whatever changes the order changes `repair`, too.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from aeops.errors import DataError, GateError, InfrastructureError, UsageError
from aeops.machine.lock import file_lock
from aeops.registry import ledger
from aeops.registry.ledger import Line
from aeops.registry.store import CHAMPION, Store

BEGUN = "ledger.begun"
MIRROR = re.compile(r"ledger\.([0-9]{5,})")
BY_A_PERSON = ("approval", "rejection")  # the later one counts; any other event happens once for an evidence
MADE_CHAMPION = ("promotion", "recalibration")  # what `promote` writes: the second where the weights stay as they are
WEIGHTS = "weights_sha256"  # a tag of each version


# ---------------------------------------------------------------- deciding


def promote(
    store: Store, recipe: str, version: str, *, expected: str | None, who: str, why: str, evidence: Mapping[str, str]
) -> Line:
    """Makes the version champion, if the champion is still the one it was compared with.

    The line's event is `recalibration` where the champion's own weights come back with another threshold, else `promotion`.
    The same evidence promotes a version once: a repetition, also after a kill at any moment, gives the line that is there. So a
    rollback stands until there is new evidence.

    Args:
        expected: the champion that the version was compared with; None where there was none.
        evidence: with `sha256`; bundle_sha256 is added.

    Raises:
        GateError: the champion is another one by now.
        DataError: the ledger does not hold, the alias was moved behind its back, or the bundle is not what was registered.
        UsageError: no such version.
    """
    version, evidence = about(store, recipe, version, evidence)
    with lock(store):
        lines = settled(store, recipe)
        if done := already(lines, "promotion", version, evidence["sha256"]):
            return done
        present, last = ledger.champion(lines), ledger.last_move(lines)
        if last is not None and present == version:
            return last
        if present != expected:
            raise overtaken(recipe, version, expected, last)
        require_whole(store, recipe, version, evidence["bundle_sha256"])
        event = "recalibration" if has_weights_of(store, recipe, version, present) else "promotion"
        return record(store, recipe, event, version, before=present, after=version, who=who, why=why, evidence=evidence)


def has_weights_of(store: Store, recipe: str, version: str, present: str | None) -> bool:
    """Whether the champion's weights are the version's own, so that only what is made of its scores can differ."""
    if present is None:
        return False
    ours, theirs = (store.version(recipe, one).tags.get(WEIGHTS) for one in (version, present))
    return ours is not None and ours == theirs


def refuse(store: Store, recipe: str, version: str, *, who: str, why: str, evidence: Mapping[str, str]) -> Line:
    """Writes down that the gate refused the version; the same evidence once."""
    return note(store, recipe, version, event="refusal", who=who, why=why, evidence=evidence)


def note(store: Store, recipe: str, version: str, *, event: str, who: str, why: str, evidence: Mapping[str, str]) -> Line:
    """Writes down a decision that moves nothing: `refusal`, `request`, `approval` or `rejection`; the same evidence once.

    A person may think again: an approval after a rejection is another line.

    Raises:
        DataError: the ledger does not hold, or the evidence is of another bundle.
        UsageError: no such version.
    """
    if event not in ledger.NOTES:
        raise ValueError(f"event {event!r} given; {', '.join(ledger.NOTES)} are allowed")
    version, evidence = about(store, recipe, version, evidence)
    with lock(store):
        lines = whole(store, recipe).found.lines
        if done := already(lines, event, version, evidence["sha256"]):
            return done
        return record(store, recipe, event, version, before=None, after=None, who=who, why=why, evidence=evidence)


def rollback(
    store: Store, recipe: str, to: str | None, *, who: str, why: str, admit: Callable[[str], object] | None = None
) -> Line:
    """Makes a former champion the champion again, at once.

    It also sets right an alias that was moved by hand. The same words again, as after a kill, change nothing.

    Args:
        to: the version; None: the champion before this one.
        admit: is given the version before anything is written, and raises where it may not be served.

    Raises:
        GateError: that version never was champion.
        DataError: the ledger does not hold, or the bundle is not the one that was champion.
        UsageError: there is nothing to go back to, or the version is champion already.
    """
    with lock(store):
        state = whole(store, recipe)
        lines, present = state.found.lines, ledger.champion(state.found.lines)
        last = ledger.last_move(lines)
        if last is None:
            raise UsageError(f"{recipe} never had a champion: make one with `ae run {recipe}`")
        if state.alias == present and is_same_command(last, "rollback", to, who, why):
            return last
        target = former_champion(recipe, lines, to)
        if target == present == state.alias:
            raise UsageError(f"version {target} of {recipe} is champion already ({told(last)})")
        was = next(line for line in reversed(lines) if line.after == target)
        evidence = {key: was.evidence[key] for key in ("bundle_sha256",) if key in was.evidence}
        require_whole(store, recipe, target, evidence.get("bundle_sha256"))
        if admit is not None:
            admit(target)
        return record(store, recipe, "rollback", target, before=present, after=target, who=who, why=why, evidence=evidence)


def retire(store: Store, recipe: str, *, who: str, why: str) -> Line:
    """Takes the champion away: nothing is served until another one is promoted, or this one rolled back to.

    Raises:
        DataError: the ledger does not hold.
        UsageError: there is no champion.
    """
    with lock(store):
        state = whole(store, recipe)
        present, last = ledger.champion(state.found.lines), ledger.last_move(state.found.lines)
        version = present or state.alias
        if version is None:
            if last is not None and is_same_command(last, "retirement", None, who, why):
                return last
            raise UsageError(f"{recipe} has no champion to retire" + (f" ({told(last)})" if last else ""))
        return record(store, recipe, "retirement", version, before=present, after=None, who=who, why=why, evidence={})


# ---------------------------------------------------------------- mending and checking


def repair(store: Store, recipe: str) -> list[str]:
    """Carries out what a crash left undone, in the direction the ledger says; returns what it mended.

    Raises:
        DataError: the ledger does not hold, which no crash can cause.
    """
    with lock(store):
        return mend(store, recipe)


def mend(store: Store, recipe: str) -> list[str]:
    """As `repair`, for who holds the lock."""
    state = look(store, recipe)
    if faults := [*state.found.faults, *mirror_faults(state)]:
        raise ledger.broken(store.project, recipe, faults)
    mended = []
    if state.found.torn:
        cut = ledger.cut_torn_end(store.project, recipe)
        mended.append(f"cut {cut} bytes of a torn line off the end of the ledger: it was never promised")
    if pending := state.pending:
        carry_out(store, pending)
        mended.append(f"carried out what was begun and cut short: {told(pending)}")
    if state.alias and not state.found.lines:
        adopt(store, recipe, state.alias)
        mended.append(f"took champion {state.alias} into the ledger, which begins with it")
    return mended


def adopt(store: Store, recipe: str, version: str) -> None:
    """Begins a ledger with the champion that is older than it."""
    tags = store.version(recipe, version).tags
    evidence = {key: tags[key] for key in ("bundle_sha256",) if key in tags}
    why = "was champion before the ledger began"
    record(store, recipe, "adoption", version, before=None, after=version, who=ledger.actor(), why=why, evidence=evidence)


def faults(store: Store, recipe: str) -> list[str]:
    """Everything that is wrong with ledger, mirrors, alias and the champion's bundle; changes nothing."""
    with lock(store):
        state = look(store, recipe)
    found = [*state.found.faults, *mirror_faults(state)]
    if not found:  # else the ledger cannot say who is champion
        found = [*unfinished(recipe, state), *alias_faults(recipe, state)]
    return [*found, *bundle_faults(store, recipe, state)]


# ---------------------------------------------------------------- ledger, mirrors and alias together


@dataclass(frozen=True)
class State:
    """What ledger and registry say at one moment.

    Attributes:
        registered: whether MLflow holds a model of the recipe.
        mirrors: number of a line -> its hash, as MLflow has it.
        begun: hash of the line that was begun last.
        alias: the version that the alias champion is on.
    """

    found: ledger.Found
    registered: bool
    mirrors: dict[int, str]
    begun: str | None
    alias: str | None

    @property
    def pending(self) -> Line | None:
        """The last line where it was announced and is not mirrored: a crash between the two."""
        last = self.found.lines[-1] if self.found.lines else None
        return last if last and last.number not in self.mirrors and last.hash == self.begun else None


def look(store: Store, recipe: str) -> State:
    model = store.model(recipe)
    tags, aliases = (model.tags, model.aliases) if model else ({}, {})
    mirrors = {int(match[1]): value for name, value in tags.items() if (match := MIRROR.fullmatch(name))}
    found = ledger.look(store.project, recipe)
    return State(found, model is not None, mirrors, tags.get(BEGUN), aliases.get(CHAMPION))


def lock(store: Store) -> AbstractContextManager[None]:
    return file_lock(store.project, "ledger")


def whole(store: Store, recipe: str) -> State:
    """The state once every crash is mended; raises DataError where the ledger does not hold."""
    mend(store, recipe)
    return look(store, recipe)


def settled(store: Store, recipe: str) -> list[Line]:
    """The lines of a ledger that holds and that the alias agrees with, else DataError."""
    state = whole(store, recipe)
    if contradictions := list(alias_faults(recipe, state)):
        raise DataError("; ".join(contradictions))
    return state.found.lines


def record(
    store: Store,
    recipe: str,
    event: str,
    version: str,
    *,
    before: str | None,
    after: str | None,
    who: str,
    why: str,
    evidence: Mapping[str, str],
) -> Line:
    """Announces the line, writes it, and carries it out."""
    line = ledger.append(
        store.project,
        recipe,
        event=event,
        version=version,
        before=before,
        after=after,
        who=who,
        why=why,
        evidence=evidence,
        announce=lambda line: store.set_model_tag(recipe, BEGUN, line.hash),
    )
    carry_out(store, line)
    return line


def carry_out(store: Store, line: Line) -> None:
    """The alias, then the mirror, which says that the line is done."""
    if line.moves:
        store.move_champion(line.recipe, line.after)
    store.set_model_tag(line.recipe, mirror(line.number), line.hash)


def mirror(number: int) -> str:
    """The name of a line's tag."""
    return f"ledger.{number:05d}"


# ---------------------------------------------------------------- what is wrong


def mirror_faults(state: State) -> Iterator[str]:
    """Lines that MLflow mirrors otherwise, or not at all; mirrors of lines that are gone."""
    lines, mirrors = state.found.lines, state.mirrors
    if lines and not state.registered:
        yield "MLflow holds no version of this recipe: the model was deleted, or MLFLOW_TRACKING_URI names another store"
        return
    for line in lines:
        if line.number not in mirrors and line is not state.pending:
            yield f"number {line.number} has no tag {mirror(line.number)} in MLflow: line added, or tag deleted, by hand"
        elif mirrors.get(line.number, line.hash) != line.hash:
            yield f"number {line.number} is not the line that MLflow mirrors in {mirror(line.number)}: it was replaced"
    last = max((line.number for line in lines), default=0)
    if gone := [number for number in mirrors if number > last]:
        yield f"{ledger.missing(last + 1, max(gone))} at the end, where MLflow has tags of {len(gone)} more: they were deleted"


def unfinished(recipe: str, state: State) -> Iterator[str]:
    """What a crash left: no tampering, and mended by the next run."""
    if state.found.torn:
        yield f"the ledger ends in a torn line, which was never promised: `ae run {recipe}` cuts it away"
    if state.pending:
        yield f"begun and cut short: {told(state.pending)}; `ae run {recipe}` carries it out"


def alias_faults(recipe: str, state: State) -> Iterator[str]:
    """A champion that is not the ledger's."""
    lines, alias = state.found.lines, state.alias
    says = ledger.champion(lines)
    if state.pending or alias == says:
        return
    if not lines:
        yield f"the champion {alias} of {recipe} has no line in the ledger: `ae run {recipe}` takes it in"
        return
    last = ledger.last_move(lines)
    place = f"on version {alias}" if alias else "gone"
    claim = f"the ledger says {says or 'none'}" + (f" ({told(last)})" if last else "")
    moved = f"the alias champion of {recipe} is {place} and {claim}: moved behind the ledger's back"
    if says is None:
        yield f"{moved}. Type `ae retire {recipe} --why TEXT` to take it away again"
        return
    keep = f", or `--to {alias}` to keep what is there" if any(line.after == alias for line in lines if alias) else ""
    yield f"{moved}. Type `ae rollback {recipe} --to {says} --why TEXT` to put it back{keep}"


def bundle_faults(store: Store, recipe: str, state: State) -> Iterator[str]:
    """What is wrong with the bundle of the version that the alias is on, where the registry keeps it."""
    if state.alias is None:
        return
    move = next((line for line in reversed(state.found.lines) if line.after == state.alias), None)
    try:
        require_whole(store, recipe, state.alias, move.evidence.get("bundle_sha256") if move else None)
    except (DataError, InfrastructureError) as error:
        yield f"the bundle of champion {state.alias} in the registry: {error}"


def require_whole(store: Store, recipe: str, version: str, bundle_sha256: str | None) -> None:
    """Raises DataError where the registry keeps the version's bundle damaged, or another one than the ledger knows by it.

    Args:
        bundle_sha256: what the ledger, or new evidence, says; None where it says nothing.
    """
    kept = store.kept_bundle(recipe, store.version(recipe, version))
    if bundle_sha256 not in (None, kept):
        raise DataError(
            f"version {version} of {recipe} is the bundle {kept}, and the ledger knows {bundle_sha256} by that number"
        )


# ---------------------------------------------------------------- small parts


def about(store: Store, recipe: str, which: str, evidence: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The number of the version, given by it or by an alias, and the evidence with the version's bundle_sha256.

    Raises:
        DataError: it is of another bundle.
        UsageError: no such version.
    """
    if "sha256" not in evidence:
        raise ValueError("evidence without sha256 given: the hash of the evidence document is needed")
    version = store.version(recipe, which)
    held = version.tags.get("bundle_sha256", "")
    given = evidence.get("bundle_sha256", held)
    if given != held:
        raise DataError(
            f"the evidence is of the bundle {given} and version {version.version} of {recipe} is {held or 'without a bundle'}: "
            f"nothing was written; type `ae run {recipe}`"
        )
    return version.version, {**evidence, "bundle_sha256": held}


def already(lines: list[Line], event: str, version: str, sha256: str) -> Line | None:
    """The line of that event for the version with the same evidence."""
    same = next((events for events in (BY_A_PERSON, MADE_CHAMPION) if event in events), (event,))
    of_it = [line for line in lines if line.event in same and line.version == version and line.evidence.get("sha256") == sha256]
    counts = same if same == MADE_CHAMPION else (event,)
    return of_it[-1] if of_it and of_it[-1].event in counts else None


def is_same_command(last: Line, event: str, to: str | None, who: str, why: str) -> bool:
    """Whether the last move is what is asked for again."""
    return (last.event, last.who, last.why) == (event, who.strip(), why.strip()) and to in (None, last.after)


def former_champion(recipe: str, lines: list[Line], to: str | None) -> str:
    """The version to go back to; left out: the champion before the present one."""
    former = list(dict.fromkeys(line.after for line in lines if line.after is not None))
    target = to or ledger.champion_before(lines)
    if target is None:
        raise UsageError(
            f"{recipe} has no earlier champion to go back to: `ae retire {recipe} --why TEXT` takes this one away and leaves none"
        )
    if target not in former:
        raise GateError(
            f"version {target} of {recipe} never was champion, so no gate and no person accepted it; "
            f"{', '.join(former)} allowed. A new version becomes champion by `ae run {recipe}`"
        )
    return target


def overtaken(recipe: str, version: str, expected: str | None, last: Line | None) -> GateError:
    """The champion changed while a version was judged."""
    judged = f"compared with champion {expected}" if expected else "judged where there was no champion"
    now = f"the champion is {last.after}" if last and last.after else "there is none"
    return GateError(
        f"version {version} of {recipe} was {judged}, and by now {now}{f' ({told(last)})' if last else ''}: nothing was moved. "
        f"Compare it with what is there: `ae run {recipe}`"
    )


def told(line: Line) -> str:
    """A line in a few words."""
    return f"{line.event} of version {line.version}, number {line.number}, {line.time[:19]}Z, by {line.who}: {line.why}"
