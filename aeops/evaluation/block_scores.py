"""Scores of many samples with as little memory as those of few: reconstructions of a large set lie in a file."""

import math
from pathlib import Path

import numpy as np

from aeops.bundle.detector import Detector
from aeops.evaluation.sample_blocks import is_large, new_array, release_pages, rows_of_blocks, sample_values


def score_in_blocks(
    detector: Detector, samples: np.ndarray, folder: Path | None = None, reconstruction: bool = False, code: bool = False
) -> dict[str, np.ndarray]:
    """Score samples as `Detector.score` does, with the same bits.

    Args:
        detector: the bundle.
        samples: (n, ...) in raw units, also in a file.
        folder: of the file of the reconstructions, where these are large; None: they are in memory.
        reconstruction: also return the reconstructions.
        code: also return the codes.
    """
    largest = max(sample_values(samples), math.prod(detector.output_shape) if detector.data_kind.FIXED_SHAPE else 0)
    if not detector.data_kind.FIXED_SHAPE or not is_large((len(samples), largest)):
        return detector.score(samples, reconstruction=reconstruction, code=code)
    outputs: dict[str, np.ndarray] = {}
    rows_at_once = detector.data_kind.rows_at_once(sample_values(samples))  # of the network: its last digits may depend on them
    for rows in rows_of_blocks(len(samples), largest, rows_at_once):
        for name, values in detector.score(samples[rows], reconstruction=reconstruction, code=code).items():
            if name not in outputs:
                outputs[name] = new_array((len(samples), *values.shape[1:]), values.dtype, folder)
            outputs[name][rows] = values
        release_pages(samples, *outputs.values())
    return outputs
