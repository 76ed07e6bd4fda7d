"""Plan of a rebuild: every piece is found and checked before anything runs. All missing pieces are reported together."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aeops.errors import AeError, DataError, InfrastructureError, InternalError
from aeops.machine.child_process import run_module
from aeops.project import Project
from aeops.provenance.lineage import with_lineage
from aeops.provenance.rebuild.code import lay_out_code, put_recorded
from aeops.provenance.rebuild.data import borrow_sources, pull_data, require_data
from aeops.provenance.rebuild.interpreter import python_for
from aeops.provenance.rebuild.record import Record, read_record
from aeops.provenance.rebuild_entry import ENTRY_VERSION, CodeDescription
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

T = TypeVar("T")
FORGOTTEN_TAG = "forgotten"  # of a version: what was forgotten of its data, when and why


@dataclass(frozen=True)
class RebuildPlan:
    """Stages to run, and the version to compare the result with.

    Attributes:
        record: what the registry holds of the version.
        bundle: the registered one, verified.
        clone: the code and the data in a scratch folder, with a state folder of their own.
        entry: the module to run stages by, see `aeops.provenance.rebuild_entry`.
        description: what it says of the recorded code and of this machine.
        python: the interpreter with the recorded packages.
    """

    record: Record
    bundle: Path
    clone: Project
    entry: str
    description: CodeDescription
    python: str

    def platform_differences(self) -> dict[str, tuple[str, str]]:
        """Return the platform tags in which this machine differs, as pairs of the recorded and the present value."""
        tags, platform_tags = self.record.tags, self.description["platform"]
        names = set(platform_tags)
        for name in tags:
            if name.startswith("platform."):
                names.add(name)
        differences = {}
        for name in sorted(names):
            pair = (tags.get(name, "not recorded"), platform_tags.get(name, "unknown"))
            if pair[0] != pair[1]:
                differences[name] = pair
        return differences


class ErrorCollector:
    """Collects error messages, so that one error names every missing piece."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages

    def attempt(self, function: Callable[[], T]) -> T | None:
        """Return the function's result, or None after recording its error."""
        try:
            return function()
        except AeError as error:
            self.messages.append(str(error))
            return None


def make_plan(project: Project, store: Store, recipe: str, version: VersionInfo, scratch_folder: Path) -> RebuildPlan:
    """Check every piece and lay it out in an empty folder.

    Args:
        project: the user's project.
        store: the registry.
        recipe: the model's name.
        version: to rebuild.
        scratch_folder: where record, code and state go.

    Raises:
        DataError: naming every missing piece; or the version records no entry point that this code knows.
    """
    if note := version.tags.get(FORGOTTEN_TAG):
        raise DataError(
            f"{recipe}@{version.version} cannot be rebuilt: samples of its data were forgotten ({note}), and no copy of it is "
            f"left: `ae history {recipe}` has the line of the ledger"
        )
    version = with_lineage(store, recipe, version)
    entry = entry_module(project, recipe, version)
    record, missing_pieces = read_record(store, recipe, version, scratch_folder / "record")
    errors = ErrorCollector(missing_pieces)
    bundle = errors.attempt(lambda: store.download_bundle(recipe, version.version))
    clone = None
    if "git.commit" in record.tags:
        clone = errors.attempt(lambda: _lay_out_code(project, record, scratch_folder))
    if _has_file(record, "data.dvc") and {"data.dataset", "data.content_sha256"} <= record.tags.keys():
        errors.attempt(lambda: _fetch_data(project, record, clone))
    python = _find_python(project, record, errors)
    if clone is not None and record.recipe_file.is_file():
        errors.attempt(lambda: borrow_sources(project, record, clone))
    description = None
    if clone is not None and python is not None and _has_file(record, "dvc.lock"):
        description = errors.attempt(lambda: describe_clone(clone, entry, recipe, python))
    if errors.messages:
        count = f"{len(errors.messages)} pieces are"
        if len(errors.messages) == 1:
            count = "a piece is"
        raise DataError(f"{record.name} cannot be rebuilt, {count} missing:\n- " + "\n- ".join(errors.messages))
    assert bundle is not None  # a missing piece has left an error
    assert clone is not None
    assert python is not None
    assert description is not None
    return RebuildPlan(record, bundle, clone, entry, description, python)


def _find_python(project: Project, record: Record, errors: ErrorCollector) -> str | None:
    """Return the interpreter to rebuild with; None after recording the error, or if the lock is already known to be missing."""
    lock = record.recorded_files().get("requirements.lock")
    if lock is not None and not lock.is_file():
        return None
    return errors.attempt(lambda: python_for(project, lock, record.tags.get("platform.python", "")))


def entry_module(project: Project, recipe: str, version: VersionInfo) -> str:
    """Return the module by which the version's code is rebuilt.

    Raises:
        DataError: the version records none, or one that this code does not know.
    """
    name, entry_tag = f"{recipe}@{version.version}", version.tags.get("rebuild.entry")
    if entry_tag is None:
        commit = version.tags.get("git.commit", "COMMIT")
        raise DataError(
            f"{name} is older than the entry point of rebuilds: it has no tag rebuild.entry. Rebuild it with the code of its own "
            f"commit: type `git worktree add ../{recipe}-{version.version} {commit}`, and in that folder `make env` and "
            f"`AE_HOME={project.home} .venv/bin/ae rebuild {name}`"
        )
    module, _, number = entry_tag.partition("/")
    if number != str(ENTRY_VERSION) or not re.fullmatch(r"\w+(\.\w+)*", module):
        raise DataError(
            f"{name}: expected a tag rebuild.entry `MODULE/{ENTRY_VERSION}`, got {entry_tag!r}; a newer version of this project "
            "recorded it: update the code, then type the same command again"
        )
    return module


def _has_file(record: Record, name: str) -> bool:
    file = record.recorded_files().get(name)
    return file is not None and file.is_file()


def _lay_out_code(project: Project, record: Record, scratch_folder: Path) -> Project:
    root = lay_out_code(project, record, scratch_folder / "code")
    put_recorded(record, root)
    return Project(root=root, home=scratch_folder / "state")


def _fetch_data(project: Project, record: Record, clone: Project | None) -> None:
    """Check the data in the remote, and pull it where there is a clone to put it in."""
    require_data(project, record, (clone or project).root / ".dvc" / "config")
    if clone is not None:
        pull_data(project, record, clone)


def describe_clone(clone: Project, entry: str, recipe: str, python: str) -> CodeDescription:
    """Return the description that the recorded code gives of itself and of this machine under that interpreter.

    Raises:
        DataError: it does not run, or is not the code that the stages ran with.
    """
    arguments = [entry, "describe", recipe]
    try:
        output = run_module(
            arguments, root=clone.root, home=clone.home, log=clone.logs / "describe.log", python=python, other_version=True
        )
    except (InfrastructureError, InternalError) as error:
        raise DataError(f"the recorded code does not run under {python}: {str(error).splitlines()[-1]}") from error
    description: CodeDescription = json.loads(output.splitlines()[-1])
    if changed_stages := description["changed"]:
        raise DataError(
            "the recorded commit with its changes does not hold the code that the stages ran with, as their hashes in dvc.lock "
            f"show: {', '.join(changed_stages)}"
        )
    return description
