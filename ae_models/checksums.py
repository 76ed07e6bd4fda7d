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

__all__ = [
    "CHECKSUM_FILE",
    "NumpyArray",
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
    optional=("decoder.onnx", "tokenizer.json"),  # from format 2 on, or of texts
    remedy="make or download it again",
)
_TRAINING = _FolderLayout(
    "training",
    required=("history.csv", "trail.csv", "training.json", "weights.safetensors"),
    optional=("tokenizer.json",),  # of texts
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
    names = sorted(path.name for path in folder.iterdir() if path.name != CHECKSUM_FILE)
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUM_FILE).write_text("".join(lines), encoding="utf-8")


def verify_bundle(bundle: Path) -> dict[str, str]:
    """Check that the folder holds exactly the files that its SHA256SUMS lists, byte for byte.

    Returns:
        File name -> SHA-256 in hex.

    Raises:
        BundleError: naming every file that is missing, surplus or altered.
    """
    return _verify_folder(bundle, _BUNDLE)


def verify_training(folder: Path) -> dict[str, str]:
    """Check the result of a training as `verify_bundle` checks a bundle."""
    return _verify_folder(folder, _TRAINING)


def _verify_folder(folder: Path, layout: _FolderLayout) -> dict[str, str]:
    checksums = _read_checksums(folder, layout)
    paths = {}
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            paths[path.relative_to(folder).as_posix()] = path
    paths.pop(CHECKSUM_FILE)
    problems = [f"{name} is missing" for name in sorted(checksums.keys() - paths.keys())]
    problems += [f"{name} is not in {CHECKSUM_FILE}" for name in sorted(paths.keys() - checksums.keys())]
    for name in sorted(checksums.keys() & paths.keys()):
        if not _is_unaltered(paths[name], checksums[name]):
            problems.append(f"{name} was altered")
    if problems:
        raise _refused_folder(folder, layout, ", ".join(problems))
    return checksums


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
    return _read_checksums(bundle, _BUNDLE)


def _read_checksums(folder: Path, layout: _FolderLayout) -> dict[str, str]:
    try:
        lines = (folder / CHECKSUM_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
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
    return BundleError(f"the {layout.name} {folder} is refused: {reason}. Nothing of it was loaded; {layout.remedy}")


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
