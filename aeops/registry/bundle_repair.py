"""Upload a version's bundle again where MLflow's store holds a damaged one, or another one than the ledger names.

What was stored may be cut short by a full disk, deleted by hand, or replaced by somebody who may write to the store. A bundle is
named by its content, so any copy of it on this machine will do.
"""

import logging
from pathlib import Path

from ae_models.checksums import VerifiedBundle
from ae_models.errors import BundleError
from aeops.errors import DataError, InfrastructureError
from aeops.project import Project
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
        raise DataError(f"{problem}. {no_copy_advice(recipe)}")
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
    except InfrastructureError as error:
        store.require_readable()  # raises where MLflow itself is the trouble; else the files are gone
        return f"the bundle of version {version.version} of {recipe} is not in MLflow's store ({error})"
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


def no_copy_advice(recipe: str) -> str:
    """Say what to type where no copy of a stored bundle is left."""
    return (
        f"No whole copy of it is left on this machine. To return to the champion before: `ae rollback {recipe} --why TEXT`; to "
        f"do without a champion until the next run: `ae retire {recipe} --why TEXT`, then `ae run {recipe}`"
    )
