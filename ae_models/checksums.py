"""Every SHA-256 of this package: of files, folders, tensors and samples. A bundle is verified before it is read, and so is the
result of a training.

Standard library only: the readers of recipes and serving load this module, too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_models.errors import BundleError
from ae_models.names import names_of

__all__ = [
    "CHECKSUM_FILE",
    "NumpyArray",
    "VerifiedBundle",
    "arrays_sha256",
    "bundle_sha256",
    "file_sha256",
    "json_sha256",
    "read_checksums",
    "refused_bundle",
    "refused_training",
    "tensor_sha256",
    "tensors_sha256",
    "verify_bundle",
    "verify_training",
    "write_checksums",
]

NumpyArray = Any  # numpy is not imported, not even for its types: recipes are read without it
CHECKSUM_FILE = "SHA256SUMS"


@dataclass(frozen=True)
class _FolderLayout:
    """Files of a folder with checksums.

    Attributes:
        name: of such a folder in messages.
        required: files that each has.
        optional: files that some have.
        remedy: next step where one must not be used.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    remedy: str


_BUNDLE = _FolderLayout(
    "bundle",
    required=("bundle.json", "model.onnx", "scorer.safetensors", "weights.safetensors"),
    optional=("backbone.onnx", "decoder.onnx", "tokenizer.json"),  # of a frozen network, from format 2 on, of texts
    remedy="make or download it again",
)
_TRAINING = _FolderLayout(
    "training",
    required=("history.csv", "trail.csv", "training.json", "weights.safetensors"),
    optional=("backbone.onnx", "tokenizer.json"),  # of a frozen network, of texts
    remedy="train again",
)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(document: Any) -> str:
    """Return the SHA-256 of a JSON-ready document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- bundles and trainings


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS over every file of the folder, sorted by name, in `sha256sum` format."""
    lines = []
    for name in sorted(names_of(folder.iterdir())):
        if name != CHECKSUM_FILE:
            lines.append(f"{file_sha256(folder / name)}  {name}\n")
    (folder / CHECKSUM_FILE).write_text("".join(lines), encoding="utf-8")


class VerifiedBundle:
    """A bundle that was verified once, and each of whose files is verified again as it is read.

    So what is loaded is what was verified, even if the folder is swapped or written to between the two.

    Attributes:
        folder: the bundle's.
        sha256: its name by content: the SHA-256 of SHA256SUMS.
        checksums: file name -> SHA-256 in hex.
    """

    def __init__(self, folder: Path) -> None:
        """Verify every file.

        Raises:
            BundleError: naming every file that is missing, surplus, altered or not readable.
        """
        checksum_text = _read_checksum_file(folder, _BUNDLE)
        self.folder = folder
        self.sha256 = hashlib.sha256(checksum_text).hexdigest()
        self.checksums = _parse_checksums(folder, _BUNDLE, checksum_text)
        _verify_files(folder, _BUNDLE, self.checksums)

    def __contains__(self, name: str) -> bool:
        return name in self.checksums

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            BundleError: the bundle has no such file, or it was altered since the bundle was verified.
        """
        if name not in self.checksums:
            raise refused_bundle(self.folder, f"it has no {name}")
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise refused_bundle(self.folder, f"{name} cannot be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != self.checksums[name]:
            raise refused_bundle(self.folder, f"{name} was altered")
        return data


def verify_bundle(bundle: Path) -> dict[str, str]:
    """Check that the folder holds exactly the files that its SHA256SUMS lists, byte for byte.

    Returns:
        File name -> SHA-256 in hex.

    Raises:
        BundleError: naming every file that is missing, surplus, altered or not readable.
    """
    return _verify_folder(bundle, _BUNDLE)


def verify_training(folder: Path) -> dict[str, str]:
    """Check the result of a training as `verify_bundle` checks a bundle."""
    return _verify_folder(folder, _TRAINING)


def _verify_folder(folder: Path, layout: _FolderLayout) -> dict[str, str]:
    checksums = _parse_checksums(folder, layout, _read_checksum_file(folder, layout))
    _verify_files(folder, layout, checksums)
    return checksums


def _verify_files(folder: Path, layout: _FolderLayout, checksums: Mapping[str, str]) -> None:
    """Raise BundleError unless the folder holds exactly these files, byte for byte."""
    paths = {}
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            paths[path.relative_to(folder).as_posix()] = path
    paths.pop(CHECKSUM_FILE, None)
    problems = []
    for name in sorted(checksums.keys() - paths.keys()):
        problems.append(f"{name} is missing")
    for name in sorted(paths.keys() - checksums.keys()):
        problems.append(f"{name} is not in {CHECKSUM_FILE}")
    for name in sorted(checksums.keys() & paths.keys()):
        try:
            if not _is_unaltered(paths[name], checksums[name]):
                problems.append(f"{name} was altered")
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
    if problems:
        raise _refused_folder(folder, layout, ", ".join(problems))


def _is_unaltered(path: Path, expected_sha256: str) -> bool:
    """Return whether a regular file has this SHA-256; a link never has, since its target may change."""
    return not path.is_symlink() and file_sha256(path) == expected_sha256


def read_checksums(bundle: Path) -> dict[str, str]:
    """Read SHA256SUMS of a bundle.

    Returns:
        File name -> SHA-256 in hex.

    Raises:
        BundleError: it is missing, not in `sha256sum` format, or does not list the files of a bundle and nothing else.
    """
    return _parse_checksums(bundle, _BUNDLE, _read_checksum_file(bundle, _BUNDLE))


def _read_checksum_file(folder: Path, layout: _FolderLayout) -> bytes:
    try:
        return (folder / CHECKSUM_FILE).read_bytes()
    except OSError as error:
        raise _refused_folder(folder, layout, f"its {CHECKSUM_FILE} cannot be read ({type(error).__name__})") from error


def _parse_checksums(folder: Path, layout: _FolderLayout, checksum_text: bytes) -> dict[str, str]:
    """Return the content of SHA256SUMS as `read_checksums` does."""
    try:
        lines = checksum_text.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _refused_folder(folder, layout, f"its {CHECKSUM_FILE} cannot be read ({type(error).__name__})") from error
    checksums = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise _refused_folder(folder, layout, f"its {CHECKSUM_FILE} is not in sha256sum's format")
        checksums[name] = digest
    if missing_files := sorted(set(layout.required) - checksums.keys()):
        raise _refused_folder(folder, layout, f"its {CHECKSUM_FILE} does not list {', '.join(missing_files)}")
    if unexpected_files := sorted(checksums.keys() - {*layout.required, *layout.optional}):
        names = ", ".join(unexpected_files)
        raise _refused_folder(folder, layout, f"its {CHECKSUM_FILE} lists {names}, which no {layout.name} has")
    return checksums


def bundle_sha256(bundle: Path) -> str:
    """Return the name of a bundle by content: the SHA-256 of SHA256SUMS, which holds those of all other files."""
    return file_sha256(bundle / CHECKSUM_FILE)


def refused_bundle(bundle: Path, reason: str) -> BundleError:
    """Return the error to raise for a bundle that must not be used."""
    return _refused_folder(bundle, _BUNDLE, reason)


def refused_training(folder: Path, reason: str) -> BundleError:
    """Return the error to raise for the result of a training that must not be used."""
    return _refused_folder(folder, _TRAINING, reason)


def _refused_folder(folder: Path, layout: _FolderLayout, reason: str) -> BundleError:
    message = f"the {layout.name} {folder} is refused: {reason}. Nothing of it was loaded; {layout.remedy}"
    return BundleError(message, reason)


# ---------------------------------------------------------------- arrays


def tensor_sha256(name: str, values: NumpyArray) -> str:
    """Return the SHA-256 of a tensor by content: the same in every file, memory order and byte order.

    It is that of name, dtype and shape as a line of JSON, then the values in C order, little-endian. An array without
    dimensions counts as one of a single value: weight files make no difference between the two.
    """
    canonical_values = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
    if canonical_values.ndim == 0:
        canonical_values = canonical_values.reshape(1)
    digest = hashlib.sha256(json.dumps([name, canonical_values.dtype.str, list(canonical_values.shape)]).encode() + b"\n")
    digest.update(canonical_values.data)
    return digest.hexdigest()


def tensors_sha256(tensors: Mapping[str, NumpyArray]) -> str:
    """Return the SHA-256 over those of the tensors, in the order of their names."""
    lines = [tensor_sha256(name, tensors[name]) + "\n" for name in sorted(tensors)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def arrays_sha256(dtype: Any, shape: tuple[int, ...], blocks: Iterable[NumpyArray]) -> str:
    """Return the SHA-256 of samples: of dtype and shape, then the values of the blocks that make up the whole, in C order."""
    digest = hashlib.sha256(f"{dtype} {shape}".encode())
    for block in blocks:
        digest.update(block.astype(block.dtype, order="C", copy=False).data)
    return digest.hexdigest()
