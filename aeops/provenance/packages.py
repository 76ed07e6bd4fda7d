"""The installed packages beside a lock."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement


def differences(lock: Path) -> list[str]:
    """Describe each line of a requirements.lock that applies to this machine and is not what is installed."""
    descriptions = [_difference(line) for line in lock.read_text(encoding="utf-8").splitlines()]
    return [description for description in descriptions if description]


def _difference(line: str) -> str:
    """Describe how what is installed differs from one locked line; empty if it does not."""
    if not line.strip() or line.lstrip().startswith(("#", "-")):
        return ""
    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return ""
    try:
        installed_version = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(installed_version, prereleases=True):
        return ""
    return f"{requirement.name} {installed_version} ({requirement.specifier} locked)"
