"""Paths of the files that monitoring writes. Standard library only."""

from pathlib import Path

from aeops.project import Project


def monitoring_folder(project: Project, recipe: str) -> Path:
    """Return the folder of all files below and of the champion's reference."""
    return project.home / "monitoring" / recipe


def verdict_file(project: Project, recipe: str) -> Path:
    """Return verdict.json, the result of the last check."""
    return monitoring_folder(project, recipe) / "verdict.json"


def history_file(project: Project, recipe: str) -> Path:
    """Return history.parquet, with one row a check and signal."""
    return monitoring_folder(project, recipe) / "history.parquet"


def counts_file(project: Project, recipe: str) -> Path:
    """Return counts.json, the cache of the counts of each call's file."""
    return monitoring_folder(project, recipe) / "counts.json"


def page_file(project: Project, recipe: str) -> Path:
    """Return page.html, the last months on one page."""
    return monitoring_folder(project, recipe) / "page.html"


def drift_file(project: Project, recipe: str) -> Path:
    """Return drift.html, Evidently's report."""
    return monitoring_folder(project, recipe) / "drift.html"


def reference_file(project: Project, recipe: str, version: str) -> Path:
    """Return the Parquet file with the reference of a version, as it was fetched from the registry."""
    return monitoring_folder(project, recipe) / f"reference-{version}.parquet"


def retrains_file(project: Project, recipe: str) -> Path:
    """Return retrains.jsonl, the retrains that monitoring started."""
    return monitoring_folder(project, recipe) / "retrains.jsonl"
