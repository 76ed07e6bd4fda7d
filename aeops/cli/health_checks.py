"""The checks behind `ae doctor`, each a question with an answer and what to type."""

import json
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
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
from aeops.registry.store import open_store


@dataclass(frozen=True)
class Finding:
    """One answer: `note` is worth knowing, `fault` stops a run."""

    level: Literal["good", "note", "fault"]
    what: str
    says: str
    type_this: str = ""


def check_all(project: Project) -> Iterator[Finding]:
    """Every check, cheapest first."""
    yield check_python()
    yield check_machine()
    yield check_packages(project)
    yield check_disk(project)
    yield check_lock(project)
    for name in recipe_names(project):
        yield from check_recipe(project, name)
    yield check_remote(project)
    yield check_prefect(project)
    yield from check_registry(project)


def check_python() -> Finding:
    given = platform.python_version()
    if platform.python_version_tuple()[:2] in (("3", "11"), ("3", "12")):
        return Finding("good", "python", given)
    return Finding("fault", "python", f"{given}; 3.11 and 3.12 are supported", "make clean && make run PYTHON=3.11")


def check_machine() -> Finding:
    facts = platform_info.platform_facts()
    gpu, torch = facts["platform.gpu"], facts["platform.torch"]
    says = f"{facts['platform.cpu']}, {facts['platform.threads']} threads, GPU: {gpu}, torch {torch}"
    if gpu != "none" and "+cpu" in torch:
        fix = "make clean, then without find-links for the CPU build: env -u PIP_FIND_LINKS -u UV_FIND_LINKS make run"
        return Finding("note", "machine", f"{says}: the GPU lies idle with a CPU build", fix)
    return Finding("good", "machine", says)


def check_packages(project: Project) -> Finding:
    """Every line of requirements.lock that applies to this machine, against what is installed."""
    lock = project.root / "requirements.lock"
    if not lock.is_file():
        return Finding("fault", "packages", "requirements.lock is missing", "git checkout requirements.lock")
    wrong = lock_differences(lock)
    if not wrong:
        return Finding("good", "packages", "as requirements.lock says")
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Finding("fault", "packages", f"not as locked: {'; '.join(wrong[:3])}{more}", "make clean && make run")


def check_disk(project: Project) -> Finding:
    place = project.home if project.home.exists() else project.home.parent
    free = shutil.disk_usage(place).free
    says = f"{free / 2**30:.1f} GiB free for {project.home}"
    if free < DISK_SPACE_NEEDED:
        return Finding(
            "fault",
            "disk",
            f"{says}; a run needs {DISK_SPACE_NEEDED / 2**20:.0f} MiB",
            "export AE_HOME=/a/folder/on/a/larger/disk",
        )
    return Finding("good", "disk", says)


def check_lock(project: Project) -> Finding:
    """Whether a run is going on: a fact, no fault."""
    holder = workspace_holder(project)
    if holder is None:
        return Finding("good", "run", "none going on")
    return Finding("note", "run", f"`{holder.get('purpose')}` is going on in process {holder.get('pid')}")


def check_recipe(project: Project, name: str) -> Iterator[Finding]:
    """Whether a recipe can be read, and whether its accepted dataset is what its receipt says."""
    try:
        recipe = load_recipe(project, name)
    except AeError as error:
        yield Finding("fault", "recipe", str(error), f"edit recipes/{name}.yaml")
        return
    folder = project.dataset(recipe.data.dataset)
    if not (folder / "receipt.json").is_file():
        yield Finding("note", name, "recipe is sound; no accepted dataset yet", f"ae run {name}")
        return
    receipt = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))
    if receipt["content_sha256"] != content_sha256(folder):
        yield Finding("fault", name, f"data/{folder.name} is not what its receipt says: something changed it", f"ae run {name}")
    else:
        yield Finding(
            "good", name, f"recipe is sound; dataset {receipt['content_sha256'][:12]}, {receipt['rows']['accepted']} rows"
        )


def check_remote(project: Project) -> Finding:
    remote = project.home / "dvc-remote"
    if not remote.is_dir():
        return Finding("note", "dvc", "the local remote is empty: nothing to restore data from yet", "ae run digits")
    return Finding("good", "dvc", f"local remote {remote}")


def check_prefect(project: Project) -> Finding:
    if address := find_running_prefect(project):
        return Finding("good", "prefect", f"server answers at {address}")
    return Finding("good", "prefect", "no server running: a run starts its own for as long as it needs it")


def check_registry(project: Project) -> Iterator[Finding]:
    """Whether the registry's database is whole and answers, and which champions it holds."""
    database = project.mlflow / "mlflow.db"
    if database.is_file() and (broken := database_fault(database)):
        yield Finding("fault", "mlflow", f"{database}: {broken}", f"mv {database} {database}.broken, restore a copy or run again")
        return
    try:
        store = open_store(project)
        store.require_readable()
        for name in recipe_names(project):
            champion = store.champion(name)
            if champion is None:
                yield Finding("note", name, "no champion yet", f"ae run {name}")
            else:
                yield Finding("good", name, f"champion is version {champion.version}")
    except AeError as error:
        yield Finding("fault", "mlflow", str(error), "ae up, or unset MLFLOW_TRACKING_URI")


def database_fault(database: Path) -> str:
    """What SQLite itself finds wrong with a file; empty where it is whole."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            answer = connection.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else str(answer)
