"""The edges of an image as one more channel of it: what a model that draws edges is to make of the others.

They are made when the source is read, once, and not in training: they are then part of the dataset and of its hash, so that
a model is trained, judged and rebuilt on the very same edges whichever version of the library is there, and the rooms that
train and serve need no such library.
"""

import numpy as np
from skimage.feature import canny

from ae_models.spec import InputSpec
from aeops.kinds.arrays import LUMA
from aeops.recipe.sources import EdgesSpec


def append_edges(images: np.ndarray, spec: EdgesSpec, input_spec: InputSpec) -> np.ndarray:
    """The images (k, c, h, w) with their edges as last channel: input.low where there is none, input.high on an edge."""
    grey = (pixel_luma(images) - input_spec.low) / (input_spec.high - input_spec.low)
    found = np.stack([canny(each, sigma=spec.sigma, low_threshold=spec.low, high_threshold=spec.high) for each in grey])
    edges = np.where(found, input_spec.high, input_spec.low).astype(images.dtype)
    return np.concatenate([images, edges[:, None]], axis=1)


def pixel_luma(images: np.ndarray) -> np.ndarray:
    """How bright the pixels of (k, c, h, w) are, as float64 (k, h, w); the mean where the channels are not red, green, blue."""
    weights = LUMA if images.shape[1] == len(LUMA) else np.full(images.shape[1], 1 / images.shape[1])
    return np.asarray(np.einsum("c,kchw->khw", weights, images.astype(np.float64)))
