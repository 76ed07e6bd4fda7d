"""Signed bundles: a key vouches for every byte of a folder. Light: the OpenSSF's model-signing is loaded when it signs.

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
from aeops.files import data_sha256, make_folder, sync_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from model_signing.hashing import Config

SIGNATURE_FILE = "model.sig"
KEY_VARIABLE = "AE_SIGNING_KEY"
CURVE_NAMES = ("secp256r1", "secp384r1", "secp521r1")  # that model-signing supports: P-256, P-384, P-521
SIGNATURE_ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)  # of model-signing, if a file is no signature


# ---------------------------------------------------------------- keys


def new_keys(path: Path) -> str:
    """Write a new pair of P-256 keys, PATH.pem (readable by its owner alone) and PATH.pub.

    Returns:
        Its fingerprint.

    Raises:
        UsageError: one of the files is there already, or nothing can be written there.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private_path, public_path = path.with_name(f"{path.name}.pem"), path.with_name(f"{path.name}.pub")
    for file in (private_path, public_path):
        if os.path.lexists(file):
            raise UsageError(f"{file} is there already, and a key is never overwritten: give --new-keys another name")
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        make_folder(path.parent)
        write_new(private_path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        write_public_key(public_path, key, private_path)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or path} ({error.strerror}): give --new-keys another name") from error
    return fingerprint(key.public_key())


def write_public_key(public_path: Path, key: "EllipticCurvePrivateKey", private_path: Path) -> None:
    """Write the public key; where that fails, remove the private one."""
    try:
        write_new(public_path, public_bytes(key.public_key()), 0o644)
    except OSError:
        private_path.unlink()
        raise


def write_new(file: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet; raise FileExistsError where it does."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(file.parent)  # or a bundle is signed with a key that a power failure takes away


def public_bytes(key: "EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: "EllipticCurvePublicKey") -> str:
    """Return the name of a pair of keys: the SHA-256 of the public one in PEM, as model-signing writes it into a signature."""
    return data_sha256(public_bytes(key))


def read_private_key(file: Path) -> "EllipticCurvePrivateKey":
    """Read the private key in `file`.

    Raises:
        UsageError: it cannot be read, or is no elliptic private key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    expected = "expected a private P-256, P-384 or P-521 key in PEM without a password; `ae sign --new-keys keys/NAME` makes one"
    try:
        key = load_pem_private_key(key_bytes(file, "private", expected), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise UsageError(f"{file} holds no such key; {expected}") from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVE_NAMES:
        raise UsageError(f"{file} holds a key of another kind; {expected}")
    return key


def read_public_key(file: Path) -> "EllipticCurvePublicKey":
    """Read the public key in `file`.

    Raises:
        UsageError: it cannot be read, or is no elliptic public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    expected = "expected a public P-256, P-384 or P-521 key in PEM, as `ae sign --new-keys keys/NAME` writes to keys/NAME.pub"
    try:
        key = load_pem_public_key(key_bytes(file, "public", expected))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} holds no such key; {expected}") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVE_NAMES:
        raise UsageError(f"{file} holds a key of another kind; {expected}")
    return key


def key_bytes(file: Path, key_role: str, expected: str) -> bytes:
    """Read a key's file; raise UsageError where that fails."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"the {key_role} key {file} cannot be read ({error.strerror}); {expected}") from error


def signing_key() -> Path | None:
    """Return the private key that AE_SIGNING_KEY names; None where it names none."""
    key_path = os.environ.get(KEY_VARIABLE)
    if not key_path:
        return None
    return Path(key_path).expanduser().resolve()


# ---------------------------------------------------------------- signatures


def sign(bundle: Path, key: Path, signature: Path) -> None:
    """Write the file `signature` over every file of the bundle.

    Raises:
        UsageError: the key cannot be used.
    """
    read_private_key(key)
    from model_signing.signing import Config

    Config().use_elliptic_key_signer(private_key=key).set_hashing_config(hash_every_file()).sign(bundle, signature)


def sign_text(text: bytes, key: Path) -> str:
    """Return the signature of a text by a private key, in Base64.

    Raises:
        UsageError: the key cannot be used.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    return base64.b64encode(read_private_key(key).sign(text, ec.ECDSA(SHA256()))).decode()


def is_text_signed(text: bytes, signature: str, public_key: Path) -> bool:
    """Return True if the private key of this public one has signed the text.

    Raises:
        UsageError: the public key cannot be used.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    key = read_public_key(public_key)
    try:
        key.verify(base64.b64decode(signature, validate=True), text, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):  # ValueError: no Base64
        return False
    return True


def hash_every_file() -> "Config":
    """Return the settings to hash all files. With its defaults model-signing ignores git's files, and so would accept any."""
    from model_signing.hashing import Config

    return Config().use_file_serialization(hashing_algorithm="sha256").set_ignored_paths(paths=[], ignore_git_paths=False)


@dataclass(frozen=True)
class SignatureClaim:
    """Content of a signature, not yet checked.

    Attributes:
        key: the fingerprint of the key that signed.
        files: name -> SHA-256 of each file that was signed.
    """

    key: str
    files: dict[str, str]


def find_signature_problem(bundle: Path, signature: Path, public_key: Path) -> str | None:
    """Check that this key has signed every file of the bundle as it is now.

    Returns:
        The problem; None if there is none.

    Raises:
        UsageError: the public key cannot be used.
    """
    expected_key = fingerprint(read_public_key(public_key))
    try:
        claim = read_claim(signature)
    except (OSError, *SIGNATURE_ERRORS) as error:
        return f"its signature cannot be read ({type(error).__name__})"
    if claim.key != expected_key:
        return f"it is signed with the key {claim.key[:12]}, and not with {public_key.name} ({expected_key[:12]})"
    problem = find_forgery(bundle, signature, public_key)
    if problem is None:
        problem = ", ".join(find_differences(bundle, claim.files)) or None
    return problem


def read_claim(signature: Path) -> SignatureClaim:
    """Read a signature; raise one of MALFORMED where it is none."""
    document: dict[str, Any] = json.loads(signature.read_text(encoding="utf-8"))
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"], validate=True))
    files = {}
    for entry in payload["predicate"]["resources"]:
        files[str(entry["name"])] = str(entry["digest"])
    return SignatureClaim(str(document["verificationMaterial"]["publicKey"]["hint"]), files)


def find_forgery(bundle: Path, signature: Path, public_key: Path) -> str | None:
    """Return model-signing's problem with the signature, or None; it ignores the files that the signature says to ignore."""
    from cryptography.exceptions import InvalidSignature
    from model_signing.verifying import Config

    signature_verifier = Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(hash_every_file())
    try:
        signature_verifier.verify(bundle, signature)
    except InvalidSignature:
        return f"its signature was not made with the private key of {public_key.name}"
    except SIGNATURE_ERRORS as error:
        differences = find_differences(bundle, read_claim(signature).files)
        return ", ".join(differences) or f"its signature is none of model-signing's ({' '.join(str(error).split())[:200]})"
    return None


def find_differences(bundle: Path, signed_files: dict[str, str]) -> list[str]:
    """Return a message for each file of the bundle that differs from the signed one, by name."""
    paths = {}
    for path in bundle.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            paths[path.relative_to(bundle).as_posix()] = path
    problems = []
    for name in sorted(signed_files.keys() - paths.keys()):
        problems.append(f"{name} is missing, and was signed")
    for name in sorted(paths.keys() - signed_files.keys()):
        problems.append(f"{name} is not covered by the signature")
    for name in sorted(signed_files.keys() & paths.keys()):
        if not is_as_signed(paths[name], signed_files[name]):
            problems.append(f"{name} was altered after it was signed")
    return problems


def is_as_signed(file: Path, expected: str) -> bool:
    """Return whether a regular file has this SHA-256."""
    return file.is_file() and not file.is_symlink() and file_sha256(file) == expected
