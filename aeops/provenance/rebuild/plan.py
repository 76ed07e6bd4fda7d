"""Everything that a rebuild needs, found and checked before anything runs; every missing piece is named, all of them at once."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from aeops.data import dvc
from aeops.errors import AeError, DataError
from aeops.machine.child_process import child_environment
from aeops.project import Project
from aeops.provenance.rebuild.code import clone_code, put_recorded
from aeops.provenance.rebuild.data import borrow_sources, demand_data, pull_data
from aeops.provenance.rebuild.interpreter import python_for
from aeops.provenance.rebuild.record import Record, read_record
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

T = TypeVar("T")

FACTS = "import json; from aeops.provenance.lineage import platform_facts; print(json.dumps(platform_facts()))"


@dataclass(frozen=True)
class Plan:
    """What is to be run, and beside what its result is put.

    Attributes:
        record: what the registry holds of the version.
        bundle: the registered one, verified.
        clone: the code and the data in a scratch folder, with a state folder of their own.
        commands: of each stage in their order, what follows `python -m`, as dvc.lock recorded it.
        python: the interpreter with the recorded packages.
        machine: the platform.* tags that a version made here with this interpreter would have.
    """

    record: Record
    bundle: Path
    clone: Project
    commands: dict[str, list[str]]
    python: str
    machine: dict[str, str]

    def differing(self) -> dict[str, tuple[str, str]]:
        """The platform tags in which this machine is another: recorded, here."""
        recorded = {name: value for name, value in self.record.tags.items() if name.startswith("platform.")}
        names = sorted(recorded.keys() | self.machine.keys())
        pairs = {name: (recorded.get(name, "not recorded"), self.machine.get(name, "unknown")) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class Faults:
    """Collects what is missing, so that one look names all of it."""

    def __init__(self, found: list[str]) -> None:
        self.found = found

    def ask(self, question: Callable[[], T]) -> T | None:
        """The answer, or None with the reason noted."""
        try:
            return question()
        except AeError as error:
            self.found.append(str(error))
            return None


def make_plan(project: Project, store: Store, recipe: str, version: VersionInfo, scratch: Path) -> Plan:
    """Checks every piece and lays it out in the empty folder `scratch`.

    Raises:
        DataError: naming every missing piece.
    """
    record, missing = read_record(store, recipe, version, scratch / "record")
    faults = Faults(missing)
    bundle = faults.ask(lambda: store.download_bundle(recipe, version.version))
    clone = faults.ask(lambda: lay_out(project, record, scratch)) if "git.commit" in record.tags else None
    locked = record.recorded()
    if is_there(record, "data.dvc") and {"data.dataset", "data.content_sha256"} <= record.tags.keys():
        faults.ask(lambda: get_data(project, record, clone))
    commands = faults.ask(lambda: recorded_commands(locked["dvc.lock"], recipe)) if is_there(record, "dvc.lock") else None
    lock = locked.get("requirements.lock")
    unread = lock is not None and not lock.is_file()  # named already
    python = None if unread else faults.ask(lambda: python_for(project, lock, record.tags.get("platform.python", "")))
    if clone is not None and record.recipe_file.is_file():
        faults.ask(lambda: borrow_sources(project, record, clone))
    if clone is not None and commands is not None:
        faults.ask(lambda: demand_code(clone, recipe))
    machine = faults.ask(lambda: platform_of(clone, python)) if clone is not None and python is not None else None
    if faults.found:
        count = "a piece is" if len(faults.found) == 1 else f"{len(faults.found)} pieces are"
        raise DataError(f"{record.name} cannot be rebuilt, {count} missing:\n- " + "\n- ".join(faults.found))
    assert bundle is not None  # what is not there has left a fault
    assert clone is not None
    assert commands is not None
    assert python is not None
    assert machine is not None
    return Plan(record, bundle, clone, commands, python, machine)


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


def recorded_commands(lock: Path, recipe: str) -> dict[str, list[str]]:
    """What each stage ran, without the leading `python -m`.

    Raises:
        DataError: dvc.lock lacks a stage, or names a command of another form.
    """
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    faults, commands = [], {}
    for stage in dvc.STAGES:
        words = shlex.split(str(stages.get(f"{stage}@{recipe}", {}).get("cmd", "")))
        commands[stage] = words[2:]
        if words[:2] != ["python", "-m"]:
            faults.append(f"{stage}@{recipe}: {' '.join(words) or 'nothing'}")
    if faults:
        raise DataError(f"the recorded dvc.lock names no command `python -m ...` for {', '.join(faults)}")
    return commands


def demand_code(clone: Project, recipe: str) -> None:
    """Raises DataError where the code is not what the stages ran with: dvc.lock knows it by hash."""
    if changed := dvc.changed_code(clone, recipe):
        raise DataError(
            f"the recorded commit with its changes has not the code that the stages ran with, by dvc.lock: {', '.join(changed)}"
        )


def platform_of(clone: Project, python: str) -> dict[str, str]:
    """What the clone's own code says of this machine under that interpreter.

    Raises:
        DataError: it does not run.
    """
    command = [python, "-c", FACTS]
    settings = child_environment(clone.home, python)
    done = subprocess.run(command, cwd=clone.root, env=settings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"the recorded code does not run under {python or sys.executable}: {last}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
