"""Comparison of the installed packages with a lock."""

from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement


def lock_differences(lock: Path) -> list[str]:
    """Describe each line of a requirements.lock that applies to this machine and is not what is installed."""
    descriptions = map(_describe_difference, lock.read_text(encoding="utf-8").splitlines())
    return list(filter(None, descriptions))


def installation_differences(lock: Path) -> list[str]:
    """Describe how an installation of this package differs from the lock that it was tested with.

    Of the lock's lines those count whose package is installed: others are of what develops and tests this package. What this
    package itself requires has to be there.
    """
    descriptions = []
    for requirement in map(Requirement, requires("ae-pipeline") or []):
        if (requirement.marker is None or requirement.marker.evaluate({"extra": ""})) and not _is_installed(requirement.name):
            descriptions.append(f"{requirement.name} is missing")
    for description in lock_differences(lock):
        if not description.endswith(" is missing"):
            descriptions.append(description)
    return descriptions


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _describe_difference(line: str) -> str:
    """Describe how what is installed differs from one locked line; empty if it does not."""
    if not line.strip() or line.lstrip().startswith(("#", "-")):
        return ""
    locked_package = Requirement(line)
    if locked_package.marker is not None and not locked_package.marker.evaluate():
        return ""
    try:
        installed_version = version(locked_package.name)
    except PackageNotFoundError:
        return f"{locked_package.name} is missing"
    if locked_package.specifier.contains(installed_version, prereleases=True):
        return ""
    return f"{locked_package.name} {installed_version} ({locked_package.specifier} locked)"
