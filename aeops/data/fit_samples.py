"""The prepared samples that training and calibration read, opened without loading them."""

from dataclasses import dataclass
from pathlib import Path

from ae_models.errors import SampleError
from ae_models.sample_sets import NpySampleSet, SampleRoles
from aeops.errors import DataError
from aeops.machine.stored_json import read_json


@dataclass(frozen=True)
class FitSamples:
    """The samples of a fit.

    Attributes:
        roles: by what each set is for.
        content_sha256: names the version of the dataset.
    """

    roles: SampleRoles
    content_sha256: str


def open_fit_samples(prepared: Path, recipe: str) -> FitSamples:
    """Open the samples that the stage prepare wrote.

    Args:
        prepared: its folder, with train.npy, validation.npy, calibration.npy and prepared.json.
        recipe: the recipe's name, for the message.

    Raises:
        DataError: the folder is incomplete.
    """
    try:
        content_sha256 = str(read_json(prepared / "prepared.json", "content_sha256")["content_sha256"])
        train, validation, calibration = (
            NpySampleSet(prepared / f"{name}.npy") for name in ("train", "validation", "calibration")
        )
    except (OSError, ValueError, SampleError) as error:
        raise DataError(f"{prepared}: the prepared dataset is incomplete ({error}): type `dvc repro prepare@{recipe}`") from error
    return FitSamples(SampleRoles(train, validation, calibration), content_sha256)
