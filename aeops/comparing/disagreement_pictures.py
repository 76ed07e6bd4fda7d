"""Pictures of the samples that two versions disagree on: the sample, and where each version's reconstruction differs from it."""

from collections.abc import Sequence

import numpy as np

from aeops.bundle.detector import Detector
from aeops.comparing.same_samples import Disagreement
from aeops.evaluation import model_input
from aeops.evaluation.prepared import PreparedSamples
from aeops.kinds.results import PageBlock
from aeops.recipe.reader import Recipe

MAX_PICTURES = 48
MAX_TEXT = 400  # characters of a text that are shown
ERROR_TITLE = "Error at each pixel"


def draw_disagreements(
    recipe: Recipe, data: PreparedSamples, detectors: Sequence[Detector], disagreements: Sequence[Disagreement]
) -> list[list[PageBlock]]:
    """Return the blocks of each sample, in order: the sample as it is served and, of images, the error map of each version."""
    if not disagreements:
        return []
    stored = np.asarray(data.test[[one.row for one in disagreements]])
    kind, spec = detectors[0].data_kind, detectors[0].spec
    texts = kind.baseline(stored, spec).texts
    if texts is not None:
        return [kind.page_panels(np.array([text[:MAX_TEXT]], object), None, spec)[0] for text in texts]
    inputs = model_input.served_inputs(recipe.fit, stored, model_input.TEST_SEED)
    outputs = [detector.score(inputs, reconstruction=True)["reconstruction"] for detector in detectors]
    pictures = []
    for row in range(len(stored)):
        batch = inputs[row : row + 1]
        blocks = kind.page_panels(batch, None, spec)[0][:1]
        for output, detector in zip(outputs, detectors, strict=True):
            panels, _ = detector.data_kind.page_panels(batch, output[row : row + 1], detector.spec)
            blocks += [panel for panel in panels if panel.title == ERROR_TITLE]
        pictures.append(blocks)
    return pictures
