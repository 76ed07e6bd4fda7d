"""The code of a run that is in no git commit, as a zip file of its record: a rebuild needs no registry of packages for it.

In a project of one's own that is the installed package with the project's own parts; in a checkout, whose commit holds the
package, only own parts that were installed. Equal code makes equal bytes of each file, by which an archive is checked.
"""

import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import yaml

from aeops.data.dataset import lines_sha256
from aeops.data.own_code import all_own_files
from aeops.errors import DataError
from aeops.files import atomic_path, data_sha256
from aeops.machine.source_files import package_folder
from aeops.plugins import SETTINGS_FILE, own_parts
from aeops.project import Project

ARCHIVE_NAME = "code.zip"
CODE_PACKAGES = ("ae_models", "aeops", "flows")
SETTINGS_FILES = (".dvc/config",)  # of the project, which a rebuild needs beside the code
LEFT_OUT = ("__pycache__",)
SHIPPED_DOCS = "aeops/project_files/docs"  # pages for people, in an installed package
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file: when it was installed says nothing
MAX_BYTES = 256 * 2**20  # of an archive's files together, when it is unpacked


def archived_code(project: Project) -> dict[str, bytes]:
    """Return what an archive of the project's code holds: path in it -> content; empty for a checkout without own parts.

    Its ae.yaml names every plugin, those of installed packages included: their code is in the archive.
    """
    files = {} if project.holds_code else _package_files(project)
    contents = _read_all(files)
    plugins = own_parts(project.root).plugins
    if plugins:
        contents |= _read_all(all_own_files(project.root))
        contents[SETTINGS_FILE] = yaml.safe_dump({"plugins": plugins}).encode()
    return contents


def _read_all(files: Mapping[str, Path]) -> dict[str, bytes]:
    return {path: file.read_bytes() for path, file in files.items()}


def _package_files(project: Project) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for package in CODE_PACKAGES:
        folder = package_folder(project.root, package)
        if folder is None:
            raise DataError(f"the package {package} of this installation is not found: install ae-pipeline again")
        for file in folder.rglob("*"):
            path = f"{package}/{file.relative_to(folder).as_posix()}"
            if file.is_file() and not set(LEFT_OUT) & set(file.parts) and not path.startswith(f"{SHIPPED_DOCS}/"):
                files[path] = file
    for name in SETTINGS_FILES:
        if (project.root / name).is_file():
            files[name] = project.root / name
    return files


def code_facts(project: Project) -> dict[str, str]:
    """Return the tags on code that is in no commit: over what the archive holds, the package's version, and the plugins."""
    contents = archived_code(project)
    if not contents:
        return {}
    tags = {"code.sha256": _code_sha256(contents)}
    if not project.holds_code:
        tags["code.version"] = version("ae-pipeline")
    if plugins := own_parts(project.root).plugins:
        tags["code.plugins"] = ", ".join(plugins)
    return tags


def _code_sha256(contents: Mapping[str, bytes]) -> str:
    return lines_sha256({path: data_sha256(content) for path, content in contents.items()})


def write_code_archive(project: Project, archive: Path) -> None:
    """Write the archive, whole or not at all."""
    with atomic_path(archive) as tmp_path, zipfile.ZipFile(tmp_path, "w", zipfile.ZIP_DEFLATED) as stream:
        for path, content in sorted(archived_code(project).items()):
            stream.writestr(zipfile.ZipInfo(path, EPOCH), content, zipfile.ZIP_DEFLATED)


def unpack_code(archive: Path, folder: Path, expected_sha256: str) -> None:
    """Unpack an archive into a folder.

    Raises:
        DataError: it is damaged, has paths that lead elsewhere, or holds other code than the tag `code.sha256` says.
    """
    contents = _read_archive(archive)
    actual_sha256 = _code_sha256(contents)
    if actual_sha256 != expected_sha256:
        raise DataError(
            f"rebuild/{ARCHIVE_NAME} of its run is altered: expected code with SHA-256 {expected_sha256[:12]}, got "
            f"{actual_sha256[:12]}"
        )
    for path, content in contents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _leads_out(path: str) -> bool:
    """Return whether a path in an archive leads out of the folder that it is unpacked to."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def _read_archive(archive: Path) -> Mapping[str, bytes]:
    try:
        with zipfile.ZipFile(archive) as stream:
            entries = [entry for entry in stream.infolist() if not entry.is_dir()]
            if any(_leads_out(entry.filename) for entry in entries):
                raise DataError(f"rebuild/{ARCHIVE_NAME} of its run has paths that lead out of its folder: it was altered")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise DataError(f"rebuild/{ARCHIVE_NAME} of its run holds more than {MAX_BYTES / 2**20:.0f} MiB: it was altered")
            return {entry.filename: stream.read(entry) for entry in entries}
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise DataError(f"rebuild/{ARCHIVE_NAME} of its run is damaged: {error}") from error
