"""What the last whole run of a recipe left standing, so that a run with nothing changed ends before anything starts."""

import json
from pathlib import Path
from typing import TypedDict

from aeops.data.dataset import content_sha256
from aeops.data.dvc import is_up_to_date
from aeops.data.sources.catalogue import source_digest
from aeops.files import data_sha256, file_sha256, write_json
from aeops.project import Project
from aeops.provenance.run_summary import RunSummary
from aeops.recipe.reader import Recipe, load_recipe

# The code that makes and accepts a dataset, and compares with the champion, is run by the flow, so DVC does not watch it.
FLOW_CODE = (
    "data",
    "kinds",
    "recipe",
    "stages/ingest.py",
    "stages/validate.py",
    "gate",
    "stages/compare.py",
)


class VersionState(TypedDict):
    """Part of a summary that registry and ledger can change after the run."""

    aliases: list[str]
    state: str


def record_file(project: Project, recipe: str) -> Path:
    return project.home / "standing" / f"{recipe}.json"


def fingerprint(project: Project, recipe: Recipe) -> str:
    """SHA-256 over all that a run starts from and DVC does not watch: source, recipe, the flow's own code, the data."""
    package = Path(__file__).parents[1]
    code = sorted(file for name in FLOW_CODE for file in code_files(package / name))
    dataset = project.dataset(recipe.data.dataset)
    parts = [
        source_digest(recipe, project),
        file_sha256(project.recipe_file(recipe.name)),
        content_sha256(dataset) if dataset.is_dir() else "none",
        *(file_sha256(file) for file in code),
    ]
    return data_sha256("\n".join(parts))


def code_files(place: Path) -> list[Path]:
    return list(place.rglob("*.py")) if place.is_dir() else [place]


def remember(project: Project, recipe: str, summary: RunSummary) -> None:
    """Notes a whole run's summary; the next run compares with it."""
    file = record_file(project, recipe)
    record = {"fingerprint": fingerprint(project, load_recipe(project, recipe)), "summary": summary}
    write_json(file, record)


def standing_result(project: Project, recipe: str) -> RunSummary | None:
    """The last run's summary where nothing has changed since, else None.

    Nothing has changed where source, recipe, data, code and every stage's output are as they were, the registry still holds
    the version, and nothing is left to decide about it. The cheapest question comes first.
    """
    file = record_file(project, recipe)
    if not file.is_file():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    if record["fingerprint"] != fingerprint(project, load_recipe(project, recipe)) or not is_up_to_date(project, recipe):
        return None
    summary: RunSummary = record["summary"]
    state = where_it_stands(project, summary)
    if state is None:
        return None
    return {**summary, **state, "changed": False}


def where_it_stands(project: Project, summary: RunSummary) -> VersionState | None:
    """The version's aliases and state as registry and ledger have them now; None where there is something left to decide.

    A version that waits for a person, or that one has turned away, is as settled as a champion: a run would change nothing.
    """
    from aeops.registry import ledger
    from aeops.registry.store import open_store
    from aeops.registry.version_state import describe_state, is_settled

    store, recipe = open_store(project), summary["recipe"]
    held = next((version for version in store.versions(recipe) if version.version == summary["version"]), None)
    if held is None or held.tags.get("bundle_sha256") != summary["bundle_sha256"] or "comparison" not in summary:
        return None  # (a summary without a comparison is older than the ledger)
    lines = ledger.read_entries(project, recipe)
    if not is_settled(store, held, recipe, lines):
        return None
    return {"aliases": list(held.aliases), "state": describe_state(recipe, held, lines)}
