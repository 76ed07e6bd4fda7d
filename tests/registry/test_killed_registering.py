"""Registering and promoting are exactly-once: killed at any line of ours and typed again, they end as if nothing had happened."""

import gc
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.database import database_file
from aeops.registry.ledger import Decision
from aeops.registry.store import Store, open_store

REGISTRY = str(Path(promotion.__file__).parent)
DATASET = {"dataset": "digits", "content_sha256": "c" * 64}
ADA = {"who": "ada", "why": "as tried"}


class Watch:
    """A trace function that notes each line of aeops/registry when it first comes, and calls `at` with its number, from 1 on."""

    def __init__(self, at: Callable[[int], object]) -> None:
        self.lines: dict[tuple[str, int], str] = {}  # and the function that each is in
        self.at = at

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> "Watch | None":
        if not frame.f_code.co_filename.startswith(REGISTRY):
            return None
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            if line not in self.lines:
                self.lines[line] = frame.f_code.co_name
                self.at(len(self.lines))
        return self


def in_a_child(work: Callable[[], object], problem: str = "") -> None:
    """Run the work in a fork and wait until it is done."""
    child = os.fork()
    if child == 0:
        code = 1
        gc.disable()  # a collection would touch, and so copy, all memory shared with the parent
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001  # nothing of pytest's may run in the fork
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, f"the work failed; its traceback is above: {problem}"


def watched(work: Callable[[], object], note: Path, at: Callable[[int], object]) -> list[list[Any]]:
    """Do the work in a child; return file, number and function of each line that it came through."""

    def work_and_note() -> None:
        watch = Watch(at)
        sys.settrace(watch)
        work()
        sys.settrace(None)
        came = [(Path(file).name, line, function) for (file, line), function in watch.lines.items()]
        note.write_text(json.dumps(came), encoding="utf-8")

    in_a_child(work_and_note)
    return list(json.loads(note.read_text(encoding="utf-8")))


def chosen_places(functions: list[str], most: int, every_write: bool) -> list[int]:
    """The lines, counted from 1, at which to kill: `most` of them, evenly spread.

    Args:
        functions: in which each line is, in the order in which the lines first come.
        every_write: kill at every line from the first write on, the announcement, and spread over those before it.
    """
    until = functions.index("set_model_tag") if every_write else len(functions)
    spread = {round(1 + step * (until - 1) / (most - 1)) for step in range(most)}
    return sorted(spread | set(range(until + 1, len(functions) + 1)))


def killed_everywhere(
    work: Callable[[Project], object],
    check: Callable[[Project], None],
    fresh: Callable[[str], Project],
    most: int,
    step: int,
    every_write: bool = False,
) -> None:
    """Do the work once to its end; then take what it leaves when it is killed at some of its lines, do it again, and check.

    A killed process leaves its files as they are at that moment. So the work is done once more, and at each
    of the lines another process copies the project.

    Args:
        step: kill at each `step`-th of the chosen lines only.
    """

    def finish(project: Project) -> None:
        work(project)
        check(project)

    whole = fresh("whole")
    note, left = whole.root.with_name("lines.json"), whole.root.with_name("left")
    lines = watched(lambda: work(whole), note, lambda _: None)
    in_a_child(lambda: check(whole))
    places = chosen_places([function for _, _, function in lines], most, every_write)[::step]
    assert places
    project = fresh("killed")

    def copy_at(number: int) -> None:
        if number in places:
            # In another process, as closing a file in this one would give up SQLite's locks on it.
            in_a_child(lambda: shutil.copytree(project.root, left / str(number), symlinks=True))

    watched(lambda: work(project), note, copy_at)
    for place in places:
        shutil.rmtree(project.root)
        (left / str(place)).rename(project.root)
        in_a_child(lambda: finish(project), f"killed at {lines[place - 1]}, line {place} of {len(lines)}")


def held(project: Project) -> tuple[list[str], str | None, list[str], list[str]]:
    """Versions, champion, events of the ledger, and faults."""
    store = open_store(project)
    champion = store.champion("digits")
    return (
        [version.version for version in store.versions("digits")],
        champion.version if champion else None,
        [line.event for line in ledger.read_entries(project, "digits")],
        promotion.find_problems(store, "digits"),
    )


def test_registering_and_promoting_killed_at_any_line_is_one_version_and_one_promotion(
    bundle: Callable[..., Path], empty_database: Path, tmp_path: Path, three_versions: Project, kill_step: int
) -> None:
    assert three_versions  # asked for so that MLflow has registered once here: what it looks up then, no child has to
    place = bundle()

    def work(project: Project) -> None:
        store = open_store(project)
        run = store.start_run("digits", {}, {}, DATASET)
        version = store.register(run, "digits", place, {"verdict": "accepted"}, "# digits")
        store.set_alias("digits", "challenger", version)
        evidence = {"sha256": "e" * 64}
        promotion.promote(store, "digits", version, expected=None, who="ada", why="the first", evidence=evidence)

    def fresh(name: str) -> Project:
        project = Project(root=tmp_path / name, home=tmp_path / name / ".ae")
        project.mlflow.mkdir(parents=True)
        shutil.copyfile(empty_database, database_file(project))
        return project

    def check(project: Project) -> None:
        assert held(project) == (["1"], "1", ["promotion"], [])

    killed_everywhere(work, check, fresh, most=36, step=kill_step)


def promote(store: Store) -> None:
    promotion.promote(store, "digits", "3", expected="2", evidence={"sha256": "a" * 64}, **ADA)


def refuse(store: Store) -> None:
    promotion.record_decision(store, Decision("refusal", "digits", "3", evidence={"sha256": "a" * 64}, **ADA))


def roll_back(store: Store) -> None:
    promotion.rollback(store, "digits", None, **ADA)


def retire(store: Store) -> None:
    promotion.retire(store, "digits", **ADA)


# The move, the champion it leaves, and at how many lines it is killed; the first also at every line of the writing all share.
MOVES: dict[str, tuple[Callable[[Store], None], str | None, int]] = {
    "promotion": (promote, "3", 12),
    "rollback": (roll_back, "1", 10),
    "retirement": (retire, None, 6),
    "refusal": (refuse, "2", 6),
}


@pytest.mark.parametrize("event", [pytest.param(move, marks=pytest.mark.long if move != "promotion" else ()) for move in MOVES])
def test_a_move_killed_at_any_line_and_typed_again_is_one_line_of_the_ledger(
    event: str, five_decisions: Project, copy_state: Callable[[Project, Project], None], tmp_path: Path, kill_step: int
) -> None:
    move, champion, most = MOVES[event]
    before = [line.event for line in ledger.read_entries(five_decisions, "digits")]

    def fresh(name: str) -> Project:
        project = Project(root=tmp_path / name, home=tmp_path / name / ".ae")
        copy_state(five_decisions, project)
        return project

    def check(project: Project) -> None:
        assert held(project) == (["3", "2", "1"], champion, [*before, event], [])

    killed_everywhere(lambda project: move(open_store(project)), check, fresh, most, kill_step, every_write=event == "promotion")
