"""Upload a version's bundle again where MLflow's store holds a damaged one, or another one than the ledger names.

What was stored may be cut short by a full disk, deleted by hand, or replaced by somebody who may write to the store. A bundle is
named by its content, so any copy of it on this machine will do.
"""

import logging
from pathlib import Path

from ae_models.checksums import VerifiedBundle
from ae_models.errors import BundleError
from aeops.errors import DataError
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.ledger import LedgerEntry
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

log = logging.getLogger("aeops.registry")


def repair_stored_bundle(store: Store, recipe: str, version: VersionInfo, expected_sha256: str | None) -> None:
    """Verify the bundle that MLflow stores for a version; where it is damaged, upload a copy that is left on this machine.

    Args:
        expected_sha256: as the ledger, or new evidence, says; None where it says nothing: then MLflow's own tag counts.

    Raises:
        DataError: it is damaged or another one, and no copy is left; the message says what to type.
        InfrastructureError: MLflow cannot be reached.
    """
    expected_sha256 = expected_sha256 or version.tags.get("bundle_sha256", "")
    problem = find_stored_problem(store, recipe, version, expected_sha256)
    if problem is None and version.tags.get("bundle_sha256") != expected_sha256:
        store.set_tags(recipe, version.version, {"bundle_sha256": expected_sha256})
        log.warning("set the tag bundle_sha256 of %s %s in MLflow again, which somebody has changed", recipe, version.version)
    if problem is None:
        return
    copy = find_copy(store.project, recipe, version.version, expected_sha256)
    if copy is None:
        raise DataError(describe_stored_problem(store, recipe, version, expected_sha256, problem))
    store.restore_bundle(recipe, version, copy, expected_sha256, problem)
    if remaining_problem := find_stored_problem(store, recipe, store.version(recipe, version.version), expected_sha256):
        raise DataError(
            f"{remaining_problem}. It was uploaded again from {copy}, which did not help: delete what else lies in that folder "
            f"of MLflow's store, then type the same command again"
        )


def find_stored_problem(store: Store, recipe: str, version: VersionInfo, expected_sha256: str) -> str | None:
    """Return what is wrong with the bundle that MLflow stores for a version; None where it is the expected one, whole.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    try:
        stored_sha256 = store.stored_bundle_sha256(recipe, version.version)
    except DataError as error:
        return str(error)
    if stored_sha256 == expected_sha256:
        return None
    return (
        f"the bundle of version {version.version} of {recipe} in the registry has SHA-256 {stored_sha256}, but the ledger says "
        f"{expected_sha256}"
    )


def find_copy(project: Project, recipe: str, version: str, bundle_sha256: str) -> Path | None:
    """Return a folder of this machine that holds the whole bundle with this name by content; None where there is none."""
    for folder in (project.home / "serving" / recipe / version, project.artifacts(recipe) / "bundle"):
        try:
            if VerifiedBundle(folder).sha256 == bundle_sha256:
                return folder
        except BundleError:
            continue  # absent, or damaged as well
    return None


def describe_stored_problem(store: Store, recipe: str, version: VersionInfo, expected_sha256: str, problem: str) -> str:
    """Return the problem of a version's stored bundle with what to type.

    Args:
        problem: of `find_stored_problem`.
    """
    if copy := find_copy(store.project, recipe, version.version, expected_sha256):
        return f"{problem}. A copy of it is in {copy}: `ae run {recipe}` uploads it again"
    entries = ledger.read_content(store.project, recipe).entries
    champion = ledger.champion_at(entries)
    message = f"{problem}. No whole copy of it is left on this machine"
    if version.version != champion:
        message += f", so it cannot be served; champion stays {champion or 'none'}"
    commands = []
    for former in ledger.former_champions(entries):
        if former not in (version.version, champion) and _has_whole_bundle(store, recipe, former, entries):
            commands.append(f"to serve the former champion {former}: `ae rollback {recipe} --to {former} --why TEXT`")
            break
    if version.version == champion:
        commands.append(f"to do without a champion until the next run: `ae retire {recipe} --why TEXT`, then `ae run {recipe}`")
    else:
        commands.append(f"to make a bundle anew: `ae run {recipe}`")
    return f"{message}. {'; '.join(commands)}"


def _has_whole_bundle(store: Store, recipe: str, number: str, entries: list[LedgerEntry]) -> bool:
    """Return whether a former champion could be served: its stored bundle is whole, or a copy of it is left here."""
    if not store.has_version(recipe, number):
        return False
    version = store.version(recipe, number)
    expected_sha256 = ledger.known_bundle_sha256(entries, number) or version.tags.get("bundle_sha256", "")
    if find_copy(store.project, recipe, number, expected_sha256) is not None:
        return True
    return find_stored_problem(store, recipe, version, expected_sha256) is None
