"""Samples to an archive and back, through a model whose codes are words.

archive = archived(detector, "mnist-codec", "3", [(Source("digits.npy", 2000), samples)])
for images in opened(archive, detector): ...      # what the model makes of the words, in raw units
"""

from collections.abc import Iterable, Iterator

import numpy as np

from aeops.bundle.detector import Detector
from aeops.codec.coding import decode_words, encode_words
from aeops.codec.container import BLOCK, DIGEST_BYTES, Archive, Source
from aeops.errors import DataError, UsageError


def require_words(detector: Detector, recipe: str) -> np.ndarray:
    """How often each word stands in each slot of the training samples' codes, (slots, words).

    Raises:
        UsageError: the model's codes are not made of words, or its samples are texts.
    """
    if detector.kind == "text":
        raise UsageError(f"{recipe} is about texts, which must come back letter by letter; images and series are allowed")
    if detector.word_counts is None:
        kind = detector.bundle["model"]["bottleneck"]["kind"]
        raise UsageError(
            f"{recipe} has the bottleneck {kind}, whose codes are real numbers: a recipe whose bottleneck is vq is needed, "
            "given with --recipe"
        )
    return detector.word_counts


def archived(detector: Detector, recipe: str, version: str, samples: Iterable[tuple[tuple[Source, ...], np.ndarray]]) -> Archive:
    """The samples as an archive.

    Args:
        detector: the registered bundle.
        recipe, version: what the registry calls it.
        samples: each array (n, *shape) in raw units, with the files that it came from.

    Raises:
        UsageError: as `require_words`.
        DataError: samples that the model does not take.
    """
    counts = require_words(detector, recipe)
    sources: list[Source] = []
    parts = []
    for files, values in samples:
        sources += files
        parts.append(words_of(detector, files, values))
    words = np.concatenate(parts)
    return Archive(
        recipe=recipe,
        version=version,
        bundle=detector.sha256[: 2 * DIGEST_BYTES],
        shape=detector.shape,
        sources=tuple(sources),
        blocks=tuple(encode_words(words[first : first + BLOCK], counts) for first in range(0, len(words), BLOCK)),
    )


def words_of(detector: Detector, files: tuple[Source, ...], values: np.ndarray) -> np.ndarray:
    """The samples' words, (n, slots) int64."""
    try:
        return detector.score(values, code=True)["code"]
    except DataError as error:
        raise DataError(f"{files[0].name}{' and others' * (len(files) > 1)}: {error}") from error


def opened(archive: Archive, detector: Detector) -> Iterator[np.ndarray]:
    """What the model makes of the archive's words, a block at a time: (n, *made_shape) in raw units.

    Raises:
        UsageError: as `require_words`.
        DataError: the words cannot be read.
    """
    counts = require_words(detector, archive.recipe)
    for coded, samples in zip(archive.blocks, archive.block_sizes, strict=True):
        yield detector.decode(decode_words(coded, counts, samples))
