"""A bundle's SHA256SUMS: checked before anything else of it is read. Standard library only."""

import hashlib
from pathlib import Path

from aeops.errors import DataError

SUMS = "SHA256SUMS"


def verify(bundle: Path) -> None:
    """Checks that the folder holds exactly the files that its SHA256SUMS lists, byte for byte.

    Raises:
        DataError: naming the first file that is missing, surplus or altered.
    """
    if not (bundle / SUMS).is_file():
        raise DataError(f"no bundle in {bundle}: {SUMS} is missing; train one, or download a registered version again")
    sums = read_sums(bundle)
    found = {file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()} - {SUMS}
    faults = [f"{name} is missing" for name in sorted(sums.keys() - found)]
    faults += [f"{name} is not in {SUMS}" for name in sorted(found - sums.keys())]
    faults += [f"{name} was altered" for name in sorted(sums.keys() & found) if sha256(bundle / name) != sums[name]]
    if faults:
        raise DataError(f"bundle {bundle} refused: {', '.join(faults)}; build or download it again")


def read_sums(bundle: Path) -> dict[str, str]:
    """SHA256SUMS as {file name: SHA-256 in hex}, in `sha256sum` format: two spaces between sum and name."""
    lines = (bundle / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    if not pairs or any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
        raise DataError(f"bundle {bundle} refused: {SUMS} is not in sha256sum's format; build or download it again")
    sums = {name: digest for digest, name in pairs}
    missing = sorted({"bundle.json", "model.onnx"} - sums.keys())
    if missing:
        raise DataError(f"bundle {bundle} refused: {SUMS} does not list {', '.join(missing)}; build or download it again")
    return sums


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bundle_sha256(bundle: Path) -> str:
    """The bundle's name by content: the SHA-256 of SHA256SUMS, which holds those of all other files."""
    return sha256(bundle / SUMS)
