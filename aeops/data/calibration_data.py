"""Normal samples of a user's file or folder, kept as a source file for a threshold to be calibrated on."""

from collections import Counter
from pathlib import Path

import numpy as np

from aeops.bundle.detector import Detector
from aeops.data.set_aside import first_reasons
from aeops.errors import DataError
from aeops.files import atomic_write, data_sha256
from aeops.kinds.flags import describe_flags
from aeops.project import Project
from aeops.recipe.sections import CalibrationSamplesSpec

FOLDER = "calibration"  # below the state folder's sources
HASH_DIGITS = 12  # of a SHA-256 in a file's name
MAX_NAMED = 3  # files or flags that a message names


def store_calibration_samples(project: Project, recipe: str, detector: Detector, path: Path) -> CalibrationSamplesSpec:
    """Read samples as `ae score` does and store them in the state folder, under a name by their content.

    Args:
        project: whose state folder.
        recipe: its name.
        detector: of a bundle of the recipe: it knows which samples the model takes.
        path: a file or a folder.

    Returns:
        The settings by which the recipe's threshold finds them again.

    Raises:
        UsageError: there is no such file.
        DataError: samples that do not fit the model, or are not as those that it was trained on.
    """
    samples = detector.read_file(path)
    if samples.refused:
        reasons = "; ".join(first_reasons(samples.refused, MAX_NAMED))
        raise DataError(f"--on {path}: {len(samples.refused)} files cannot be read ({reasons}): take them out")
    checked = detector.check(samples.values)
    if checked.flags.any():
        counts = Counter(map(describe_flags, checked.flags[checked.flags != 0].tolist()))
        named = ", ".join(f"{count} ({description})" for description, count in counts.most_common(MAX_NAMED))
        raise DataError(
            f"--on {path}: expected normal samples, got {int((checked.flags != 0).sum())} of {len(checked.flags)} that are not "
            f"as those of the training: {named}: take them out"
        )
    content = _npy_bytes(detector.data_kind.dataset_array(samples.values, detector.spec))
    content_sha256 = data_sha256(content)
    source = f"{FOLDER}/{recipe}-{content_sha256[:HASH_DIGITS]}.npy"
    file = project.home / "sources" / source
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, content)
    return CalibrationSamplesSpec(source, content_sha256)


def _npy_bytes(samples: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, samples, allow_pickle=False)
    return buffer.getvalue()
