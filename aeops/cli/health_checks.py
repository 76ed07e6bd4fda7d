"""The checks of `ae doctor`, each with a result and the command that repairs it."""

import json
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from aeops.data.dataset import content_sha256
from aeops.errors import AeError
from aeops.machine import platform_info
from aeops.machine.environment import DISK_SPACE_NEEDED
from aeops.machine.lock import workspace_holder
from aeops.machine.servers import find_running_prefect
from aeops.project import Project
from aeops.provenance.packages import lock_differences
from aeops.recipe.reader import load_recipe, recipe_names
from aeops.registry import ledger, promotion
from aeops.registry.store import Store, open_store
from aeops.stack.schedules import find_skipped_schedules


@dataclass(frozen=True)
class HealthCheck:
    """The result of one check.

    Attributes:
        level: `fault` stops a run, `note` does not.
        subject: the thing that was checked, in one word.
        message: the result.
        type_this: the command to type, empty where nothing is to be done.
    """

    level: Literal["good", "note", "fault"]
    subject: str
    message: str
    type_this: str = ""


def check_all(project: Project) -> Iterator[HealthCheck]:
    """Yield the result of every check, cheapest first."""
    yield check_python()
    yield check_machine()
    yield check_packages(project)
    yield check_disk(project)
    yield check_lock(project)
    for name in recipe_names(project):
        yield from check_recipe(project, name)
    yield check_remote(project)
    yield check_prefect(project)
    yield from check_schedules(project)
    yield from check_registry(project)


def check_python() -> HealthCheck:
    """Check that this Python is a supported one."""
    version = platform.python_version()
    if platform.python_version_tuple()[:2] in (("3", "11"), ("3", "12")):
        return HealthCheck("good", "python", version)
    message = f"expected Python 3.11 or 3.12, got {version}"
    return HealthCheck("fault", "python", message, "make clean && make run PYTHON=3.11")


def check_machine() -> HealthCheck:
    """Check that torch uses the GPU where there is one."""
    platform_values = platform_info.platform_facts()
    gpu, torch_version = platform_values["platform.gpu"], platform_values["platform.torch"]
    message = (
        f"{platform_values['platform.cpu']}, {platform_values['platform.threads']} threads, GPU: {gpu}, torch {torch_version}"
    )
    if gpu != "none" and "+cpu" in torch_version:
        type_this = "make clean, then without find-links for the CPU build: env -u PIP_FIND_LINKS -u UV_FIND_LINKS make run"
        return HealthCheck("note", "machine", f"{message}: the GPU is not used, as torch is a CPU build", type_this)
    return HealthCheck("good", "machine", message)


def check_packages(project: Project) -> HealthCheck:
    """Compare every line of requirements.lock that applies to this machine with what is installed."""
    lock = project.root / "requirements.lock"
    if not lock.is_file():
        return HealthCheck("fault", "packages", "requirements.lock is missing", "git checkout requirements.lock")
    package_differences = lock_differences(lock)
    if not package_differences:
        return HealthCheck("good", "packages", "as requirements.lock says")
    message = f"not as locked: {'; '.join(package_differences[:3])}"
    if len(package_differences) > 3:
        message += f" and {len(package_differences) - 3} more"
    return HealthCheck("fault", "packages", message, "make clean && make run")


def check_disk(project: Project) -> HealthCheck:
    """Check that the disk of the state folder has enough space for a run."""
    folder = project.home
    if not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    message = f"{free_bytes / 2**30:.1f} GiB free for {project.home}"
    if free_bytes >= DISK_SPACE_NEEDED:
        return HealthCheck("good", "disk", message)
    message += f"; a run needs {DISK_SPACE_NEEDED / 2**20:.0f} MiB"
    return HealthCheck("fault", "disk", message, "export AE_HOME=/a/folder/on/a/larger/disk")


def check_lock(project: Project) -> HealthCheck:
    """Report a run that is in progress; it is no fault."""
    lock_info = workspace_holder(project)
    if lock_info is None:
        return HealthCheck("good", "run", "none in progress")
    return HealthCheck("note", "run", f"`{lock_info.get('purpose')}` is in progress in process {lock_info.get('pid')}")


def check_recipe(project: Project, name: str) -> Iterator[HealthCheck]:
    """Check that a recipe is valid and that its accepted dataset matches its receipt."""
    try:
        recipe = load_recipe(project, name)
    except AeError as error:
        yield HealthCheck("fault", "recipe", str(error), f"edit recipes/{name}.yaml")
        return
    folder = project.dataset(recipe.data.dataset)
    if not (folder / "receipt.json").is_file():
        yield HealthCheck("note", name, "recipe is valid; no accepted dataset yet", f"ae run {name}")
        return
    receipt = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))
    digest = receipt["content_sha256"]
    if digest != content_sha256(folder):
        message = f"data/{folder.name} does not match its receipt: it was changed after it was accepted"
        yield HealthCheck("fault", name, message, f"ae run {name}")
        return
    yield HealthCheck("good", name, f"recipe is valid; dataset {digest[:12]}, {receipt['rows']['accepted']} rows")


def check_remote(project: Project) -> HealthCheck:
    """Check that the local DVC remote exists."""
    remote = project.home / "dvc-remote"
    if not remote.is_dir():
        return HealthCheck("note", "dvc", "the local remote is empty: no data can be restored from it yet", "ae run digits")
    return HealthCheck("good", "dvc", f"local remote {remote}")


def check_prefect(project: Project) -> HealthCheck:
    """Report the address of the Prefect server; a missing one is no fault."""
    if address := find_running_prefect(project):
        return HealthCheck("good", "prefect", f"server answers at {address}")
    return HealthCheck("good", "prefect", "no server running: each run starts its own and stops it at the end")


def check_schedules(project: Project) -> Iterator[HealthCheck]:
    """Report schedules whose hour the clocks skip once a year; it is no fault."""
    for sentence in find_skipped_schedules(project, datetime.now(UTC)):
        yield HealthCheck("note", "schedule", sentence, "edit prefect.yaml, then ae up")


def check_registry(project: Project) -> Iterator[HealthCheck]:
    """Check that the registry's database is intact and answers; report the champion of each recipe."""
    database = project.mlflow / "mlflow.db"
    if database.is_file() and (database_problem := database_damage(database)):
        yield HealthCheck(
            "fault", "mlflow", f"{database}: {database_problem}", f"mv {database} {database}.broken, restore a copy or run again"
        )
        return
    try:
        store = open_store(project)
        store.require_readable()
        for name in recipe_names(project):
            yield from check_champion(store, name)
    except AeError as error:
        yield HealthCheck("fault", "mlflow", str(error), "ae up, or unset MLFLOW_TRACKING_URI")


def check_champion(store: Store, name: str) -> Iterator[HealthCheck]:
    """Check a recipe's ledger, and that its champion is the ledger's, with its bundle whole; report clocks that were wrong."""
    problems = promotion.find_problems(store, name)
    for problem in problems:
        yield HealthCheck("fault", name, problem, f"ae run {name}, or what this line says; then ae ledger verify {name}")
    if problems:
        return
    entries = ledger.read_entries(store.project, name)
    for sentence in ledger.find_wrong_clocks(entries):
        yield HealthCheck("note", name, f"ledger: {sentence}", "date, and compare with another clock")
    champion = store.champion(name)
    if champion is None:
        yield HealthCheck("note", name, "no champion yet", f"ae run {name}")
    else:
        yield HealthCheck("good", name, f"champion is version {champion.version}; its bundle and the ledger are whole")


def database_damage(database: Path) -> str:
    """Return what SQLite's quick_check reports about a file; an empty string if it is intact."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            message = str(connection.execute("PRAGMA quick_check").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)
    if message == "ok":
        return ""
    return message
