"""The signatures of registered versions: kept in MLflow with the run that the version's bundle lies under.

signature/<first 12 of the bundle's SHA-256>/model.sig, and the version's tag `signature`, the fingerprint of the key. The tag
is for people: whether a version may be used is decided by the file (aeops.registry.trust).
"""

import tempfile
from pathlib import Path

from ae_models.sums import bundle_sha256
from aeops.bundle.signing import SIGNATURE, fingerprint, public_bytes, read_private_key, read_public_key, sign, signature_fault
from aeops.errors import UsageError
from aeops.recipe.reader import load_recipe
from aeops.registry.store import Store, telling

FOLDER = "signature"
TAG = "signature"


def sign_version(store: Store, recipe: str, version: str, key: Path) -> str:
    """Signs a version's bundle, unless it carries a sound signature of this key already; returns the key's fingerprint.

    Args:
        version: a version or an alias.
        key: the private key's file.

    Raises:
        UsageError: no such version, a key that cannot be used, or another one than the recipe asks for.
        DataError: the bundle in the registry is not the one that was registered.
    """
    private = read_private_key(key)
    demand_own_key(store, recipe, key)
    number = store.version(recipe, version).version
    bundle = store.download_bundle(recipe, number)
    with tempfile.TemporaryDirectory() as folder:
        public, made = Path(folder) / f"{key.stem}.pub", Path(folder) / SIGNATURE
        public.write_bytes(public_bytes(private.public_key()))
        kept = fetch_signature(store, recipe, number, bundle, Path(folder) / "kept")
        if kept is None or signature_fault(bundle, kept, public):
            sign(bundle, key, made)
            store.log_files(home_run(store, recipe, number), [made], folder_of(bundle))  # in place of the one there was
    signer = fingerprint(private.public_key())
    store.set_tags(recipe, number, {TAG: signer})
    return signer


def demand_own_key(store: Store, recipe: str, key: Path) -> None:
    """Raises UsageError where the recipe names another public key: this one's signature would only replace one that counts."""
    wanted = load_recipe(store.project, recipe, with_keys=True).signature.public_key
    if wanted is None:
        return
    asked = fingerprint(read_public_key(store.project.root / wanted))
    given = fingerprint(read_private_key(key).public_key())
    if given != asked:
        raise UsageError(
            f"{key} is the key {given[:12]}; the key {asked[:12]} is allowed, as signature.public_key in recipes/{recipe}.yaml "
            f"is {wanted}: give the private key that belongs to it, or name this one's public key there"
        )


def fetch_signature(store: Store, recipe: str, version: str, bundle: Path, place: Path) -> Path | None:
    """The signature kept for a version's bundle, downloaded into the folder `place`; None where there is none."""
    run, folder = home_run(store, recipe, version), folder_of(bundle)
    if f"{folder}/{SIGNATURE}" not in store.files(run, folder):
        return None
    return store.download_file(run, f"{folder}/{SIGNATURE}", place)


@telling
def signed_bundles(store: Store, recipe: str, version: str) -> list[str]:
    """The first 12 of the SHA-256 of each bundle that a signature is kept for with the version's run; one, or none, is usual."""
    entries = store.client.list_artifacts(home_run(store, recipe, version), FOLDER)
    return sorted(Path(entry.path).name for entry in entries if entry.is_dir)


def folder_of(bundle: Path) -> str:
    return f"{FOLDER}/{bundle_sha256(bundle)[:12]}"


@telling
def home_run(store: Store, recipe: str, version: str) -> str:
    """The run that first made the bundle: unlike the one of its last judgement it never changes, and its bundle goes with it."""
    return str(store.client.get_model_version(recipe, version).run_id)
