"""Signatures of registered versions, stored in MLflow with the run that holds the version's bundle.

The file is signature/<first 12 of the bundle's SHA-256>/model.sig. The version's tag `signature`, the fingerprint of the key, is
for people only: aeops.registry.trust decides by the file whether a version may be used.
"""

from pathlib import Path

from ae_models.checksums import bundle_sha256
from aeops.bundle.signing import (
    SIGNATURE_FILE,
    find_signature_problem,
    fingerprint,
    public_bytes,
    read_private_key,
    read_public_key,
    sign,
)
from aeops.errors import UsageError
from aeops.machine.lock import file_lock
from aeops.machine.scratch import ScratchFolder
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger
from aeops.registry.ledger_signatures import sign_entry
from aeops.registry.store import Store, translate_errors

SIGNATURE_FOLDER = "signature"
SIGNATURE_TAG = "signature"


def sign_version(store: Store, recipe: str, version: str, key: Path) -> str:
    """Sign a version's bundle and, if it is champion, the ledger's entry that says so, unless this key has signed them already.

    Args:
        version: a number or an alias.
        key: the private key's file.

    Returns:
        The fingerprint of the key.

    Raises:
        UsageError: no such version, an unusable key, or a key other than the recipe requires.
        DataError: the bundle in the registry is not the one that was registered.
    """
    private_key = read_private_key(key)
    require_recipe_key(store, recipe, key)
    number = store.version(recipe, version).version
    bundle = store.download_bundle(recipe, number)
    with ScratchFolder() as folder:
        public, new_signature = Path(folder) / f"{key.stem}.pub", Path(folder) / SIGNATURE_FILE
        public.write_bytes(public_bytes(private_key.public_key()))
        stored_signature = fetch_signature(store, recipe, number, bundle, Path(folder) / "stored")
        if stored_signature is None or find_signature_problem(bundle, stored_signature, public):
            sign(bundle, key, new_signature)
            store.log_files(source_run(store, recipe, number), [new_signature], signature_folder(bundle))  # replaces an old one
    sign_last_move(store, recipe, number, key)
    key_fingerprint = fingerprint(private_key.public_key())
    store.set_tags(recipe, number, {SIGNATURE_TAG: key_fingerprint})
    return key_fingerprint


def sign_last_move(store: Store, recipe: str, version: str, key: Path) -> None:
    """Sign the ledger's entry that made the version the champion, if it is the champion."""
    with file_lock(store.project, "ledger"):
        last_move = ledger.last_move(ledger.read_entries(store.project, recipe))
        if last_move is not None and last_move.to_version == version:
            sign_entry(store.project, last_move, key)


def require_recipe_key(store: Store, recipe: str, key: Path) -> None:
    """Raise UsageError where the recipe names another public key: this signature would only replace one that counts."""
    public_key = load_recipe(store.project, recipe, with_keys=True).signature.public_key
    if public_key is None:
        return
    expected_key = fingerprint(read_public_key(store.project.root / public_key))
    actual_key = fingerprint(read_private_key(key).public_key())
    if actual_key != expected_key:
        raise UsageError(
            f"{key} is the key {actual_key[:12]}, expected the key {expected_key[:12]}, as signature.public_key in "
            f"recipes/{recipe}.yaml is {public_key}: give the private key that belongs to it, or name this key's public key there"
        )


def fetch_signature(store: Store, recipe: str, version: str, bundle: Path, folder: Path) -> Path | None:
    """Download the signature of a version's bundle into `folder`; None where there is none."""
    run, remote_folder = source_run(store, recipe, version), signature_folder(bundle)
    if f"{remote_folder}/{SIGNATURE_FILE}" not in store.files(run, remote_folder):
        return None
    return store.download_file(run, f"{remote_folder}/{SIGNATURE_FILE}", folder)


@translate_errors
def list_signed_bundles(store: Store, recipe: str, version: str) -> list[str]:
    """Return the first 12 of the SHA-256 of each bundle with a signature in the version's run; usually one or none."""
    run = source_run(store, recipe, version)
    if not store.has_run(run):
        return []
    entries = store.client.list_artifacts(run, SIGNATURE_FOLDER)
    return sorted(Path(entry.path).name for entry in entries if entry.is_dir)


def signature_folder(bundle: Path) -> str:
    return f"{SIGNATURE_FOLDER}/{bundle_sha256(bundle)[:12]}"


@translate_errors
def source_run(store: Store, recipe: str, version: str) -> str:
    """Return the run that first made the bundle. Unlike the run of the last evaluation, it never changes and holds the bundle.

    Where it was deleted in MLflow for good, return that of the last evaluation.
    """
    run_id = str(store.client.get_model_version(recipe, version).run_id)
    if store.has_run(run_id):
        return run_id
    return store.version(recipe, version).run_id
