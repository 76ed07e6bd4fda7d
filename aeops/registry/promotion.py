"""Every decision about a version, and every move of the alias `champion`: first written to the ledger, then carried out.

A decision is four writes, in this order: the model's tag `ledger.begun` with the entry's hash, the entry itself, the alias, the
tag `ledger.00007` (the entry's mirror). So a last entry that was announced and has no mirror was interrupted by a crash, and
`repair_ledger` completes it; an entry that was never announced was added by hand; a deleted entry leaves its mirror behind.

Invariant: nothing else moves the alias or writes to a ledger. A change of the order above also changes `repair_ledger`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from aeops.bundle.signing import signing_key
from aeops.errors import DataError, GateError, UsageError
from aeops.machine.lock import file_lock, reader_lock
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger
from aeops.registry.aliases import CHAMPION
from aeops.registry.bundle_repair import describe_stored_problem, find_stored_problem, repair_stored_bundle
from aeops.registry.champion_anchor import find_unsigned_move, read_anchor
from aeops.registry.ledger import Decision, LedgerEntry
from aeops.registry.ledger_signatures import sign_entry
from aeops.registry.store import Store

LEDGER_LOCK = "ledger"
PENDING_TAG = "ledger.begun"
MIRROR_TAG = re.compile(r"ledger\.([0-9]{5,})")
PERSON_EVENTS = ("approval", "rejection")  # the later one counts; any other event happens once for an evidence
PROMOTION_EVENTS = ("promotion", "recalibration")  # what `promote` writes: the second where the weights stay the same
WEIGHTS_TAG = "weights_sha256"  # of each version


# ---------------------------------------------------------------- decisions


def promote(
    store: Store, recipe: str, version: str, *, expected: str | None, who: str, why: str, evidence: Mapping[str, str]
) -> LedgerEntry:
    """Make the version champion, if the champion is still the one it was compared with.

    The event is `recalibration` where the version has the champion's own weights with another score or threshold, else
    `promotion`.
    The same evidence promotes a version once: a repetition, also after a kill at any moment, returns the entry that is there. So
    a rollback lasts until there is new evidence.

    Args:
        version: a number or an alias.
        expected: the champion that the version was compared with; None where there was none.
        evidence: with `sha256`; bundle_sha256 is added.

    Returns:
        The ledger's entry of the promotion.

    Raises:
        GateError: the champion has changed since the comparison.
        DataError: the ledger is not intact, the alias was changed outside `ae`, or the bundle is not the registered one.
        UsageError: no such version.
    """
    version, evidence = _resolve_version(store, recipe, version, evidence)
    with ledger_lock(store):
        entries = _consistent_entries(store, recipe)
        if same_entry := _find_same_decision(entries, "promotion", version, evidence["sha256"]):
            return same_entry
        present_version, last = ledger.champion_at(entries), ledger.last_move(entries)
        if last is not None and present_version == version:
            return last
        if present_version != expected:
            raise _champion_changed_error(recipe, version, expected, last)
        repair_stored_bundle(store, recipe, store.version(recipe, version), evidence["bundle_sha256"])
        event = "recalibration" if _has_same_weights(store, recipe, version, present_version) else "promotion"
        return _write_and_apply(
            store, Decision(event, recipe, version, who, why, evidence, from_version=present_version, to_version=version)
        )


def _has_same_weights(store: Store, recipe: str, version: str, present_version: str | None) -> bool:
    """Return True if version and champion share their weights, so that only what is made of the scores can differ."""
    if present_version is None:
        return False
    version_weights = store.version(recipe, version).tags.get(WEIGHTS_TAG)
    champion_weights = store.version(recipe, present_version).tags.get(WEIGHTS_TAG)
    return version_weights is not None and version_weights == champion_weights


def record_decision(store: Store, decision: Decision) -> LedgerEntry:
    """Record a decision that leaves the champion as it is; the same evidence is recorded once.

    A person may decide again: an approval after a rejection is another entry.

    Args:
        decision: with one of `ledger.NOTE_EVENTS` as its event; its version may be an alias.

    Returns:
        The ledger's entry of the decision.

    Raises:
        DataError: the ledger is not intact, or the evidence belongs to another bundle.
        UsageError: no such version.
    """
    recipe, event = decision.recipe, decision.event
    if event not in ledger.NOTE_EVENTS:
        raise ValueError(f"expected one of the events {', '.join(ledger.NOTE_EVENTS)}, got {event!r}")
    version, evidence = _resolve_version(store, recipe, decision.version, decision.evidence)
    with ledger_lock(store):
        entries = _repaired_state(store, recipe).ledger_content.entries
        if same_entry := _find_same_decision(entries, event, version, evidence["sha256"]):
            return same_entry
        return _write_and_apply(store, Decision(event, recipe, version, decision.who, decision.why, evidence))


def rollback(
    store: Store, recipe: str, to: str | None, *, who: str, why: str, admit: Callable[[str], object] | None = None
) -> LedgerEntry:
    """Make a former champion the champion again, at once.

    This also corrects an alias that was moved by hand. The same command again, as after a kill, changes nothing.

    Args:
        to: the version; None for the champion before this one.
        admit: called with the version before anything is written; raises where the version may not be served.

    Returns:
        The ledger's entry of the rollback.

    Raises:
        GateError: that version never was champion.
        DataError: the ledger is not intact, or the bundle is not the one that was champion.
        UsageError: there is no earlier champion, or the version is champion already.
    """
    with ledger_lock(store):
        state = _repaired_state(store, recipe)
        entries = state.ledger_content.entries
        present_version, last = ledger.champion_at(entries), ledger.last_move(entries)
        if last is None:
            raise UsageError(f"{recipe} never had a champion: make one with `ae run {recipe}`")
        if state.alias == present_version and _is_same_command(last, "rollback", to, who, why):
            return last
        target = _rollback_target(recipe, entries, to)
        _require_not_deleted(store, recipe, target, entries)
        if target == present_version == state.alias:
            raise UsageError(f"version {target} of {recipe} is champion already ({describe_entry(last)})")
        evidence = {}
        for entry in entries:
            if entry.to_version == target:  # the last such entry counts
                evidence = _bundle_evidence(entry.evidence)
        repair_stored_bundle(store, recipe, store.version(recipe, target), evidence.get("bundle_sha256"))
        if admit is not None:
            admit(target)
        return _write_and_apply(
            store, Decision("rollback", recipe, target, who, why, evidence, from_version=present_version, to_version=target)
        )


def retire(store: Store, recipe: str, *, who: str, why: str) -> LedgerEntry:
    """Remove the champion: nothing is served until a version is promoted or rolled back to.

    Where the recipe's model was deleted in MLflow, an empty one with the mirrors of the ledger's entries takes its place.

    Returns:
        The ledger's entry of the retirement.

    Raises:
        DataError: the ledger is not intact.
        UsageError: there is no champion.
    """
    with ledger_lock(store):
        last_version = _replace_deleted_model(store, recipe)
        state = _repaired_state(store, recipe)
        entries = state.ledger_content.entries
        present_version, last = ledger.champion_at(entries), ledger.last_move(entries)
        version = present_version or state.alias or last_version
        if version is None:
            if last is not None and _is_same_command(last, "retirement", None, who, why):
                return last
            raise UsageError(f"{recipe} has no champion to retire{_in_brackets(last)}")
        return _write_and_apply(store, Decision("retirement", recipe, version, who, why, from_version=present_version))


def _replace_deleted_model(store: Store, recipe: str) -> str | None:
    """Create an empty model with the mirrors of every entry where MLflow has none.

    Returns:
        The version of the ledger's last entry; None where the model is there.

    Raises:
        DataError: the ledger is not intact by itself.
    """
    state = read_registry_state(store, recipe)
    content = state.ledger_content
    if state.is_registered or not content.entries:
        return None
    if content.problems:
        raise ledger.broken_ledger_error(store.project, recipe, content.problems)
    if content.incomplete_end:
        ledger.cut_incomplete_end(store.project, recipe)
    store.create_model(recipe, {mirror_tag(entry.number): entry.hash for entry in content.entries})
    return content.entries[-1].version


# ---------------------------------------------------------------- repairing and checking


def repair_ledger(store: Store, recipe: str) -> list[str]:
    """Complete what a crash interrupted, in the direction the ledger says.

    Returns:
        A sentence for each repair.

    Raises:
        DataError: the ledger is not intact, which no crash can cause.
    """
    with ledger_lock(store):
        return _repair_locked(store, recipe)


def _repair_locked(store: Store, recipe: str) -> list[str]:
    """Repair as `repair_ledger` does, while the caller holds the lock."""
    state = read_registry_state(store, recipe)
    if state.ledger_content.entries and not state.is_registered:
        raise DataError(deleted_model_message(store, recipe))
    if problems := [*state.ledger_content.problems, *_mirror_problems(state)]:
        raise ledger.broken_ledger_error(store.project, recipe, problems)
    messages = []
    if state.ledger_content.incomplete_end:
        byte_count = ledger.cut_incomplete_end(store.project, recipe)
        messages.append(f"cut {byte_count} bytes of an incomplete line off the end of the ledger: it was never confirmed")
    if pending := state.pending:
        _apply_entry(store, pending)
        messages.append(f"completed what was interrupted: {describe_entry(pending)}")
    if state.alias and not state.ledger_content.entries:
        _adopt_champion(store, recipe, state.alias)
        messages.append(f"added champion {state.alias} to the ledger as its first entry")
    return messages


def _adopt_champion(store: Store, recipe: str, version: str) -> None:
    """Begin a ledger with the champion that is older than it."""
    evidence = _bundle_evidence(store.version(recipe, version).tags)
    why = "was champion before the ledger began"
    decision = Decision("adoption", recipe, version, ledger.current_actor(), why, evidence, to_version=version)
    _write_and_apply(store, decision)


def repair_champion_bundle(store: Store, recipe: str) -> None:
    """Upload the champion's bundle again, where MLflow's store has lost or damaged it and a copy is left on this machine.

    Raises:
        DataError: it is damaged, and no copy is left; the message says what to type.
    """
    entries = ledger.read_entries(store.project, recipe)
    champion = ledger.champion_at(entries)
    if champion is not None:
        expected_sha256 = ledger.known_bundle_sha256(entries, champion)
        repair_stored_bundle(store, recipe, store.version(recipe, champion), expected_sha256)


def needs_repair(store: Store, recipe: str) -> bool:
    """Return whether `repair_ledger` or `repair_champion_bundle` has something to mend, or to report, before a run."""
    state = read_registry_state(store, recipe)
    return any(_unfinished_work(recipe, state)) or any(_bundle_problems(store, recipe, state))


def find_problems(store: Store, recipe: str) -> list[str]:
    """Check ledger, mirrors, alias, signatures and the champion's bundle without changing anything.

    Returns:
        A sentence for each problem; an empty list if everything is consistent.
    """
    with reader_lock(store.project, LEDGER_LOCK):
        state = read_registry_state(store, recipe)
    problems = [*state.ledger_content.problems, *_mirror_problems(state)]
    if state.ledger_content.entries and not state.is_registered:
        problems.append(deleted_model_message(store, recipe))
    if not problems:  # else the ledger cannot say who is champion
        problems += [*_unfinished_work(recipe, state), *alias_problems(recipe, state), *_signature_problems(store, recipe)]
    return [*problems, *_bundle_problems(store, recipe, state)]


# ---------------------------------------------------------------- ledger, mirrors and alias together


@dataclass(frozen=True)
class RegistryState:
    """Ledger and registry of a recipe at one moment.

    Attributes:
        is_registered: whether MLflow holds a model of the recipe.
        mirror_hashes: number of an entry -> its hash, as MLflow has it.
        pending_hash: hash of the entry that was announced last.
        alias: the version that the alias champion points to.
        deleted_versions: former champions that MLflow no longer has; looked up only where the alias is not the ledger's champion.
    """

    ledger_content: ledger.LedgerContent
    is_registered: bool
    mirror_hashes: dict[int, str]
    pending_hash: str | None
    alias: str | None
    deleted_versions: frozenset[str] = frozenset()

    @property
    def pending(self) -> LedgerEntry | None:
        """The last entry if it was announced and has no mirror: a crash came between the two."""
        if not self.ledger_content.entries:
            return None
        last = self.ledger_content.entries[-1]
        is_pending = last.number not in self.mirror_hashes and last.hash == self.pending_hash
        return last if is_pending else None


def read_registry_state(store: Store, recipe: str) -> RegistryState:
    """Read the ledger and what MLflow holds about it; a broken ledger is read, too."""
    model = store.model(recipe)
    content = ledger.read_content(store.project, recipe)
    if model is None:
        return RegistryState(content, is_registered=False, mirror_hashes={}, pending_hash=None, alias=None)
    mirror_hashes = {}
    for name, value in model.tags.items():
        if match := MIRROR_TAG.fullmatch(name):
            mirror_hashes[int(match[1])] = value
    alias, deleted_versions = model.aliases.get(CHAMPION), set()
    if alias != ledger.champion_at(content.entries):
        for version in ledger.former_champions(content.entries):
            if not store.has_version(recipe, version):
                deleted_versions.add(version)
    return RegistryState(content, True, mirror_hashes, model.tags.get(PENDING_TAG), alias, frozenset(deleted_versions))


def ledger_lock(store: Store) -> AbstractContextManager[int]:
    return file_lock(store.project, LEDGER_LOCK)


def _repaired_state(store: Store, recipe: str) -> RegistryState:
    """Return the state after a repair; raise DataError where the ledger is not intact."""
    _repair_locked(store, recipe)
    return read_registry_state(store, recipe)


def _consistent_entries(store: Store, recipe: str) -> list[LedgerEntry]:
    """Return the entries of an intact ledger that the alias agrees with; raise DataError otherwise."""
    state = _repaired_state(store, recipe)
    if problems := list(alias_problems(recipe, state)):
        raise DataError("; ".join(problems))
    return state.ledger_content.entries


def _write_and_apply(store: Store, decision: Decision) -> LedgerEntry:
    """Announce a decision, sign it if AE_SIGNING_KEY names a key, write it to the ledger, and carry it out."""

    def announce(entry: LedgerEntry) -> None:
        store.set_model_tag(decision.recipe, PENDING_TAG, entry.hash)
        if key := signing_key():
            sign_entry(store.project, entry, key)

    entry = ledger.append_entry(store.project, decision, announce)
    _apply_entry(store, entry)
    return entry


def _apply_entry(store: Store, entry: LedgerEntry) -> None:
    """Move the alias, then set the mirror, which says that the entry is completed.

    A version that was deleted in MLflow after a crash cannot become champion: `alias_problems` says what to type then.
    """
    if entry.moves_champion and (entry.to_version is None or store.has_version(entry.recipe, entry.to_version)):
        store.move_champion(entry.recipe, entry.to_version)
    store.set_model_tag(entry.recipe, mirror_tag(entry.number), entry.hash)


def mirror_tag(number: int) -> str:
    """Return the name of the model's tag for an entry."""
    return f"ledger.{number:05d}"


# ---------------------------------------------------------------- problems


def _mirror_problems(state: RegistryState) -> Iterator[str]:
    """Find entries that MLflow mirrors differently or not at all, and mirrors of entries that are gone."""
    entries, mirror_hashes = state.ledger_content.entries, state.mirror_hashes
    if not state.is_registered:
        return  # the whole model was deleted: `deleted_model_message`
    last_number = 0
    for entry in entries:
        last_number = max(last_number, entry.number)
        tag = mirror_tag(entry.number)
        if entry.number not in mirror_hashes and entry is not state.pending:
            yield f"number {entry.number} has no tag {tag} in MLflow: the entry was added, or the tag deleted, by hand"
        elif mirror_hashes.get(entry.number, entry.hash) != entry.hash:
            yield f"number {entry.number} is not the entry that MLflow mirrors in {tag}: it was replaced"
    if deleted_numbers := [number for number in mirror_hashes if number > last_number]:
        numbers = ledger.describe_missing(last_number + 1, max(deleted_numbers))
        yield f"{numbers} at the end, where MLflow has tags of {len(deleted_numbers)} more: they were deleted"


def deleted_model_message(store: Store, recipe: str) -> str:
    """Say that MLflow has no model although the ledger has entries, and what to type."""
    return (
        f"the ledger has entries of {recipe}, and {store.uri} has no such model: it was deleted, or MLFLOW_TRACKING_URI names "
        f"another store. If it was deleted and no backup of MLflow is to be restored: `ae retire {recipe} --why TEXT` puts an "
        f"empty model in its place, then `ae run {recipe}` makes a new version"
    )


def _unfinished_work(recipe: str, state: RegistryState) -> Iterator[str]:
    """Find what a crash left: no tampering, and repaired by the next run."""
    if state.ledger_content.incomplete_end:
        yield f"the ledger ends in an incomplete line, which was never confirmed: `ae run {recipe}` cuts it off"
    if state.pending:
        yield f"interrupted: {describe_entry(state.pending)}; `ae run {recipe}` completes it"


def alias_problems(recipe: str, state: RegistryState) -> Iterator[str]:
    """Find a champion that is not the ledger's."""
    entries, alias = state.ledger_content.entries, state.alias
    expected = ledger.champion_at(entries)
    if state.pending or alias == expected:
        return
    if not entries:
        yield f"the champion {alias} of {recipe} has no entry in the ledger: `ae run {recipe}` adds it"
        return
    target = f"points to version {alias}" if alias else "is missing"
    last_entry = _in_brackets(ledger.last_move(entries))
    problem = (
        f"the MLflow alias `champion` of {recipe} {target}, but the last ledger entry says {expected or 'none'}{last_entry}: "
        "it was changed outside `ae`"
    )
    if expected is None:
        yield f"{problem}. To remove the alias: `ae retire {recipe} --why TEXT`"
        return
    if expected in state.deleted_versions:
        yield f"{problem}, and version {expected} was deleted. {_commands_without(recipe, state)}"
        return
    commands = f"To restore version {expected}: `ae rollback {recipe} --to {expected} --why TEXT`"
    if alias in ledger.champions(entries):
        commands += f". To accept version {alias}: `ae rollback {recipe} --to {alias} --why TEXT`"
    yield f"{problem}. {commands}"


def _commands_without(recipe: str, state: RegistryState) -> str:
    """Return the commands that lead on where the ledger's champion was deleted in MLflow."""
    commands = []
    for version in ledger.former_champions(state.ledger_content.entries):
        if version not in state.deleted_versions:
            commands.append(f"To serve version {version} again: `ae rollback {recipe} --to {version} --why TEXT`")
            break
    commands.append(f"To go on without a champion: `ae retire {recipe} --why TEXT`, then `ae run {recipe}` for a new version")
    return ". ".join(commands)


def _bundle_problems(store: Store, recipe: str, state: RegistryState) -> Iterator[str]:
    """Check the bundle, as the registry stores it, of the version that the alias points to."""
    if state.alias is None:
        return
    version = store.version(recipe, state.alias)
    known_sha256 = ledger.known_bundle_sha256(state.ledger_content.entries, state.alias)
    expected_sha256 = known_sha256 or version.tags.get("bundle_sha256", "")
    if version.tags.get("bundle_sha256") != expected_sha256:
        yield (
            f"the tag bundle_sha256 of champion {state.alias} in MLflow is not the {expected_sha256[:12]} of the ledger: it was "
            f"changed outside `ae`. `ae run {recipe}` sets it again"
        )
    if problem := find_stored_problem(store, recipe, version, expected_sha256):
        yield describe_stored_problem(store, recipe, version, expected_sha256, problem)


def _signature_problems(store: Store, recipe: str) -> Iterator[str]:
    """Find a champion whose entry is not signed, although its recipe requires that."""
    project = store.project
    if not project.recipe_file(recipe).is_file() or not ledger.read_entries(project, recipe):
        return
    try:
        checked = load_recipe(project, recipe)
    except UsageError:
        return  # with its mistakes nothing is served, and every other command names them: nothing to say about the ledger
    try:
        problem = find_unsigned_move(project, checked, read_anchor(project, recipe))
    except (UsageError, DataError) as error:
        yield str(error)
        return
    if problem is not None:
        yield f"{problem}, and recipes/{recipe}.yaml requires that: `ae sign {recipe} champion --key PRIVATE.pem`"


# ---------------------------------------------------------------- small parts


def _resolve_version(store: Store, recipe: str, which: str, evidence: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the number of a version and the evidence with the version's bundle_sha256.

    Args:
        which: a number or an alias.

    Raises:
        DataError: the evidence belongs to another bundle.
        UsageError: no such version.
    """
    if "sha256" not in evidence:
        raise ValueError("expected evidence with `sha256`, the hash of the evidence document")
    version = store.version(recipe, which)
    registered_sha256 = version.tags.get("bundle_sha256", "")
    evidence_sha256 = evidence.get("bundle_sha256", registered_sha256)
    if evidence_sha256 != registered_sha256:
        raise DataError(
            f"the evidence is about the bundle {evidence_sha256}, but version {version.version} of {recipe} is "
            f"{registered_sha256 or 'without a bundle'}: nothing was written; type `ae run {recipe}`"
        )
    return version.version, {**evidence, "bundle_sha256": registered_sha256}


def _bundle_evidence(values: Mapping[str, str]) -> dict[str, str]:
    """Pick the bundle's hash out of evidence or tags, if it is there."""
    if "bundle_sha256" not in values:
        return {}
    return {"bundle_sha256": values["bundle_sha256"]}


def _find_same_decision(entries: list[LedgerEntry], event: str, version: str, sha256: str) -> LedgerEntry | None:
    """Return the entry of that event for the version with the same evidence."""
    related_events: tuple[str, ...] = (event,)
    matching_events: tuple[str, ...] = (event,)
    if event in PERSON_EVENTS:
        related_events = PERSON_EVENTS  # a later rejection takes an approval back
    elif event in PROMOTION_EVENTS:
        related_events = matching_events = PROMOTION_EVENTS
    for entry in reversed(entries):
        if entry.event in related_events and entry.version == version and entry.evidence.get("sha256") == sha256:
            return entry if entry.event in matching_events else None
    return None


def _is_same_command(last: LedgerEntry, event: str, to: str | None, who: str, why: str) -> bool:
    """Return True if the last move is the result of the same command."""
    return (last.event, last.who, last.why) == (event, who.strip(), why.strip()) and to in (None, last.to_version)


def _rollback_target(recipe: str, entries: list[LedgerEntry], to: str | None) -> str:
    """Return the version to roll back to; without `to`, the champion before the present one."""
    former_champions = list(dict.fromkeys(ledger.champions(entries)))
    target = to or ledger.champion_before(entries)
    if target is None:
        raise UsageError(
            f"{recipe} has no earlier champion to roll back to: `ae retire {recipe} --why TEXT` removes the present one"
        )
    if target not in former_champions:
        raise GateError(
            f"version {target} of {recipe} never was champion, so no gate and no person accepted it: expected one of "
            f"{', '.join(former_champions)}. A new version becomes champion with `ae run {recipe}`"
        )
    return target


def _require_not_deleted(store: Store, recipe: str, target: str, entries: list[LedgerEntry]) -> None:
    """Raise UsageError where the version to roll back to was deleted in MLflow; the message says what else can be typed."""
    if store.has_version(recipe, target):
        return
    unsuitable_versions = (target, ledger.champion_at(entries))
    others = []
    for version in ledger.former_champions(entries):
        if version not in unsuitable_versions and store.has_version(recipe, version):
            others.append(version)
    commands = [f"`ae rollback {recipe} --to {version} --why TEXT`" for version in others]
    last_command = f"`ae run {recipe}` for a new version"
    if ledger.champion_at(entries) is not None:
        last_command = f"`ae retire {recipe} --why TEXT`, then {last_command}"
    alternatives = ", or ".join([*commands, last_command])
    raise UsageError(f"version {target} of {recipe} was deleted in MLflow, so it cannot be champion: type {alternatives}")


def _champion_changed_error(recipe: str, version: str, expected: str | None, last: LedgerEntry | None) -> GateError:
    """Build the error for a champion that changed while a version was evaluated."""
    comparison = "evaluated when there was no champion"
    if expected:
        comparison = f"compared with champion {expected}"
    present_state = "there is no champion"
    if last and last.to_version:
        present_state = f"the champion is {last.to_version}"
    return GateError(
        f"version {version} of {recipe} was {comparison}, but now {present_state}{_in_brackets(last)}: nothing was moved. "
        f"To compare with the present champion: `ae run {recipe}`"
    )


def describe_entry(entry: LedgerEntry) -> str:
    """Describe an entry in one line of text."""
    return f"{entry.event} of version {entry.version}, number {entry.number}, {entry.time[:19]}Z, by {entry.who}: {entry.why}"


def _in_brackets(entry: LedgerEntry | None) -> str:
    if entry is None:
        return ""
    return f" ({describe_entry(entry)})"
