"""The data of a version, by hash from the DVC remote, and the files beside it that its studies read."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aeops.data import dvc
from aeops.data.dataset import content_sha256
from aeops.errors import AeError, DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.provenance.rebuild.record import Record

NAMED = 5  # missing objects that a message names


def missing_objects(remote: Path, folder_md5: str, dataset: str) -> list[str]:
    """Return what a remote in a folder lacks of a dataset, or holds altered.

    Args:
        remote: the remote's folder.
        folder_md5: of data/, as data.dvc records it: `<md5>.dir`, which names the object that lists the files.
        dataset: the folder in data/ that is asked for.
    """
    if fault := object_fault(remote, folder_md5):
        return [f"the list of the files of data/ ({fault})"]
    listed = json.loads(object_file(remote, folder_md5).read_text(encoding="utf-8"))
    files = {entry["relpath"]: entry["md5"] for entry in listed if entry["relpath"].startswith(f"{dataset}/")}
    if not files:
        return [f"data/{dataset}, which {folder_md5} does not list"]
    return [f"data/{name} ({fault})" for name, md5 in sorted(files.items()) if (fault := object_fault(remote, md5))]


def object_file(remote: Path, md5: str) -> Path:
    return remote / "files" / "md5" / md5[:2] / md5[2:]


def object_fault(remote: Path, md5: str) -> str:
    """Describe what is wrong with an object; empty if nothing is."""
    file = object_file(remote, md5)
    if not file.is_file():
        return f"{md5} is missing"
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "" if found == md5.removesuffix(".dir") else f"{md5} is altered"


def demand_data(project: Project, record: Record, configuration: Path) -> None:
    """Raise DataError with every object that the remote lacks, where the remote is a folder; another one is asked by pulling."""
    remote = dvc.remote_of(project, configuration)
    if "://" in remote:
        return
    md5 = str(yaml.safe_load(record.recorded()["data.dvc"].read_text(encoding="utf-8"))["outs"][0]["md5"])
    if missing := missing_objects(Path(remote), md5, record.dataset):
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DataError(f"the DVC remote {remote} lacks {', '.join(missing[:NAMED])}{more}: put them back from a copy of it")


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
    found, recorded = content_sha256(clone.dataset(record.dataset)), record.tags["data.content_sha256"]
    if found != recorded:
        raise DataError(f"data/{record.dataset} of the remote has the content {found[:12]}; {recorded[:12]} is recorded")


# ---------------------------------------------------------------- files that studies read


def borrow_sources(project: Project, record: Record, clone: Project) -> None:
    """Make the files that the recipe's studies read findable in the clone, by links into its state folder.

    Raises:
        DataError: every one of them that is not found, or is another file now.
    """
    recipe = yaml.safe_load(record.recipe_file.read_text(encoding="utf-8"))
    faults = []
    for path, sha256 in study_files(recipe.get("evaluate") or {}):
        try:
            found = project.find_source(path)
        except DataError as error:
            faults.append(str(error))
            continue
        if file_sha256(found) != sha256:
            faults.append(f"{found} is another file than the recipe knows: SHA-256 {sha256[:12]} is recorded")
            continue
        link = clone.home / "sources" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(found.resolve())
    if faults:
        raise DataError("; ".join(faults))


def study_files(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each `name: path` with a `name_sha256` beside it, anywhere in a section: (path, SHA-256)."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from study_files(value)
        elif f"{key}_sha256" in section:
            yield str(value), str(section[f"{key}_sha256"])
