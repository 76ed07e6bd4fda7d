"""The installed packages beside a lock."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement


def differences(lock: Path) -> list[str]:
    """Every line of a requirements.lock that applies to this machine and is not what is installed, in words."""
    return [text for line in lock.read_text(encoding="utf-8").splitlines() if (text := differs(line))]


def differs(line: str) -> str:
    """What is wrong with one locked line here; empty where nothing is."""
    if not line.strip() or line.lstrip().startswith(("#", "-")):
        return ""
    locked = Requirement(line)
    if locked.marker is not None and not locked.marker.evaluate():
        return ""
    try:
        installed = version(locked.name)
    except PackageNotFoundError:
        return f"{locked.name} is missing"
    return (
        "" if locked.specifier.contains(installed, prereleases=True) else f"{locked.name} {installed} ({locked.specifier} locked)"
    )
