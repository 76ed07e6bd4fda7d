"""Carries out a forgetting, step by step: each step may be repeated, so that a killed one is completed by the same command."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ae_models.mappings import drop_keys
from aeops.data.dvc import add_dataset
from aeops.data.held_samples import objects_to_remove, remove_objects
from aeops.data.judgements import forget_judgements
from aeops.data.pending_forgetting import pending_file
from aeops.data.reduced_dataset import drop_samples
from aeops.data.widening import forget_in_widenings
from aeops.errors import UsageError
from aeops.files import sync_folder
from aeops.machine.stored_json import read_json
from aeops.predictions.redaction import redact_predictions
from aeops.project import Project
from aeops.provenance.forgetting.plan import reachable_stores
from aeops.provenance.rebuild.plan import FORGOTTEN_TAG
from aeops.registry import ledger, promotion
from aeops.registry.aliases import CHALLENGER
from aeops.registry.erasing import erase_bundle, erase_examples, erase_pictures
from aeops.registry.ledger import Decision
from aeops.registry.store import Store

FORGETTING = "forgetting"  # event of the ledger


def carry_out(project: Project, store: Store, pending: dict[str, Any], report: Callable[[str, str], None]) -> None:
    """Do all that is left of a recorded forgetting, and remove its record. The caller holds the workspace.

    Args:
        project: whose samples they are.
        store: the registry.
        pending: the record.
        report: called with a word and a sentence for each step that is done.

    Raises:
        AeError: a step failed; the record stays, and the same command goes on.
    """
    dataset, ids, contents = pending["dataset"], pending["ids"], pending["contents"]
    content = drop_samples(project, dataset, ids, contents)
    md5 = add_dataset(project, dataset)
    report("data", f"{dataset} {content[:12]} without {len(ids):,} samples, which no ingest brings back")
    forget_judged(project, pending, report)
    forget_versions(project, store, pending, report)
    stores = reachable_stores(project)
    hashes = objects_to_remove(stores, drop_keys(pending["folders"], {md5}))
    report("stores", f"{remove_objects(stores, hashes):,} files deleted from DVC's cache and remote")
    removed = remove_copies(project, pending)
    report("copies", f"deleted: {', '.join(removed) or 'none were left'}")
    rows = sum(redact_predictions(project, recipe, ids, contents) for recipe in pending["recipes"])
    report("predictions", f"{rows:,} rows no longer say of which sample they are")
    record_in_ledgers(store, pending, content, report)
    pending_file(project, dataset).unlink()
    sync_folder(pending_file(project, dataset).parent)


def forget_judged(project: Project, pending: dict[str, Any], report: Callable[[str, str], None]) -> None:
    """Take the samples out of what people have judged, and out of the record of bounds that were widened because of them."""
    count = forget_judgements(project, pending["dataset"], pending["ids"])
    named_count = sum(forget_in_widenings(project, recipe, pending["ids"]) for recipe in pending["recipes"])
    report("judgements", f"{count:,} lines deleted, and {named_count:,} names of samples in the records of widened bounds")


# ---------------------------------------------------------------- versions


def forget_versions(project: Project, store: Store, pending: dict[str, Any], report: Callable[[str, str], None]) -> None:
    """Mark each version that was made of the samples; retire one whose bank holds them and delete its files."""
    note = f"{len(pending['ids'])} samples, {pending['time'][:10]}: {pending['why']}"
    for entry in pending["versions"]:
        recipe, number = entry["recipe"], entry["version"]
        if not store.has_version(recipe, number):
            continue
        version = store.version(recipe, number)
        store.set_tags(recipe, number, {FORGOTTEN_TAG: note, f"{FORGOTTEN_TAG}.bundle": "deleted" if entry["bank"] else "kept"})
        erase_pictures(store, version)
        erase_examples(store, recipe, version)
        what = "marked: trained or tested on it; its report is deleted"
        if entry["bank"]:
            if ledger.champion_at(ledger.read_entries(project, recipe)) == number:
                promotion.retire(store, recipe, who=pending["who"], why=f"its bank holds forgotten samples: {pending['why']}")
            store.remove_alias(recipe, CHALLENGER, number)  # nothing can be served or approved of it any more
            erase_bundle(store, recipe, version)
            shutil.rmtree(project.home / "serving" / recipe / number, ignore_errors=True)
            what = "retired: its bank holds training samples; bundle and report are deleted"
            if entry.get("is_challenger"):
                what += "; it is challenger no more"
        report("version", f"{recipe}@{number} {what}")


def record_in_ledgers(store: Store, pending: dict[str, Any], content: str, report: Callable[[str, str], None]) -> None:
    """Write a line in the ledger of each recipe that has versions."""
    for recipe in sorted({*pending["recipes"], *(entry["recipe"] for entry in pending["versions"])}):
        versions = store.versions(recipe) if recipe in store.model_names() else []
        if not versions:
            continue
        affected = [entry["version"] for entry in pending["versions"] if entry["recipe"] == recipe]
        newest = max((version.version for version in versions), key=int)
        evidence = {
            "sha256": pending["evidence_sha256"],
            "samples": str(len(pending["ids"])),
            "data": content,
            "versions": ", ".join(affected) or "none",
        }
        if former_challengers := _former_challengers(pending, recipe):
            evidence["aliases_removed"] = f"{CHALLENGER} of {', '.join(former_challengers)}"
        line = promotion.record_decision(store, Decision(FORGETTING, recipe, newest, pending["who"], pending["why"], evidence))
        report("ledger", f"{recipe}: number {line.number}, by {line.who}")


def _former_challengers(pending: dict[str, Any], recipe: str) -> list[str]:
    """Return the retired versions of a recipe that were challenger when the forgetting began."""
    versions = []
    for entry in pending["versions"]:
        if entry["recipe"] == recipe and entry["bank"] and entry.get("is_challenger"):  # older records do not say it
            versions.append(entry["version"])
    return versions


# ---------------------------------------------------------------- copies


def remove_copies(project: Project, pending: dict[str, Any]) -> list[str]:
    """Delete what the checkout and the state folder have made of the samples; return the places."""
    dataset, places = pending["dataset"], list[Path]()
    places += [project.incoming(dataset), project.validation(dataset), project.data_docs / dataset]
    places += [folder for folder in sorted(project.quarantine(dataset).glob("*")) if _holds(folder, pending["ids"])]
    banks = {entry["bundle_sha256"] for entry in pending["versions"] if entry["bank"]}
    for recipe in pending["recipes"]:
        artifacts = project.artifacts(recipe)
        places += [artifacts / "prepared", artifacts / "report"]
        if is_of_bank(artifacts / "bundle", banks, pending):
            places.append(artifacts / "bundle")
        places += [project.reports(recipe), project.seed_runs(recipe), project.sweeps(recipe), project.home / "compare" / recipe]
        places += [project.training(recipe), project.home / "rebuild" / recipe, project.home / "last-run" / f"{recipe}.json"]
    places += [project.image_hashes(dataset), *sorted((project.home / "audit").glob("*"))]
    removed = []
    for place in places:
        if place.is_dir():
            shutil.rmtree(place)
        elif place.is_file():
            place.unlink()
        else:
            continue
        root = project.home if place.is_relative_to(project.home) else project.root
        removed.append(str(place.relative_to(root)))
    return removed


def is_of_bank(bundle: Path, banks: set[str], pending: dict[str, Any]) -> bool:
    """Return whether the checkout's bundle may hold the samples: its score keeps training samples."""
    from ae_models.checksums import bundle_sha256
    from aeops.data.held_samples import keeps_samples

    if not (bundle / "bundle.json").is_file():
        return False
    return bundle_sha256(bundle) in banks or keeps_samples(read_json(bundle / "bundle.json").get("score"))


def _holds(folder: Path, ids: list[str]) -> bool:
    rows = folder / "rows.parquet"
    return rows.is_file() and bool(pd.read_parquet(rows, columns=["id"])["id"].isin(ids).any())


def unreached(project: Project, pending: dict[str, Any]) -> list[str]:
    """Return what a forgetting cannot reach, in words."""
    from aeops.recipe.reader import load_recipe

    sources = set()
    for recipe in pending["recipes"]:
        try:
            sources.add(str(getattr(load_recipe(project, recipe).data.source, "path", "the source")))
        except UsageError:
            continue
    found = [f"the source itself ({', '.join(sorted(sources))}), and what .ae/sources holds of it"] if sources else []
    if pending.get("judged"):
        found.append("Git's history of recipes/quarantine and recipes/suites, which names samples that people have judged")
    return [
        *found,
        "backups and other clones of this project",
        "what monitoring compares with: scores, means and codes of calibration without names, and values column by column",
        "what networks have learnt of the samples: weights are no copies",
    ]
