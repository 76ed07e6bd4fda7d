"""Record of a recipe's last whole run: a run with nothing changed ends before anything starts."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from aeops.data.dataset import content_sha256
from aeops.data.dvc import is_up_to_date
from aeops.data.judgements import judgements_digest
from aeops.data.own_code import own_source_sha256
from aeops.data.source_record import has_expired
from aeops.data.sources.catalogue import source_digest
from aeops.data.stage_code import stage_sha256
from aeops.files import data_sha256, file_sha256, write_json
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.provenance.run_summary import RunSummary
from aeops.recipe.reader import Recipe, load_recipe

FLOW_STAGES = ("ingest", "validate", "compare")  # run by the flow itself: DVC does not watch their code


class VersionState(TypedDict):
    """Part of a summary that registry and ledger can change after the run."""

    aliases: list[str]
    state: str


def last_run_file(project: Project, recipe: str) -> Path:
    """Return the record of the recipe's last whole run, which may not exist: `fingerprint` and the run's `summary`."""
    file = project.home / "last-run" / f"{recipe}.json"
    old_file = project.home / "standing" / f"{recipe}.json"
    if old_file.is_file() and not file.is_file():
        return old_file
    return file


def write_record(project: Project, recipe: Recipe, summary: RunSummary) -> None:
    """Record a whole run's summary, for the next run to compare with.

    Args:
        recipe: as the run has read it; its file may be another one by now.
    """
    validation = read_json_if_whole(project.validation(recipe.data.dataset) / "validation.json", "judgements_sha256")
    judgements_sha256 = None if validation is None else validation["judgements_sha256"]
    record = {"fingerprint": _run_fingerprint(project, recipe, judgements_sha256), "summary": summary}
    write_json(project.home / "last-run" / f"{recipe.name}.json", record)


def unchanged_summary(project: Project, recipe: str) -> RunSummary | None:
    """Return the last run's summary with `changed` False if a run would change nothing, else None.

    That is so if no sample is older than the recipe keeps it, source, recipe, record of seeds, data, code and the output of every
    stage are as they were, the registry still
    holds the version, no decision on it is pending, and nothing in ledger and registry is to be repaired. Where the record of the
    last run is damaged, the run makes it anew. The cheapest checks come first.
    """
    record = read_json_if_whole(last_run_file(project, recipe), "fingerprint", "summary")
    if record is None:
        return None
    checked = load_recipe(project, recipe)
    if record["fingerprint"] != _run_fingerprint(project, checked, judgements_digest(project, checked.data.dataset)):
        return None
    if has_expired(project, checked, datetime.now(UTC).date()):
        return None
    if not is_up_to_date(project, recipe, checked.data.dataset):
        return None
    summary: RunSummary = record["summary"]
    state = _current_state(project, summary)
    if state is None:
        return None
    report = str(project.reports(recipe) / "report.html")  # in the state folder, which may have moved since
    return {**summary, **state, "report": report, "changed": False}


def _run_fingerprint(project: Project, recipe: Recipe, judgements_sha256: str | None) -> str:
    """Return a SHA-256 over what a run starts from and DVC does not watch.

    That is source, recipe, data, the flow's own stages, the code of a source that the project adds, and where there are such the
    record of seeds, from which margins come, and what people have decided about samples in quarantine: of a run that has
    ended, what its validation knew.
    """
    dataset = project.dataset(recipe.data.dataset)
    content = "none"
    if dataset.is_dir():
        content = content_sha256(dataset)
    hashes = [source_digest(recipe, project), recipe.sha256, content]
    for stage in FLOW_STAGES:
        hashes.append(stage_sha256(project.root, stage))
    hashes += filter(None, [own_source_sha256(project.root, recipe)])
    seed_record = project.seed_record(recipe.name)
    if seed_record.is_file():
        hashes.append(file_sha256(seed_record))
    hashes += filter(None, [judgements_sha256])
    return data_sha256("\n".join(hashes))


def _current_state(project: Project, summary: RunSummary) -> VersionState | None:
    """Return aliases and state of the run's version as registry and ledger have them now; None if a run has something to do.

    That is a decision, or a repair of the ledger or of the champion's stored bundle.

    A version that waits for a person, or that a person has rejected, is as settled as a champion: a run would change nothing.
    """
    from aeops.registry import ledger, promotion
    from aeops.registry.store import open_store
    from aeops.registry.version_state import describe_state, is_settled

    store, recipe = open_store(project), summary["recipe"]
    if "comparison" not in summary:
        return None  # the summary is older than the ledger
    for version in store.versions(recipe):
        if version.version == summary["version"]:
            entries = ledger.read_entries(project, recipe)
            if version.tags.get("bundle_sha256") != summary["bundle_sha256"] or not is_settled(store, version, recipe, entries):
                return None
            if not store.has_run(version.run_id):
                return None  # deleted in MLflow with the version's evidence: another run brings it
            if promotion.needs_repair(store, recipe):
                return None
            return {"aliases": list(version.aliases), "state": describe_state(recipe, version, entries)}
    return None
