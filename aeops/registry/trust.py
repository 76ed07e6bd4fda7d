"""Fetch bundles that may be used: intact, as the ledger says and, where the recipe requires it, signed with the recipe's key.

A bundle that scores or is served comes from here. The exceptions: the comparison before a promotion checks the champion against
the ledger, and not its signature; signing a version, and checking its logged model, take any version that is as registered; and
aeops/page/try_it.py, which does without MLflow, compares a downloaded bundle with the ledger itself.
"""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ae_models.checksums import CHECKSUM_FILE, bundle_sha256
from aeops.bundle.signing import KEY_VARIABLE, find_signature_problem, read_claim, signing_key
from aeops.errors import DataError, GateError, UsageError
from aeops.machine.lock import reader_lock
from aeops.machine.scratch import ScratchFolder
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry import ledger
from aeops.registry.aliases import CHAMPION
from aeops.registry.champion_anchor import ChampionAnchor, find_anchor_problem, find_unsigned_move, has_anchor, read_anchor
from aeops.registry.signatures import fetch_signature, list_signed_bundles, require_recipe_key
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

PROMOTION_SECONDS = 5.0  # that a promotion may take between the ledger's entry and the alias
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class TrustedBundle:
    """A bundle that may be used: give `Detector` both, so that it loads no other one.

    Attributes:
        folder: `.ae/serving/<recipe>/<version>/`.
        sha256: of the bundle that was checked.
    """

    version: str
    folder: Path
    sha256: str


def trusted_bundle(project: Project, store: Store, recipe: Recipe, which: str) -> TrustedBundle:
    """Return the verified bundle of a version or an alias.

    Raises:
        UsageError: no such version, or the recipe's public key cannot be read.
        DataError: the bundle, or the champion, is not the one in the ledger, or is not signed as the recipe requires.
    """
    if which == CHAMPION:
        version = require_champion(project, store, recipe.name)
    else:
        version = store.version(recipe.name, which)
        require_recorded_bundle(project, recipe.name, version)
    bundle = store.bundle_of(recipe.name, version)
    problem = find_trust_problem(project, store, recipe, version, bundle)
    if problem is None and which == CHAMPION:
        problem = find_unsigned_move(project, recipe, read_anchor(project, recipe.name))
    if problem is not None:
        raise DataError(f"{refusal_message(recipe, version.version, problem)}, then type the same command again")
    return TrustedBundle(version.version, bundle, version.tags["bundle_sha256"])


def require_champion(project: Project, store: Store, recipe: str) -> VersionInfo:
    """Return the champion, which MLflow and the ledger agree on.

    Raises:
        UsageError: there is none.
        DataError: the two differ, or nothing here says which version is champion.
    """
    champion = find_champion(project, store, recipe)
    if champion is None:
        raise UsageError(f"{recipe} has no champion: make one with `ae run {recipe}`; `ae show {recipe}` lists the versions")
    return champion


def find_champion(project: Project, store: Store, recipe: str) -> VersionInfo | None:
    """Return the champion as `require_champion` does; None where neither MLflow nor the ledger has one."""
    champion = store.champion(recipe)
    if champion is None and not has_anchor(project, recipe):
        return None  # no decision was made yet: the first one begins the ledger
    anchor = read_anchor(project, recipe)
    if _find_champion_problem(anchor, champion) is not None:
        # A promotion writes to the ledger first and moves the alias then: wait for it to end, and look once more.
        with reader_lock(project, "ledger"):
            champion, anchor = store.champion(recipe), read_anchor(project, recipe)
        # A deployment shares the ledger's folder and not the locks: there, the age of the ledger's entry says how long to wait.
        deadline = time.monotonic() + _seconds_left(anchor)
        while problem := _find_champion_problem(anchor, champion):
            if time.monotonic() >= deadline:
                raise DataError(problem)
            time.sleep(POLL_SECONDS)
            champion, anchor = store.champion(recipe), read_anchor(project, recipe)
    return champion


def _seconds_left(anchor: ChampionAnchor) -> float:
    """Return how long the promotion that wrote the last entry may still be under way; 0 of an old or a future entry."""
    if anchor.last_move is None:
        return 0.0
    age = (datetime.now(UTC) - anchor.last_move.clock_timestamp).total_seconds()
    if age < 0:
        return 0.0
    return max(0.0, PROMOTION_SECONDS - age)


def _find_champion_problem(anchor: ChampionAnchor, champion: VersionInfo | None) -> str | None:
    if champion is None:
        return find_anchor_problem(anchor, None, None)
    return find_anchor_problem(anchor, champion.version, champion.tags.get("bundle_sha256", ""))


def require_recorded_bundle(project: Project, recipe: str, version: VersionInfo) -> None:
    """Raise DataError where the ledger knows another bundle of this version than MLflow does."""
    recorded_sha256 = ledger.known_bundle_sha256(ledger.read_entries(project, recipe), version.version)
    registered_sha256 = version.tags.get("bundle_sha256", "")
    if recorded_sha256 not in (None, registered_sha256):
        raise DataError(
            f"{recipe} {version.version} is refused: its bundle in MLflow is {registered_sha256[:12] or 'none'}, but by the "
            f"ledger {ledger.ledger_file(project, recipe)} it is {recorded_sha256[:12]}: it was changed outside `ae`. Take "
            f"another version: `ae show {recipe}` lists them"
        )


def require_signing_key(store: Store, recipe: Recipe) -> None:
    """Check before a promotion that the ledger's entry about it can be signed, if the recipe requires signatures.

    Raises:
        UsageError: AE_SIGNING_KEY names no key, or another one than the recipe requires; the message says what to type.
    """
    if not recipe.signature.require_signature:
        return
    if key := signing_key():
        require_recipe_key(store, recipe.name, key)
    else:
        raise UsageError(
            f"recipes/{recipe.name}.yaml requires signatures, so the ledger's entry that makes a version the champion has to be "
            f"signed, too: set {KEY_VARIABLE} to the private key of {recipe.signature.public_key}, then type the same command "
            f"again (`{KEY_VARIABLE}=PRIVATE.pem ae ...`); nothing was moved"
        )


def require_signed(project: Project, store: Store, recipe: Recipe, version: str) -> None:
    """Check before a promotion that a version is signed with the recipe's key, if the recipe requires that.

    Raises:
        UsageError: the recipe's public key cannot be read.
        DataError: the bundle is not the registered one.
        GateError: it is not signed as the recipe requires; the message says what to type.
    """
    version_info = store.version(recipe.name, version)
    bundle = store.bundle_of(recipe.name, version_info)
    if problem := find_trust_problem(project, store, recipe, version_info, bundle):
        raise GateError(
            f"not promoted: {refusal_message(recipe, version, problem)}, then type `ae run {recipe.name}` again; "
            "where AE_SIGNING_KEY names that key, a run signs by itself"
        )


def find_trust_problem(project: Project, store: Store, recipe: Recipe, version: VersionInfo, bundle: Path) -> str | None:
    """Return how a downloaded bundle fails the recipe's signature requirement; None where it fulfils it."""
    number = version.version
    if not recipe.signature.require_signature:
        return None
    key = project.root / str(recipe.signature.public_key)
    with ScratchFolder() as folder:
        signature = fetch_signature(store, recipe.name, number, bundle, Path(folder) / "stored")
        if signature is not None:
            problem = find_signature_problem(bundle, signature, key) or find_recipe_mismatch(bundle, recipe)
            if problem is None and read_claim(signature).files[CHECKSUM_FILE] != version.tags["bundle_sha256"]:
                problem = "its signature is that of another bundle"
            return problem
    if signed_bundles := list_signed_bundles(store, recipe.name, number):
        return f"it was signed as the bundle {', '.join(signed_bundles)} and is now {bundle_sha256(bundle)[:12]}"
    return "it is not signed"


def find_recipe_mismatch(bundle: Path, recipe: Recipe) -> str | None:
    """Return how a validly signed bundle belongs to another recipe: one key may sign several, which must not be swapped."""
    bundle_recipe = json.loads((bundle / "bundle.json").read_text(encoding="utf-8")).get("recipe")
    if bundle_recipe == recipe.name:
        return None
    return f"it is signed as a bundle of the recipe {bundle_recipe}"


def refusal_message(recipe: Recipe, version: str, problem: str) -> str:
    name = recipe.name
    return (
        f"{name} {version} is refused: {problem}; recipes/{name}.yaml requires a signature of {recipe.signature.public_key}. "
        f"If you have that private key and trust this bundle: `ae sign {name} {version} --key PRIVATE.pem`"
    )
