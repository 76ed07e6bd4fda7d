"""A bundle's SHA256SUMS: checked before anything else of it is read. Standard library only: whoever serves needs it too."""

import hashlib
from pathlib import Path

from ae_models.errors import BundleError

SUMS = "SHA256SUMS"
ALWAYS = ("bundle.json", "model.onnx", "scorer.safetensors", "weights.safetensors")  # what every bundle has
SOME = ("decoder.onnx", "tokenizer.json")  # and what those of format 2, or of texts, have as well


def write_sums(bundle: Path) -> None:
    """Writes SHA256SUMS over every file of the folder, sorted by name, in `sha256sum` format."""
    names = sorted(file.name for file in bundle.iterdir() if file.name != SUMS)
    (bundle / SUMS).write_text("".join(f"{file_sha256(bundle / name)}  {name}\n" for name in names), encoding="utf-8")


def verify(bundle: Path) -> dict[str, str]:
    """The SHA-256 of each file, once the folder holds exactly the files that its SHA256SUMS lists, byte for byte.

    Raises:
        BundleError: naming every file that is missing, surplus or altered.
    """
    sums = read_sums(bundle)
    found = {file.relative_to(bundle).as_posix(): file for file in bundle.rglob("*") if not file.is_dir() or file.is_symlink()}
    found.pop(SUMS)
    faults = [f"{name} is missing" for name in sorted(sums.keys() - found.keys())]
    faults += [f"{name} is not in {SUMS}" for name in sorted(found.keys() - sums.keys())]
    faults += [f"{name} was altered" for name in sorted(sums.keys() & found.keys()) if not is_file(found[name], sums[name])]
    if faults:
        raise refused(bundle, ", ".join(faults))
    return sums


def is_file(file: Path, expected: str) -> bool:
    """Whether a regular file has this SHA-256; a link never has, as what it points to may change."""
    return not file.is_symlink() and file_sha256(file) == expected


def read_sums(bundle: Path) -> dict[str, str]:
    """SHA256SUMS as {file name: SHA-256 in hex}: two spaces between sum and name.

    Raises:
        BundleError: it is missing, not in `sha256sum` format, or does not list what a bundle has and nothing else.
    """
    try:
        lines = (bundle / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise refused(bundle, f"its {SUMS} cannot be read ({type(error).__name__})") from error
    pairs = [line.partition("  ") for line in lines]
    if not pairs or any(len(digest) != 64 or not name for digest, _, name in pairs):
        raise refused(bundle, f"its {SUMS} is not in sha256sum's format")
    sums = {name: digest for digest, _, name in pairs}
    if missing := sorted(set(ALWAYS) - sums.keys()):
        raise refused(bundle, f"its {SUMS} does not list {', '.join(missing)}")
    if foreign := sorted(sums.keys() - {*ALWAYS, *SOME}):
        raise refused(bundle, f"its {SUMS} lists {', '.join(foreign)}, which no bundle has")
    return sums


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bundle_sha256(bundle: Path) -> str:
    """What names a bundle by content: the SHA-256 of SHA256SUMS, which holds those of all other files."""
    return file_sha256(bundle / SUMS)


def refused(bundle: Path, why: str) -> BundleError:
    return BundleError(f"the bundle {bundle} is refused: {why}. Nothing of it was loaded; make or download it again")
