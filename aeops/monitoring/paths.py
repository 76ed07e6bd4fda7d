"""Where monitoring keeps what it writes. Standard library only."""

from pathlib import Path

from aeops.project import Project


def folder(project: Project, recipe: str) -> Path:
    """verdict.json, history.parquet, counts.json, page.html, drift.html, retrains.jsonl, and the champion's reference."""
    return project.home / "monitoring" / recipe


def verdict_file(project: Project, recipe: str) -> Path:
    return folder(project, recipe) / "verdict.json"


def history_file(project: Project, recipe: str) -> Path:
    """A row a look and signal."""
    return folder(project, recipe) / "history.parquet"


def counts_file(project: Project, recipe: str) -> Path:
    """What looks have counted in each call's file."""
    return folder(project, recipe) / "counts.json"


def page_file(project: Project, recipe: str) -> Path:
    return folder(project, recipe) / "page.html"


def drift_file(project: Project, recipe: str) -> Path:
    """Evidently's report."""
    return folder(project, recipe) / "drift.html"


def retrains_file(project: Project, recipe: str) -> Path:
    """The retrains that monitoring started."""
    return folder(project, recipe) / "retrains.jsonl"
