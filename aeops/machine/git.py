"""The only module that runs git: in the repository that holds a folder, whatever hooks and a user's own settings say.

A command reads the repository alone: it takes no lock in it, runs no hook of it, and changes neither index nor references.
"""

import os
import shutil
import subprocess
from collections.abc import Container
from pathlib import Path

from aeops.errors import DataError

# Git sets some of its variables inside hooks, where they would lead to another repository. These say nothing about a repository.
_KEPT_VARIABLES = ("GIT_EXEC_PATH", "GIT_SSL_CAINFO")
_NO_FILE = os.devnull


class GitError(DataError):
    """A git command failed, or git is not installed."""


def run_git(folder: Path, *arguments: str, allowed_codes: tuple[int, ...] = (0,)) -> bytes:
    """Run a git command in a folder and return its output.

    Raises:
        GitError: it ended with another exit code, with its message; or git is not installed.
    """
    if shutil.which("git") is None:
        raise GitError("git is not installed, or not in PATH")
    process = subprocess.run(["git", *arguments], cwd=folder, env=git_environment(folder), capture_output=True, check=False)
    if process.returncode not in allowed_codes:
        message_lines = process.stderr.decode("utf-8", errors="replace").strip().splitlines() or ["no message"]
        raise GitError(f"git {arguments[0]} ended with exit code {process.returncode}: {'; '.join(message_lines[:3])}")
    return process.stdout


def git_text(folder: Path, *arguments: str) -> str:
    """Run a git command and return its output as text without the last line end; raises as `run_git` does."""
    return os.fsdecode(run_git(folder, *arguments)).removesuffix("\n")


def _environment_without_git(kept: Container[str] = ()) -> dict[str, str]:
    """Return this process's environment without git's variables, but for those that are kept."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in kept}


def git_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a git command in a folder: this process's, without other repositories and users' settings.

    A user's settings (ignored files, attributes, line ends, forms of a diff) would change what is recorded; those in the
    repository's own configuration count.
    """
    environment = _environment_without_git(_KEPT_VARIABLES)
    environment |= {
        "GIT_CONFIG_GLOBAL": _NO_FILE,
        "GIT_CONFIG_SYSTEM": _NO_FILE,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }
    settings = [
        ("core.hooksPath", _NO_FILE),
        ("core.fsmonitor", "false"),
        ("core.excludesFile", _NO_FILE),  # else the files in ~/.config/git count
        ("core.attributesFile", _NO_FILE),
        ("advice.detachedHead", "false"),
        *(("safe.directory", repository) for repository in _safe_repositories(folder)),
    ]
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings):
        environment[f"GIT_CONFIG_KEY_{number}"], environment[f"GIT_CONFIG_VALUE_{number}"] = name, value
    return environment


def _safe_repositories(folder: Path) -> list[str]:
    """Return the repositories that git may read although another user owns them.

    Git refuses to read such a repository, because its configuration can name programs. Who runs this project in another user's
    checkout runs that user's code already, so the checkout's own repository is safe. One of a third user around the checkout
    stays refused, unless the user's own settings call it safe.
    """
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            if candidate.stat().st_uid == folder.stat().st_uid:
                return [str(candidate)]
            return _safe_by_setting()
    return []


def _safe_by_setting() -> list[str]:
    environment = _environment_without_git()
    command = ["git", "config", "--null", "--get-all", "safe.directory"]
    process = subprocess.run(command, cwd=os.sep, env=environment, capture_output=True, check=False)  # 1: there is none
    return list(map(os.fsdecode, filter(None, process.stdout.split(b"\0"))))


def has_identity(folder: Path) -> bool:
    """Return whether git knows whose name to write on a commit in this folder, by the user's own settings as well."""
    process = subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], cwd=folder, capture_output=True, check=False)
    return process.returncode == 0
