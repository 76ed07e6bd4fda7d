"""After a power failure at any write, what the ledger says is there, and the same command ends as if nothing had happened."""

import multiprocessing
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import power_cut
import pytest
from champion_helpers import stored_bundle
from power_cut import Operation, PowerCut
from register_and_promote import EVIDENCE_FILE, register_and_promote

from ae_models.checksums import bundle_sha256, verify_bundle
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.database import database_file
from aeops.registry.store import open_store

SCRIPT = Path(__file__).parents[1] / "register_and_promote.py"


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


def require_what_the_ledger_says(project: Project, bundle: Path) -> None:
    """What an entry of the ledger names is there, without any repair: version, bundle and evidence."""
    entries = ledger.read_content(project, "digits").entries
    if not entries:
        return
    store = open_store(project)
    version = store.version("digits", entries[-1].version)
    stored = stored_bundle(store, "digits", version.version)
    verify_bundle(stored)
    assert bundle_sha256(stored) == bundle_sha256(bundle) == version.tags["bundle_sha256"]
    assert store.files(version.run_id) == [EVIDENCE_FILE]


def repeat_and_check(project: Project, bundle: Path, was_finished: bool) -> None:
    """After a cut: check what the ledger names, do the work again, and check that it is there once."""
    require_what_the_ledger_says(project, bundle)
    if was_finished:
        assert promotion.find_problems(open_store(project), "digits") == []
        assert len(ledger.read_entries(project, "digits")) == 1
    register_and_promote(project, bundle)
    store = open_store(project)
    assert promotion.find_problems(store, "digits") == []
    assert [version.version for version in store.versions("digits")] == ["1"]
    assert [entry.event for entry in ledger.read_entries(project, "digits")] == ["promotion"]


def report_failure(said: Path, project: Project, bundle: Path, was_finished: bool) -> None:
    """Do `repeat_and_check`, and write how it failed: what a process of its own prints is lost under `-n`."""
    try:
        repeat_and_check(project, bundle, was_finished)
    except BaseException:
        said.write_text(traceback.format_exc(), encoding="utf-8")
        raise


@pytest.mark.timeout(3600)  # where it cuts everywhere, a process for each cut
def test_registering_and_promoting_cut_at_any_write_ends_whole(
    recorded: Recording, three_versions: Project, kill_step: int, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    assert three_versions  # asked for so that MLflow has registered once here: what it looks up then, no child has to
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
            check = multiprocessing.get_context("fork").Process(
                target=report_failure, args=(said, project, bundle, number == max(places))
            )
            check.start()
            check.join()
            described = f"operation {number} of {len(operations)}, names {'survive' if names_survive else 'are lost'}"
            assert check.exitcode == 0, f"cut after {described}: {said.read_text(encoding='utf-8')}"
