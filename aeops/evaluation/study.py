"""A study: one question about a bundle, answered beside its baselines, and shown by the report as it is returned.

To add one: its settings in aeops/recipe/studies.py, and `run_<name>_study(spec, context, figures) -> StudyResult` in
aeops/evaluation/studies/<name>.py, dashes as underscores. A study imports heavy packages (torch, umap) inside its functions.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.own_parts import resolve_work
from aeops.bundle.detector import Detector
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.recipe_baselines import RecipeBaselines
from aeops.evaluation.sample_blocks import map_samples
from aeops.plugins import current_parts
from aeops.project import Project
from aeops.recipe.reader import Recipe


@dataclass(frozen=True)
class EvaluationContext:
    """Everything that a study may read.

    Attributes:
        recipe: whose bundle it is.
        data: the prepared samples.
        detector: the bundle, loaded.
        inputs: the test samples as the model is served them, (n, *detector.shape) in raw units. Where they are many, this,
            `target` and the reconstructions lie in files: `aeops.evaluation.sample_blocks` reads such arrays in blocks.
        target: the expected reconstructions, (n, *detector.output_shape) in [0, 1]; of a text, its token ids.
        predictions: of the detector for `inputs`: score, p_value, is_anomaly, reconstruction, code.
        project: with the sources and the state.
        bundle, history: the folders that the training wrote.
    """

    recipe: Recipe
    data: PreparedSamples
    detector: Detector
    inputs: np.ndarray
    target: np.ndarray
    predictions: dict[str, np.ndarray]
    project: Project
    bundle: Path
    history: Path

    @property
    def is_normal(self) -> np.ndarray:
        """True for each test sample that is normal, bool (n,)."""
        return ~self.data.novelty

    @property
    def reconstructions(self) -> np.ndarray:
        """Reconstructions of test samples of numbers, (n, *detector.output_shape) in [0, 1]; many of them are in a file."""
        return map_samples(self.data.scale, self.predictions["reconstruction"], self.data.folder)

    @cached_property
    def baselines(self) -> RecipeBaselines:
        """The recipe's baselines."""
        return RecipeBaselines(self.recipe, self.data, self.detector)

    @cached_property
    def measured_outputs(self) -> np.ndarray:
        """Reconstructions in the units in which errors are measured: in [0, 1], or as token ids (n, tokens)."""
        return map_samples(self.detector.to_measured, self.predictions["reconstruction"], self.data.folder)


@dataclass(frozen=True)
class StudyResult:
    """The answer of a study, ready to be shown.

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


def run_study(name: str, spec: Any, context: EvaluationContext, figures: Path) -> StudyResult:
    """Run one study.

    Args:
        name: a key of `aeops.recipe.studies.STUDIES`, or an own study of the project.
        spec: the settings of the study.
        context: the samples and the model.
        figures: folder to write the study's figures to.
    """
    for own in current_parts().studies:
        if own.name == name:
            own_result: StudyResult = resolve_work(own.work, name)(spec, context, figures)
            return own_result
    module_name = name.replace("-", "_")
    study_module = import_module(f"{__package__}.studies.{module_name}")
    result: StudyResult = getattr(study_module, f"run_{module_name}_study")(spec, context, figures)
    return result
