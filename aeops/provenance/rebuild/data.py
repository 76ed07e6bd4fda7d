"""Fetch the data of a version by hash from the DVC remote, and find the files that its studies read."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from aeops.data import dvc
from aeops.data.dataset import content_sha256
from aeops.errors import AeError, DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.provenance.rebuild.record import Record

MAX_NAMED = 5  # missing objects that a message names


@dataclass(frozen=True)
class RecordedFolder:
    """A folder as data.dvc records it.

    Attributes:
        path: data/<dataset>; of versions from before there was an entry for each dataset, data.
        md5: `<md5>.dir`, which names the object that lists the files.
    """

    path: str
    md5: str


def recorded_folder(record: Record) -> RecordedFolder:
    """Return the folder with the dataset of a version.

    Raises:
        DataError: the recorded data.dvc has no entry for it.
    """
    document = yaml.safe_load(record.recorded_files()["data.dvc"].read_text(encoding="utf-8"))
    for entry in document["outs"]:
        if entry["path"] in (f"data/{record.dataset}", "data") and "md5" in entry:
            return RecordedFolder(entry["path"], str(entry["md5"]))
    raise DataError(f"rebuild/data.dvc of its run records no data/{record.dataset}")


def missing_objects(remote: Path, folder: RecordedFolder, dataset: str) -> list[str]:
    """Return what a remote in a folder lacks of a dataset, or holds altered.

    Args:
        remote: the remote's folder.
        folder: that holds the dataset, as data.dvc records it.
        dataset: the folder in data/ that is asked for.
    """
    if problem := _check_object(remote, folder.md5):
        return [f"the list of the files of {folder.path}/ ({problem})"]
    md5_by_path = {}
    for entry in json.loads(_object_file(remote, folder.md5).read_text(encoding="utf-8")):
        path = f"{folder.path}/{entry['relpath']}"
        if path.startswith(f"data/{dataset}/"):
            md5_by_path[path] = entry["md5"]
    if not md5_by_path:
        return [f"data/{dataset}, which {folder.md5} does not list"]
    messages = []
    for path, md5 in sorted(md5_by_path.items()):
        if problem := _check_object(remote, md5):
            messages.append(f"{path} ({problem})")
    return messages


def _object_file(remote: Path, md5: str) -> Path:
    return remote / "files" / "md5" / md5[:2] / md5[2:]


def _check_object(remote: Path, md5: str) -> str:
    """Return the problem with an object of the remote; empty if there is none."""
    file = _object_file(remote, md5)
    if not file.is_file():
        return f"{md5} is missing"
    with file.open("rb") as stream:
        actual_md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual_md5 != md5.removesuffix(".dir"):
        return f"{md5} is altered"
    return ""


def require_data(project: Project, record: Record, configuration: Path) -> None:
    """Check the data in a remote that is a folder; another remote is checked by pulling.

    Args:
        project: whose remote is checked.
        record: of the version.
        configuration: the DVC configuration that names the remote.

    Raises:
        DataError: the remote lacks objects; the message names the first of them.
    """
    remote = dvc.remote_of(project, configuration)
    if "://" in remote:
        return
    messages = missing_objects(Path(remote), recorded_folder(record), record.dataset)
    if not messages:
        return
    names = ", ".join(messages[:MAX_NAMED])
    if len(messages) > MAX_NAMED:
        names += f" and {len(messages) - MAX_NAMED} more"
    raise DataError(f"the DVC remote {remote} lacks {names}: put them back from a copy of it")


def pull_data(project: Project, record: Record, clone: Project) -> None:
    """Pull the dataset from the remote into the clone.

    Raises:
        DataError: the remote does not have it, or its content is not what the tags name.
    """
    dvc.lend_remote(project, clone)
    try:
        dvc.in_clone(clone, "pull", f"data/{record.dataset}")
    except AeError as error:
        remote = dvc.remote_of(project, clone.root / ".dvc" / "config")
        raise DataError(f"data/{record.dataset} cannot be pulled from the DVC remote {remote}: {error}") from error
    actual_sha256 = content_sha256(clone.dataset(record.dataset))
    recorded_sha256 = record.tags["data.content_sha256"]
    if actual_sha256 != recorded_sha256:
        raise DataError(
            f"data/{record.dataset} of the remote: expected the recorded content {recorded_sha256[:12]}, got {actual_sha256[:12]}"
        )


# ---------------------------------------------------------------- files that a recipe names


def borrow_sources(project: Project, record: Record, clone: Project) -> None:
    """Make what the recipe's model, threshold and studies read findable in the clone, by links into its state folder.

    Raises:
        DataError: every one of them that is not found, or is another file now.
    """
    recipe = yaml.safe_load(record.recipe_file.read_text(encoding="utf-8"))
    problems = []
    sections = [recipe.get(name) or {} for name in ("model", "threshold", "evaluate")]
    files = dict(chain.from_iterable(map(named_files, sections)))  # the model and its rivals may share one
    for path, sha256 in files.items():
        try:
            source_file = project.find_source(path)
        except DataError as error:
            problems.append(str(error))
            continue
        if file_sha256(source_file) != sha256:
            problems.append(f"{source_file} is another file than the recipe knows: SHA-256 {sha256[:12]} is recorded")
            continue
        _link_source(clone, path, source_file)
    if problems:
        raise DataError("; ".join(problems))
    _borrow_data_source(project, recipe, clone)


def _borrow_data_source(project: Project, recipe: Mapping[str, Any], clone: Project) -> None:
    """Link the dataset's own source where it is found: a study may read it again, such as the masks of its images.

    Such a study checks itself that the file is the one of the samples, and says what is missing.
    """
    data_path = (recipe.get("data") or {}).get("source", {}).get("path")
    if not isinstance(data_path, str) or Path(data_path).is_absolute() or ".." in Path(data_path).parts:
        return
    for candidate in project.source_paths(data_path):
        if candidate.exists() and not (clone.home / "sources" / data_path).exists():
            _link_source(clone, data_path, candidate)


def _link_source(clone: Project, path: str, source_file: Path) -> None:
    link = clone.home / "sources" / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(source_file.resolve())


def named_files(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of each `name: path` with a `name_sha256` in the same mapping, anywhere in a section."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from named_files(value)
        elif f"{key}_sha256" in section:
            yield str(value), str(section[f"{key}_sha256"])
