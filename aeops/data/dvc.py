"""The only module that calls DVC: its command line, in a subprocess. Call it while holding the run lock of what it touches.

Runs of several recipes may call it at once. DVC has a lock of its own, which it gives back while a stage's command works, and
claims of the paths that a stage reads and writes; whoever reads or changes data.dvc and dvc.lock here takes that lock, too.
"""

import configparser
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from aeops.data.pipeline_files import record_python
from aeops.data.stage_code import STAGES, write_code_hashes
from aeops.errors import DataError, InfrastructureError, TransientError, UsageError
from aeops.files import CLOCK_RESOLUTION, atomic_write, data_sha256, make_folder, sync_tree, write_json
from aeops.machine.child_process import run_module
from aeops.machine.lock import file_lock
from aeops.machine.process_identity import parse_identity, this_process
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project

BUSY = re.compile(r"is busy, it is being blocked by")  # in DVC's last lines: another DVC uses a path
BUSY_SECONDS = 2.0  # until it is tried again
# In DVC's last lines, of what may pass by itself: a stage that was killed, another DVC at work.
PASSING_FAILURES = re.compile(r"exited with (?:-\d+|137|143)\b|[Uu]nable to acquire lock")

OWN_SETTINGS = "[core]\n    no_scm = true\n    autostage = false\n    analytics = false\n    check_update = false\n"
PLAIN_PATH = re.compile(r"[\w./+-]+")
DATA_FILE, LOCK_FILE = "data.dvc", "dvc.lock"
WHOLE_DATA = "data"  # the folder of all datasets
WRITING_COMMANDS = ("add", "push", "repro")


def dvc(project: Project, *arguments: str, on_poll: Callable[[], None] | None = None) -> str:
    """Run one DVC command and return what it printed.

    Args:
        project: where the command runs.
        arguments: the command and its arguments, such as "push", "data/digits".
        on_poll: called again and again while the command runs.

    Raises:
        AeError: what a stage in it reported, else as `run_module` does with DVC's last lines.
    """
    free_stale_lock(project)
    with file_lock(project, "dvc-settings"):
        keep_state_in_home(project)
        use_own_settings(project)
        record_python(project)
    log = project.logs / log_name(arguments)
    while True:
        try:
            with _synced_writes(project, arguments[0]):
                command = ["dvc", "--wait-for-lock", *arguments]
                return run_module(command, root=project.root, home=project.home, log=log, on_poll=on_poll)
        except InfrastructureError as error:
            if BUSY.search(str(error)):  # such as the entries of data.dvc, which DVC claims all at once
                time.sleep(BUSY_SECONDS)
                continue
            if PASSING_FAILURES.search(str(error)):
                raise TransientError(str(error)) from error
            raise


def log_name(arguments: Sequence[str]) -> str:
    """Return the name of the file with a command's output: of each recipe or dataset its own, as runs may work at once.

    >>> log_name(["repro", "--single-item", "train@digits"]), log_name(["add", "data/digits"]), log_name(["gc"])
    ('dvc-repro-digits.log', 'dvc-add-digits.log', 'dvc-gc.log')
    """
    name = re.split("[@/]", arguments[-1])[-1] if len(arguments) > 1 else ""
    return f"dvc-{arguments[0]}-{name}.log" if name else f"dvc-{arguments[0]}.log"


_own_locks: dict[Path, int] = {}  # of this process, so that what holds DVC's lock may call what takes it


@contextmanager
def dvc_lock(project: Project) -> Iterator[None]:
    """Hold DVC's own lock, so that no DVC changes data.dvc, dvc.lock or its cache meanwhile; never while calling `dvc`.

    The file is that of DVC's library zc.lockfile, which takes it by flock, as is done here.
    """
    file = project.root / ".dvc" / "tmp" / "lock"
    if _own_locks.get(file) == os.getpid():
        yield
        return
    if not file.is_file() and not os.access(project.root / ".dvc", os.W_OK):  # of who may only read, where no DVC has run
        yield
        return
    make_folder(file.parent)
    with file.open("r" if file.is_file() else "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _own_locks[file] = os.getpid()
        try:
            yield
        finally:
            del _own_locks[file]


def free_stale_lock(project: Project) -> None:
    """Remove the claims of killed DVCs from the file where DVC keeps them; one that cannot be read was left by a killed one."""
    file = project.root / ".dvc" / "tmp" / "rwlock"
    if not file.is_file():
        return
    with (file.parent / "rwlock.lock").open("a", encoding="utf-8") as guard:  # which DVC holds while it changes the file
        fcntl.flock(guard, fcntl.LOCK_EX)
        try:
            claims = json.loads(file.read_text(encoding="utf-8"))
            writers = {path: claim for path, claim in claims.get("write", {}).items() if _is_running(claim)}
            readers = {path: [one for one in found if _is_running(one)] for path, found in claims.get("read", {}).items()}
        except (ValueError, AttributeError, TypeError, FileNotFoundError):
            file.unlink(missing_ok=True)
            return
        readers = {path: found for path, found in readers.items() if found}
        if writers or readers:
            atomic_write(file, json.dumps({"write": writers, "read": readers}))
        else:
            file.unlink()


def _is_running(claim: dict[str, Any]) -> bool:
    """Return whether the process of a claim is a DVC at work, and not another one that has got its number since."""
    try:
        return any("dvc" in word for word in psutil.Process(int(claim["pid"])).cmdline())
    except (psutil.Error, KeyError, ValueError):
        return False


def keep_state_in_home(project: Project) -> None:
    """Point DVC's local remote and its site cache into the state folder, wherever AE_HOME has put that.

    Inside the checkout the remote's path is relative, so that DVC finds the copy's own files in a copy of the checkout. An
    absolute one that came here with a copy is replaced.
    """
    os.environ["DVC_SITE_CACHE_DIR"] = _site_cache(project)
    local_config, section = project.root / ".dvc" / "config.local", _remote_section("local")
    url = _local_remote_url(project)
    if _configured_url(project) == url:
        return
    config = _read_configuration(local_config)
    if not config.has_section(section):
        config.add_section(section)
    config.set(section, "url", url)
    text = io.StringIO()
    config.write(text)
    mode = 0o666
    if local_config.is_file():
        mode = local_config.stat().st_mode & 0o777  # it may hold passwords
    atomic_write(local_config, text.getvalue(), mode)


def use_own_settings(project: Project) -> None:
    """Let DVC read the settings of the checkout alone: a user's or a machine's own would change where and what it stores.

    They stand in a folder of the state in the place of the user's. DVC uses no git: what git ignores, whose repository it is and
    whether there is one makes no difference to it.
    """
    folder = project.home / "dvc-settings"
    settings = folder / "config"
    if not settings.is_file() or settings.read_text(encoding="utf-8") != OWN_SETTINGS:
        atomic_write(settings, OWN_SETTINGS)
    os.environ["DVC_GLOBAL_CONFIG_DIR"] = os.environ["DVC_SYSTEM_CONFIG_DIR"] = str(folder)


def _site_cache(project: Project) -> str:
    """Return DVC's site cache: DVC lets everybody write in it, so it is closed to who may not write beside it."""
    folder = project.home / "dvc-site"
    make_folder(folder)
    mode, home_mode = 0o700, project.home.stat().st_mode
    for writable, access in ((stat.S_IWGRP, stat.S_IRWXG), (stat.S_IWOTH, stat.S_IRWXO)):
        if home_mode & writable:
            mode |= access
    status = folder.stat()
    if status.st_mode & 0o777 & ~mode and status.st_uid == os.geteuid():  # only its owner may
        folder.chmod(mode)
    return plain_path(project, folder)


def plain_path(project: Project, folder: Path) -> str:
    """Return a path of a folder without characters that DVC takes for syntax: relative to the checkout if the folder is in it.

    In its configuration those are `#`, `,`, quotes and more, in the path of its cache `$`. A folder with one of them gets a link
    in .dvc/tmp.
    """
    path = str(folder)
    if folder.is_relative_to(project.root):
        path = str(folder.relative_to(project.root))
    if PLAIN_PATH.fullmatch(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)  # DVC makes no folder at the end of a link
    name = f"link-{data_sha256(os.fsencode(folder))[:16]}"
    link = project.root / ".dvc" / "tmp" / name
    if not (link.is_symlink() and link.readlink() == folder):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    return f".dvc/tmp/{name}"


def find_foreign_remote(project: Project) -> str | None:
    """Return the path of DVC's remote `local` if it lies outside the state folder, as it may in a copy until its first run."""
    url = _configured_url(project)
    if url is None:
        return None
    folder = (project.root / ".dvc" / url).resolve()
    if folder == project.home / "dvc-remote":
        return None
    return str(folder)


def _configured_url(project: Project) -> str | None:
    """Return the address of the remote `local` as DVC reads it in the checkout; None where there is no such remote."""
    folder = project.root / ".dvc"
    config = _read_configuration(folder / "config", folder / "config.local")
    return config.get(_remote_section("local"), "url", fallback=None)


def _local_remote_url(project: Project) -> str:
    return _configured_path(plain_path(project, project.home / "dvc-remote"))


def _configured_path(path: str) -> str:
    """Return a path from the checkout as DVC's configuration has it: from .dvc."""
    if Path(path).is_absolute():
        return path
    return f"../{path}"


def add_dataset(project: Project, dataset: str) -> str:
    """Version data/<dataset> and store it in the remote; return DVC's hash of the folder.

    data.dvc has an entry for each dataset, and those of the others stay as they are.
    """
    require_whole_files(project)
    for name in _register(project, dataset):
        dvc(project, "add", f"data/{name}")
    _push(project, f"data/{dataset}")
    return dataset_hash(project, dataset)


def _register(project: Project, dataset: str) -> list[str]:
    """Give the dataset an entry in data.dvc, which `dvc add` then fills in; return the datasets to add.

    Older versions of this package had one entry for the whole of data/: it becomes one for each folder there.
    """
    with dvc_lock(project):
        return _add_entry(project, dataset)


def _add_entry(project: Project, dataset: str) -> list[str]:
    file = project.root / DATA_FILE
    outs = _data_entries(project) if file.is_file() else []
    known, names = {entry["path"] for entry in outs}, [dataset]
    if WHOLE_DATA in known:
        outs, known = [], set()
        names = sorted(folder.name for folder in (project.root / WHOLE_DATA).iterdir() if folder.is_dir())
    missing = []
    for name in names:
        path = f"{WHOLE_DATA}/{name}"
        if path not in known:
            missing.append({"path": path})
    if missing:
        atomic_write(file, _yaml_text({"outs": [*outs, *missing]}))
    return names


def _yaml_text(document: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(document, sort_keys=False))


def _push(project: Project, *targets: str) -> None:
    """Store outputs in the remote.

    Raises:
        TransientError: it failed, and the remote lies behind a network.
        DataError: no remote is set.
        AeError: as `dvc` does.
    """
    try:
        dvc(project, "push", *targets)
    except InfrastructureError as error:
        if "://" in remote_of(project, project.root / ".dvc" / "config"):
            raise TransientError(str(error)) from error
        raise


def dataset_hash(project: Project, dataset: str) -> str:
    """Return the hash of data/<dataset> that data.dvc records.

    Raises:
        DataError: data.dvc is damaged, or does not record the dataset.
    """
    require_whole_files(project)
    for entry in _data_entries(project):
        if entry["path"] == f"{WHOLE_DATA}/{dataset}" and "md5" in entry:
            return str(entry["md5"])
    raise DataError(f"{project.root / DATA_FILE} records no data/{dataset}: type `ae run RECIPE` for a recipe that reads it")


def _data_entries(project: Project) -> list[dict[str, Any]]:
    with dvc_lock(project):
        return list(_parse_dvc_file(project.root / DATA_FILE)["outs"])


def require_whole_files(project: Project) -> None:
    """Require that the files in which DVC keeps its state can be read; missing ones are left to other checks.

    Raises:
        DataError: one is empty, cut or altered; names it and the command to type.
    """
    with dvc_lock(project):
        for name in (DATA_FILE, LOCK_FILE):
            path = project.root / name
            if path.is_file():
                _parse_dvc_file(path)


def _parse_dvc_file(path: Path) -> dict[str, Any]:
    import yaml

    repair = f"type `git checkout {path.name}`; then run the recipe again"
    try:
        document = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged (no YAML: {' '.join(str(error).split())[:200]}): {repair}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} is damaged (it is empty or holds no mapping): {repair}")
    if path.name == DATA_FILE and not _has_entries(document):
        raise DataError(f"{path} is damaged (it has no entries of datasets): {repair}")
    return document


def _has_entries(document: dict[str, Any]) -> bool:
    outs = document.get("outs")
    return isinstance(outs, list) and all(isinstance(entry, dict) and isinstance(entry.get("path"), str) for entry in outs)


def reproduce_stage(project: Project, stage: str, recipe: str, on_poll: Callable[[], None] | None = None) -> bool:
    """Bring one stage of a recipe up to date; return whether its command ran (False: unchanged or restored)."""
    require_whole_files(project)
    write_code_hashes(project)
    output = dvc(project, "repro", "--single-item", f"{stage}@{recipe}", on_poll=on_poll)
    return "Running stage" in output


def push_outputs(project: Project, recipe: str) -> None:
    """Store the outputs of a recipe's stages in the remote."""
    _push(project, *_stage_targets(recipe))


def require_path_without_braces(project: Project) -> None:
    """Require a checkout in whose path DVC finds no placeholder: it takes the path of its cache for a text to be filled in.

    Raises:
        UsageError: the path has a brace.
    """
    if {"{", "}"} & set(str(project.root)):
        raise UsageError(
            f"expected a checkout whose path has neither {{ nor }}, got {project.root}: DVC fails there. Move the checkout, then "
            "type `make env` and the same command again"
        )


def is_up_to_date(project: Project, recipe: str, dataset: str) -> bool:
    """Return whether data/<dataset> and every stage of the recipe are as data.dvc and dvc.lock record them."""
    require_whole_files(project)
    write_code_hashes(project)
    return not _parse_status(dvc(project, "status", "--json", f"data/{dataset}", *_stage_targets(recipe)))


def is_trained(project: Project, recipe: str) -> bool:
    """Return whether the recipe's prepared samples and its training are as dvc.lock records them, by data, recipe and code."""
    require_whole_files(project)
    write_code_hashes(project)
    return not _parse_status(dvc(project, "status", "--json", f"prepare@{recipe}", f"train@{recipe}"))


def _stage_targets(recipe: str) -> list[str]:
    """Return the stages of a recipe as DVC names them."""
    return [f"{stage}@{recipe}" for stage in STAGES]


def _parse_status(output: str) -> dict[str, Any]:
    """Return the JSON object in what `dvc status --json` printed."""
    try:
        return dict(json.loads(output[output.find("{") :]))
    except json.JSONDecodeError as error:
        raise InfrastructureError(f"expected JSON from dvc status, got: {output[-300:]}") from error


# ---------------------------------------------------------------- on the disk


@contextmanager
def _synced_writes(project: Project, command: str) -> Iterator[None]:
    """Put what DVC writes in this block on the disk, which it does not do itself; first drop what an interrupted one left torn.

    DVC takes a file of its cache or remote for whole because it has the right name, so a file that a power failure has emptied
    would be pushed and checked out. While DVC writes, a record says since when, one for each process.
    """
    if command not in WRITING_COMMANDS:
        yield
        return
    with dvc_lock(project):
        for interrupted in _interrupted_writes(project):
            record = read_json_if_whole(interrupted, "since")
            if record is not None:
                _remove_torn_files(project, record["since"])
            interrupted.unlink()
    started_at, process = time.time(), this_process()
    record_file = project.home / "dvc-writes" / f"{process.pid}.json"
    make_folder(record_file.parent)
    write_json(record_file, {"since": started_at - CLOCK_RESOLUTION, "process": process.text})
    yield
    for folder in (*stored_folders(project), project.root / "artifacts", project.root / "data"):
        if folder.is_dir():
            sync_tree(folder, folder.parent, started_at)
    for name in (DATA_FILE, LOCK_FILE):
        if (project.root / name).is_file():
            sync_tree(project.root / name, project.root, started_at)
    record_file.unlink()


def _interrupted_writes(project: Project) -> list[Path]:
    """Return the records of writes that did not come to their end: those of ended processes, and what an older version wrote."""
    records = [project.home / "dvc-writes.json"]
    for file in sorted((project.home / "dvc-writes").glob("*.json")):
        record = read_json_if_whole(file, "process")
        identity = parse_identity(str(record["process"])) if record is not None else None
        if identity is None or identity.is_dead() or identity == this_process():
            records.append(file)
    return [file for file in records if file.is_file()]


def stored_folders(project: Project) -> list[Path]:
    """Return the folders in which DVC keeps files by their hash: its cache, then the remote unless it is an address."""
    config_file = project.root / ".dvc" / "config"
    config = _read_configuration(config_file, project.root / ".dvc" / "config.local")
    folders = [project.root / ".dvc" / config.get("cache", "dir", fallback="cache")]
    if config.has_option("core", "remote") and "://" not in (remote := remote_of(project, config_file)):
        folders.append(Path(remote))
    return folders


def _remove_torn_files(project: Project, since: float) -> None:
    """Remove the files of DVC's cache and of the project's own remote that are torn: they are not what their names say.

    Of the remote also the lists of folders: where there is one, DVC takes all that it names for stored. A remote elsewhere may be
    other people's, too, and is left alone.

    Args:
        since: seconds since the epoch; files that were written before are whole.
    """
    cache, *remotes = stored_folders(project)
    own_remotes = [folder for folder in remotes if folder.is_relative_to(project.home)]
    for folder in (cache, *own_remotes):
        for path in (folder / "files" / "md5").glob("[0-9a-f][0-9a-f]/*"):
            if path.stat().st_ctime < since:
                continue
            if _md5(path) != path.parent.name + path.name.removesuffix(".dir"):
                print(
                    f"removed {path}, which was written incompletely, as in a power failure: DVC stores it again", file=sys.stderr
                )
                path.unlink()
            elif path.suffix == ".dir" and folder != cache:
                path.unlink()


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()


# ---------------------------------------------------------------- clones of a project


def remote_of(project: Project, configuration: Path) -> str:
    """Return the remote from which a clone of the project gets its data: a folder, or an address with `://` in it.

    Args:
        project: whose state folder holds the remote `local`, and whose own settings (.dvc/config.local) count.
        configuration: the clone's .dvc/config.

    Raises:
        DataError: the configuration names no remote.
    """
    config = _read_configuration(configuration, project.root / ".dvc" / "config.local")
    name = config.get("core", "remote", fallback="")
    if name == "local":
        return str(project.home / "dvc-remote")
    url = config.get(_remote_section(name), "url", fallback="")
    if not url:
        raise DataError(f"{configuration} names no remote to get data from: name one with `dvc remote add --local --default`")
    if "://" in url:
        return url
    return str((project.root / ".dvc" / url).resolve())


def lend_remote(project: Project, clone: Project) -> None:
    """Let a clone read from the project's remote, with the project's own settings, through a cache of the clone's own."""
    clone_config, local_config = clone.root / ".dvc" / "config", clone.root / ".dvc" / "config.local"
    config = _read_configuration(clone_config, project.root / ".dvc" / "config.local")
    section = _remote_section(config.get("core", "remote"))
    remote = remote_of(project, clone_config)
    if "://" not in remote:
        remote = _configured_path(plain_path(clone, Path(remote)))
    config.read_dict({section: {"url": remote}, "cache": {"dir": "cache"}})  # in the clone's .dvc
    local_config.touch(mode=0o600)  # it may hold passwords
    with local_config.open("w", encoding="utf-8") as file:
        config.write(file)


def _read_configuration(*files: Path) -> configparser.ConfigParser:
    """Return DVC's settings of these files; a missing file has none.

    Raises:
        DataError: a file is damaged.
    """
    config = configparser.ConfigParser(interpolation=None)
    for file in files:
        try:
            config.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"{file} is damaged ({' '.join(str(error).split())[:200]}): repair or remove it, then type the same command again"
            ) from error
    return config


def _remote_section(name: str) -> str:
    return f"'remote \"{name}\"'"


def in_clone(clone: Project, *arguments: str) -> str:
    """Run one DVC command in a clone that `lend_remote` has set up; raises as `dvc` does."""
    os.environ["DVC_SITE_CACHE_DIR"] = _site_cache(clone)
    use_own_settings(clone)
    log = clone.logs / f"dvc-{arguments[0]}.log"
    return run_module(["dvc", *arguments], root=clone.root, home=clone.home, log=log, other_version=True)
