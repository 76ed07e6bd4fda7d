"""What a forgetting has to reach: every check comes before anything is deleted, and the record of it before the first step."""

import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ae_models.names import names_not_in
from aeops.data.dataset import read_index, require_receipt
from aeops.data.dvc import stored_folders
from aeops.data.held_samples import HeldSamples, find_held, keeps_samples
from aeops.data.judgements import read_judgements
from aeops.data.pending_forgetting import write_pending
from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.files import data_sha256
from aeops.machine.scratch import ScratchFolder
from aeops.predictions.redaction import require_no_open_journal
from aeops.project import Project
from aeops.provenance.forgetting.ids_file import name_some
from aeops.recipe.reader import Recipe, load_recipe, recipe_names
from aeops.registry.aliases import CHALLENGER
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

FORMAT = 1


def plan_forgetting(project: Project, store: Store, recipe: Recipe, ids: list[str], who: str, why: str) -> dict[str, Any]:
    """Find all that holds the samples, and record it as a forgetting under way.

    Args:
        project: whose data and state are looked through.
        store: the registry.
        recipe: one that reads the dataset.
        ids: of the samples.
        who: decides it.
        why: the reason.

    Returns:
        The record, as `aeops.data.pending_forgetting` keeps it.

    Raises:
        DataError: an id is in no version of the dataset, the dataset was altered, or its file of judgements is damaged.
        UsageError: no reason.
        InfrastructureError: the remote cannot be reached, or a service is running. Nothing was deleted in any of these cases.
    """
    if not why.strip():
        raise UsageError("--why: expected the reason, which the ledger records, got an empty text")
    dataset = recipe.data.dataset
    stores = reachable_stores(project)
    require_receipt(project.dataset(dataset), recipe.name)
    index = read_index(project.dataset(dataset))
    held = find_held(stores, dataset, ids, ())
    judged = {one.id for one in read_judgements(project, dataset)}  # one that was dropped may be nowhere else
    unknown = names_not_in(ids, held.found | set(index["id"]) | quarantined_ids(project, dataset) | judged)
    if unknown:
        raise DataError(
            f"{dataset}: no version of the data holds {name_some(unknown)}: nothing was deleted. Ids are as reports, "
            "`ae quarantine` and the column id of index.parquet show them"
        )
    contents = set(_contents(index, ids))
    for version in held.data.values():
        contents.update(version.contents)
    recipes = recipes_of(project, dataset)
    for name in recipes:
        require_no_open_journal(project, name)
    document = {
        "format": FORMAT,
        "dataset": dataset,
        "ids": ids,
        "contents": sorted(contents),
        "who": who,
        "why": why,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "folders": held.folders,
        "recipes": recipes,
        "copies": copies_of(index, ids),
        "judged": not judged.isdisjoint(ids),
        "versions": affected_versions(store, recipes, dataset, held, set(index.loc[index["id"].isin(ids), "split"])),
        "evidence_sha256": data_sha256("\n".join(sorted(map(data_sha256, ids)))),
    }
    write_pending(project, document)
    return document


def _contents(index: pd.DataFrame, ids: Collection[str]) -> list[str]:
    return list(index.loc[index["id"].isin(list(ids)), "sha256"])


def copies_of(index: pd.DataFrame, ids: Collection[str]) -> list[str]:
    """Return the ids of other samples of the same content, which stay."""
    same = index["sha256"].isin(_contents(index, ids)) & ~index["id"].isin(list(ids))
    return list(index.loc[same, "id"])


def reachable_stores(project: Project) -> list[Path]:
    """Return DVC's cache and remote.

    Raises:
        InfrastructureError: the remote is no folder that can be written, so that copies in it would stay.
    """
    cache, *remotes = stored_folders(project)
    next_step = "nothing was deleted. Make it reachable, or copy it to a folder and name that (`dvc remote modify --local`)"
    if not remotes:
        raise InfrastructureError(f"the data's remote is at an address, where `ae forget` deletes nothing: {next_step}")
    for remote in remotes:
        own = remote.resolve().is_relative_to(project.home)  # the project's own one is made by the first run
        if not (remote.is_dir() or own) or (remote.is_dir() and not os.access(remote, os.W_OK)):
            raise InfrastructureError(f"the data's remote {remote} cannot be reached and written: {next_step}")
    return [cache, *remotes]


def recipes_of(project: Project, dataset: str) -> list[str]:
    """Return the recipes that read the dataset; one with mistakes counts where its name is the dataset's."""
    found = []
    for name in recipe_names(project):
        try:
            if load_recipe(project, name).data.dataset == dataset:
                found.append(name)
        except UsageError:
            if name == dataset:
                found.append(name)
    return found


def affected_versions(
    store: Store, recipes: list[str], dataset: str, held: HeldSamples, splits: set[str]
) -> list[dict[str, Any]]:
    """Return the versions that were trained, calibrated or tested on data with the samples, by tags and by what is stored.

    A version whose data is in no store any more is counted among them, as nobody can look into it.
    """
    found, known = [], held.content_sha256s
    for recipe in sorted({*recipes, *store.model_names()}):
        for version in store.versions(recipe):
            if version.tags.get("data.dataset") != dataset:
                continue
            content, is_stored = version.tags.get("data.content_sha256", ""), version.tags.get("data.dvc_md5") in held.looked_into
            if content not in known and is_stored:
                continue
            is_trained_on = known.get(content, "train" in splits)
            found.append(
                {
                    "recipe": recipe,
                    "version": version.version,
                    "bank": is_trained_on and _has_bank(store, recipe, version, held),
                    "bundle_sha256": version.tags.get("bundle_sha256", ""),
                    "is_challenger": CHALLENGER in version.aliases,
                }
            )
    return found


def _has_bank(store: Store, recipe: str, version: VersionInfo, held: HeldSamples) -> bool:
    """Return whether a version's score keeps training samples: by its bundle, else by its recipe; True where both are gone."""
    bundle = version.tags.get("bundle_sha256", "")
    if bundle in held.banks:
        return held.banks[bundle]
    path = f"rebuild/{recipe}.yaml"
    if not store.has_run(version.run_id) or path not in store.files(version.run_id, "rebuild"):
        return True
    with ScratchFolder() as folder:
        recorded = yaml.safe_load(store.download_file(version.run_id, path, Path(folder)).read_text(encoding="utf-8"))
    return keeps_samples(recorded.get("score"))


def quarantined_ids(project: Project, dataset: str) -> set[str]:
    """Return the ids of all that is set aside."""
    ids = set[str]()
    for file in project.quarantine(dataset).glob("*/rows.parquet"):
        ids |= set(pd.read_parquet(file, columns=["id"])["id"])
    return ids
