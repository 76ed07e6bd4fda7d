"""Compress samples to an archive and decompress them, by a model whose codes are indices into a codebook.

archive = compress_samples(detector, "mnist-codec", "3", [((ArchiveSource("digits.npy", 2000),), samples)])
for images in decompress_samples(archive, detector): ...      # reconstructions in raw units
"""

from collections.abc import Iterable, Iterator

import numpy as np

from aeops.bundle.detector import Detector
from aeops.codec.coding import decode_indices, encode_indices
from aeops.codec.container import BLOCK_SAMPLES, DIGEST_BYTES, ArchiveContent, ArchiveSource
from aeops.errors import DataError, UsageError
from aeops.kinds.flags import MISSING, OUT_OF_RANGE


def require_quantised(detector: Detector, recipe: str) -> np.ndarray:
    """Return how often each codebook entry occurs in each slot of the training samples' codes, (slots, entries).

    Raises:
        UsageError: the model's codes are not quantised, or its samples are texts, rows or windows with channels.
    """
    if detector.spec.channels:
        raise UsageError(
            f"{recipe} is about series whose channels have ranges of their own; images, and windows of one range are allowed"
        )
    if detector.data_kind.NOT_COMPRESSIBLE:
        raise UsageError(f"{recipe} is about {detector.data_kind.NOT_COMPRESSIBLE}; images and series are allowed")
    if detector.word_counts is None:
        kind = detector.bundle["model"]["bottleneck"]["kind"]
        raise UsageError(
            f"{recipe} has the bottleneck {kind}, whose codes are real numbers: a recipe whose bottleneck is vq is needed, "
            "given with --recipe"
        )
    return detector.word_counts


def compress_samples(
    detector: Detector, recipe: str, version: str, samples: Iterable[tuple[tuple[ArchiveSource, ...], np.ndarray]]
) -> ArchiveContent:
    """Compress samples to an archive.

    Args:
        detector: of the registered bundle.
        recipe: name of the model in the registry.
        version: its version there.
        samples: arrays (n, *shape) in raw units, each with the files that it came from.

    Raises:
        UsageError: as `require_quantised`.
        DataError: the model does not accept the samples.
    """
    counts = require_quantised(detector, recipe)
    sources: list[ArchiveSource] = []
    parts = []
    for files, values in samples:
        sources += files
        parts.append(_encode_samples(detector, files, values))
    indices = np.concatenate(parts)
    blocks = []
    for start in range(0, len(indices), BLOCK_SAMPLES):
        blocks.append(encode_indices(indices[start : start + BLOCK_SAMPLES], counts))
    return ArchiveContent(
        recipe=recipe,
        version=version,
        bundle=detector.sha256[: 2 * DIGEST_BYTES],
        shape=detector.shape,
        sources=tuple(sources),
        blocks=tuple(blocks),
    )


def _encode_samples(detector: Detector, files: tuple[ArchiveSource, ...], values: np.ndarray) -> np.ndarray:
    """Return the samples' code indices, (n, slots) int64."""
    try:
        outputs = detector.score(values, code=True)
        is_unlike = outputs["flags"] & (OUT_OF_RANGE | MISSING) > 0
        if is_unlike.any():  # an archive would hold another sample in its place
            row = int(np.argmax(is_unlike))
            raise DataError(f"sample {row} holds {detector.describe_refusal(int(outputs['flags'][row]))}")
    except DataError as error:
        raise DataError(f"{files[0].name}{' and others' * (len(files) > 1)}: {error}") from error
    return outputs["code"]


def decompress_samples(archive: ArchiveContent, detector: Detector) -> Iterator[np.ndarray]:
    """Yield the reconstructions of the archive's samples, a block at a time: (n, *output_shape) in raw units.

    Raises:
        UsageError: as `require_quantised`.
        DataError: the code indices cannot be decoded.
    """
    counts = require_quantised(detector, archive.recipe)
    for block, sample_count in zip(archive.blocks, archive.block_sizes, strict=True):
        yield detector.decode(decode_indices(block, counts, sample_count))
