"""Killed with kill -9 at any step and run again, scoring ends with each sample recorded once and one page about all of it."""

import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from aeops.predictions import prediction_store
from aeops.scoring import scoring_page  # brings matplotlib: here once, and not in every child

from .conftest import Room

CODE = (str(Path(scoring_page.__file__).parent), str(prediction_store.__file__))
STEPS = ("write_call", "run", "_begin_run", "_process_file", "_finish_run", "_refuse_file", "save")
EVERY, SPREAD = 3, 6  # of the lines of these functions each third, and so many of all lines


class Watch:
    """A trace function that notes each line of the code when it first comes, and kills the process at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.lines: dict[tuple[str, int], str] = {}  # and the function that each is in
        self.kill_at = kill_at

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> "Watch | None":
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            self.lines.setdefault((frame.f_code.co_filename, frame.f_lineno), frame.f_code.co_name)
            if len(self.lines) == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def in_a_child(room: Room, note: Path | None, kill_at: int | None = None) -> int:
    """Scores in a fork, and writes the functions of the lines it came through to `note`; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        gc.disable()  # a collection would touch, and so copy, all memory shared with the parent
        try:
            watch = Watch(kill_at)
            sys.settrace(watch if note or kill_at else None)
            room.run()
            sys.settrace(None)
            if note:
                note.write_text(json.dumps(list(watch.lines.values())))
            code = 0
        except BaseException:  # noqa: BLE001  # nothing of pytest's may run in the fork
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed; its traceback is above"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def fill(room: Room, digits: np.ndarray) -> None:
    room.clear()
    room.put("a.npy", digits[:7])
    room.put_bytes("b.npy", b"garbage")
    room.put("c.npy", digits[:7])  # the content of a.npy
    room.put("d.npy", digits[7:12])


def chosen(functions: list[str]) -> list[int]:
    """The lines, counted from 1, at which to kill."""
    steps = [place for place, function in enumerate(functions, start=1) if function in STEPS]
    return sorted(set(steps[::EVERY]) | set(np.linspace(1, len(functions), SPREAD).round().astype(int).tolist()))


@pytest.mark.timeout(1200)
def test_scoring_killed_at_any_step_and_run_again_records_each_sample_once(
    room: Room, digits: np.ndarray, tmp_path: Path, kill_step: int
) -> None:
    fill(room, digits)
    note = tmp_path / "lines.json"
    assert in_a_child(room, note) == 0
    functions = json.loads(note.read_text())
    expected = room.rows()
    assert len(expected) == 12
    assert set(STEPS) <= set(functions)
    places = chosen(functions)[::kill_step]
    assert places
    for place in places:
        fill(room, digits)
        assert in_a_child(room, None, kill_at=place) == signal.SIGKILL
        assert in_a_child(room, None) == 0
        told = f"killed at line {place} of {len(functions)}, in {functions[place - 1]}"
        assert room.rows() == expected, told
        [line] = (room.folder / "refused.jsonl").read_text().splitlines()
        assert json.loads(line)["name"] == "b.npy", told
        known = json.loads((room.folder / "latest.json").read_text())
        assert [one["name"] for one in known["files"]["taken"]] == ["a.npy", "d.npy"], told
        assert [one["name"] for one in known["files"]["refused"]] == ["b.npy"], told
        assert [file.name for file in room.folder.glob("2*.html")] == [f"{known['run']}.html"], told
        left = [file.name for place in ("scoring", "predictions") for file in (room.project.home / place).rglob(".*")]
        assert left == [], told
        assert not (room.folder / "run.json").exists(), told
        assert room.run()["state"] == "nothing new", told
