"""Signatures of a ledger's entries: `<home>/ledger/<recipe>.signatures`, a line of JSON for each.

An entry holds the hash of the one before it, so the signature of an entry covers every entry up to it. It is kept beside the
ledger, not in it, so that an entry can be signed after it was written: by `ae sign`, where the private key is.
"""

import json
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ae_models.mappings import drop_keys
from ae_models.names import names_of
from aeops.bundle.signing import fingerprint, is_text_signed, read_private_key, read_public_key, sign_text
from aeops.errors import DataError
from aeops.files import atomic_write
from aeops.project import Project
from aeops.registry.ledger import LedgerEntry, are_texts, canonical_json, ledger_file

log = logging.getLogger("aeops.registry")


@dataclass(frozen=True)
class EntrySignature:
    """The signature of an entry.

    Attributes:
        number, hash: of the entry.
        key: the fingerprint of the key that signed.
        signature: of `signed_text`, in Base64.
    """

    number: int
    hash: str
    key: str
    signature: str


def signatures_file(project: Project, recipe: str) -> Path:
    return ledger_file(project, recipe).with_suffix(".signatures")


def signed_text(entry: LedgerEntry) -> bytes:
    """Return the text that a signature of the entry is made of."""
    return canonical_json({"hash": entry.hash, "ledger": entry.recipe, "number": entry.number})


def read_signatures(project: Project, recipe: str) -> list[EntrySignature]:
    """Return the signatures of a ledger's entries; an empty list where there is no file.

    A line that holds no signature counts as none: whether an entry is validly signed is decided by its own signature.

    Raises:
        DataError: the file cannot be read.
    """
    file = signatures_file(project, recipe)
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"the signatures {file} cannot be read ({error.strerror}): make that file readable") from error
    signatures = []
    for position, line in enumerate(lines, 1):
        try:
            signatures.append(parse_signature(json.loads(line)))
        except (ValueError, RecursionError) as error:
            log.warning("line %d of %s is no signature and counts as none (%s)", position, file, error)
    return signatures


def parse_signature(content: object) -> EntrySignature:
    """Return the signature that an object of JSON holds.

    Raises:
        ValueError: it is none.
    """
    names = names_of(fields(EntrySignature))
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ValueError(f"expected an object with exactly {', '.join(names)}")
    if type(content["number"]) is not int or not are_texts(drop_keys(content, {"number"}).values()):
        raise ValueError("a value is of the wrong type")
    return EntrySignature(**content)


def find_signature(project: Project, entry: LedgerEntry) -> EntrySignature | None:
    """Return the last signature of an entry; None where it has none."""
    for signature in reversed(read_signatures(project, entry.recipe)):
        if signature.hash == entry.hash:
            return signature
    return None


def sign_entry(project: Project, entry: LedgerEntry, key: Path) -> EntrySignature:
    """Sign an entry, unless this key has signed it already. The caller holds `promotion.ledger_lock`.

    Raises:
        UsageError: the key cannot be used.
    """
    key_fingerprint = fingerprint(read_private_key(key).public_key())
    signatures = read_signatures(project, entry.recipe)
    for signature in signatures:
        if (signature.hash, signature.key) == (entry.hash, key_fingerprint):
            return signature
    new_signature = EntrySignature(entry.number, entry.hash, key_fingerprint, sign_text(signed_text(entry), key))
    lines = [canonical_json(asdict(signature)).decode() + "\n" for signature in (*signatures, new_signature)]
    atomic_write(signatures_file(project, entry.recipe), "".join(lines))
    return new_signature


def find_entry_problem(entry: LedgerEntry, signature: EntrySignature | None, public_key: Path) -> str | None:
    """Return how an entry fails to be signed with a key; None where it is signed.

    Raises:
        UsageError: the public key cannot be used.
    """
    subject = f"line {entry.number} of its ledger, which makes version {entry.to_version} the champion,"
    if signature is None:
        return f"{subject} is not signed"
    expected_key = fingerprint(read_public_key(public_key))
    if signature.key != expected_key:
        return f"{subject} is signed with the key {signature.key[:12]}, and not with {public_key.name} ({expected_key[:12]})"
    if not is_text_signed(signed_text(entry), signature.signature, public_key):
        return f"the signature of {subject} was not made with the private key of {public_key.name}"
    return None
