"""The only way from the registry to a bundle that is used: whole, the one that was registered and, where the recipe asks for
it, signed with the recipe's key."""

import json
import tempfile
from pathlib import Path

from ae_models.sums import bundle_sha256
from aeops.bundle.signing import signature_fault
from aeops.errors import DataError, GateError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.signatures import fetch_signature, signed_bundles
from aeops.registry.store import Store


def trusted_bundle(project: Project, store: Store, recipe: Recipe, which: str) -> Path:
    """The verified bundle of a version or an alias, in `.ae/serving/<recipe>/<version>/`.

    Raises:
        UsageError: no such version, or the recipe's public key cannot be read.
        DataError: the bundle is not the one that was registered, or is not signed as the recipe requires.
    """
    held = store.version(recipe.name, which)
    bundle = store.bundle_of(recipe.name, held)
    if fault := trust_fault(project, store, recipe, held.version, bundle):
        raise DataError(f"{refusal(recipe, held.version, fault)}, then type the same command again")
    return bundle


def require_signed(project: Project, store: Store, recipe: Recipe, version: str) -> None:
    """Lets a version pass on to promotion where the recipe requires no signature, or its own key's is sound.

    Raises:
        UsageError: the recipe's public key cannot be read.
        DataError: the bundle is not the one that was registered.
        GateError: it is not signed as the recipe requires; what to type.
    """
    bundle = store.download_bundle(recipe.name, version)
    if fault := trust_fault(project, store, recipe, version, bundle):
        raise GateError(
            f"not promoted: {refusal(recipe, version, fault)}, then type `ae run {recipe.name}` again; "
            "where AE_SIGNING_KEY names that key, a run signs by itself"
        )


def trust_fault(project: Project, store: Store, recipe: Recipe, version: str, bundle: Path) -> str | None:
    """Why the bundle, downloaded, is not signed as the recipe requires; None where it is, or where nothing is required."""
    if not recipe.signature.require_signature:
        return None
    key = project.root / str(recipe.signature.public_key)
    with tempfile.TemporaryDirectory() as folder:
        signature = fetch_signature(store, recipe.name, version, bundle, Path(folder) / "kept")
        if signature is not None:
            return signature_fault(bundle, signature, key) or foreign(bundle, recipe)
    if others := signed_bundles(store, recipe.name, version):
        return f"it was signed as the bundle {', '.join(others)} and is now {bundle_sha256(bundle)[:12]}"
    return "it is not signed"


def foreign(bundle: Path, recipe: Recipe) -> str | None:
    """Told where a soundly signed bundle is another recipe's: one key may vouch for several, and they must not be swapped."""
    made_for = json.loads((bundle / "bundle.json").read_text(encoding="utf-8")).get("recipe")
    return None if made_for == recipe.name else f"it is signed as a bundle of the recipe {made_for}"


def refusal(recipe: Recipe, version: str, fault: str) -> str:
    name = recipe.name
    return (
        f"{name} {version} is refused: {fault}; recipes/{name}.yaml requires a signature of {recipe.signature.public_key}. "
        f"Whoever has that private key and trusts this bundle types `ae sign {name} {version} --key PRIVATE.pem`"
    )
