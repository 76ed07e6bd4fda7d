"""The edges of an image as one more channel of it: the target of a model that draws edges.

They are computed once, when the source is read, and not in training: they are then part of the dataset and of its hash, so
that a model is trained, evaluated and rebuilt on the very same edges whichever version of the library is installed, and
training and serving need no such library.
"""

import numpy as np
from skimage.feature import canny

from ae_models.spec import InputSpec
from aeops.kinds.arrays import LUMA
from aeops.recipe.sources import EdgesSpec


def append_edges(images: np.ndarray, spec: EdgesSpec, input_spec: InputSpec) -> np.ndarray:
    """Append the edges of images as their last channel.

    Args:
        images: (k, c, h, w) in [input.low, input.high].
        spec: settings of the edge detector (Canny 1986).
        input_spec: the range of values.

    Returns:
        (k, c + 1, h, w) of the images' dtype; in the last channel input.low where there is no edge, input.high on an edge.
    """
    scaled_luma = (pixel_luma(images) - input_spec.low) / (input_spec.high - input_spec.low)
    edges = np.empty((len(images), 1, *images.shape[2:]), images.dtype)
    for index, image in enumerate(scaled_luma):
        is_edge = canny(image, sigma=spec.sigma, low_threshold=spec.low, high_threshold=spec.high)
        edges[index, 0] = np.where(is_edge, input_spec.high, input_spec.low)
    return np.concatenate([images, edges], axis=1)


def pixel_luma(images: np.ndarray) -> np.ndarray:
    """Return the brightness of the pixels of (k, c, h, w) as float64 (k, h, w): luma for three channels, else their mean."""
    channels = images.shape[1]
    weights = np.full(channels, 1 / channels)
    if channels == len(LUMA):
        weights = LUMA
    return np.asarray(np.einsum("c,kchw->khw", weights, images.astype(np.float64)))
