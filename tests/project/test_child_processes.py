"""Child processes, and those that are started ahead of their turn: they work once told to, and outlive nobody.

A parent may be killed at any moment, also while its child still starts: see `the_first_100_ms`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from checkout import ROOT, wait_for

from aeops.errors import InfrastructureError, InternalError, UsageError
from aeops.gate.rules import answer_in_fresh_process
from aeops.machine.child_process import PreloadedProcess, run_module, tied_command
from aeops.machine.parent_process import PARENT_VARIABLE
from aeops.machine.process_identity import this_process
from aeops.project import Project
from aeops.stack.service_manager import start_process

STAGE = "aeops.stages.ingest"
NAME_YOURSELF = "from aeops.machine.process_identity import this_process; print(this_process().text)"


@pytest.fixture
def ahead(tmp_path: Path) -> Callable[[str], PreloadedProcess]:
    return lambda module: PreloadedProcess(module, root=ROOT, home=tmp_path / "home", log=tmp_path / "stage.log")


@pytest.mark.slow
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
        said_again = stage.run(["--help"])  # as of a step that is tried again
    assert "Source -> incoming dataset." in said
    assert said_again == said
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


# ---------------------------------------------------------------- parents that are killed at once

DELAYS = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1)  # seconds from the start of a child to the end of its parent
# Imports for a while, as a stage does, then works: it may not come so far without its parent.
SLOW_STAGE = """
import os, time
from pathlib import Path
time.sleep(0.4)
from aeops.machine.entry_point import run_main
def work():
    Path(f"worked-{os.getpid()}").touch()
    time.sleep(600)
run_main(work)
"""
# Starts its child and is killed with `kill -9` soon after.
SHORT_LIVED = """
import os, signal, sys, time
from pathlib import Path
{start}
time.sleep(float(sys.argv[-1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
START_A_MODULE = """
from aeops.machine.child_process import ChildProcess
child = ChildProcess(["slow_stage"], root=Path.cwd(), home=Path.cwd(), log=Path("log"), other_version={other_version})
"""
# As DVC starts a stage: through a shell, which here stays between the two.
START_BEHIND_A_SHELL = """
import subprocess
subprocess.Popen(["/bin/sh", "-c", f"{sys.executable} -m slow_stage; true"])
"""
START_A_PROGRAM = """
import subprocess
from aeops.machine.child_process import tied_command
subprocess.Popen(tied_command(["sleep", "600"]))
"""


def processes_in(folder: Path) -> list[psutil.Process]:
    """Every living process whose current folder is this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def assert_nothing_outlives(folder: Path, start: str, *launcher: str) -> None:
    """Run the short-lived parent once for each delay: soon nothing lives that it has started, and none of that has worked."""
    (folder / "slow_stage.py").write_text(SLOW_STAGE)
    (folder / "short_lived.py").write_text(SHORT_LIVED.format(start=start))
    parents = [subprocess.Popen([sys.executable, *launcher, "short_lived", str(delay)], cwd=folder) for delay in DELAYS]
    for parent in parents:
        assert parent.wait(timeout=60) == -signal.SIGKILL
    try:
        wait_for(lambda: not processes_in(folder), seconds=8)
    finally:
        for process in processes_in(folder):
            process.kill()
    assert not list(folder.glob("worked-*"))


@pytest.mark.parametrize("other_version", [False, True])
def test_no_child_outlives_a_parent_killed_in_the_first_100_ms(tmp_path: Path, other_version: bool) -> None:
    assert_nothing_outlives(tmp_path, START_A_MODULE.format(other_version=other_version), "-m")


def test_no_stage_behind_a_shell_outlives_a_dvc_killed_in_the_first_100_ms(tmp_path: Path) -> None:
    assert_nothing_outlives(tmp_path, START_BEHIND_A_SHELL, "-m", "aeops.machine.run_child")


def test_no_program_outlives_a_parent_killed_in_the_first_100_ms(tmp_path: Path) -> None:
    assert_nothing_outlives(tmp_path, START_A_PROGRAM, "-m")


def test_a_stage_behind_a_shell_dies_while_it_works(tmp_path: Path) -> None:
    (tmp_path / "slow_stage.py").write_text(SLOW_STAGE)
    (tmp_path / "waiting.py").write_text(f"import sys, time\n{START_BEHIND_A_SHELL}\ntime.sleep(600)")
    parent = subprocess.Popen([sys.executable, "-m", "aeops.machine.run_child", "waiting"], cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("worked-*")), seconds=30)
    stage = psutil.Process(int(next(tmp_path.glob("worked-*")).name.removeprefix("worked-")))
    parent.kill()
    parent.wait()
    wait_for(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE, seconds=8)


@pytest.mark.parametrize("stage", ["prepare", "train", "calibrate", "evaluate", "gate"])
def test_a_stage_of_a_dead_dvc_ends_before_it_has_imported_what_takes_seconds(stage: str) -> None:
    parent = subprocess.run([sys.executable, "-c", NAME_YOURSELF], cwd=ROOT, capture_output=True, text=True, check=True)
    command = f"{sys.executable} -X importtime -m aeops.stages.{stage}; exit $?"  # which a shell does not run in its own place
    environment = os.environ | {PARENT_VARIABLE: parent.stdout.strip()}
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGKILL
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "aeops.machine.parent_process" in imported
    assert not imported & {"torch", "numpy", "yaml", f"aeops.stages.{stage}"}


def test_a_tied_program_keeps_its_arguments_and_its_exit_code() -> None:
    done = subprocess.run(
        tied_command(["sh", "-c", "echo $0 $1; exit 3", "a b", "c"]), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "a b c\n")


def test_a_service_is_no_child_of_whoever_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, this_process().text)
    command = [sys.executable, "-c", f"import os; print(os.environ.get({PARENT_VARIABLE!r}))"]
    with (tmp_path / "output").open("wb") as output:
        start_process(Project(tmp_path, tmp_path), "page", command, {}, output=output).wait()
    assert (tmp_path / "output").read_text() == "None\n"


# ---------------------------------------------------------------- a check whose process is killed


def kill_checking_process() -> None:
    def found() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [child for child in children if "aeops.gate.rules" in child.cmdline()]

    wait_for(found, seconds=30)
    found()[0].kill()


def test_a_killed_check_is_a_failure_of_the_machine_and_no_refusal_of_the_bundle() -> None:
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_checking_process)
        with pytest.raises(InfrastructureError, match=r"checks whether the bundle can be served was killed \(signal 9"):
            answer_in_fresh_process(ROOT / "tests" / "fixtures" / "bundle-format-1")
        killing.result()
