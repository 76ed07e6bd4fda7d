"""Everything that a rebuild needs, found and checked before anything runs. All missing pieces are reported together."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aeops.errors import AeError, DataError, InfrastructureError
from aeops.machine.child_process import run_module
from aeops.project import Project
from aeops.provenance.rebuild.code import clone_code, put_recorded
from aeops.provenance.rebuild.data import borrow_sources, demand_data, pull_data
from aeops.provenance.rebuild.interpreter import python_for
from aeops.provenance.rebuild.record import Record, read_record
from aeops.provenance.rebuild_entry import VERSION, Description
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What to run, and what to compare the result with.

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
    description: Description
    python: str

    def differing(self) -> dict[str, tuple[str, str]]:
        """Return the platform tags in which this machine differs: recorded, here."""
        tags, here = self.record.tags, self.description["platform"]
        recorded = {name for name in tags if name.startswith("platform.")}
        differences = {}
        for name in sorted(recorded | here.keys()):
            pair = (tags.get(name, "not recorded"), here.get(name, "unknown"))
            if pair[0] != pair[1]:
                differences[name] = pair
        return differences


class Faults:
    """Collects what is missing, so that one message names all of it."""

    def __init__(self, found: list[str]) -> None:
        self.found = found

    def ask(self, question: Callable[[], T]) -> T | None:
        """Return the answer, or None after recording the error."""
        try:
            return question()
        except AeError as error:
            self.found.append(str(error))
            return None


def make_plan(project: Project, store: Store, recipe: str, version: VersionInfo, scratch: Path) -> Plan:
    """Check every piece and lay it out in the empty folder `scratch`.

    Raises:
        DataError: naming every missing piece; or the version records no entry point that this code knows.
    """
    entry = entry_module(project, recipe, version)
    record, missing = read_record(store, recipe, version, scratch / "record")
    faults = Faults(missing)
    bundle = faults.ask(lambda: store.download_bundle(recipe, version.version))
    clone = faults.ask(lambda: lay_out(project, record, scratch)) if "git.commit" in record.tags else None
    if is_there(record, "data.dvc") and {"data.dataset", "data.content_sha256"} <= record.tags.keys():
        faults.ask(lambda: get_data(project, record, clone))
    lock = record.recorded().get("requirements.lock")
    unread = lock is not None and not lock.is_file()  # named already
    python = None if unread else faults.ask(lambda: python_for(project, lock, record.tags.get("platform.python", "")))
    if clone is not None and record.recipe_file.is_file():
        faults.ask(lambda: borrow_sources(project, record, clone))
    described = None
    if clone is not None and python is not None and is_there(record, "dvc.lock"):
        described = faults.ask(lambda: describe(clone, entry, recipe, python))
    if faults.found:
        count = "a piece is" if len(faults.found) == 1 else f"{len(faults.found)} pieces are"
        raise DataError(f"{record.name} cannot be rebuilt, {count} missing:\n- " + "\n- ".join(faults.found))
    assert bundle is not None  # what is not there has left a fault
    assert clone is not None
    assert python is not None
    assert described is not None
    return Plan(record, bundle, clone, entry, described, python)


def entry_module(project: Project, recipe: str, version: VersionInfo) -> str:
    """Return the module by which the version's code is rebuilt.

    Raises:
        DataError: the version records none, or one that this code does not know.
    """
    name, recorded = f"{recipe}@{version.version}", version.tags.get("rebuild.entry")
    if recorded is None:
        commit = version.tags.get("git.commit", "COMMIT")
        raise DataError(
            f"{name} is older than the entry point of rebuilds: it has no tag rebuild.entry. Rebuild it with the code of its own "
            f"commit: type `git worktree add ../{recipe}-{version.version} {commit}`, and in that folder `make env` and "
            f"`AE_HOME={project.home} .venv/bin/ae rebuild {name}`"
        )
    module, _, number = recorded.partition("/")
    if number != str(VERSION) or not re.fullmatch(r"\w+(\.\w+)*", module):
        raise DataError(
            f"{name}: expected a tag rebuild.entry `MODULE/{VERSION}`, got {recorded!r}; a newer version of this project "
            "recorded it: update the code, then type the same command again"
        )
    return module


def is_there(record: Record, name: str) -> bool:
    file = record.recorded().get(name)
    return file is not None and file.is_file()


def lay_out(project: Project, record: Record, scratch: Path) -> Project:
    root = clone_code(project, record, scratch / "code")
    put_recorded(record, root)
    return Project(root=root, home=scratch / "state")


def get_data(project: Project, record: Record, clone: Project | None) -> None:
    """Checks the data in the remote, and gets it where there is a clone to put it in."""
    demand_data(project, record, (clone or project).root / ".dvc" / "config")
    if clone is not None:
        pull_data(project, record, clone)


def describe(clone: Project, entry: str, recipe: str, python: str) -> Description:
    """Return what the recorded code says of itself and of this machine under that interpreter.

    Raises:
        DataError: it does not run, or is not the code that the stages ran with.
    """
    arguments = [entry, "describe", recipe]
    try:
        output = run_module(
            arguments, root=clone.root, home=clone.home, log=clone.logs / "describe.log", python=python, other_version=True
        )
    except InfrastructureError as error:
        raise DataError(f"the recorded code does not run under {python}: {str(error).splitlines()[-1]}") from error
    described: Description = json.loads(output.splitlines()[-1])
    if changed := described["changed"]:
        raise DataError(
            "the recorded commit with its changes does not hold the code that the stages ran with, as their hashes in dvc.lock "
            f"show: {', '.join(changed)}"
        )
    return described
