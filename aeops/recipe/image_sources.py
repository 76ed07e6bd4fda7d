"""Settings of a source that is a folder of image files. Standard library only."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from ae_models.spec import IMAGE, InputSpec, bounded_field
from aeops.recipe.addresses import address_errors, is_database_address
from aeops.recipe.source_spec import SourceSpec, check_both_labelled

MAX_LEVEL = 16  # folders below the source's


@dataclass(frozen=True)
class ImageLabels:
    """Where the labels of image files stand: the names of folders, or the rows of a CSV file."""

    folder: int | None = bounded_field(None, low=1, high=MAX_LEVEL)  # which folder of a file's path is its label; 1: the first
    file: str | None = None  # a CSV file with a header line, whose path begins at the source's folder
    name: str = "file"  # its column with the files' paths below the source's folder, or their names alone
    label: str = "label"  # its column with the labels

    def validation_errors(self) -> list[str]:
        if (self.folder is None) == (self.file is None):
            return ["labels: expected folder or file, one of them"]
        return relative_path_errors("labels.file", self.file)


@dataclass(frozen=True)
class ImagesSource(SourceSpec):
    """Image files in a folder and its sub-folders; size and pages by input.resize and input.frames."""

    kind: ClassVar[str] = "images"
    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    path: str  # of the folder, or an address: s3://, gs://, http(s)://
    labels: ImageLabels | None = None  # where labels stand; none: unlabelled
    masks: str | None = None  # folder below it with masks: not 0 where a pixel is defective; found by an image's path and name
    test: str | None = None  # first folder whose images are the test part; none: by data.split.test
    group: int | None = bounded_field(None, low=1, high=MAX_LEVEL)  # which folder of a path is the group; a group shares a split

    @property
    def own_test(self) -> bool:  # type: ignore[override]  # by the folder that the recipe names
        return self.test is not None

    @property
    def has_masks(self) -> bool:  # type: ignore[override]
        return self.masks is not None

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        errors = []
        if input_spec.target_channels:
            reason = f"expected 0 with a source of kind {self.kind}, got {input_spec.target_channels}: a file has no target"
            errors.append(("input.target_channels", reason))
        if input_spec.shape[0] not in (1, 3, 4):
            errors.append(("input.shape", f"expected 1, 3 or 4 channels with files of images, got {input_spec.shape[0]}"))
        if (input_spec.low, input_spec.high) != (0, 255) and not (input_spec.low == 0 and 255 < input_spec.high <= 65535):
            expected = "expected low 0 and high 255, or of 16 bits low 0 and high above 255 and up to 65535"
            errors.append(("input", f"{expected}, with files of images, got {input_spec.low:g} and {input_spec.high:g}"))
        return errors

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)

    def validation_errors(self) -> list[str]:
        errors = address_errors(self.path)
        if is_database_address(self.path):
            errors.append("path: expected a folder of files")
        return [*errors, *relative_path_errors("masks", self.masks), *relative_path_errors("test", self.test)]


def relative_path_errors(key: str, path: str | None) -> list[str]:
    """Return a message where a path leads out of the folder that it is in."""
    if path is None:
        return []
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        return [f"{key}: expected a path below the source's folder, without a leading / and without .., got {path!r}"]
    return []
