"""What of a project's state may be deleted: what is made again when it is needed, and data that nothing names any more.

Never what a version in the registry needs: the data it was trained on, its run's files, its bundle, its evidence, the ledger,
predictions and signatures are not looked at. See docs/state.md.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from aeops.data.dvc import DATA_FILE, LOCK_FILE, stored_folders
from aeops.data.stored_objects import FOLDER_SUFFIX, iter_objects, named_hashes, object_file, with_contents
from aeops.errors import DataError
from aeops.files import sync_folder
from aeops.machine.git import git_text, run_git
from aeops.machine.lock import unwaited_file_lock
from aeops.machine.scratch import find_abandoned, held_if_abandoned
from aeops.predictions.unfinished_scoring import find_unfinished_scoring, shards_lock
from aeops.project import Project
from aeops.provenance.state_size import newest_change, size_of
from aeops.registry.store import Store

MIN_AGE_DAYS = 1  # a run that has failed may be typed again the next day, and finds what it has made

LOCKS = "locks"  # folder of files that processes hold and never write again
# Folders of the state whose entries are made again when they are needed, by the depth at which the entries lie.
MADE_AGAIN = {
    "training": (1, "checkpoints of a training"),
    "seeds": (3, "a training or a measurement of `ae seeds`"),
    "sweeps": (1, "trials of `ae sweep`"),
    "novelties": (1, "trainings of benchmarks/all_novelties.py"),
    "incoming": (1, "samples that were read and not accepted"),
    "rebuild": (1, "files of a rebuild, or the environment it made"),
    "audit": (1, "a page of `ae audit`"),
    "models": (1, "a report of `make bench-models`"),
}


@dataclass(frozen=True)
class Removal:
    """Files or folders of one kind that may be deleted.

    Attributes:
        what: the kind, in words.
        place: the folder they lie in, relative to the project where it lies there.
        paths: to be deleted in this order.
        size_bytes: that are free afterwards.
        reason: why nothing needs them.
        hold: holds a path while it is deleted, and yields whether no process uses it.
    """

    what: str
    place: str
    paths: tuple[Path, ...]
    size_bytes: int
    reason: str
    hold: Callable[[Path], AbstractContextManager[bool]] = lambda path: nullcontext(True)


def plan_removals(project: Project, store: Store, now: datetime, days: int) -> list[Removal]:
    """Return what may be deleted, the largest first.

    Args:
        project: nothing of it is changed.
        store: the registry, whose versions name the data that stays.
        now: with a time zone.
        days: what was written in the last so many days stays, MIN_AGE_DAYS or more.

    Raises:
        DataError: a version does not say which data it was trained on, so no data can be called unneeded.
        InfrastructureError: the registry cannot be read.
    """
    written_before = (now - timedelta(days=days)).timestamp()
    removals = [*_old_entries(project, written_before, days), *_old_shards(project, written_before, days)]
    removals += _abandoned_scratch()
    removals += [*_unneeded_objects(project, store, written_before, days)]
    return sorted(removals, key=lambda removal: -removal.size_bytes)


def remove(removals: list[Removal]) -> None:
    """Delete what a plan names, but for what a process has begun to use since. The caller holds the project's workspace.

    Killed in the middle it leaves files that the next plan names. The list of a data version's files goes before the files: DVC
    takes a version for whole whose list is there.
    """
    for removal in removals:
        for path in removal.paths:
            with removal.hold(path) as is_free:
                if is_free:
                    _delete(path)
        for folder in {path.parent for path in removal.paths}:
            sync_folder(folder)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- what is made again


def _old_entries(project: Project, written_before: float, days: int) -> Iterator[Removal]:
    for name, (depth, what) in MADE_AGAIN.items():
        folder = project.home / name
        entries = []
        for entry in sorted(folder.glob("/".join("*" * depth))):
            if entry.name != LOCKS and newest_change(entry) < written_before:
                entries.append(entry)
        if entries:
            size_bytes = sum(map(size_of, entries))
            reason = f"made again when it is needed; not written for {days} days"
            yield Removal(what, _place(project, folder), tuple(entries), size_bytes, reason)


def _old_shards(project: Project, written_before: float, days: int) -> Iterator[Removal]:
    """Yield the results of files that are half scored, which no command works on and none has gone on with."""
    paths = []
    for one in find_unfinished_scoring(project):
        if not one.is_in_use and one.written_at.timestamp() < written_before:
            paths.append(one.folder)
    if paths:
        size_bytes = sum(map(size_of, paths))
        reason = f"`ae score` of the same file would begin anew; not written for {days} days"
        place = _place(project, project.home / "scoring")

        def hold(folder: Path) -> AbstractContextManager[bool]:
            return unwaited_file_lock(project, shards_lock(folder))

        yield Removal("shards of files that are half scored", place, tuple(paths), size_bytes, reason, hold)


def _abandoned_scratch() -> Iterator[Removal]:
    """Yield the temporary folders of processes that were killed, of this user and of any project."""
    paths = find_abandoned()
    if paths:
        reason, size_bytes = "the process that made it was killed", sum(map(size_of, paths))
        yield Removal("temporary folders", str(paths[0].parent), tuple(paths), size_bytes, reason, held_if_abandoned)


def _place(project: Project, folder: Path) -> str:
    if folder.is_relative_to(project.root):
        return str(folder.relative_to(project.root))
    return str(folder)


# ---------------------------------------------------------------- data


def _unneeded_objects(project: Project, store: Store, written_before: float, days: int) -> Iterator[Removal]:
    cache, *remotes = stored_folders(project)
    own_remotes = [remote for remote in remotes if remote.resolve().is_relative_to(project.home)]  # others may be other people's
    stores = [cache, *remotes]
    in_checkout = with_contents(_checkout_hashes(project), stores)
    needed = with_contents(in_checkout | _committed_hashes(project) | _version_hashes(store), stores)

    def is_stored_elsewhere(md5: str) -> bool:
        return any(object_file(remote, md5).is_file() for remote in remotes)

    unneeded = f"no version, commit or checkout names it; not written for {days} days"
    for folder in own_remotes:
        paths = []
        for md5, path in iter_objects(folder):
            if md5 not in needed and path.stat().st_mtime < written_before:
                paths.append(path)
        if paths:
            yield _objects_removal("data and outputs of stages", project, folder, paths, unneeded)
    paths = []
    for md5, path in iter_objects(cache):
        is_kept = md5 in in_checkout or (md5 in needed and not is_stored_elsewhere(md5))
        if not is_kept and path.stat().st_mtime < written_before:
            paths.append(path)
    if paths:
        reason = f"the checkout does not use it, and the remote has what is needed; not written for {days} days"
        yield _objects_removal("DVC's cache", project, cache, paths, reason)


def _objects_removal(what: str, project: Project, folder: Path, paths: list[Path], reason: str) -> Removal:
    lists_first = sorted(paths, key=lambda path: not path.name.endswith(FOLDER_SUFFIX))
    # A file that the checkout has by another name of the same file frees nothing.
    size_bytes = sum(size_of(path) for path in paths if path.stat().st_nlink == 1)
    return Removal(what, _place(project, folder), tuple(lists_first), size_bytes, reason)


def _checkout_hashes(project: Project) -> set[str]:
    hashes = set()
    for name in (DATA_FILE, LOCK_FILE):
        file = project.root / name
        if file.is_file():
            hashes |= named_hashes(yaml.safe_load(file.read_text(encoding="utf-8")))
    return hashes


def _committed_hashes(project: Project) -> set[str]:
    """Return what any commit of the repository names; nothing where the project is in none.

    Raises:
        GitError: git is not installed, or cannot read the repository: then no data can be called unneeded.
    """
    if not any((folder / ".git").exists() for folder in (project.root, *project.root.parents)):
        return set()
    hashes = set()
    for name in (DATA_FILE, LOCK_FILE):
        for commit in git_text(project.root, "log", "--all", "-m", "--diff-filter=AMT", "--format=%H", "--", name).split():
            hashes |= named_hashes(yaml.safe_load(run_git(project.root, "show", f"{commit}:./{name}")))
    return hashes


def _version_hashes(store: Store) -> set[str]:
    """Return the hash of each registered version's data.

    Raises:
        DataError: a version that does not say it.
    """
    hashes, silent = set(), []
    for recipe in store.model_names():
        for version in store.versions(recipe):
            md5 = version.tags.get("data.dvc_md5")
            if md5:
                hashes.add(md5)
            else:
                silent.append(f"{recipe}@{version.version}")
    if silent:
        raise DataError(
            f"{', '.join(silent[:5])}: expected the tag data.dvc_md5, which names the data of a version, got none: nothing was "
            "deleted. Delete the version in MLflow, or set the tag to the hash in its run's rebuild/data.dvc"
        )
    return hashes
