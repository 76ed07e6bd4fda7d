"""Signed bundles: whose key vouches for every byte of a folder. Light: the OpenSSF's model-signing is loaded when it signs.

A signature (`model.sig`) is a Sigstore bundle that lists the SHA-256 of each file, signed with an elliptic key. Whoever has
the package can check one without this project: docs/signing.md.
"""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.checksums import file_sha256
from aeops.errors import UsageError
from aeops.files import data_sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from model_signing.hashing import Config

SIGNATURE = "model.sig"
KEY_VARIABLE = "AE_SIGNING_KEY"
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those that model-signing takes: P-256, P-384, P-521
MALFORMED = (ValueError, LookupError, TypeError, AttributeError)  # what model-signing raises of a file that is no signature


# ---------------------------------------------------------------- keys


def new_keys(place: Path) -> str:
    """Writes a new pair of P-256 keys, PLACE.pem (readable by its owner alone) and PLACE.pub; returns its fingerprint.

    Raises:
        UsageError: one of the files is there already, or nothing can be written there.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private, public = place.with_name(f"{place.name}.pem"), place.with_name(f"{place.name}.pub")
    for file in (private, public):
        if os.path.lexists(file):
            raise UsageError(f"{file} is there already, and a key is never overwritten: give --new-keys another name")
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_new(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        write_public(public, key, private)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or place} ({error.strerror}): give --new-keys another name") from error
    return fingerprint(key.public_key())


def write_public(public: Path, key: "EllipticCurvePrivateKey", private: Path) -> None:
    """Writes the public half; where that fails, no private half is left behind."""
    try:
        write_new(public, public_bytes(key.public_key()), 0o644)
    except OSError:
        private.unlink()
        raise


def write_new(file: Path, content: bytes, mode: int) -> None:
    """Writes a file that is not there yet; raises FileExistsError where it is."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def public_bytes(key: "EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: "EllipticCurvePublicKey") -> str:
    """What names a pair of keys: the SHA-256 of the public one in PEM, which model-signing writes into a signature too."""
    return data_sha256(public_bytes(key))


def read_private_key(file: Path) -> "EllipticCurvePrivateKey":
    """The private key in `file`.

    Raises:
        UsageError: it cannot be read, or is no elliptic private key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    allowed = "a private P-256, P-384 or P-521 key in PEM without a password is allowed; `ae sign --new-keys keys/NAME` makes one"
    try:
        key = load_pem_private_key(key_bytes(file, "private", allowed), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise UsageError(f"{file} holds no such key; {allowed}") from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise UsageError(f"{file} holds a key of another kind; {allowed}")
    return key


def read_public_key(file: Path) -> "EllipticCurvePublicKey":
    """The public key in `file`.

    Raises:
        UsageError: it cannot be read, or is no elliptic public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    allowed = "a public P-256, P-384 or P-521 key in PEM is allowed, as `ae sign --new-keys keys/NAME` writes to keys/NAME.pub"
    try:
        key = load_pem_public_key(key_bytes(file, "public", allowed))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} holds no such key; {allowed}") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise UsageError(f"{file} holds a key of another kind; {allowed}")
    return key


def key_bytes(file: Path, which: str, allowed: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"the {which} key {file} cannot be read ({error.strerror}); {allowed}") from error


def signing_key() -> Path | None:
    """The private key that AE_SIGNING_KEY names, or None where it names none."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named).expanduser().resolve() if named else None


# ---------------------------------------------------------------- signatures


def sign(bundle: Path, key: Path, signature: Path) -> None:
    """Writes the file `signature` over every file of the bundle.

    Raises:
        UsageError: the key cannot be used.
    """
    read_private_key(key)
    from model_signing.signing import Config

    Config().use_elliptic_key_signer(private_key=key).set_hashing_config(every_file()).sign(bundle, signature)


def every_file() -> "Config":
    """How files are hashed: all of them. By its own settings model-signing leaves out what git keeps, and so would let it in."""
    from model_signing.hashing import Config

    return Config().use_file_serialization(hashing_algorithm="sha256").set_ignored_paths(paths=[], ignore_git_paths=False)


@dataclass(frozen=True)
class Claim:
    """What a signature says, not yet checked.

    Attributes:
        key: the fingerprint of the key that signed.
        files: name -> SHA-256 of each file that was signed.
    """

    key: str
    files: dict[str, str]


def signature_fault(bundle: Path, signature: Path, public_key: Path) -> str | None:
    """Why the signature is not one of this key over every file of the bundle as it is; None where it is.

    Raises:
        UsageError: the public key cannot be used.
    """
    own = fingerprint(read_public_key(public_key))
    try:
        claim = read_claim(signature)
    except (OSError, *MALFORMED) as error:
        return f"its signature cannot be read ({type(error).__name__})"
    if claim.key != own:
        return f"it is signed with the key {claim.key[:12]}, and not with {public_key.name} ({own[:12]})"
    return forgery(bundle, signature, public_key) or (", ".join(differences(bundle, claim.files)) or None)


def read_claim(signature: Path) -> Claim:
    """Reads a signature; raises one of MALFORMED where it is none."""
    document: dict[str, Any] = json.loads(signature.read_text(encoding="utf-8"))
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"], validate=True))
    files = {str(entry["name"]): str(entry["digest"]) for entry in payload["predicate"]["resources"]}
    return Claim(str(document["verificationMaterial"]["publicKey"]["hint"]), files)


def forgery(bundle: Path, signature: Path, public_key: Path) -> str | None:
    """What model-signing says against the signature, or None; it does as the signature says about files to leave out."""
    from cryptography.exceptions import InvalidSignature
    from model_signing.verifying import Config

    checker = Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(every_file())
    try:
        checker.verify(bundle, signature)
    except InvalidSignature:
        return f"its signature was not made with the private key of {public_key.name}"
    except MALFORMED as error:
        found = differences(bundle, read_claim(signature).files)
        return ", ".join(found) or f"its signature is none of model-signing's ({' '.join(str(error).split())[:200]})"
    return None


def differences(bundle: Path, signed: dict[str, str]) -> list[str]:
    """How the files of the bundle differ from those that were signed, name by name."""
    places = {file.relative_to(bundle).as_posix(): file for file in bundle.rglob("*") if file.is_symlink() or not file.is_dir()}
    faults = [f"{name} is missing, and was signed" for name in sorted(signed.keys() - places.keys())]
    faults += [f"{name} is not covered by the signature" for name in sorted(places.keys() - signed.keys())]
    same = (name for name in sorted(signed.keys() & places.keys()))
    return faults + [f"{name} was altered after it was signed" for name in same if not is_as_signed(places[name], signed[name])]


def is_as_signed(file: Path, expected: str) -> bool:
    return file.is_file() and not file.is_symlink() and file_sha256(file) == expected
