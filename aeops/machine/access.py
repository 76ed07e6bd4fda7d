"""Access of the present user to files of a project that others may own. Standard library only."""

import os
import shlex
from itertools import filterfalse
from pathlib import Path

from aeops.errors import InfrastructureError, describe_owner
from aeops.project import Project

EFFECTIVE_IDS = os.access in os.supports_effective_ids  # as opening a file does


def may_read(path: Path) -> bool:
    """Return True if the file is there and this user may read it."""
    return os.access(path, os.R_OK, effective_ids=EFFECTIVE_IDS)


def may_write(path: Path) -> bool:
    """Return True if this user may write the file or in the folder; of a path that does not exist, whether it can be made."""
    while not os.path.exists(path):  # Path.exists raises in a folder that may not be entered
        path = path.parent
    return os.access(path, os.W_OK, effective_ids=EFFECTIVE_IDS)


def require_writable_state(project: Project) -> None:
    """Require a state folder that this user may write.

    Raises:
        InfrastructureError: it is another user's, or on a disk that is mounted read-only.
    """
    if not may_write(project.home):
        raise InfrastructureError(
            f"cannot write in the state folder {project.home} ({describe_owner(project.home)}): "
            "set AE_HOME to a folder you may write"
        )


def require_writable_checkout(project: Project) -> None:
    """Require a checkout that this user may write, as a run does.

    Raises:
        InfrastructureError: names the paths that cannot be written.
    """
    written_paths = [project.root, project.root / ".dvc", project.root / "data", project.root / "artifacts"]
    written_paths += [project.root / name for name in ("params.yaml", "prefect.yaml", "data.dvc", "dvc.lock")]
    protected_paths = list(filterfalse(may_write, written_paths))
    if protected_paths:
        names = ", ".join(map(str, protected_paths))
        raise InfrastructureError(
            f"cannot write {names} ({describe_owner(protected_paths[0])}): a run writes data/, artifacts/, data.dvc, dvc.lock, "
            f"params.yaml and prefect.yaml in the checkout. Type `git clone {shlex.quote(str(project.root))}` in a folder of "
            "your own, and the same command in that clone; what only reads, such as `ae show`, runs here, too"
        )
