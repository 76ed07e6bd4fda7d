"""The checks of `ae doctor`, each with a result and the command that repairs it."""

import platform
import shlex
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from aeops.alerts.receivers import read_receivers, waiting_counts
from aeops.data.dataset import content_sha256
from aeops.data.dvc import find_foreign_remote, require_path_without_braces, require_whole_files
from aeops.data.listed_recipes import unknown_recipes
from aeops.drawing.words import format_count
from aeops.errors import AeError, DataError
from aeops.machine import platform_info
from aeops.machine.access import may_read, may_write, require_writable_checkout, require_writable_state
from aeops.machine.environment import DISK_SPACE_NEEDED
from aeops.machine.lock import runs_in_progress
from aeops.machine.servers import find_running_prefect
from aeops.machine.sqlite import read_only_uri
from aeops.machine.stored_json import find_damaged_files, read_json
from aeops.plugins import SETTINGS_FILE, own_parts
from aeops.project import Project
from aeops.project_files.templates import shipped_lock
from aeops.provenance.lineage import git_facts, unknown_code_message
from aeops.provenance.packages import installation_differences, lock_differences
from aeops.recipe.own_kinds import require_free_names
from aeops.recipe.project_settings import read_project_settings
from aeops.recipe.reader import load_recipe, recipe_names
from aeops.registry import ledger, promotion
from aeops.registry.database import database_file
from aeops.registry.store import Store, local_store_in_use, open_store, other_registry_address
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

    def __post_init__(self) -> None:
        if self.level == "fault" and not self.type_this:
            raise ValueError(f"the fault {self.message!r} names no command that repairs it")


def check_all(project: Project) -> Iterator[HealthCheck]:
    """Yield the result of every check, cheapest first."""
    yield check_python()
    yield check_machine()
    yield check_packages(project)
    yield check_disk(project)
    yield from check_access(project)
    yield check_lock(project)
    yield check_code(project)
    yield from check_state_files(project)
    yield from check_recipes(project)
    yield from check_settings(project)
    yield from check_listed_recipes(project)
    yield check_remote(project)
    yield check_prefect(project)
    yield from check_schedules(project)
    yield from check_registry(project)


def check_python() -> HealthCheck:
    """Check that this Python is a supported one."""
    python_version = platform.python_version()
    if platform.python_version_tuple()[:2] in (("3", "11"), ("3", "12")):
        return HealthCheck("good", "python", python_version)
    message = f"expected Python 3.11 or 3.12, got {python_version}"
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
    """Compare every line of requirements.lock that applies to this machine with what is installed.

    In a project of one's own, the lock that the installed package brings: other versions are a note, as they may do as well.
    """
    if not project.holds_code:
        return _check_installation()
    lock = project.root / "requirements.lock"
    if not lock.is_file():
        return HealthCheck("fault", "packages", "requirements.lock is missing", "git checkout requirements.lock")
    package_differences = lock_differences(lock)
    if not package_differences:
        return HealthCheck("good", "packages", "as requirements.lock says")
    return HealthCheck("fault", "packages", f"not as locked: {_shorten_list(package_differences)}", "make clean && make run")


def _check_installation() -> HealthCheck:
    lock = shipped_lock()
    if lock is None:
        message = "ae-pipeline was installed without the lock that its wheel brings"
        return HealthCheck("note", "packages", message, "install it from its wheel")
    differences = installation_differences(lock)
    if not differences:
        return HealthCheck("good", "packages", f"ae-pipeline {version('ae-pipeline')} with the packages that it was tested with")
    level: Literal["note", "fault"] = "fault" if any(text.endswith(" is missing") for text in differences) else "note"
    message = f"not those that ae-pipeline {version('ae-pipeline')} was tested with: {_shorten_list(differences)}"
    type_this = f"pip install --constraint {shlex.quote(str(lock))} ae-pipeline=={version('ae-pipeline')}"
    return HealthCheck(level, "packages", message, type_this)


def _shorten_list(differences: list[str]) -> str:
    text = "; ".join(differences[:3])
    return f"{text} and {len(differences) - 3} more" if len(differences) > 3 else text


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


def check_access(project: Project) -> Iterator[HealthCheck]:
    """Check that this user may write what a run writes; what only reads works without."""
    for require in (require_writable_state, require_writable_checkout):
        try:
            require(project)
        except AeError as error:
            yield HealthCheck("note", "access", f"`ae run` will stop: {error}", f"ls -ld {project.root} {project.home}")


def check_lock(project: Project) -> HealthCheck:
    """Report a run that is in progress; it is no fault."""
    runs = [f"`{run.get('purpose')}` is in progress in process {run.get('pid')}" for run in runs_in_progress(project)]
    if not runs:
        return HealthCheck("good", "run", "none in progress")
    return HealthCheck("note", "run", "; ".join(runs))


def check_code(project: Project) -> HealthCheck:
    """Check that a run can record which code it ran; it runs without."""
    if message := unknown_code_message(project):
        return HealthCheck("note", "code", message)
    metadata = git_facts(project)
    if not project.holds_code:
        message = (
            f"ae-pipeline {version('ae-pipeline')}, which every version's record holds; commit {metadata['git.commit'][:12]}"
        )
        return HealthCheck("good", "code", message)
    message = f"commit {metadata['git.commit'][:12]}"
    if metadata["git.dirty"] == "true":
        message += " with changes, which a run records as a patch"
    return HealthCheck("good", "code", message)


def check_state_files(project: Project) -> Iterator[HealthCheck]:
    """Report each file of state that is empty, cut or altered; one that is written anew by itself is no fault."""
    damaged_count = 0
    for damaged_file in find_damaged_files(project):
        damaged_count += 1
        level: Literal["note", "fault"] = "note"
        if damaged_file.is_vital:
            level = "fault"
        yield HealthCheck(level, "state", f"{damaged_file.path} is damaged ({damaged_file.reason})", damaged_file.type_this)
    try:
        require_whole_files(project)
    except DataError as error:
        damaged_count += 1
        yield HealthCheck("fault", "state", str(error), "git checkout data.dvc dvc.lock")
    if not damaged_count:
        yield HealthCheck("good", "state", "every file of it can be read")


def check_recipes(project: Project) -> Iterator[HealthCheck]:
    """Check every recipe; those that are valid and were never run here are named on one line together."""
    names, unused = recipe_names(project), []
    if not names:
        advice = "ae new NAME --from PATH; or write one: ae docs recipe-reference"
        yield HealthCheck("fault", "recipe", f"no recipe in {project.recipes}", advice)
    for name in names:
        for check in check_recipe(project, name):
            if check.level == "note" and not is_in_use(project, name):
                unused.append(name)
            else:
                yield check
    if unused:
        message = f"never run here: {', '.join(unused[:4])}"
        if len(unused) > 4:
            message = f"{len(unused)} valid ones were never run here"
        yield HealthCheck("note", "recipes", message, f"ae run {unused[0]}" if len(unused) == len(names) == 1 else "ae recipes")


def is_in_use(project: Project, name: str) -> bool:
    """Return whether a recipe has been run here: it has results, a ledger, or an inbox with files."""
    return project.artifacts(name).is_dir() or ledger.ledger_file(project, name).is_file()


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
    try:
        receipt = read_json(folder / "receipt.json", "content_sha256", "rows")
    except DataError as error:
        yield HealthCheck("fault", name, str(error), f"ae run {name}")
        return
    digest = receipt["content_sha256"]
    if digest != content_sha256(folder):
        message = f"data/{folder.name} does not match its receipt: it was changed after it was accepted"
        yield HealthCheck("fault", name, message, f"ae run {name}")
        return
    yield HealthCheck("good", name, f"recipe is valid; dataset {digest[:12]}, {format_count(receipt['rows']['accepted'], 'row')}")


def check_settings(project: Project) -> Iterator[HealthCheck]:
    """Check ae.yaml and the own parts that it names, and name those that are found."""
    try:
        read_project_settings(project.root)
        require_free_names()
        plugins = own_parts(project.root).plugins
    except AeError as error:
        yield HealthCheck("fault", "plugins", str(error), f"edit {project.root / SETTINGS_FILE}")
        return
    if plugins:
        yield HealthCheck("good", "plugins", f"own parts of {', '.join(plugins)}")
    for receiver in read_receivers(project):
        if receiver.problem:
            message = f"{receiver.target.name} cannot be notified from here: {receiver.problem}"
            yield HealthCheck("note", "notify", message, f"ae notify --test {receiver.target.name}")
    for row in waiting_counts(project):
        message = f"{row['receiver']} has not got {format_count(row['count'], 'notification')}, the oldest of {row['since']}"
        yield HealthCheck("note", "notify", message, "ae notify --retry")


def check_listed_recipes(project: Project) -> Iterator[HealthCheck]:
    """Report each recipe that params.yaml names and the project does not have: until the next run DVC reads no stage at all."""
    try:
        require_path_without_braces(project)
    except AeError as error:
        yield HealthCheck("fault", "dvc", str(error), "move the checkout")
    try:
        unknown_names = unknown_recipes(project)
    except AeError as error:
        yield HealthCheck("fault", "recipe", str(error), f"edit {project.root / 'params.yaml'}")
        return
    for name in unknown_names:
        message = f"params.yaml names the recipe {name}, and there is no recipes/{name}.yaml"
        yield HealthCheck("note", "recipe", f"{message}: the next run removes the line", "ae run RECIPE")


def check_remote(project: Project) -> HealthCheck:
    """Check that the local DVC remote exists in the state folder."""
    if foreign_remote := find_foreign_remote(project):
        message = f".dvc/config.local names {foreign_remote}, not {project.home / 'dvc-remote'}: a run corrects that"
        return HealthCheck("note", "dvc", message, "ae run RECIPE")
    remote = project.home / "dvc-remote"
    if not remote.is_dir() or not any(remote.iterdir()):
        return HealthCheck("note", "dvc", "the local remote is empty: no data can be restored from it yet", "ae run RECIPE")
    return HealthCheck("good", "dvc", f"local remote {remote}")


def check_prefect(project: Project) -> HealthCheck:
    """Report the address of the Prefect server; a missing one is no fault."""
    try:
        access = find_running_prefect(project)
    except AeError as error:
        return HealthCheck("fault", "prefect", str(error), "ae status")
    if access is not None:
        return HealthCheck("good", "prefect", f"server answers at {access.api_url}")
    return HealthCheck("good", "prefect", "no server running: each run starts its own and stops it at the end")


def check_schedules(project: Project) -> Iterator[HealthCheck]:
    """Report schedules whose hour the clocks skip once a year, which is no fault, and a prefect.yaml that cannot be read."""
    try:
        sentences = find_skipped_schedules(project, datetime.now(UTC))
    except AeError as error:
        yield HealthCheck("fault", "schedule", str(error), f"edit {project.root / 'prefect.yaml'}")
        return
    for sentence in sentences:
        yield HealthCheck("note", "schedule", sentence, "edit prefect.yaml, then ae up")


def check_registry(project: Project) -> Iterator[HealthCheck]:
    """Check that the registry's database is intact and answers; report the champion of each recipe."""
    database = database_file(project)
    if may_read(database) and may_write(database) and (database_problem := database_damage(database)):
        yield HealthCheck(
            "fault", "mlflow", f"{database}: {database_problem}", f"mv {database} {database}.broken, restore a copy or run again"
        )
        return
    if unused_address := other_registry_address():
        message = f"MLFLOW_REGISTRY_URI={unused_address} is not used: versions are where their runs are"
        yield HealthCheck("note", "mlflow", message, "unset MLFLOW_REGISTRY_URI")
    try:
        store = open_store(project)
        message = f"runs and versions are in {store.uri}"
        if store.is_read_only:
            message += ", which you may read and not write"
        yield HealthCheck("good", "mlflow", message)
        store.require_readable()
    except AeError as error:
        yield _mlflow_fault(error)
        return
    for name in recipe_names(project):
        try:
            for check in check_champion_state(store, name):
                if check.level != "note" or is_in_use(project, name):
                    yield check
        except AeError as error:  # of this recipe; the others are checked all the same
            yield replace(_mlflow_fault(error), subject=name)


def _mlflow_fault(error: AeError) -> HealthCheck:
    type_this = "ae status"
    if not local_store_in_use():
        type_this = "unset MLFLOW_TRACKING_URI"
    return HealthCheck("fault", "mlflow", str(error), type_this)


def check_champion_state(store: Store, name: str) -> Iterator[HealthCheck]:
    """Check a recipe's ledger, and that its champion is the ledger's, with its bundle whole; report clocks that were wrong."""
    problems = promotion.find_problems(store, name)
    for problem in problems:
        yield HealthCheck("fault", name, problem, f"ae ledger verify {name}")
    if problems:
        return
    entries = ledger.read_entries(store.project, name)
    for sentence in ledger.find_wrong_clocks(entries):
        yield HealthCheck("note", name, f"ledger: {sentence}; compare with another clock", "date")
    champion = store.champion(name)
    if champion is None:
        yield describe_missing_champion(name, entries)
    else:
        yield HealthCheck("good", name, f"champion is version {champion.version}; its bundle and the ledger are whole")


def describe_missing_champion(name: str, entries: Sequence[ledger.LedgerEntry]) -> HealthCheck:
    """Return that a recipe has no champion: with the reasons of the last refusal where a version was refused."""
    refusals = [entry for entry in entries if entry.event == "refusal"]
    if refusals:
        version = refusals[-1].version
        return HealthCheck("note", name, f"no champion: version {version} was refused", f"ae why {name}@{version}")
    return HealthCheck("note", name, "no champion yet", f"ae run {name}")


def database_damage(database: Path) -> str:
    """Return what SQLite's quick_check reports about a file; an empty string if it is intact."""
    try:
        with sqlite3.connect(read_only_uri(database), uri=True) as connection:
            message = str(connection.execute("PRAGMA quick_check").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)
    if message == "ok":
        return ""
    return message
