"""The record of a recipe's last whole run, by which a run with nothing changed ends before anything starts."""

from pathlib import Path
from typing import TypedDict

from aeops.data.dataset import content_sha256
from aeops.data.dvc import is_up_to_date
from aeops.data.sources.catalogue import source_digest
from aeops.data.stage_code import stage_sha256
from aeops.files import data_sha256, file_sha256, read_json, write_json
from aeops.project import Project
from aeops.provenance.run_summary import RunSummary
from aeops.recipe.reader import Recipe, load_recipe

FLOW_STAGES = ("ingest", "validate", "compare")  # run by the flow itself: DVC does not watch their code


class VersionState(TypedDict):
    """Part of a summary that registry and ledger can change after the run."""

    aliases: list[str]
    state: str


def record_file(project: Project, recipe: str) -> Path:
    """Return the record of the recipe's last whole run, which may not exist: `fingerprint` and the run's `summary`."""
    file, old_file = project.home / "last-run" / f"{recipe}.json", project.home / "standing" / f"{recipe}.json"
    return old_file if old_file.is_file() and not file.is_file() else file


def write_record(project: Project, recipe: str, summary: RunSummary) -> None:
    """Record a whole run's summary, for the next run to compare with."""
    record = {"fingerprint": _fingerprint(project, load_recipe(project, recipe)), "summary": summary}
    write_json(project.home / "last-run" / f"{recipe}.json", record)


def unchanged_summary(project: Project, recipe: str) -> RunSummary | None:
    """Return the last run's summary with `changed` False if a run would change nothing, else None.

    That is so if source, recipe, data, code and the output of every stage are as they were, the registry still holds the version,
    and no decision on it is pending. The cheapest checks come first.
    """
    file = record_file(project, recipe)
    if not file.is_file():
        return None
    record = read_json(file)
    if record["fingerprint"] != _fingerprint(project, load_recipe(project, recipe)) or not is_up_to_date(project, recipe):
        return None
    summary: RunSummary = record["summary"]
    state = _current_state(project, summary)
    if state is None:
        return None
    return {**summary, **state, "changed": False}


def _fingerprint(project: Project, recipe: Recipe) -> str:
    """Return a SHA-256 over what a run starts from and DVC does not watch: source, recipe, the flow's own stages, the data."""
    dataset = project.dataset(recipe.data.dataset)
    parts = [
        source_digest(recipe, project),
        file_sha256(project.recipe_file(recipe.name)),
        content_sha256(dataset) if dataset.is_dir() else "none",
    ]
    parts += [stage_sha256(project.root, stage) for stage in FLOW_STAGES]
    return data_sha256("\n".join(parts))


def _current_state(project: Project, summary: RunSummary) -> VersionState | None:
    """Return aliases and state of the run's version as registry and ledger have them now; None if a decision is pending.

    A version that waits for a person, or that a person has rejected, is as settled as a champion: a run would change nothing.
    """
    from aeops.registry import ledger
    from aeops.registry.store import open_store
    from aeops.registry.version_state import describe_state, is_settled

    store, recipe = open_store(project), summary["recipe"]
    matching = [version for version in store.versions(recipe) if version.version == summary["version"]]
    if not matching or matching[0].tags.get("bundle_sha256") != summary["bundle_sha256"] or "comparison" not in summary:
        return None  # (a summary without a comparison is older than the ledger)
    lines = ledger.read_entries(project, recipe)
    if not is_settled(store, matching[0], recipe, lines):
        return None
    return {"aliases": list(matching[0].aliases), "state": describe_state(recipe, matching[0], lines)}
