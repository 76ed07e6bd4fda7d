"""A study: one question about a bundle, answered beside its baselines, and shown by the report as it is handed back.

To add one: its settings in aeops/recipe/studies.py, and `study(spec, scene, figures) -> Finding` in
aeops/evaluation/studies/<name>.py, dashes as underscores. What it needs heavy (torch, umap) it imports itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from aeops.bundle.detector import Detector
from aeops.evaluation.prepared import Prepared
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.studies import STUDIES

STUDY_MODULES = {name: f"{__package__}.studies.{name.replace('-', '_')}" for name in STUDIES}


@dataclass(frozen=True)
class Scene:
    """What a study may look at.

    Attributes:
        recipe: whose bundle it is.
        data: the prepared samples.
        detector: the bundle, loaded.
        given: the test samples as the model is served them, (n, *detector.shape) in raw units.
        target: what it should make of them, (n, *detector.made_shape) in [0, 1]; of a text, its token ids.
        said: what the detector answers to `given`: score, p_value, is_anomaly, reconstruction, code.
        project: where sources and state are.
        bundle, history: the folders that the training wrote.
    """

    recipe: Recipe
    data: Prepared
    detector: Detector
    given: np.ndarray
    target: np.ndarray
    said: dict[str, np.ndarray]
    project: Project
    bundle: Path
    history: Path

    @property
    def normal(self) -> np.ndarray:
        """Whether each test sample is a normal one, bool (n,)."""
        return ~self.data.novelty

    @property
    def made(self) -> np.ndarray:
        """The reconstructions of test samples of numbers, (n, *detector.made_shape) in [0, 1]."""
        return self.data.scaled(self.said["reconstruction"])

    @cached_property
    def measured(self) -> np.ndarray:
        """The reconstructions of the test samples as their errors are measured: in [0, 1], or as token ids (n, tokens)."""
        return self.detector.measurable(self.said["reconstruction"])


@dataclass(frozen=True)
class Finding:
    """What a study found, ready to be shown.

    Attributes:
        title: a few words.
        lead: one or two sentences: the question and the answer.
        head, rows: a table; the first column names what the row is about.
        figures: (file name in the figures' folder, caption).
        metrics: for metrics.json, under the study's name; None for what is not defined.
        note: how it was measured.
    """

    title: str
    lead: str
    head: list[str]
    rows: list[list[str]]
    figures: list[tuple[str, str]]
    metrics: dict[str, Any]
    note: str = ""


def find(name: str, spec: Any, scene: Scene, figures: Path) -> Finding:
    """Does the study `name`; its figures are written to the folder `figures`."""
    study: Callable[[Any, Scene, Path], Finding] = import_module(STUDY_MODULES[name]).study
    return study(spec, scene, figures)
