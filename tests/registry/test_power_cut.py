"""After a power failure at any write, what the ledger says is there, and the same command ends as if nothing had happened."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import power_cut
import pytest
from fork_server import run_in_fork
from power_cut import Operation, PowerCut
from register_and_promote import EVIDENCE_FILE

from aeops.project import Project
from aeops.registry.database import database_file

TESTS = Path(__file__).parents[1]
SCRIPT = TESTS / "register_and_promote.py"
# What checks a cut, for a fork of a process that has the libraries: the forks of this one died now and then, of its threads.
CHECK = f"""
import runpy, sys
sys.path.insert(0, {str(TESTS)!r})
runpy.run_path({str(TESTS / "check_after_cut.py")!r}, run_name="__main__")
"""


Recording = tuple[Project, Path, PowerCut, list[Operation]]


@pytest.fixture
def recorded(tmp_path: Path, bundle: Callable[..., Path], empty_database: Path) -> Recording:
    """A project as it was before a bundle was registered and promoted, and the operations of that."""
    (tmp_path / "checkout").mkdir()
    root = (tmp_path / "checkout").resolve()
    project = Project(root=root, home=root / ".ae")
    project.mlflow.mkdir(parents=True)
    shutil.copyfile(empty_database, database_file(project))
    place = bundle()
    (place.parent / EVIDENCE_FILE).write_text("{}\n", encoding="utf-8")
    folder, before = PowerCut(root), PowerCut(root)
    operations = power_cut.record([sys.executable, str(SCRIPT), str(root), str(place)], root, tmp_path)
    for operation in operations:
        folder.apply(operation)
    assert folder.differences() == [], "the recorder missed a write"
    return project, place, before, operations


def chosen_cuts(operations: list[Operation], *, names_survive: bool, every_one: bool) -> list[int]:
    """Return after how many operations to cut: where that leaves something else than one before; three of them, or all."""
    letters = "scmurl" if names_survive else "s"
    places = [number for number, operation in enumerate(operations, 1) if operation.letter in letters]
    return places if every_one else [places[len(places) // 3], places[2 * len(places) // 3], places[-1]]


@pytest.mark.timeout(3600)  # where it cuts everywhere, a process for each cut
def test_registering_and_promoting_cut_at_any_write_ends_whole(recorded: Recording, kill_step: int) -> None:
    project, bundle, folder, operations = recorded
    chosen = {survive: chosen_cuts(operations, names_survive=survive, every_one=kill_step == 1) for survive in (False, True)}
    checked_states: set[str] = set()
    for number, operation in enumerate(operations, 1):
        folder.apply(operation)
        for names_survive, places in chosen.items():
            if number not in places:
                continue
            state = folder.fingerprint(names_survive=names_survive)
            if state in checked_states and number != places[-1]:
                continue
            checked_states.add(state)
            folder.restore(names_survive=names_survive)
            # MLflow keeps the database open, and the next cut replaces its file: so each is a process of its own.
            arguments = [str(project.root), str(bundle), *(["finished"] if number == max(places) else [])]
            check = run_in_fork("code", CHECK, *arguments, cwd=project.root, env=os.environ)
            described = f"operation {number} of {len(operations)}, names {'survive' if names_survive else 'are lost'}"
            assert check.returncode == 0, f"cut after {described}: exit code {check.returncode}, {check.stderr}"
