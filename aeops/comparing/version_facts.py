"""What is known of a registered version without its bundle, and in what two of them differ."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aeops.machine.scratch import ScratchFolder
from aeops.provenance.lineage import with_lineage
from aeops.recipe.yaml_reader import parse_yaml
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo
from aeops.report.model_card import card_sentence

HASH_DIGITS = 12
NOTHING = "-"  # what a version has where the other one has a key of its own
DATA_TAGS = {"data.dataset": "dataset", "data.content_sha256": "content", "holdout_sha256": "test samples"}
CODE_TAGS = {"git.commit": "commit", "git.diff_sha256": "changes that were not committed", "file.requirements.lock": "packages"}
MACHINE_PREFIX = "platform."


@dataclass(frozen=True)
class VersionFacts:
    """A version's record.

    Attributes:
        recipe_values: its recipe as it was, dotted path -> value as JSON; empty where its run was deleted.
        metrics: of its run, by dotted path.
        sentence: its verdict; empty where its description is no card.
        who: who started the run; empty where that is not recorded.
    """

    recipe: str
    version: str
    made_at: datetime
    who: str
    sentence: str
    recipe_values: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.recipe} {self.version}"


@dataclass(frozen=True)
class Difference:
    """Something in which two versions differ.

    Attributes:
        topic: recipe, data, code or machine.
        name: a key of the recipe, or what it is.
        first, second: of each version; `-` where it has none.
    """

    topic: str
    name: str
    first: str
    second: str


def read_facts(store: Store, recipe: str, version: VersionInfo) -> VersionFacts:
    """Return the record of a version out of the registry.

    Raises:
        DataError: its lineage is altered.
    """
    if store.has_run(version.run_id):
        version = with_lineage(store, recipe, version)
    return VersionFacts(
        recipe=recipe,
        version=version.version,
        made_at=version.created_at,
        who=version.tags.get("started_by", ""),
        sentence=card_sentence(version.description),
        recipe_values=_read_recipe(store, recipe, version),
        tags=version.tags,
        metrics=store.metrics(version.run_id),
    )


def _read_recipe(store: Store, recipe: str, version: VersionInfo) -> dict[str, str]:
    """Return the keys of the recipe that the version was made by, read as YAML alone: its form may be that of an older code."""
    path = f"rebuild/{recipe}.yaml"
    if not store.has_run(version.run_id) or path not in store.files(version.run_id, "rebuild"):
        return {}
    with ScratchFolder() as folder:
        file = store.download_file(version.run_id, path, Path(folder))
        return dict(_flatten(parse_yaml(file.read_bytes(), file.name)))


def _flatten(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def find_differences(first: VersionFacts, second: VersionFacts) -> list[Difference]:
    """Return only what differs between two versions: keys of the recipe, then data, code and machine."""
    differences = _compare("recipe", first.recipe_values, second.recipe_values)
    for topic, tags in (("data", DATA_TAGS), ("code", CODE_TAGS)):
        differences += _compare(topic, _named_tags(first, tags), _named_tags(second, tags))
    return differences + _compare("machine", _machine_tags(first), _machine_tags(second))


def _named_tags(facts: VersionFacts, names: Mapping[str, str]) -> dict[str, str]:
    return {name: _shorten(facts.tags[tag]) for tag, name in names.items() if tag in facts.tags}


def _machine_tags(facts: VersionFacts) -> dict[str, str]:
    machine = {}
    for tag, value in facts.tags.items():
        if tag.startswith(MACHINE_PREFIX):
            machine[tag.removeprefix(MACHINE_PREFIX)] = value
    return machine


def _compare(topic: str, first: Mapping[str, str], second: Mapping[str, str]) -> list[Difference]:
    differences = []
    for name in dict.fromkeys([*first, *second]):
        pair = Difference(topic, name, first.get(name, NOTHING), second.get(name, NOTHING))
        if pair.first != pair.second:
            differences.append(pair)
    return differences


def _shorten(value: str) -> str:
    """Return the first digits of a hash, and any other value as it is."""
    if len(value) >= 40 and set(value) <= set("0123456789abcdef"):
        return value[:HASH_DIGITS]
    return value
