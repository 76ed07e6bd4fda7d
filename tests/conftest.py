"""How the suite is spread over processes (`-n`): what shares a costly fixture stays together, the longest starts first. And what
no test may leave behind."""

import compileall
import gc
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import forked
import fresh_imports
import pytest
from checkout import FOREIGN, ROOT
from fork_server import ForkServer
from forked_python import ADDRESS
from shared_files import make_once, shared_folder

from aeops.machine import child_process
from aeops.machine.garbage_collection import collect_rarely
from aeops.machine.network import find_free_port
from aeops.machine.servers import TEMPORARY_SERVER, prefect_server_command, stop_server, wait_until_healthy
from aeops.machine.source_files import PACKAGES
from aeops.registry import database
from aeops.registry.locations import relocate_paths

# Two trainings at once share the cores: threads that wait must not spin. Set before torch loads, here and in children.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
gc.disable()  # until all tests are collected: half of that time would be collections
# Tests that ask onnxruntime themselves, past the door that says so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


# The files that take longest, as measured: begun last, one of them would leave the other cores idle.
LONGEST = (
    *("page/test_browser.py", "registry/test_killed_registering.py", "data/test_validate.py", "serving/test_shared_server.py"),
    *("serving/test_signing.py", "registry/test_promotion.py", "registry/test_champion_anchor.py", "registry/test_approval.py"),
    *("serving/test_servers.py", "project/test_architecture.py", "intake/test_killed_intake.py", "registry/test_power_cut.py"),
    *("scoring/test_killed_scoring.py", "registry/test_bundle_repair.py", "registry/test_store.py", "registry/test_ledger.py"),
    *("registry/test_tryout.py", "science/test_weight_hash_log.py", "serving/test_service_fuzz.py", "monitoring/test_look.py"),
    *("evaluation/test_series_zoom.py", "stack/test_parts.py", "science/test_workers.py", "intake/test_object_store.py"),
)


CREATE_DATABASE = database.create_database

# Tests of these folders are quick and do all in their own process. Coverage is measured in them alone: it costs two fifths more.
MEASURED = ("codec", "data", "evaluation", "intake")
# Files of other folders that are quick, too, and test what stands in the packages that are measured.
MEASURED_TOO = (
    "project/test_listed_recipes.py",
    "project/test_new_project.py",
    "project/test_plugins.py",
    "registry/test_pruning.py",
)
# Files in them that are left out: what they cover is covered by others, or their time is spent in other packages.
UNMEASURED = (
    *("codec/test_compress.py", "data/test_memory.py", "data/test_sources.py", "data/test_stage_code.py", "data/test_swap.py"),
    *("data/test_validate.py", "evaluation/test_codes.py", "evaluation/test_comparison.py", "evaluation/test_evaluate_stage.py"),
    *("evaluation/test_false_alarms.py", "evaluation/test_kinds_of_samples.py"),
    *("intake/test_killed_intake.py", "intake/test_object_store.py"),
)


# These folders and files share runs of whole pipelines and one Prefect server: in one process or, as they take longest, in two.
TOGETHER = ("pipeline", "monitoring/test_flow.py", "scoring/test_scoring_flow.py")
FIRST_HALF = ("pipeline/test_approval.py", "pipeline/test_dvc_command.py", "pipeline/test_first_run.py")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the project's code once, before many processes import it; also where Python is told to write no such files."""
    sys.dont_write_bytecode = False  # of the test modules, which pytest compiles itself
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job, whose children ignore Ctrl-C, too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        for package in PACKAGES:
            compileall.compile_dir(ROOT / package, quiet=2)


def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Let the processes of `-n` be forks of one that has loaded the libraries: loading them in each takes a minute."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # they share the cores as it is
    server = ForkServer()
    config.add_cleanup(server.close)
    os.environ[ADDRESS] = server.address
    forked_python = Path(__file__).with_name("forked_python.py")
    for spec in specs:
        spec.python = shlex.join([sys.executable, str(forked_python)])


def pytest_collection_finish() -> None:
    """Take what the imports made out of garbage collection, which would look at millions of objects again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()
    collect_rarely()


@pytest.hookimpl
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes of `-n auto`: one more than cores, as a tenth of the time is waiting for servers."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """What a command that runs within a test sets for its own process, such as where the state lies, ends with the test."""
    before = {name: os.environ.get(name) for name in FOREIGN}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def empty_prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of Prefect, made once for all processes. Servers take a copy."""

    def migrate(file: Path) -> None:
        settings = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{file}", "PREFECT_HOME": str(file.parent / "p")}
        command = [sys.executable, "-m", "aeops.machine.prefect_database"]
        subprocess.run(command, env=os.environ | settings, check=True, capture_output=True)

    database = shared_folder(tmp_path_factory) / "empty-prefect.db"
    make_once(database, migrate)
    return database


@pytest.fixture(scope="session")
def loaded_modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What modules load, as tests/fresh_imports.py finds it, once for all processes."""
    file = shared_folder(tmp_path_factory) / "loaded-modules.json"
    make_once(file, lambda made: subprocess.run([sys.executable, fresh_imports.__file__, str(made)], cwd=ROOT, check=True))
    return dict(json.loads(file.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def prefect_address(empty_prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server with a database of its own, as a run by hand starts it.

    Tests that stay together share one, as it takes seconds to start.
    """
    port, home = find_free_port(), tmp_path_factory.mktemp("prefect")
    shutil.copy(empty_prefect_database, home / "prefect.db")
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    child = subprocess.Popen(prefect_server_command(port), env=os.environ | TEMPORARY_SERVER | settings, cwd=home)
    address = f"http://127.0.0.1:{port}/api"
    try:
        wait_until_healthy(child, f"{address}/health")
        yield address
    finally:
        stop_server(child)


@pytest.fixture(scope="session")
def create_database() -> Callable[[Path, Path], None]:
    """What makes MLflow's database outside the tests; within them `_one_empty_database` stands in its place."""
    return CREATE_DATABASE


@pytest.fixture(scope="session", autouse=True)
def _one_empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give each project that a process of the tests opens a copy of one empty database of MLflow: making one takes seconds."""
    folder = shared_folder(tmp_path_factory)
    empty = folder / "empty-mlflow.db"

    def copy(file: Path, artifacts: Path) -> None:
        make_once(empty, lambda unfinished: CREATE_DATABASE(unfinished, artifacts))
        shutil.copyfile(empty, file)
        with closing(sqlite3.connect(file)) as connection:
            relocate_paths(connection, artifacts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "create_database", copy)
        yield


@pytest.fixture
def modules_in_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run_module` run modules in forks of this process, which has their imports."""
    monkeypatch.setattr(child_process, "subprocess", forked.subprocess_in_forks())


@pytest.fixture(params=[pytest.param(3, id="a-third-of-the-kills"), pytest.param(1, id="every-kill", marks=pytest.mark.long)])
def kill_step(request: pytest.FixtureRequest) -> int:
    """Return a step through the places at which a test kills a process: each third, or each one under `make test-long`."""
    return int(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Leave the tests that are not measured out of `--cov`."""
    plugin = item.config.pluginmanager.getplugin("_cov")
    controller = plugin.cov_controller if plugin else None
    in_folder = item.path.parent.name in MEASURED and short_name(item) not in UNMEASURED
    if controller is None or in_folder or short_name(item) in MEASURED_TOO:
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=place)  # stable: within a file the order stays


def short_name(item: pytest.Item) -> str:
    """Return the folder and the name of an item's file, as LONGEST and UNMEASURED name them."""
    return "/".join(item.path.parts[-2:])


def group_of(item: pytest.Item) -> str:
    """Return the name of the tests that one process runs one after the other: of a file, or of what stays together."""
    if not stays_together(item):
        return str(item.path)
    return "together" if short_name(item) in FIRST_HALF else "together, second half"


def stays_together(item: pytest.Item) -> bool:
    return item.path.parent.name in TOGETHER or short_name(item) in TOGETHER


def place(item: pytest.Item) -> int:
    """Return when an item's file is begun: a folder that stays together, the longest ones in their order, then all others."""
    if stays_together(item):
        return -1
    name = short_name(item)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of the crash matrix and of Ctrl-C at each step, for docs/reliability.md."""
    properties = [entry for report in terminalreporter.stats.get("passed", []) for entry in report.user_properties]
    trials = [value for name, value in properties if name == "crash_trial"]
    if trials:
        terminalreporter.section("crash matrix")
        terminalreporter.write_line("victim    trials  run ended  went on  slowest next run")
        for victim in dict.fromkeys(trial["victim"] for trial in trials):
            rows = [trial for trial in trials if trial["victim"] == victim]
            ended, slowest = sum(row["ended"] for row in rows), max(row["seconds"] for row in rows)
            terminalreporter.write_line(f"{victim:<10}{len(rows):>6}{ended:>11}{len(rows) - ended:>9}{slowest:>16.1f} s")
    if stopped := [value for name, value in properties if name == "seconds_after_ctrl_c"]:
        terminalreporter.section("seconds from Ctrl-C to the end")
        terminalreporter.write_line(", ".join(stopped))
