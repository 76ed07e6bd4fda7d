"""The steps that read samples, from their source to their scores, for benchmarks/growth.py."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmark_tools import ROOT, mnist_digits
from growth_step import NAME, Step, Work

from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, load_recipe

BATCH = 128
INBOX_SAMPLES = "images.npy"


def distinct_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return digits, uint8 (count, 28, 28), with noise that makes no two the same or nearly so, and their labels (count,)."""
    digits, labels = mnist_digits()
    draw, images = np.random.default_rng(0), np.empty((count, 28, 28), np.uint8)
    rows = np.resize(draw.permutation(len(digits)), count)  # they are sorted by label
    for start in range(0, count, 10_000):
        block = digits[rows[start : start + 10_000], 0].astype(np.int16)
        images[start : start + 10_000] = (block * 0.7 + draw.integers(0, 70, block.shape)).astype(np.uint8)
    return images, labels[rows].astype(np.int64)


def sample_recipe() -> dict[str, Any]:
    """Return the recipe `digits` with a small dense network, one epoch of training and a source of two files."""
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / f"{NAME}.yaml").read_text(encoding="utf-8"))
    recipe["data"] |= {"source": {"kind": "npy", "path": "images.npy", "labels": "labels.npy"}}
    recipe["data"]["split"] = {"validation": 0.04, "calibration": 0.1, "test": 0.1}
    recipe["validate"]["rows"] = {"min": 1, "max": 10_000_000}
    recipe["validate"] |= {"sample_mean": {"min": 0, "max": 1}, "sample_std": {"min": 0, "max": 1}}
    recipe["model"] |= {"encode": {"kind": "dense", "widths": [64]}, "decode": {"kind": "dense", "widths": [64]}}
    recipe["score"] = {"kind": "normalised-residual", "energy": 0.5, "blur": 1}
    recipe["train"] = {"epochs": 1, "batch": BATCH, "accelerator": "cpu", "threads": 1}
    return recipe


def sample_project(root: Path, count: int) -> None:
    """Make a project whose source has so many images."""
    from aeops.data.listed_recipes import list_recipe
    from aeops.data.new_project import create_project
    from aeops.data.pipeline_files import write_pipeline_files

    create_project(root)
    images, labels = distinct_images(count)
    np.save(root / INBOX_SAMPLES, images)
    np.save(root / "labels.npy", labels)
    (root / "recipes" / f"{NAME}.yaml").write_text(yaml.safe_dump(sample_recipe(), sort_keys=False), encoding="utf-8")
    project = find_project(root)
    list_recipe(project, load_recipe(project, NAME))
    write_pipeline_files(project)


@dataclass(frozen=True)
class SampleFolders:
    """A project with samples, and where its stages write."""

    project: Project
    recipe: Recipe

    @classmethod
    def open(cls, root: Path) -> "SampleFolders":
        from aeops.machine.environment import prepare_environment

        os.chdir(root)
        project = find_project(root)
        prepare_environment(project)
        return cls(project, load_recipe(project, NAME))

    @property
    def incoming(self) -> Path:
        return self.project.incoming(NAME)

    def artifact(self, name: str) -> Path:
        return self.project.root / "artifacts" / NAME / name


def ingest_step(root: Path, size: int) -> Work:
    from aeops.stages.ingest import ingest

    sample_project(root, size)
    at = SampleFolders.open(root)
    return lambda: ingest(at.recipe, at.project, at.incoming)


def validate_step(root: Path, size: int) -> Work:
    from aeops.stages.validate import validate

    at = SampleFolders.open(root)
    return lambda: validate(at.recipe, at.project, at.incoming)


def version_step(root: Path, size: int) -> Work:
    from aeops.data.dvc import add_dataset

    at = SampleFolders.open(root)

    def add() -> None:
        add_dataset(at.project, NAME)

    return add


def prepare_step(root: Path, size: int) -> Work:
    from aeops.stages.prepare import prepare

    at = SampleFolders.open(root)
    return lambda: prepare(at.recipe, at.project.dataset(NAME), at.artifact("prepared"))


def train_step(root: Path, size: int) -> Work:
    from aeops.stages.train import train

    at = SampleFolders.open(root)
    rows = np.load(at.artifact("prepared") / "train.npy", mmap_mode="r").shape[0]

    def run() -> int:
        train(at.recipe, at.project, at.artifact("prepared"), at.artifact("training"))
        return -(-rows // BATCH)

    return run


def calibrate_step(root: Path, size: int) -> Work:
    from aeops.stages.calibrate import calibrate_bundle

    at = SampleFolders.open(root)
    places = (at.artifact("prepared"), at.artifact("training"), at.artifact("bundle"))
    return lambda: calibrate_bundle(at.recipe, at.project, *places)


def evaluate_step(root: Path, size: int) -> Work:
    from aeops.stages.evaluate import evaluate

    at = SampleFolders.open(root)
    places = (at.artifact("prepared"), at.artifact("bundle"), at.artifact("training"), at.artifact("report"))

    def run() -> None:
        evaluate(at.recipe, at.project, *places)

    return run


def evaluate_pictures_step(root: Path, size: int) -> Work:
    from growth_pictures import write_pictures

    from aeops.stages.evaluate import evaluate

    recipe, project = write_pictures(root, size), Project(root, root / ".ae")

    def run() -> None:
        evaluate(recipe, project, root / "prepared", root / "bundle", root / "training", root / "report")

    return run


def score_step(root: Path, size: int) -> Work:
    from aeops.bundle.detector import Detector
    from aeops.files import file_sha256
    from aeops.predictions.rows import scorer_of
    from aeops.scoring.inbox import InboxFile, read_fingerprint
    from aeops.scoring.score_file import call_name, score_and_record

    at = SampleFolders.open(root)
    detector, now = Detector(at.artifact("bundle")), datetime.now(UTC)
    path = root / INBOX_SAMPLES
    file = InboxFile(INBOX_SAMPLES, path, read_fingerprint(path))
    sha256 = file_sha256(file.path)
    scorer = scorer_of(NAME, "1", detector)

    def run() -> None:
        score_and_record(at.project, "growth", now, file, sha256, call_name(NAME, sha256, 0), detector, scorer)

    return run


def unchanged_step(root: Path, size: int) -> Work:
    """What `ae run` asks of files where nothing has changed, before it asks the registry."""
    from aeops.data.dvc import is_up_to_date
    from aeops.provenance.last_run import _run_fingerprint

    at = SampleFolders.open(root)

    def run() -> None:
        _run_fingerprint(at.project, at.recipe, None)
        is_up_to_date(at.project, NAME, NAME)

    return run


SAMPLE_STEPS = (
    Step("samples", "ingest", 1, ingest_step),
    Step("samples", "validate", 1, validate_step),
    Step("samples", "version", 1, version_step),
    Step("samples", "prepare", 1, prepare_step),
    Step("samples", "train a step", 0, train_step),
    Step("samples", "calibrate", 1, calibrate_step),
    Step("samples", "evaluate", 1, evaluate_step),
    Step("samples", "score", 1, score_step),
    Step("samples", "nothing changed", 1, unchanged_step),
    Step("pictures", "evaluate", 1, evaluate_pictures_step),
)
