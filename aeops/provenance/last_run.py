"""What the last whole run of a recipe left standing, so that a run with nothing changed ends before anything starts."""

import hashlib
import json
from pathlib import Path
from typing import Any

from aeops.data.dataset import content_sha256
from aeops.data.dvc import is_up_to_date
from aeops.data.sources.catalogue import source_digest
from aeops.files import file_sha256
from aeops.project import Project
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
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_files(place: Path) -> list[Path]:
    return list(place.rglob("*.py")) if place.is_dir() else [place]


def remember(project: Project, recipe: str, summary: dict[str, Any]) -> None:
    """Notes a whole run's summary; the next run compares with it."""
    file = record_file(project, recipe)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".aside")
    record = {"fingerprint": fingerprint(project, load_recipe(project, recipe)), "summary": summary}
    aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    aside.replace(file)


def standing_result(project: Project, recipe: str) -> dict[str, Any] | None:
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
    summary: dict[str, Any] = record["summary"]
    now = where_it_stands(project, summary)
    return summary | now | {"changed": False} if now is not None else None


def where_it_stands(project: Project, summary: dict[str, Any]) -> dict[str, Any] | None:
    """The version's aliases and state as registry and ledger have them now; None where there is something left to decide.

    A version that waits for a person, or that one has turned away, is as settled as a champion: a run would change nothing.
    """
    from aeops.registry import ledger
    from aeops.registry.outcome import is_settled, state
    from aeops.registry.store import open_store

    store, recipe = open_store(project), summary["recipe"]
    held = next((version for version in store.versions(recipe) if version.version == summary["version"]), None)
    if held is None or held.tags.get("bundle_sha256") != summary["bundle_sha256"] or "comparison" not in summary:
        return None  # (a summary without a comparison is older than the ledger)
    lines = ledger.read(project, recipe)
    if not is_settled(store, held, recipe, lines):
        return None
    return {"aliases": list(held.aliases), "state": state(recipe, held, lines)}
