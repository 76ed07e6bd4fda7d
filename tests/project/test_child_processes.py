"""Child processes, and those that are started ahead of their turn: they work once told to, and outlive nobody."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from checkout import ROOT, wait_for

from aeops.errors import InternalError, UsageError
from aeops.machine.child_process import PreloadedProcess, run_module

STAGE = "aeops.stages.ingest"


@pytest.fixture
def ahead(tmp_path: Path) -> Callable[[str], PreloadedProcess]:
    return lambda module: PreloadedProcess(module, root=ROOT, home=tmp_path / "home", log=tmp_path / "stage.log")


def test_one_that_was_started_ahead_tells_what_one_started_now_tells(
    ahead: Callable[[str], PreloadedProcess], tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text("recipe: wrong\n", encoding="utf-8")
    arguments = ["--recipe", str(tmp_path / "wrong.yaml"), "--out", str(tmp_path / "out")]
    with pytest.raises(UsageError) as now:
        run_module([STAGE, *arguments], root=ROOT, home=tmp_path / "home", log=tmp_path / "stage.log")
    with ahead(STAGE) as stage:
        stage.start()
        with pytest.raises(UsageError) as then:
            stage.run(arguments)
    assert str(then.value) == str(now.value)
    assert "wrong.yaml" in str(then.value)


def test_what_it_prints_is_returned_and_logged(ahead: Callable[[str], PreloadedProcess], tmp_path: Path) -> None:
    with ahead(STAGE) as stage:
        said = stage.run(["--help"])
    assert "Source -> incoming dataset." in said
    assert (tmp_path / "stage.log").read_text(encoding="utf-8") == said


def test_one_that_nobody_wants_ends_with_its_block_and_writes_nothing(
    ahead: Callable[[str], PreloadedProcess], tmp_path: Path
) -> None:
    with ahead(STAGE) as stage:
        child = stage.start()
        assert stage.start() is child
        assert child.process.poll() is None
    assert child.process.returncode == -signal.SIGKILL
    assert not child.error_file.parent.exists()
    assert not (tmp_path / "home").exists()


def test_one_that_cannot_be_imported_says_why_when_its_turn_comes(ahead: Callable[[str], PreloadedProcess]) -> None:
    with ahead("aeops.stages.nowhere") as stage, pytest.raises(InternalError, match=r"No module named '\S+nowhere'"):
        stage.run([])


def test_one_that_was_never_begun_is_no_process(ahead: Callable[[str], PreloadedProcess]) -> None:
    with ahead(STAGE) as never:
        pass
    assert never.child is None


def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from aeops.machine.child_process import PreloadedProcess\n"
        f"stage = PreloadedProcess({STAGE!r}, root=Path({str(ROOT)!r}), "
        f"home=Path({str(tmp_path)!r}), log=Path({str(tmp_path / 'log')!r}))\n"
        "print(stage.start().process.pid, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout as said:
        started = psutil.Process(int(said.readline()))
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    wait_for(lambda: not started.is_running() or started.status() == psutil.STATUS_ZOMBIE)
