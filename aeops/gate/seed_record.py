"""The record of seeds: how much metrics differ between trainings of one recipe that differ in their seed alone.

`ae seeds RECIPE` writes it to recipes/seeds/RECIPE.json, to be committed with the recipe. The comparison with the champion takes
its margins from it (aeops.gate.margins) as long as recipe and data are those it was measured with. Light on import.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ae_models.checksums import json_sha256
from ae_models.mappings import drop_keys
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.gate.documents import MISSING, STALE, USED, SeedEvidence
from aeops.machine.stored_json import read_json
from aeops.recipe.yaml_reader import read_yaml

FORMAT = 1
MIN_SEEDS = 2  # one value has no standard deviation
# Sections of a recipe beside data, without data.source and train.seed: those that decide errors and scores, and all metrics.
DECISIVE_SECTIONS = ("input", "model", "score", "train")
METRIC_SECTIONS = (*DECISIVE_SECTIONS, "threshold", "evaluate")


class MetricSummary(TypedDict):
    """A metric over seeds: `sd` has n - 1, `interval` is that of the mean by Student's t at 95 %, `values` are in their order."""

    mean: float
    sd: float
    min: float
    max: float
    interval: list[float]
    values: list[float]


class MeasureSpread(TypedDict):
    """How far a measure of the gate differs between seeds.

    `sd` is that of one training: of an AUROC as it is, of an error as a share of its mean; by label, that of the label where it
    is largest, which `slice` names.
    """

    sd: float
    slice: str


class EqualPairs(TypedDict):
    """Verdicts of the gate on pairs of trainings that differ in their seed alone, each as the champion of each other one.

    `refused` counts the pairs that the rules against the champion refuse, `refused_by_rule` those that each of them refuses.
    """

    count: int
    refused: int
    refused_by_rule: dict[str, int]


class SeedRecord(TypedDict):
    """Content of recipes/seeds/RECIPE.json.

    `settings_sha256` names the settings that decide `spread`, which has the keys of `measure_key`, and `measured_sha256` those
    that decide `metrics`; `content_sha256` names the dataset, `holdout_sha256` the test samples, `code` the code of each stage.
    """

    format: int
    recipe: str
    seeds: list[int]
    settings_sha256: str
    measured_sha256: str
    content_sha256: str
    holdout_sha256: str
    threshold: dict[str, str | float | None]
    code: dict[str, str]
    versions: dict[str, str]
    metrics: dict[str, MetricSummary]
    spread: dict[str, MeasureSpread]
    equal_pairs: EqualPairs


@dataclass(frozen=True)
class SeedSpread:
    """The record of seeds as a comparison uses it; `spread` is empty where it is stale or missing."""

    evidence: SeedEvidence
    spread: Mapping[str, MeasureSpread]


def measure_key(measure: str, by: str | None) -> str:
    """Return the name in a record of what a rule compares.

    >>> measure_key("error", None), measure_key("auroc", "label")
    ('error', 'auroc by label')
    """
    if by is None:
        return measure
    return f"{measure} by {by}"


def seed_settings_sha256(recipe_file: Path, sections: Sequence[str] = DECISIVE_SECTIONS) -> str:
    """Return the SHA-256 of sections of a recipe's file and of its section data, as they stand there.

    The seed is left out, as it is what differs, and so is data.source: the samples' content is named by a hash of its own.
    """
    raw_recipe = read_yaml(recipe_file)
    settings = {name: raw_recipe.get(name) for name in sections}
    settings["train"] = drop_keys(raw_recipe["train"], {"seed"})
    settings["data"] = drop_keys(raw_recipe["data"], {"source"})
    return json_sha256(settings)


def read_seed_record(file: Path) -> SeedRecord | None:
    """Return a record of seeds; None where there is none.

    Raises:
        DataError: it is damaged, or of a format that this version cannot read; the message says what to type.
    """
    if not file.is_file():
        return None
    repair = f"type `ae seeds {file.stem}` to measure it again, or put back a copy: `git checkout {file.parent}/{file.name}`"
    keys = ("format", "seeds", "settings_sha256", "measured_sha256", "content_sha256", "metrics", "spread")
    record: SeedRecord = read_json(file, *keys, repair=repair)
    if record["format"] != FORMAT:
        raise DataError(f"{file} is of format {record['format']}, expected {FORMAT}: {repair}")
    return record


def load_seed_spread(file: Path, recipe_file: Path, content_sha256: str) -> SeedSpread:
    """Read the record of a recipe and check that it was measured with these settings and these samples.

    Args:
        file: of the record, which need not exist.
        recipe_file: the recipe as it is now.
        content_sha256: of the dataset as it is now.

    Raises:
        DataError: the record is damaged.
    """
    record = read_seed_record(file)
    if record is None:
        return no_seed_spread(recipe_file.stem)
    problems = []
    if record["settings_sha256"] != seed_settings_sha256(recipe_file):
        problems.append("other settings of the recipe")
    if record["content_sha256"] != content_sha256:
        problems.append(f"other data ({record['content_sha256'][:12]}, not {content_sha256[:12]})")
    evidence: SeedEvidence = {
        "state": USED,
        "reason": f"{len(record['seeds'])} seeds",
        "sha256": file_sha256(file),
        "seeds": record["seeds"],
    }
    if not problems:
        return SeedSpread(evidence, record["spread"])
    reason = f"the record of seeds was measured with {' and '.join(problems)}: `ae seeds {recipe_file.stem}` measures it again"
    return SeedSpread({**evidence, "state": STALE, "reason": reason}, {})


def no_seed_spread(recipe: str) -> SeedSpread:
    """Return what a comparison uses where there is no record of seeds."""
    reason = f"there is no record of seeds: `ae seeds {recipe}` measures one"
    return SeedSpread({"state": MISSING, "reason": reason, "sha256": None, "seeds": []}, {})
