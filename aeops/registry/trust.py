"""Fetch bundles that may be used: intact, as registered and, where the recipe requires it, signed with the recipe's key.

No bundle of the registry is used in any other way.
"""

import json
import tempfile
from pathlib import Path

from ae_models.checksums import bundle_sha256
from aeops.bundle.signing import find_signature_problem
from aeops.errors import DataError, GateError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.signatures import fetch_signature, list_signed_bundles
from aeops.registry.store import Store


def trusted_bundle(project: Project, store: Store, recipe: Recipe, which: str) -> Path:
    """Return the verified bundle of a version or an alias, in `.ae/serving/<recipe>/<version>/`.

    Raises:
        UsageError: no such version, or the recipe's public key cannot be read.
        DataError: the bundle is not the registered one, or is not signed as the recipe requires.
    """
    version = store.version(recipe.name, which)
    bundle = store.bundle_of(recipe.name, version)
    if problem := find_trust_problem(project, store, recipe, version.version, bundle):
        raise DataError(f"{refusal_message(recipe, version.version, problem)}, then type the same command again")
    return bundle


def require_signed(project: Project, store: Store, recipe: Recipe, version: str) -> None:
    """Check before a promotion that a version is signed with the recipe's key, if the recipe requires that.

    Raises:
        UsageError: the recipe's public key cannot be read.
        DataError: the bundle is not the registered one.
        GateError: it is not signed as the recipe requires; the message says what to type.
    """
    bundle = store.download_bundle(recipe.name, version)
    if problem := find_trust_problem(project, store, recipe, version, bundle):
        raise GateError(
            f"not promoted: {refusal_message(recipe, version, problem)}, then type `ae run {recipe.name}` again; "
            "where AE_SIGNING_KEY names that key, a run signs by itself"
        )


def find_trust_problem(project: Project, store: Store, recipe: Recipe, version: str, bundle: Path) -> str | None:
    """Return how a downloaded bundle fails the recipe's signature requirement; None where it fulfils it."""
    if not recipe.signature.require_signature:
        return None
    key = project.root / str(recipe.signature.public_key)
    with tempfile.TemporaryDirectory() as folder:
        signature = fetch_signature(store, recipe.name, version, bundle, Path(folder) / "stored")
        if signature is not None:
            return find_signature_problem(bundle, signature, key) or find_recipe_mismatch(bundle, recipe)
    if signed_bundles := list_signed_bundles(store, recipe.name, version):
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
