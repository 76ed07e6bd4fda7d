"""A small project in a scratch folder whose recipe `mine` reads two .npy files of real digits."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from aeops.data.dataset import content_sha256, read_index
from aeops.data.sources.catalogue import read_source
from aeops.data.sources.samples import SourceSamples
from aeops.files import write_json
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, load_recipe
from aeops.stages.ingest import ingest

CHECKOUT = Path(__file__).parents[1]
EACH = 60  # digits of each label


@dataclass
class Room:
    """A project with one recipe, `mine`.

    Attributes:
        root: the project's folder.
        images: uint8 (600, 28, 28), sorted by label; a copy that a test may change before `save`.
        labels: (600,) whole numbers.
    """

    root: Path
    images: np.ndarray
    labels: np.ndarray

    @property
    def project(self) -> Project:
        return find_project(self.root)

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.project, "mine")

    @property
    def recipe_file(self) -> Path:
        return self.root / "recipes" / "mine.yaml"

    @property
    def incoming(self) -> Path:
        return self.project.incoming("mine")

    @property
    def data(self) -> Path:
        return self.project.dataset("mine")

    def edit(self, **changes: Any) -> None:
        """Changes keys of the recipe: a section's name -> the keys to change in it."""
        recipe = yaml.safe_load(self.recipe_file.read_text())
        for section, keys in changes.items():
            recipe[section] |= keys
        self.recipe_file.write_text(yaml.safe_dump(recipe, sort_keys=False))

    def replace(self, **sections: Any) -> None:
        """Replaces whole sections of the recipe."""
        self.recipe_file.write_text(yaml.safe_dump(yaml.safe_load(self.recipe_file.read_text()) | sections, sort_keys=False))

    def ask_for_texts(self, length: int, source: dict[str, Any]) -> None:
        """Makes the recipe one of texts of `length` bytes from this source."""
        self.replace(
            data={"dataset": "mine", "source": source, "split": {"validation": 0.1, "calibration": 0.2, "test": 0.2}},
            validate={
                "rows": {"min": 1, "max": 100000},
                "characters": {"min": 4, "max": length},
                "letters": {"min": 0.3, "max": 1.0},
                "mean_drift": 0.05,
                "quarantine_budget": 0.1,
            },
            input={"kind": "text", "shape": [length]},
            model={
                "corrupt": {"kind": "word-deletion"},
                "encode": {"kind": "tokens"},
                "bottleneck": {"kind": "identity"},
                "decode": {"kind": "tokens"},
                "compare": {"kind": "cross-entropy"},
            },
            score={"kind": "token-surprise"},
            train={"epochs": 1},
            evaluate={},
            gate={"served": {"check": "served"}},
        )

    def save(self, images: np.ndarray | None = None, labels: np.ndarray | None = None) -> None:
        """Writes the source's files."""
        np.save(self.root / "images.npy", self.images if images is None else images)
        np.save(self.root / "labels.npy", self.labels if labels is None else labels)

    def ingest(self) -> None:
        ingest(self.recipe, self.project, self.incoming)

    def samples(self) -> SourceSamples:
        """What the source holds."""
        return read_source(self.recipe, self.project)

    def accept(self) -> None:
        """Ingests and validates what the source holds."""
        from aeops.stages.validate import validate  # takes seconds: only for the tests that need it

        self.ingest()
        validate(self.recipe, self.project, self.incoming)

    def accept_unjudged(self) -> None:
        """Ingests and accepts what the source holds without the expectations, which take seconds to load."""
        self.ingest()
        accept_unjudged(self.incoming, self.data)

    def validation(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.project.validation("mine") / "validation.json")
        return found


def accept_unjudged(incoming: Path, dataset: Path) -> None:
    """Accepts an incoming dataset as it is, with a receipt of its content alone."""
    shutil.copytree(incoming, dataset)
    count = len(read_index(dataset))
    rows = {"given": count, "accepted": count, "quarantined": 0}
    write_json(dataset / "receipt.json", {"content_sha256": content_sha256(dataset), "rows": rows})


def shared_data(path: str) -> Path:
    """A file or folder of the real data sets beside the checkout; skips the test where they are not there."""
    place = CHECKOUT.parent / "shared" / "data" / path
    if not place.exists():
        pytest.skip(f"the real data sets are not here: no {place}")
    return place


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`: its relative path -> its bytes."""
    return {place.relative_to(folder).as_posix(): place.read_bytes() for place in sorted(folder.rglob("*")) if place.is_file()}


def make_room(root: Path, images: np.ndarray, labels: np.ndarray) -> Room:
    """A new project in `root`, its source not yet written."""
    shutil.copytree(CHECKOUT / "recipes", root / "recipes")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    room = Room(root, images.copy(), labels.copy())
    recipe = yaml.safe_load((root / "recipes" / "digits.yaml").read_text())
    recipe |= {"recipe": "mine"}
    recipe["data"] |= {"dataset": "mine", "source": {"kind": "npy", "path": "images.npy", "labels": "labels.npy"}}
    recipe["validate"] |= {"rows": {"min": 300, "max": 5000}, "mean_drift": 0.05}
    recipe["gate"] = {"served": {"check": "served"}}  # which asks nothing of the data, whatever a test makes of it
    room.recipe_file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return room
